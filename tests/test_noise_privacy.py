"""Noise that hides: independent of the picture, alike in every frame, new in every run, and in grains."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from test_noise import HIGH, LOW, MEAN, STD, constant, smooth_flow, zoom
from tiny import SIZE, TINY_SETTINGS

from anonymotion.backbone import Backbone
from anonymotion.continuity import Continuity, Found
from anonymotion.inversion import InversionScore, inverted
from anonymotion.keyframes import KeyFrames
from anonymotion.noise import NoiseField, make_noise
from anonymotion.pipeline import HiddenChunk, Hider
from anonymotion.presets import PRESETS, settings_for
from anonymotion.state import RunState
from anonymotion.templates import TemplateLibrary


def field(size_hw: tuple[int, int], grain: int, seed: int | None = 1, name: str = "accumulated") -> NoiseField:
    return make_noise(name, size_hw, mean=MEAN, std=STD, device=torch.device("cpu"), seed=seed, grain=grain)


# The output does not depend on what is hidden


@pytest.mark.parametrize("chunk", [1, 3])
def test_with_mask_and_flow_fixed_the_output_is_bit_identical_whatever_the_mask_covers(
    tiny: Backbone, small: TemplateLibrary, chunk: int
) -> None:
    """Inside the mask other people, outside of it the same: not one bit of the frames before encoding differs."""
    generator = torch.Generator().manual_seed(4)
    count, (height, width) = 6, SIZE
    frames = torch.randint(0, 256, (count, height, width, 3), generator=generator, dtype=torch.uint8)
    others = torch.randint(0, 256, (count, height, width, 3), generator=generator, dtype=torch.uint8)
    mask = torch.zeros(count, height, width, dtype=torch.bool)
    mask[:, 20:50, 24:60] = True
    flow = torch.stack([smooth_flow(SIZE, generator, 2) for _ in range(count)])
    swapped = torch.where(mask[..., None], others, frames)
    outputs = []
    for source in (frames, swapped):
        hider = Hider(["hair"], seed=3, library=small, network=tiny, feather=4.0, **TINY_SETTINGS)
        state, parts = RunState(Continuity(0), KeyFrames("1")), []
        for start in range(0, count, chunk):
            part = slice(start, start + chunk)
            planes, searched = torch.zeros(len(mask[part]), 1, *SIZE), torch.ones(len(mask[part]), dtype=torch.bool)
            found = Found(source[part], planes, flow[part], mask[part], searched)
            parts.append(hider._cover((found, None), state))
        outputs.append(torch.cat([part.output for part in parts]))
        alpha = torch.cat([part.alpha for part in parts])
    assert torch.equal(outputs[0], outputs[1])
    assert (alpha[mask] == 1).all(), "the soft rim lies outside of the mask only"
    rim = (alpha > 0) & (alpha < 1)
    assert rim.any()
    assert not (rim & mask).any()
    assert not torch.equal(frames, swapped)


def test_a_second_run_of_the_same_hider_has_other_noise(tiny: Backbone, small: TemplateLibrary) -> None:
    hider = Hider(["hair"], "strict", device="cpu", library=small, network=tiny, threshold=0.01, **TINY_SETTINGS)
    frames = [np.full((*SIZE, 3), 90, np.uint8)] * 3
    one, two = (torch.cat([chunk.noise for chunk in hider.explain(frames)]) for _ in range(2))
    assert abs(np.corrcoef(one.flatten(), two.flatten())[0, 1]) < 0.2
    assert not (one == two).all(-1).any()


# The same distribution in every frame


@pytest.mark.parametrize(("motion", "grain"), [("smooth", 1), ("smooth", 4), ("zoom-in", 4), ("zoom-out", 1)])
def test_the_distribution_is_the_same_after_three_hundred_frames(motion: str, grain: int) -> None:
    size = (64, 80)
    generator = torch.Generator().manual_seed(7)
    noise = field(size, grain, seed=13)
    noise.next(torch.zeros(2, *size))
    for _ in range(300):
        flow = {
            "smooth": lambda: smooth_flow(size, generator, 1.5),
            "zoom-in": lambda: zoom(size, 0.98),
            "zoom-out": lambda: zoom(size, 1.02),
        }[motion]()
        last = noise.next(flow)
    assert float(last.min()) >= LOW
    assert float(last.max()) <= HIGH
    # one value per grain: pixels of a grain are not independent draws
    distinct = torch.unique(last.reshape(-1, 3), dim=0).numpy().astype(np.float64)
    assert len(distinct) > 0.2 * size[0] * size[1] / grain**2
    for channel in range(3):
        assert stats.kstest(distinct[:, channel], stats.uniform(LOW, HIGH - LOW).cdf).pvalue > 0.001


# Grains


def test_a_new_field_is_made_of_squares_of_one_value() -> None:
    values = field((20, 26), 4).next(torch.zeros(2, 20, 26))
    squares = values[:20, :24].reshape(5, 4, 6, 4, 3)
    assert (squares == squares[:, :1, :, :1]).all()
    assert len(torch.unique(values.reshape(-1, 3), dim=0)) == 5 * 7


@pytest.mark.parametrize("name", ["accumulated", "first-frame", "iid"])
def test_a_grain_of_a_pixel_is_the_noise_that_there_was(name: str) -> None:
    flows = torch.stack([constant((20, 24), 1.3, -0.4)] * 4)
    plain = make_noise(name, (20, 24), mean=MEAN, std=STD, device=torch.device("cpu"), seed=2)
    assert torch.equal(plain.chunk(flows), field((20, 24), 1, seed=2, name=name).chunk(flows))


def test_grains_move_whole_and_follow_the_scene() -> None:
    size = (40, 60)
    noise = field(size, 4)
    first = noise.next(torch.zeros(2, *size))
    for _ in range(8):
        last = noise.next(constant(size, -1.5, 0))
    assert torch.equal(last[:, 16:], first[:, 4:48]), "eight steps of one and a half pixels"


def test_what_enters_the_frame_gets_new_grains() -> None:
    size = (40, 60)
    noise = field(size, 4, seed=None)
    seen = noise.next(torch.zeros(2, *size))
    for _ in range(10):
        last = noise.next(constant(size, 6, 0))
    old = {tuple(value) for value in seen.reshape(-1, 3).tolist()}
    new = [tuple(value) not in old for value in last[:, 8:].reshape(-1, 3).tolist()]
    assert np.mean(new) > 0.95


def test_stretched_grains_get_back_to_their_size() -> None:
    """A zoom of 2 % per frame for 150 frames would make each grain 20 times as long."""
    size, grain = (64, 80), 4
    noise = field(size, grain)
    noise.next(torch.zeros(2, *size))
    for _ in range(150):
        last = noise.next(zoom(size, 0.98))
    _, counts = torch.unique(last.reshape(-1, 3), dim=0, return_counts=True)
    assert float(counts.float().mean()) < 4 * grain**2


def test_grains_are_a_share_of_the_short_side_and_even() -> None:
    strict = PRESETS["strict"]
    assert strict.noise_grain > 0
    for preset in ("paper", "paper-debiased"):
        assert PRESETS[preset].grain_px((720, 1280)) == 1, "eq. 3 draws every pixel"
    assert settings_for(noise_grain=0).grain_px((720, 1280)) == 1
    assert settings_for(noise_grain=2).grain_px((720, 1280)) == 14
    assert all(strict.grain_px((side, 2 * side)) % 2 == 0 for side in range(64, 2200, 7))


# A blend is inverted by whoever knows its noise


def blended(weight: float) -> HiddenChunk:
    generator = torch.Generator().manual_seed(6)
    frames = torch.randint(0, 256, (2, 24, 30, 3), generator=generator, dtype=torch.uint8)
    noise = torch.rand(2, 24, 30, 3, generator=generator) * 255
    alpha = torch.full((2, 24, 30), weight)
    output = torch.lerp(frames.float(), noise, alpha[..., None]).round().byte()
    return HiddenChunk(
        frames, output, torch.zeros(2, 0, 24, 30), alpha, torch.zeros(2, 2, 24, 30), noise, torch.ones(2).bool()
    )


def test_eq_5_is_solved_for_the_picture_up_to_rounding() -> None:
    chunk = blended(0.75)
    solved = inverted(chunk.output, chunk.alpha, chunk.noise)
    assert (solved - chunk.frames.float()).abs().max() <= 0.5 / 0.25 + 1e-3
    whole = blended(1.0)
    assert torch.equal(inverted(whole.output, whole.alpha, whole.noise), whole.output.float())


def test_the_inversion_score_is_one_for_a_blend_and_nothing_for_a_replacement() -> None:
    nothing, blend, replaced = InversionScore(), InversionScore(), InversionScore()
    blend.write(blended(0.75))
    replaced.write(blended(1.0))
    assert nothing.sentence is None
    assert blend.sentence is not None
    assert "1.00" in blend.sentence
    assert replaced.sentence is not None
    assert "1.00" not in replaced.sentence
