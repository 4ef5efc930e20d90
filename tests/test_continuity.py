"""Masks over time: what is carried where on literals, and that a matcher which drops out leaves no frame unhidden."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count, islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tiny import SIZE, TINY_SETTINGS, explained, moving, patchwork
from torch import Tensor

from anonymotion import memory
from anonymotion.backbone import Backbone
from anonymotion.continuity import CELL_ROWS, Continuity, Found, dilate_with_motion
from anonymotion.matcher import Matched, Matcher
from anonymotion.pipeline import Hider
from anonymotion.results import Coverage
from anonymotion.templates import TemplateLibrary


def drawn(*rows: str) -> Tensor:
    return torch.tensor([[cell == "#" for cell in row] for row in rows])


def still(frames: int, size_hw: tuple[int, int], x: float = 0.0, y: float = 0.0) -> Tensor:
    """The same flow to the previous frame everywhere; the first frame has none."""
    flow = torch.zeros(frames, 2, *size_hw)
    flow[1:, 0], flow[1:, 1] = x, y
    return flow


def found(masks: Tensor, flow: Tensor) -> Found:
    """With frames and planes that say which frame they are of."""
    numbers = torch.arange(len(masks))
    frames = numbers.to(torch.uint8)[:, None, None, None].expand(*masks.shape, 3)
    planes = numbers.float()[:, None, None, None].expand(len(masks), 1, *masks.shape[1:])
    return Found(frames, planes, flow, masks, torch.ones(len(masks), dtype=torch.bool))


def joined(masks: Tensor, flow: Tensor, look_ahead: int, chunk: int = 4) -> Tensor:
    """The masks after continuity, given in chunks; checks that frames come out once, in order, never too late."""
    stage, given, got = Continuity(look_ahead), found(masks, flow), []
    for start in range(0, len(masks), chunk):
        got += stage.push(given.part(start, start + chunk))
        taken, out = min(start + chunk, len(masks)), sum(len(part.mask) for part in got)
        assert out == max(0, taken - look_ahead)
        assert sum(len(part.mask) for part in stage.held) == len(stage._cells) == taken - out <= look_ahead
    got += stage.flush()
    assert not stage.held
    assert stage.flush() == []
    assert all(0 < len(part.mask) <= chunk for part in got)
    for name in ("frames", "saliency", "flow"):
        assert torch.equal(torch.cat([getattr(part, name) for part in got]), getattr(given, name))
    return torch.cat([part.mask for part in got])


EMPTY = drawn("......", "......", "......", "......")


def test_what_was_found_is_carried_forwards_along_the_flow() -> None:
    """Everything moves right by two and down by one: p was at p + (-2, -1)."""
    masks = torch.stack([drawn("##....", "......", "......", "......"), EMPTY, EMPTY, EMPTY])
    got = joined(masks, still(4, (4, 6), -2, -1), 2)
    # At the left edge what was at the edge before comes in: it is hidden too.
    assert torch.equal(got[1], drawn("####..", "####..", "......", "......"))
    assert got[2][2, 4:].all()
    assert not got[2][:, 6:].any()
    assert torch.equal(got[3], EMPTY), "two frames and no more"


def test_away_from_the_edges_only_what_moved_is_hidden() -> None:
    masks = torch.stack([drawn("......", ".##...", "......", "......"), EMPTY, EMPTY])
    got = joined(masks, still(3, (4, 6), -2, -1), 2)
    assert torch.equal(got[1], drawn("......", "......", "...##.", "......"))
    assert torch.equal(got[2], drawn("......", "......", "......", ".....#"))


def test_what_will_be_found_is_carried_backwards_along_the_flow() -> None:
    none = drawn(*["........"] * 7)
    rows = ["........", "........", "..##....", "...##...", "....##..", "........", "........"]
    at = [drawn(*(row if number == t else "........" for number, row in enumerate(rows))) for t in range(7)]
    got = joined(torch.stack([none, none, none, at[4]]), still(4, (7, 8), -1, -1), 2)
    assert torch.equal(got[2], at[3])
    assert torch.equal(got[1], at[2])
    assert torch.equal(got[0], none), "two frames and no more"


def test_what_leaves_the_frame_backwards_is_dropped_not_moved_to_the_edge() -> None:
    masks = torch.stack([EMPTY, drawn("#....#", "......", "......", "......")])
    got = joined(masks, still(2, (4, 6), 3, 0), 1)
    assert torch.equal(got[0], drawn("...#..", "......", "......", "......"))


def test_holes_of_a_picture_that_grows_backwards_are_closed() -> None:
    """A zoom by two between the frames scatters to every second pixel."""
    flow = still(2, (8, 9))
    flow[1, 0] = torch.arange(9.0) - 4
    masks = torch.zeros(2, 8, 9, dtype=torch.bool)
    masks[1, 2:6, 3:6] = True  # to columns 2, 4, 6
    got = joined(masks, flow, 1)
    assert torch.equal(got[0], drawn(*["........."] * 2, *["..#####.."] * 4, *["........."] * 2))


def test_the_nearest_of_several_claims_wins() -> None:
    """Two pixels with different ages land on one: it stays hidden as long as the later one allows."""
    masks = torch.zeros(4, 1, 6, dtype=torch.bool)
    masks[2, 0, 1] = masks[3, 0, 4] = True
    flow = still(4, (1, 6))
    flow[2, 0, 0, 1], flow[2, 0, 0, 4] = 1, -2  # in frame 2, pixels 1 and 4 were both at 2
    got = joined(masks, flow, 2)
    assert got[:, 0, 2].tolist() == [True, True, False, False]


@pytest.mark.parametrize("speed", [0.4, -0.4, 0.5, 0.25, 1.3, 0.0])
def test_slow_motion_is_followed_in_the_mean(speed: float) -> None:
    """Rounding each step by itself would leave a mask that moves by 0.4 pixels per frame where it is."""
    frames, size = 30, (3, 120)
    for first in (True, False):
        masks = torch.zeros(frames, *size, dtype=torch.bool)
        masks[0 if first else -1, :, 58:62] = True
        got = joined(masks, still(frames, size, x=-speed if first else speed), frames, chunk=8)
        at = torch.arange(120.0)
        for t in range(frames):
            steps = t if first else frames - 1 - t
            assert got[t].sum() == 12
            centre = float(at[got[t, 1]].mean())
            assert abs(centre - (59.5 + speed * steps)) <= 1.5 * (speed % 1 > 0)


def square(frames: int, step: int) -> Tensor:
    """A square of 6 pixels that moves right in a frame of 24 x 60."""
    masks = torch.zeros(frames, 24, 60, dtype=torch.bool)
    for t in range(frames):
        masks[t, 8:14, 5 + step * t : 11 + step * t] = True
    return masks


def square_flow(truth: Tensor, step: int) -> Tensor:
    """The square's own motion on it, a still background around it."""
    flow = torch.zeros(len(truth), 2, *truth.shape[1:])
    flow[:, 0] = torch.where(truth, -float(step), 0.0)
    flow[0] = 0
    return flow


