"""`--preset paper-debiased` frame by frame against eq. 1 to 5, written out in plain numpy without the package."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TINY_SETTINGS, moving, patchwork, tiny_library

from anonymotion import memory
from anonymotion.backbone import Backbone
from anonymotion.pipeline import Hider
from anonymotion.templates import TemplateLibrary

MEAN, STD = 0.45, 0.225


def dump(hider: Hider, frames: list[np.ndarray]) -> list[dict[str, np.ndarray]]:
    names = ("frames", "output", "saliency", "alpha", "flow", "noise")
    return [
        {name: getattr(chunk, name)[t].numpy() for name in names}
        for chunk in hider.explain(frames)
        for t in range(len(chunk.frames))
    ]


def check_equations(found: list[dict[str, np.ndarray]], frames: list[np.ndarray]) -> None:
    """Eq. 1 (its outer mean), 3, 4 and 5 of every frame."""
    assert len(found) == len(frames)
    first = found[0]["noise"]
    height, width = first.shape[:2]
    assert first.min() >= (MEAN - STD) * 255 - 1e-3
    assert first.max() <= (MEAN + STD) * 255 + 1e-3
    rows, columns = np.mgrid[:height, :width]
    for t, (frame, source) in enumerate(zip(found, frames, strict=True)):
        image, s, v, n = (frame[name].astype(np.float64) for name in ("frames", "alpha", "flow", "noise"))
        assert np.array_equal(frame["frames"], source)
        # eq. 1 and 2: one weight per pixel, the mean over the attributes' planes
        assert np.abs(frame["saliency"].astype(np.float64).sum(0) / len(frame["saliency"]) - s).max() < 1e-6
        # eq. 4: N(p, t) = N(p + v(p, t), 1), nearest, clamped to the frame
        x = np.clip(np.rint(columns.astype(np.float32) + frame["flow"][0]), 0, width - 1).astype(int)
        y = np.clip(np.rint(rows.astype(np.float32) + frame["flow"][1]), 0, height - 1).astype(int)
        assert np.array_equal(frame["noise"], first[y, x])
        if t == 0:
            assert not v.any()
        # eq. 5: O = I + S (N - I)
        exact = image + s[..., None] * (n - image)
        assert np.abs(frame["output"] - exact).max() <= 0.5 + 1e-3
    assert any(np.abs(frame["flow"]).max() > 0.5 for frame in found), "nothing moved: eq. 4 was not tested"


def eq1_by_hand(cells: np.ndarray, templates: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """(rows, columns, D), (N, D), (D,) -> (N, rows, columns): max(0, cos) of what is left of both without the mean."""
    cells, templates = (a.astype(np.float64) - mean.astype(np.float64) for a in (cells, templates))
    dots = np.stack([(cells * template).sum(-1) for template in templates])
    lengths = np.sqrt((cells**2).sum(-1))
    own = np.sqrt((templates**2).sum(-1))
    return np.maximum(0, dots / lengths / own[:, None, None])


def bilinear_by_hand(plane: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Half-pixel bilinear resize of cells that tile the image."""
    rows, columns = (
        np.clip((np.arange(size) + 0.5) * cells / size - 0.5, 0, cells - 1)
        for size, cells in zip(size_hw, plane.shape, strict=True)
    )
    return np.array([[_sample(plane, y, x) for x in columns] for y in rows])


def _sample(plane: np.ndarray, y: float, x: float) -> float:
    top, left = int(y), int(x)
    bottom, right = min(top + 1, plane.shape[0] - 1), min(left + 1, plane.shape[1] - 1)
    dy, dx = y - top, x - left
    upper = plane[top, left] * (1 - dx) + plane[top, right] * dx
    lower = plane[bottom, left] * (1 - dx) + plane[bottom, right] * dx
    return float(upper * (1 - dy) + lower * dy)


def test_the_equations_with_a_random_network(tmp_path: Path, tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MAX_CHUNK_FRAMES", 2)
    frames = moving(patchwork((100, 130), seed=5), 5, (56, 70), (3, 2))
    hider = Hider(
        ["hair", "torso"],
        "paper-debiased",
        library=tiny_library(tmp_path),
        network=tiny,
        device="cpu",
        **TINY_SETTINGS,
    )
    check_equations(dump(hider, frames), frames)


def test_saliency_is_equation_one_of_the_first_exemplars(tmp_path: Path, tiny: Backbone) -> None:
    """From the network's keys to the weight of each pixel, by hand."""
    library = tiny_library(tmp_path)
    hider = Hider(["hair", "torso"], "paper-debiased", library=library, network=tiny, device="cpu", **TINY_SETTINGS)
    frame = patchwork((56, 70), seed=5)
    found = dump(hider, [frame])[0]

    spec = hider.settings.spec_of("hair").raw

    def keys(image: np.ndarray) -> np.ndarray:
        return tiny.extract(torch.from_numpy(image.copy())[None], [spec])[spec].descriptors[0].numpy()

    pictures = {name: keys(picture.read()) for name, picture in library.pictures.items()}
    mean = np.mean([k.reshape(-1, k.shape[-1]).mean(0) for k in pictures.values()], axis=0)
    # one.png is 64 x 80 and becomes 56 x 70; hair's first point (10, 12) lies in cell (0, 0).
    # two.png is 96 x 64 and becomes 84 x 56; torso's point (40, 70) lies at 61.25 + and 35 +: cell (4, 2).
    templates = np.stack([pictures["one"][0, 0], pictures["two"][4, 2]])
    planes = eq1_by_hand(keys(frame), templates, mean)
    assert (planes == 0).any()
    assert planes.max() > 0.2
    for plane, got in zip(planes, found["saliency"], strict=True):
        assert np.abs(bilinear_by_hand(plane, (56, 70)) - got).max() < 1e-4
    assert np.abs(bilinear_by_hand(planes.mean(0), (56, 70)) - found["alpha"]).max() < 1e-4


def test_the_equations_with_the_embedded_weights_on_a_photograph(
    embedded_backbone: Backbone, library: TemplateLibrary, public_picture: np.ndarray
) -> None:
    """Three frames of a camera that pans over a portrait; the library is cut down to keep this short."""
    pictures = {name: library.pictures[name] for name in ("astronaut_face", "obama_face", "bg_coffee")}
    templates = tuple(template for template in library.templates if template.picture in pictures)
    few = replace(library, pictures=pictures, templates=templates, digest="few")
    frames = moving(public_picture, 3, (240, 320), (4, -3))
    hider = Hider(
        ["hair", "eyes"], "paper-debiased", library=few, network=embedded_backbone, device="cpu", short_side=224
    )
    found = dump(hider, frames)
    check_equations(found, frames)
    hair = found[0]["saliency"][0]
    assert hair.max() > 0.4
    assert hair.max() - np.median(hair) > 0.2, "the saliency says something about this picture"
