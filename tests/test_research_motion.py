"""Endpoint errors against flows worked out by hand, on scenes whose motion is known; encodings; tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import TINY_SETTINGS, moving, patchwork
from torch import Tensor

from anonymotion.backbone import Backbone
from anonymotion.compositor import composite
from anonymotion.errors import DatasetError, SettingsError
from anonymotion.flow import load_flow
from anonymotion.noise import make_noise
from anonymotion.research import motion
from anonymotion.research.looks import OnePass
from anonymotion.research.motion import Hidden, Measured, endpoint_error, measure, middle_frames, motion_tables

SIZE = (64, 80)
BOX = (slice(16, 48), slice(20, 60))


def test_the_error_is_the_mean_length_of_the_difference_over_the_pixels_asked_for() -> None:
    clean = torch.zeros(2, 2, 2, 3)
    flow = clean.clone()
    flow[0, :, 0, 0] = torch.tensor([3.0, 4.0])  # 5 pixels off
    flow[1, 0, 1, 2] = -1.0
    everywhere = torch.ones(2, 2, 3, dtype=torch.bool)
    assert endpoint_error(flow, clean, everywhere) == pytest.approx(6 / 12)
    two = torch.zeros_like(everywhere)
    two[0, 0, :2] = True
    assert endpoint_error(flow, clean, two) == pytest.approx(2.5)
    assert endpoint_error(flow, clean, ~everywhere) is None
    with pytest.raises(ValueError, match="do not fit"):
        endpoint_error(flow, clean, everywhere[:1])


def scene(noise: str, step_xy: tuple[int, int] = (2, 1), count: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    """A moving picture, the mask (a box of it), and the picture with noise in the box that moves as it is known to."""
    frames = torch.from_numpy(np.stack(moving(patchwork((100, 120), seed=4), count, SIZE, step_xy)))
    alpha = torch.zeros(count, *SIZE)
    alpha[:, BOX[0], BOX[1]] = 1
    flow = torch.tensor([-float(step_xy[0]), -float(step_xy[1])])[:, None, None].expand(2, *SIZE)
    field = make_noise(noise, SIZE, mean=0.45, std=0.225, device=torch.device("cpu"), seed=1, grain=4)
    shown = torch.stack([field.next(flow) for _ in range(count)])
    return frames, alpha, composite(frames, alpha, shown)


def measured(qualities: tuple[int, ...] = ()) -> list[Measured]:
    parts = {name: scene(kind) for name, kind in (("strict", "accumulated"), ("iid", "iid"))}
    frames, alpha, _ = parts["strict"]
    shown = {"source": frames, **{name: part[2] for name, part in parts.items()}}
    flows = {"dis": load_flow("dis", torch.device("cpu"))}
    return measure([Hidden("one", frames, alpha, shown)], flows, qualities)


def test_noise_that_moves_keeps_the_flow_and_noise_that_does_not_loses_it() -> None:
    by_method = {one.method: one for one in measured()}
    inside = {name: one.inside for name, one in by_method.items()}
    assert inside["source"] == 0
    assert inside[motion.STILL] == pytest.approx(5**0.5, abs=0.4)  # the length of the motion itself
    assert inside["strict"] < 0.5 * inside["iid"]  # type: ignore[operator]
    assert by_method["strict"].outside < 0.5  # type: ignore[operator]


def test_the_same_after_h264_with_the_bits_that_it_takes() -> None:
    found = measured((13, 35))
    by_key = {(one.method, one.quality): one for one in found}
    assert by_key["source", None].bits == 0
    for method in ("source", "strict", "iid"):
        assert 0 < by_key[method, 35].bits < by_key[method, 13].bits
    assert by_key["strict", 13].inside < 0.5 * by_key["iid", 13].inside  # type: ignore[operator]
    assert by_key[motion.STILL, 13].inside == by_key[motion.STILL, None].inside


def test_tables_hold_means_over_clips_and_the_ratio_to_iid() -> None:
    found = [
        Measured(clip, method, "dis", None, inside, outside)
        for clip, method, inside, outside in (
            ("a", "strict", 1.0, 0.2),
            ("b", "strict", 3.0, 0.4),
            ("c", "strict", None, 0.6),
            ("a", "iid", 4.0, 0.2),
            ("b", "iid", 4.0, 0.2),
            ("c", "iid", None, 0.2),
        )
    ]
    inside, outside, ratio = motion_tables(found)
    assert inside.rows[0].cells[0].value == pytest.approx(2.0)
    assert (inside.rows[0].cells[0].low, inside.rows[0].cells[0].high) == (1.0, 3.0)
    assert outside.rows[0].cells[0].value == pytest.approx(0.4)
    assert ratio.rows[0].cells[0].value == pytest.approx(0.5)
    assert "nothing was masked in c: not in the means inside" in inside.notes
    assert inside.rank(0, inside.rows[0]) == 0
    joined = motion.beside([inside, outside, ratio])
    assert [heading.text.split(":")[0] for heading in joined.headings] == [t.title for t in (inside, outside, ratio)]
    assert [cell.value for cell in joined.rows[0].cells] == pytest.approx([2.0, 0.4, 0.5])


def folder(path: Path, count: int) -> Path:
    path.mkdir()
    for number, image in enumerate(moving(patchwork((120, 140), seed=9), count, (70, 84), (2, 1))):
        Image.fromarray(image).save(path / f"{number:03d}.png")
    return path


def test_the_middle_of_a_clip_is_taken(tmp_path: Path) -> None:
    clip = folder(tmp_path / "clip", 9)
    whole = middle_frames(clip, 20)
    assert len(whole) == 9
    np.testing.assert_array_equal(middle_frames(clip, 3), whole[3:6])
    with pytest.raises(DatasetError, match="holds 1 frames"):
        middle_frames(folder(tmp_path / "still", 1), 3)
    with pytest.raises(DatasetError, match="is not there"):
        middle_frames(tmp_path / "none", 3)


def test_methods_share_one_mask_and_whole_frame_methods_cover_everything(
    tmp_path: Path, tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = OnePass("dinov2-vits14-embedded", tiny._network, tiny.patch_size, "tiny", torch.device("cpu"))
    monkeypatch.setattr(OnePass, "load", lambda *_, **__: network)
    options = {**TINY_SETTINGS, "threshold": "0.6", "contrast": "0"}
    methods = ["pixelate-16", "strict", "iid"]
    (clip,) = motion.hide_clips([folder(tmp_path / "x", 6)], methods, frames=4, attributes="hair", settings=options)
    assert list(clip.shown) == ["source", *methods]
    assert clip.frames.shape == (4, 70, 84, 3)
    free = clip.alpha == 0
    assert 0 < float(free.float().mean()) < 1
    for name in ("strict", "iid"):
        assert torch.equal(clip.shown[name][free], clip.frames[free])
    assert not torch.equal(clip.shown["pixelate-16"][free], clip.frames[free])
    assert not torch.equal(clip.shown["strict"], clip.shown["iid"])
    for wrong, message in ((["blur"], "'blur' is not known"), (["pixelate-4"], "has a mask")):
        with pytest.raises(SettingsError, match=message):
            next(iter(motion.hide_clips([tmp_path / "x"], wrong, frames=4, attributes="hair", settings={})))