@pytest.mark.parametrize("look_ahead", [1, 3, 5])
@pytest.mark.parametrize("step", [0, 2, 3])
def test_a_matcher_that_drops_out_leaves_no_part_of_a_moving_thing_unhidden(look_ahead: int, step: int) -> None:
    """Up to twice the look-ahead, half of it from each side; a frame more, and that one is not hidden."""
    truth = square(15, step)
    flow = square_flow(truth, step)
    for missing in range(1, 2 * look_ahead + 2):
        seen = truth.clone()
        seen[2 : 2 + missing] = False
        got = joined(seen, flow, look_ahead)
        unhidden = [t for t in range(15) if not got[t][truth[t]].all()]
        assert unhidden == ([2 + look_ahead] if missing > 2 * look_ahead else [])


@pytest.mark.parametrize("at_the", ["start", "end"])
def test_at_the_ends_of_a_clip_there_is_one_side_only(at_the: str) -> None:
    truth = square(12, 2)
    for missing in range(1, 5):
        seen = truth.clone()
        seen[:missing] = seen[:missing] & (at_the == "end")
        seen[12 - missing :] = seen[12 - missing :] & (at_the == "start")
        got = joined(seen, square_flow(truth, 2), 3)
        assert sum(not got[t][truth[t]].all() for t in range(12)) == max(0, missing - 3)


