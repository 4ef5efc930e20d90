"""Clips as the attacks' benchmarks want them: scaled, masked, with the true flow in both directions.

Not here: what is done to them (attacks.py, not_hidden.py).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np
import torch

from anonymotion import video
from anonymotion.attacks.chance import Concealment
from anonymotion.attacks.evidence import Box, Scene, core_of
from anonymotion.attacks.files import MaskFolder, Stretch, choose_stretch
from anonymotion.attacks.tracks import chain
from anonymotion.flow import load_flow
from anonymotion.pipeline import Hider
from anonymotion.presets import settings_for
from attacking.cells import METHODS

SHORT_SIDE = 224
SUFFIX = ".mp4"
RATE = Fraction(25)


def name_of(clip: Path) -> str:
    """A short name of a clip: of a folder of pictures, its parent's."""
    return clip.parent.name if clip.is_dir() else clip.stem


class Planes(list[np.ndarray]):
    """Masks in memory, as `files.choose_stretch` wants them."""

    def plane(self, index: int) -> np.ndarray:
        """(H, W) float32."""
        return self[index]


def frames_of(clip: Path, first: int, count: int) -> list[np.ndarray]:
    """`count` frames from `first`, in their own size."""
    with video.open_source(clip) as source:
        return [frame.image for frame in islice(source, first, first + count)]


def scaled(plane: np.ndarray) -> np.ndarray:
    """A picture or weights at a short side of SHORT_SIDE."""
    height, width = plane.shape[:2]
    scale = SHORT_SIDE / min(height, width)
    size = (round(width * scale), round(height * scale))
    small = cv2.resize(plane, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    # what was replaced as a whole stays so, in spite of rounding
    return small if small.dtype == np.uint8 else np.where(small > 1 - 1e-4, np.float32(1), small)


def weights_of(clip: Path, images: list[np.ndarray], preset: str, arguments: argparse.Namespace) -> np.ndarray:
    """(T, H, W) float32, at SHORT_SIDE, as `preset` gives them; of strict as `--masks` has them, if it has."""
    folder = arguments.masks / name_of(clip) if arguments.masks and preset == "strict" else None
    if folder is not None and folder.is_dir():
        exported = MaskFolder(folder)
        planes = [exported.plane(arguments.first + index) for index in range(len(images))]
    else:
        chunks = Hider(arguments.attributes, preset, device="cpu").explain(images)
        planes = [alpha for chunk in chunks for alpha in chunk.alpha.numpy()]
    return np.stack([scaled(plane) for plane in planes])


def prepared(clip: Path, arguments: argparse.Namespace, presets: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Frames, flow in both directions, and weights by name: always those of `strict`; kept in DIR.

    presets: name of the weights -> preset that gives them.
    """
    path = arguments.out / f"{name_of(clip)}.prepared.npz"
    wanted = {**presets, "strict": "strict"}
    kept: dict[str, np.ndarray] = {}
    if path.exists():
        with np.load(path) as arrays:
            kept = dict(arrays)
    if wanted.keys() <= kept.keys():
        return kept
    whole = frames_of(clip, arguments.first, arguments.frames)
    kept["images"] = np.stack([scaled(image) for image in whole])
    nothing = np.zeros((1, 2, *kept["images"].shape[1:3]), np.float32)
    kept["backward"] = np.concatenate((nothing, flows(kept["images"])))
    kept["forward"] = np.concatenate((flows(kept["images"][::-1])[::-1], nothing))
    for name in wanted.keys() - kept.keys():
        kept[name] = weights_of(clip, whole, wanted[name], arguments)
    np.savez(path, **kept)  # type: ignore[arg-type]
    print(f"{name_of(clip)}: {len(whole)} frames masked", flush=True)
    return kept


def flows(images: np.ndarray) -> np.ndarray:
    """(T - 1, 2, H, W) float32: of every frame but the first, where its pixels were in the frame before."""
    flow = load_flow("dis", torch.device("cpu"))
    tensors = [torch.from_numpy(np.ascontiguousarray(image)) for image in images]
    return np.stack([flow.between(two, one).numpy() for one, two in pairwise(tensors)])


def stretch_of(kept: dict[str, np.ndarray]) -> Stretch:
    """All frames, and the crop around the one that `strict` hides most."""
    return choose_stretch(Planes(kept["strict"]), len(kept["strict"]))


def whole_frame(kept: dict[str, np.ndarray]) -> Stretch:
    """The same without cutting anything."""
    height, width = kept["images"].shape[1:3]
    return replace(stretch_of(kept), box=Box(0, 0, width, height))


def scene_of(kept: dict[str, np.ndarray], stretch: Stretch, weights: str) -> Scene:
    """The crop of a clip with the weights of one kind; the core is always that of preset strict."""
    box, reference = stretch.box, stretch.reference

    def cut(name: str) -> np.ndarray:
        return np.stack([box.cut(part) for part in kept[name]])

    alpha = cut(weights).astype(np.float32)
    flows = {
        name: np.stack([box.cut(np.moveaxis(part, 0, 2)) for part in kept[name]]) for name in ("backward", "forward")
    }
    tracks = chain(flows["backward"], flows["forward"], reference)
    backward = np.ascontiguousarray(np.moveaxis(flows["backward"], 3, 1))
    frame_hw = kept["images"].shape[1:3]
    core = core_of(np.asarray(box.cut(kept["strict"][reference])))
    return Scene(cut("images"), alpha, backward, tracks, frame_hw, box, core)


def concealment_of(method: str) -> Concealment:
    """How a method of the table hides; noise of the paper's presets is that of a known seed, as in its code."""
    entry = METHODS[method]
    settings = settings_for(entry.preset, **entry.settings)
    return Concealment(settings, RATE, SUFFIX, None, seed_is_known=entry.seed_is_known)
