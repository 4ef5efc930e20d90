"""Which frames are matched: distances, motion, agreement; and that the frames in between are hidden all the same."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_continuity import truth
from tiny import SIZE, TINY_SETTINGS, moving, patchwork
from torch import Tensor

from anonymotion.backbone import Backbone
from anonymotion.chunks import HiddenChunk
from anonymotion.errors import SettingsError
from anonymotion.keyframes import FIRST, LONGEST, KeyFrames
from anonymotion.matcher import Matched
from anonymotion.pipeline import Hider
from anonymotion.presets import settings_for
from anonymotion.results import Coverage
from anonymotion.templates import TemplateLibrary

STILL = torch.zeros(1, 2, 12, 16)
BLOCK = torch.zeros(1, 12, 16, dtype=torch.bool)
BLOCK[:, 4:9, 4:10] = True
GREY = torch.full((1, 12, 16, 3), 99, dtype=torch.uint8)


def chosen_of(
    keys: KeyFrames, lengths: list[int], flow: Tensor = STILL, mask: Tensor = BLOCK, frames: Tensor = GREY
) -> list[int]:
    """The numbers of the matched frames when chunks of `lengths` come, all with the same flow and mask."""
    found, first = [], 0
    pictures = frames.expand(sum(lengths), -1, -1, -1)
    for number, length in enumerate(lengths):
        flows = flow.expand(length, -1, -1, -1)
        chosen = keys.choose(pictures[first : first + length], flows, last=number == len(lengths) - 1)
        keys.learn(chosen, mask.expand(length, -1, -1), flows)
        found += [first + t for t in chosen]
        first += length
    return found


@pytest.mark.parametrize("lengths", [[10], [3, 3, 3, 1], [1] * 10, [7, 3]])
def test_each_nth_frame_and_the_last(lengths: list[int]) -> None:
    assert chosen_of(KeyFrames("1"), lengths) == list(range(10))
    assert chosen_of(KeyFrames("3"), lengths) == [0, 3, 6, 9]
    assert chosen_of(KeyFrames("4"), lengths) == [0, 4, 8, 9]


@given(st.integers(1, 6), st.lists(st.integers(1, 8), min_size=1, max_size=6), st.booleans())
def test_no_two_matched_frames_are_further_apart_than_the_longest(every: int, lengths: list[int], adapts: bool) -> None:
    keys = KeyFrames("auto" if adapts else str(every))
    found = chosen_of(keys, lengths)
    assert found[0] == 0
    assert found[-1] == sum(lengths) - 1
    assert all(b - a <= keys.longest for a, b in itertools.pairwise(found))


def test_auto_grows_where_motion_and_matching_agree() -> None:
    found = chosen_of(KeyFrames("auto"), [1] * 60)
    distances = [b - a for a, b in itertools.pairwise(found)]
    assert distances[:5] == [FIRST, *range(FIRST + 1, LONGEST + 1)], "one further each time"
    assert distances[5:-1] == [LONGEST] * len(distances[5:-1])


def test_auto_falls_back_where_they_do_not() -> None:
    keys, wandering = KeyFrames("auto"), 0
    found = []
    for t in range(80):
        here = t < 20
        chosen = keys.choose(GREY, STILL, last=False)
        if chosen:
            wandering += 1
            found.append(t)
        mask = BLOCK if here else BLOCK.roll(6 * (wandering % 2), dims=2)
        keys.learn(chosen, mask, STILL)
    late = [b - a for a, b in itertools.pairwise(found) if a >= 50]
    assert max(late) <= 2, "what is matched is never where it was carried to"


def test_auto_looks_again_where_the_scene_moves_far() -> None:
    fast = torch.zeros(1, 2, 12, 16)
    fast[:, 0] = 2  # of 12 pixels: 17 %
    assert chosen_of(KeyFrames("auto"), [1] * 12, fast) == list(range(12))


def test_auto_looks_again_where_only_what_is_hidden_moves_far() -> None:
    fast = torch.zeros(1, 2, 12, 16)
    small = torch.zeros_like(BLOCK)
    small[:, 5:7, 5:8] = True
    fast[:, 0, 5:7, 5:8] = 1.5  # of 12 cells: 12.5 %
    assert small.float().mean() < 0.05, "one cell in twenty of the frame is still"
    found = chosen_of(KeyFrames("auto"), [1] * 12, fast, small)
    assert found == list(range(12))
    assert len(chosen_of(KeyFrames("auto"), [1] * 12, fast, torch.zeros_like(BLOCK))) < len(found) / 2


def test_auto_looks_at_once_after_a_cut_and_where_something_flashes_up() -> None:
    frames = GREY.repeat(24, 1, 1, 1)
    frames[9:] = 200
    assert 9 in chosen_of(KeyFrames("auto"), [8, 8, 8], frames=frames), "a cut"
    frames = GREY.repeat(24, 1, 1, 1)
    frames[10, 3:6, 3:6] = 250
    assert 10 in chosen_of(KeyFrames("auto"), [8, 8, 8], frames=frames), "something that the flow does not explain"


def test_a_picture_that_only_moves_is_not_new() -> None:
    picture = torch.from_numpy(patchwork((40, 80), seed=1, block=4))
    frames = torch.stack([picture[:, t : t + 40] for t in range(8)])
    flow = torch.zeros(8, 2, 40, 40)
    flow[1:, 0] = 1
    keys = KeyFrames("auto")
    keys._distance = LONGEST
    assert keys.choose(frames[:4], flow[:4], last=False) == [0]
    assert keys.choose(frames[4:], torch.zeros_like(flow[4:]) + 9, last=False)[0] == 0, "the flow is wrong"


def test_a_nothing_that_stays_nothing_agrees() -> None:
    found = chosen_of(KeyFrames("auto"), [1] * 30, mask=torch.zeros_like(BLOCK))
    assert len(found) < 8


@pytest.mark.parametrize("every", ["0", "4", "-1", "x", "", "1.5"])
def test_every_reaches_no_further_than_look_ahead(every: str) -> None:
    with pytest.raises(SettingsError, match="every"):
        settings_for("strict", every=every)


def test_every_is_for_masks() -> None:
    assert settings_for("strict", every=3).every == "3"
    with pytest.raises(SettingsError, match="blend"):
        settings_for("paper-debiased", every="2", look_ahead=3)


# In the pipeline


@pytest.fixture
def frames() -> list[np.ndarray]:
    return moving(patchwork((140, 180), seed=9), 14, SIZE, (2, 1))


def make(library: TemplateLibrary, backbone: Backbone, missing: tuple[int, ...] = (), **changes: Any) -> Hider:
    """A pipeline whose matcher finds a block in the frames it is shown, except in `missing` ones."""
    options: dict[str, Any] = {**TINY_SETTINGS, "seed": 3, "device": "cpu", **changes}
    return Hider(["hair", "torso"], library=library, network=backbone, **options)


def shown_to(hider: Hider, frames: list[np.ndarray]) -> list[int]:
    """Makes the matcher find the moving block of `truth` in whatever frame it is shown; the numbers of those."""
    shown: list[int] = []
    number = {frame.tobytes(): t for t, frame in enumerate(frames)}

    def find(batch: Tensor, _: object) -> Any:
        numbers = [number[image.numpy().tobytes()] for image in batch]
        shown.extend(numbers)
        planes = torch.zeros(len(batch), 2, *batch.shape[1:3])
        for plane, t in zip(planes, numbers, strict=True):
            plane[0][truth(t)] = 0.9
        return Matched(planes, hider.matcher.mask(planes), None)

    hider.matcher.find = find
    return shown


@pytest.mark.parametrize(("every", "matched"), [("1", 14), ("3", 6), ("auto", 6)])
def test_frames_that_are_not_matched_are_hidden_along_the_flow(
    small: TemplateLibrary, tiny: Backbone, frames: list[np.ndarray], every: str, matched: int
) -> None:
    hider = make(small, tiny, every=every)
    shown = shown_to(hider, frames)
    chunks: list[HiddenChunk] = list(hider.explain(frames))
    alpha, searched = torch.cat([c.alpha for c in chunks]), torch.cat([c.searched for c in chunks])
    assert searched.nonzero().flatten().tolist() == shown
    assert len(shown) <= matched
    for t in range(len(frames)):
        assert (alpha[t][truth(t)] == 1).all(), t
    coverage = Coverage(hider.attributes)
    for chunk in chunks:
        hider.measure(chunk, coverage)
    content = coverage.as_json()
    assert content["frames_searched"] == len(shown)
    assert content["frames_without_match"] == 0
    assert content["attributes"]["hair"] == pytest.approx(20 * 24 / (SIZE[0] * SIZE[1]), abs=1e-4)


def test_a_matched_frame_that_drops_out_leaves_none_unhidden(
    small: TemplateLibrary, tiny: Backbone, frames: list[np.ndarray]
) -> None:
    hider = make(small, tiny, every="3", look_ahead=3)
    shown = shown_to(hider, frames)
    found = hider.matcher.find

    def blind(batch: Tensor, _: object) -> Any:
        result = found(batch, _)
        seen = torch.tensor([t != 6 for t in shown[-len(batch) :]])[:, None, None]
        return result._replace(saliency=result.saliency * seen[:, None], mask=result.mask & seen)

    hider.matcher.find = blind
    alpha = torch.cat([chunk.alpha for chunk in hider.explain(frames)])
    assert 6 in shown
    assert all((alpha[t][truth(t)] == 1).all() for t in range(len(frames)))


@pytest.mark.parametrize("first", range(1, 16))
def test_a_matcher_that_drops_out_for_three_frames_leaves_none_unhidden(
    small: TemplateLibrary, tiny: Backbone, first: int
) -> None:
    """Wherever the three are; those of them that `auto` matches find nothing."""
    frames = moving(patchwork((140, 180), seed=9), 19, SIZE, (2, 1))
    hider = make(small, tiny, every="auto")
    shown = shown_to(hider, frames)
    found = hider.matcher.find

    def blind(batch: Tensor, _: object) -> Any:
        result = found(batch, _)
        seen = torch.tensor([not first <= t < first + 3 for t in shown[-len(batch) :]])[:, None, None]
        return result._replace(saliency=result.saliency * seen[:, None], mask=result.mask & seen)

    hider.matcher.find = blind
    alpha = torch.cat([chunk.alpha for chunk in hider.explain(frames)])
    assert len(shown) < len(frames)
    assert all((alpha[t][truth(t)] == 1).all() for t in range(len(frames)))


def test_what_is_kept_visible_is_looked_for_in_every_frame(
    small: TemplateLibrary, tiny: Backbone, frames: list[np.ndarray]
) -> None:
    from anonymotion.policy import Policy

    hider = Hider(
        ["hair"],
        policy=Policy(keep=("torso",)),
        library=small,
        network=tiny,
        **{**TINY_SETTINGS, "seed": 3, "device": "cpu", "every": "3"},
    )
    assert all(bool(chunk.searched.all()) for chunk in hider.explain(frames))