def test_what_was_found_once_stays_hidden_around_that_frame() -> None:
    masks = torch.zeros(9, 4, 4, dtype=torch.bool)
    masks[4, 1, 2] = True
    assert joined(masks, still(9, (4, 4)), 2)[:, 1, 2].tolist() == [t in range(2, 7) for t in range(9)]


STREAMS = st.tuples(st.integers(1, 9), st.integers(1, 7), st.integers(1, 7)).flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.bool_, shape).map(torch.from_numpy),
        hnp.arrays(np.float32, (shape[0], 2, *shape[1:]), elements=st.floats(-9, 9, width=32)).map(torch.from_numpy),
    )
)


@given(STREAMS, st.integers(0, 5), st.integers(1, 9))
def test_nothing_that_was_found_is_given_up_and_chunks_do_not_matter(
    stream: tuple[Tensor, Tensor], look_ahead: int, chunk: int
) -> None:
    masks, flow = stream
    got = joined(masks, flow, look_ahead, chunk)
    assert (got | ~masks).all()
    assert torch.equal(got, joined(masks, flow, look_ahead, 1))
    assert (joined(masks, flow, look_ahead + 1, chunk) | ~got).all(), "more look-ahead hides more"
    if look_ahead == 0:
        assert torch.equal(got, masks)


def test_large_frames_are_carried_in_cells_that_hide_a_little_more() -> None:
    """The short side has three cells too many for pixels: cells of 2, and a last half one."""
    size = (2 * CELL_ROWS + 1, 2 * CELL_ROWS + 7)
    masks = torch.zeros(3, *size, dtype=torch.bool)
    masks[1, 101:141, 51:91] = masks[1, -1, -1] = True
    got = joined(masks, still(3, size, -6, 4), 1)
    assert (got | ~masks).all()
    expected = torch.zeros(size, dtype=torch.bool)
    expected[96:138, 56:98] = True  # cells of 2 around it, three cells further right and two further up
    assert torch.equal(got[2][:300, :300], expected[:300, :300])
    expected = torch.zeros(size, dtype=torch.bool)
    expected[104:146, 44:86] = True
    assert torch.equal(got[0][:300, :300], expected[:300, :300])
    assert got[1, -1, -1]
    assert got[1].sum() <= 42 * 42 + 4


# Growth with motion


def test_without_motion_nothing_grows() -> None:
    mask = torch.zeros(2, 200, 100, dtype=torch.bool)
    mask[:, 40:60, 40:60] = True
    assert torch.equal(dilate_with_motion(mask, torch.zeros(2, 2, 200, 100), 4.0), mask)
    assert torch.equal(dilate_with_motion(mask, torch.full((2, 2, 200, 100), 9.0), 0.0), mask)


@pytest.mark.parametrize(
    ("length", "radius"), [(0.9, 0), (1.1, 1), (2, 1), (2.1, 2), (4, 2), (5, 4), (8.1, 5), (30, 5), (1e30, 5)]
)
def test_growth_is_half_the_motion_in_steps_up_to_a_limit(length: float, radius: int) -> None:
    """Of 4 percent of the short side of 125 pixels."""
    mask = torch.zeros(1, 125, 150, dtype=torch.bool)
    mask[0, 60, 70] = True
    flow = torch.zeros(1, 2, 125, 150)
    flow[0, 0], flow[0, 1] = 0.6 * length, -0.8 * length
    expected = torch.zeros_like(mask)
    expected[0, 60 - radius : 61 + radius, 70 - radius : 71 + radius] = True
    assert torch.equal(dilate_with_motion(mask, flow, 0.5), expected)


