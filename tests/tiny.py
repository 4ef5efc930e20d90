"""Small stand-ins that tests share: a random ViT, a library of generated pictures, frames that move."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer

from anonymotion.backbone import Backbone
from anonymotion.chunks import HiddenChunk
from anonymotion.pipeline import Hider
from anonymotion.registry import ATTRIBUTES, BackboneEntry
from anonymotion.templates import TemplateLibrary

# Registered under the name of the default, so that presets use it as they are but for the layer.
TINY = "dinov2-vits14-embedded"
TINY_PATCH = 14
TINY_DEPTH = 3
TINY_WIDTH = 32
TINY_SIDE = 4  # cells on a side of its native grid
TINY_ENTRY = BackboneEntry("none: built by the tests", TINY_PATCH, TINY_DEPTH)

SIZE = (70, 84)  # (height, width) of frames that the tiny network is shown

# Settings that make a Hider use the tiny network: 4 rows of cells.
TINY_SETTINGS: dict[str, Any] = {"layer": 2, "stride": 14, "short_side": 56, "close_up": 0, "every": "1", "reuse": 0.0}


def tiny_network(patch: int = TINY_PATCH, seed: int = 0) -> VisionTransformer:
    """timm's own VisionTransformer, small, with random weights large enough that positions and patches matter."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = VisionTransformer(
            img_size=patch * TINY_SIDE,
            patch_size=patch,
            embed_dim=TINY_WIDTH,
            depth=TINY_DEPTH,
            num_heads=4,
            num_classes=0,
            dynamic_img_size=True,
        )
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


def tiny_backbone(patch: int = TINY_PATCH, seed: int = 0, name: str = TINY) -> Backbone:
    """The tiny network as a Backbone; `name` must be registered."""
    return Backbone(name, tiny_network(patch, seed), patch, f"tiny-{patch}-{seed}", torch.device("cpu"))


def patchwork(size_hw: tuple[int, int], seed: int = 0, block: int = 16) -> np.ndarray:
    """Coloured blocks with grain: (H, W, 3) uint8.  Has texture everywhere, so that flow is defined."""
    random = np.random.default_rng(seed)
    rows, columns = (-(-length // block) for length in size_hw)
    blocks = random.integers(20, 235, (rows, columns, 3)).repeat(block, 0).repeat(block, 1)
    blocks = blocks[: size_hw[0], : size_hw[1]]
    return np.clip(blocks + random.integers(-20, 20, blocks.shape), 0, 255).astype(np.uint8)


def moving(picture: np.ndarray, count: int, size_hw: tuple[int, int], step_xy: tuple[int, int]) -> list[np.ndarray]:
    """Crops of a picture whose content moves by `step_xy` pixels per frame."""
    height, width = size_hw
    x, y = (max(0, step * (count - 1)) for step in step_xy)
    crops = []
    for _ in range(count):
        crop = picture[y : y + height, x : x + width]
        assert crop.shape[:2] == size_hw, "the picture is too small for this motion"
        crops.append(crop.copy())
        x, y = x - step_xy[0], y - step_xy[1]
    return crops


def picture_entry(folder: Path, name: str, image: np.ndarray, **changes: Any) -> dict[str, Any]:
    """Write a picture into a library folder; its [[picture]] entry."""
    path = folder / f"{name}.png"
    Image.fromarray(image).save(path)
    entry = {
        "id": name,
        "file": path.name,
        "kind": "photograph",
        "subject": "generated",
        "licence": "CC0-1.0",
        "source": "tests",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    return {**entry, **changes}


def write_library(
    folder: Path, pictures: Sequence[dict[str, Any]], templates: Sequence[dict[str, Any]], version: Any = 1
) -> Path:
    """Write a library.toml of these entries (JSON values are TOML values for what is used here)."""
    lines = [f"schema_version = {json.dumps(version)}"]
    for table, entries in (("picture", pictures), ("template", templates)):
        for entry in entries:
            lines += ["", f"[[{table}]]", *(f"{key} = {json.dumps(value)}" for key, value in entry.items())]
    (folder / "library.toml").write_text("\n".join(lines) + "\n")
    return folder


def tiny_library(folder: Path) -> TemplateLibrary:
    """Two generated pictures; `hair` with two exemplars, `torso` with one point and one box."""
    folder.mkdir(exist_ok=True)
    pictures = [
        picture_entry(folder, "one", patchwork((64, 80), seed=1)),
        picture_entry(folder, "two", patchwork((96, 64), seed=2)),
    ]
    templates = [
        {"attribute": "hair", "picture": "one", "point": [10, 12]},
        {"attribute": "torso", "picture": "two", "point": [40, 70]},
        {"attribute": "hair", "picture": "two", "point": [5, 90]},
        {"attribute": "torso", "picture": "one", "box": [30, 20, 70, 60]},
        {"attribute": "hair", "picture": "one", "point": [70, 50], "negative": True},
    ]
    return TemplateLibrary.load(write_library(folder, pictures, templates))


def nine_attributes(folder: Path) -> TemplateLibrary:
    """The paper's nine attributes, one point each, in one generated picture."""
    folder.mkdir(exist_ok=True)
    pictures = [picture_entry(folder, "one", patchwork((96, 128), seed=1))]
    points = [[8 + 13 * number, 10 + 9 * number] for number in range(len(ATTRIBUTES))]
    templates = [
        {"attribute": name, "picture": "one", "point": point} for name, point in zip(ATTRIBUTES, points, strict=True)
    ]
    return TemplateLibrary.load(write_library(folder, pictures, templates))


def explained(hider: Hider, frames: list[np.ndarray]) -> HiddenChunk:
    """All chunks of a run in one."""
    chunks = list(hider.explain(frames))
    names = [item.name for item in fields(HiddenChunk) if item.name != "edits"]
    return HiddenChunk(**{name: torch.cat([getattr(chunk, name) for chunk in chunks]) for name in names})
