"""benchmarks/not_hidden.py: that its measures say what they say, on outlines and flows that are known."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from synthetic import make_clip

from anonymotion.attacks.outline import overlap
from anonymotion.presets import settings_for

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # behind everything: it has a coverage.py

import not_hidden
from attacking import visible

SETTINGS = settings_for("strict", noise_grain=5.0)
SIZE = (80, 96)


def hidden_by_noise(mask: np.ndarray) -> np.ndarray:
    """Grey frames with grains of 4 pixels where the mask is, as the settings have them, (T, 80, 96, 3) uint8."""
    low, high = (255 * (SETTINGS.noise_mean + sign * SETTINGS.noise_std) for sign in (-1, 1))
    grains = np.random.default_rng(0).uniform(low, high, (len(mask), 20, 24, 3))
    noise = grains.repeat(4, 1).repeat(4, 2)
    return np.where(mask[..., None], noise, 120).astype(np.uint8)


def box(frames: int = 1, left: int = 20, right: int = 70) -> np.ndarray:
    mask = np.zeros((frames, *SIZE), bool)
    mask[:, 10:70, left:right] = True
    return mask


def test_an_outline_is_where_the_noise_is_and_nowhere_in_footage() -> None:
    assert SETTINGS.grain_px(SIZE) == 4
    assert overlap(visible.outline_of(hidden_by_noise(box(3)), SETTINGS), box(3)) > 0.75
    ramp = np.repeat(np.linspace(0, 255, 96)[None, None, :, None], 3, 3).repeat(80, 1).astype(np.uint8)
    assert not visible.outline_of(ramp, SETTINGS).any()


def test_overlap_counts_all_frames() -> None:
    assert overlap(box(2), box(2)) == 1
    assert overlap(box(), box(left=45)) == pytest.approx(0.5)
    assert overlap(~box() & box(), ~box() & box()) == 0


def test_somebody_is_large_enough() -> None:
    seen = np.zeros((3, *SIZE), bool)
    seen[0, 10:25, 10:25], seen[1, 10:26, 10:26], seen[2, :, 40:50] = True, True, True
    assert visible.sees_somebody(seen, SETTINGS).tolist() == [False, True, False]


def test_motion_agrees_with_itself_not_with_chance_and_only_inside() -> None:
    random = np.random.default_rng(1)
    true, other = (random.normal(size=(6, 2, *SIZE)).astype(np.float32) for _ in range(2))
    inside = box(6)
    assert visible.motion_agreement(true, true, inside) == pytest.approx((1, 1))
    assert visible.motion_agreement(-3 * true, true, inside) == pytest.approx((-1, -1))
    assert abs(visible.motion_agreement(other, true, inside)[0]) < 0.05
    elsewhere = np.where(inside[:, None], true, other)
    assert visible.motion_agreement(elsewhere, true, inside) == pytest.approx((1, 1))
    assert visible.motion_agreement(true, true, inside[:3] & False) == (0, 0)


def test_a_gait_picture_has_neither_place_nor_size() -> None:
    near, far = box(2, 20, 60), np.zeros((2, *SIZE), bool)
    far[:, 40:70, 70:90] = True  # half as large
    one, other = visible.gait_picture(near), visible.gait_picture(far)
    assert one is not None
    assert other is not None
    assert np.abs(one - other).mean() < 0.03
    assert visible.gait_picture(near & False) is None


def test_the_nearest_may_face_the_other_way() -> None:
    leaning = np.triu(np.ones(visible.GAIT_HW, np.float32))
    assert visible.nearest(leaning[:, ::-1], [np.ones_like(leaning), leaning]) == 1


def people() -> dict[tuple[str, str], np.ndarray]:
    """Two people, a broad and a narrow one, in two actions."""
    widths = {"broad": 60, "narrow": 24}
    return {(name, action): box(6, 20, 20 + width) for name, width in widths.items() for action in ("run", "walk")}


@pytest.mark.parametrize("split", [not_hidden.halves, not_hidden.other_actions])
def test_people_are_told_apart_by_their_outlines(split: not_hidden.Split) -> None:
    known = people()
    assert split(known, known) == (4, 4, 0.5)
    swapped = {(name, action): known["narrow" if name == "broad" else "broad", action] for name, action in known}
    assert split(known, swapped) == (0, 4, 0.5)
    nobody = {key: outlines & False for key, outlines in known.items()}
    assert split(known, nobody) == (0, 4, 0.5), "who is not seen is a probe, too"


def test_sound_is_the_same_unless_it_is_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    not_hidden.sound_rows(make_clip(tmp_path / "clip.mp4", frames=5, audio=["aac"]))
    copied, dropped = capsys.readouterr().out.splitlines()[-2:]
    assert copied.endswith("| True | 1.0000 |")
    assert "none of 1" in dropped