def test_only_what_moves_grows() -> None:
    mask = torch.zeros(1, 125, 150, dtype=torch.bool)
    mask[0, 20, 20] = mask[0, 60, 70] = mask[0, 100, 120] = True
    flow = torch.zeros(1, 2, 125, 150)
    flow[0, 0, 50:70], flow[0, 1, 90:] = 4, 2
    flow[0, 0, 20, 25] = 50  # beside the mask
    grown = dilate_with_motion(mask, flow, 0.5)
    assert grown.sum() == 1 + 5 * 5 + 3 * 3


@given(STREAMS.map(lambda pair: (pair[0].repeat(1, 20, 20), pair[1].repeat(1, 1, 20, 20))), st.floats(0, 4))
def test_growth_keeps_the_mask_and_rises_with_the_factor(pair: tuple[Tensor, Tensor], factor: float) -> None:
    mask, flow = pair
    grown = dilate_with_motion(mask, flow, factor)
    assert (grown | ~mask).all()
    assert (dilate_with_motion(mask, flow, 2 * factor) | ~grown).all()


# In the pipeline


@pytest.fixture
def frames() -> list[np.ndarray]:
    return moving(patchwork((140, 180), seed=9), 14, SIZE, (2, 1))


def dropping_out(matcher: Matcher, missing: tuple[int, ...]) -> Callable[[Tensor, object], Matched]:
    """Finds a block of the scene, which moves by (2, 1); in `missing` frames nothing at all."""
    number = count()

    def find(frames: Tensor, _: object) -> Matched:
        planes = torch.zeros(len(frames), 2, *frames.shape[1:3])
        for plane in planes:
            t = next(number)
            if t not in missing:
                plane[0][truth(t)] = 0.9
        return Matched(planes, matcher.mask(planes), None)

    return find


def truth(number: int) -> tuple[slice, slice]:
    return slice(20 + number, 40 + number), slice(20 + 2 * number, 44 + 2 * number)


def make(
    library: TemplateLibrary, backbone: Backbone, missing: tuple[int, ...] = (), preset: str = "strict", **changes: Any
) -> Hider:
    options: dict[str, Any] = {**TINY_SETTINGS, "seed": 3, "device": "cpu", **changes}
    hider = Hider(["hair", "torso"], preset, library=library, network=backbone, **options)
    hider.matcher.find = dropping_out(hider.matcher, missing)
    return hider


def test_a_drop_out_of_three_frames_leaves_no_frame_unhidden(
    small: TemplateLibrary, tiny: Backbone, frames: list[np.ndarray]
) -> None:
    """With the default preset and the flow that it estimates."""
    hider = make(small, tiny, (5, 6, 7))
    got = explained(hider, frames)
    assert not got.saliency[5:8].any()
    for t in range(len(frames)):
        assert (got.alpha[t][truth(t)] == 1).all(), t
        assert torch.equal(got.output[t][truth(t)], got.noise[t][truth(t)].round().to(torch.uint8))
        assert np.array_equal(got.frames[t].numpy(), frames[t])
    assert (got.alpha == 0).float().mean() > 0.4, "not everything is hidden"
    without = explained(make(small, tiny, (5, 6, 7), look_ahead=0), frames)
    assert [t for t in range(len(frames)) if not without.alpha[t].any()] == [5, 6, 7]


def test_frames_in_which_nothing_is_hidden_are_counted(
    small: TemplateLibrary, tiny: Backbone, frames: list[np.ndarray]
) -> None:
    hider = make(small, tiny, tuple(range(3, 11)))
    coverage = Coverage(hider.attributes)
    for chunk in hider.explain(frames):
        hider.measure(chunk, coverage)
    content = coverage.as_json()
    assert content["frames_without_match"] == 8 - 2 * 3
    found_in = (14 - 8) / 14 * 20 * 24 / (SIZE[0] * SIZE[1])
    assert content["attributes"]["hair"] == pytest.approx(found_in, abs=1e-4), "what was found, not what was carried"


@pytest.mark.parametrize("preset", ["strict", "paper-debiased"])
def test_chunks_do_not_change_a_pixel(
    small: TemplateLibrary, tiny: Backbone, frames: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, preset: str
) -> None:
    results = []
    for size in (1, 3, 8):
        monkeypatch.setattr(memory, "MAX_CHUNK_FRAMES", size)
        results.append(explained(make(small, tiny, (4, 5), preset), frames))
    for other in results[1:]:
        for name in ("output", "alpha", "flow", "noise"):
            assert torch.equal(getattr(results[0], name), getattr(other, name)), name


@pytest.mark.parametrize("number", [0, 1, 2, 5])
@pytest.mark.parametrize("look_ahead", [0, 3, 30])
def test_inputs_shorter_than_the_look_ahead_come_out_whole(
    small: TemplateLibrary, tiny: Backbone, frames: list[np.ndarray], number: int, look_ahead: int
) -> None:
    got = list(make(small, tiny, look_ahead=look_ahead).hide(torch.from_numpy(frame) for frame in frames[:number]))
    assert len(got) == number
    assert all(isinstance(image, Tensor) for image in got)


def test_the_look_ahead_is_bounded(small: TemplateLibrary, tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MAX_CHUNK_FRAMES", 2)
    taken: list[int] = []
    endless = (taken.append(number) or np.full((*SIZE, 3), number % 256, np.uint8) for number in count())
    for number, image in enumerate(islice(make(small, tiny, tuple(range(99)), look_ahead=5).hide(endless), 20)):
        assert image[0, 0, 0] == number, "in order"
        assert len(taken) <= number + 1 + 5 + 2 - 1


def test_a_soft_blend_and_a_whole_frame_are_not_held_back(
    small: TemplateLibrary, tiny: Backbone, frames: list[np.ndarray]
) -> None:
    blend = make(small, tiny, (5,), "paper-debiased", look_ahead=3, motion_dilation=2.0)
    assert torch.equal(
        explained(blend, frames).alpha, explained(make(small, tiny, (5,), "paper-debiased"), frames).alpha
    )
    whole = Hider(None, method="black", device="cpu", **TINY_SETTINGS, look_ahead=3)
    for hider in (make(small, tiny, (5,), "paper-debiased", look_ahead=3), whole):
        taken: list[int] = []
        next(hider.hide(taken.append(0) or frame for frame in frames))
        assert len(taken) == memory.MAX_CHUNK_FRAMES


def test_a_comparison_method_covers_the_joined_mask(
    small: TemplateLibrary, tiny: Backbone, frames: list[np.ndarray]
) -> None:
    got = explained(make(small, tiny, (5, 6, 7), method="black"), frames)
    assert torch.equal(got.alpha, explained(make(small, tiny, (5, 6, 7)), frames).alpha)
    assert all(not got.output[t][truth(t)].any() for t in range(len(frames)))


@pytest.mark.parametrize("seed", range(3))
def test_where_all_cells_are_carried_the_masks_are_the_same(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a graphics card, which is not asked which of them count."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(9, 30, 40, generator=generator) > 0.97
    flow = 4 * torch.randn(9, 2, 30, 40, generator=generator)
    frames, searched = torch.zeros(9, 30, 40, 3, dtype=torch.uint8), torch.ones(9, dtype=torch.bool)
    found = Found(frames, torch.zeros(9, 0, 30, 40), flow, masks, searched)
    results = []
    for every in (False, True):
        if every:
            monkeypatch.setattr(Continuity, "_carried_cells", lambda *_: torch.arange(30 * 40))
        joined = Continuity(2)
        results.append(torch.cat([part.mask for part in (*joined.push(found), *joined.flush())]))
    assert torch.equal(*results)
    assert results[0].float().mean() > masks.float().mean()
