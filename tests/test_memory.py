"""Memory: what is asked for is understood, chunks fit, and what does not fit is done in parts without a difference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import SIZE, TINY_SETTINGS, explained

from anonymotion import memory, pipeline
from anonymotion.backbone import Backbone
from anonymotion.chunks import HiddenChunk
from anonymotion.device import fetched, in_parts, sent
from anonymotion.errors import DeviceError, SettingsError
from anonymotion.flow import FlowEstimator
from anonymotion.memory import BASE_BYTES, MAX_CHUNK_FRAMES, MAX_CHUNK_FRAMES_CUDA, Room, parse_memory
from anonymotion.noise import AccumulatedNoise
from anonymotion.pipeline import Hider
from anonymotion.policy import Policy
from anonymotion.templates import TemplateLibrary

CUDA = torch.device("cuda")


@pytest.fixture
def hider(small: TemplateLibrary, tiny: Backbone) -> Callable[..., Hider]:
    def make(**options: Any) -> Hider:
        settings = {**TINY_SETTINGS, "seed": 3, "device": "cpu", **options}
        return Hider(["hair", "torso"], library=small, network=tiny, **settings)

    return make


# What is asked for


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2G", 2 * 2**30),
        ("1500M", 1500 * 2**20),
        ("2.5 GB", 5 * 2**29),
        ("3gib", 3 * 2**30),
        ("64k", 2**16),
        ("1T", 2**40),
        ("123", 123),
        (456, 456),
    ],
)
def test_sizes_are_read(text: str | int, expected: int) -> None:
    assert parse_memory(text) == expected


@pytest.mark.parametrize(
    "text", ["", "G", "-2G", "0", "0.0M", "2X", "2 G G", "1e9", "٢G", "9" * 400, 0, -5, True, "1,5G"]
)
def test_what_is_no_size_is_refused_with_an_example(text: str | int) -> None:
    with pytest.raises(SettingsError, match="2G or 1500M") as caught:
        parse_memory(text)
    assert len(str(caught.value)) < 150


def test_a_size_that_cannot_be_read_is_an_error_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backbone, "load", lambda *_: pytest.fail("a network was loaded"))
    with pytest.raises(SettingsError, match="max memory 'much'"):
        Hider("hair", max_memory="much", device="cpu")


# What fits


@pytest.mark.parametrize("size_hw", [(360, 640), (1080, 1920)])
def test_the_largest_chunk_that_fits_is_taken(hider: Callable[..., Hider], size_hw: tuple[int, int]) -> None:
    free = hider().room
    most = free.frames(size_hw)
    assert most == max(1, min(MAX_CHUNK_FRAMES, memory.CHUNK_PIXELS // (size_hw[0] * size_hw[1])))
    for count in range(1, most + 1):
        assert replace(free, limit=free.needed(size_hw, count)).frames(size_hw) == count
    for count in range(2, most + 1):
        assert replace(free, limit=free.needed(size_hw, count) - 1).frames(size_hw) == count - 1


def test_more_of_everything_needs_more(hider: Callable[..., Hider]) -> None:
    one = hider().room.needed((360, 640), 4)
    assert BASE_BYTES["cpu"] < hider().room.needed((360, 640), 1) < one < hider().room.needed((720, 640), 4)
    assert hider(look_ahead=9).room.needed((360, 640), 4) > one
    # a frame that is remembered counts once, however many are worked on
    remembered = [hider(reuse=4.0).room.needed((360, 640), n) - hider().room.needed((360, 640), n) for n in (1, 4)]
    assert remembered[0] == remembered[1] > 0

    class Hungry(FlowEstimator):
        name = "hungry"

        def between(self, current: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
            raise AssertionError

        def working_bytes(self, size_hw: tuple[int, int], pairs: int) -> int:
            return 10**9

    hungry = hider()
    hungry.flow = Hungry()
    assert hungry.room.needed((360, 640), 4) == one + 10**9


def test_what_cannot_hold_one_frame_is_refused_with_what_is_needed(
    hider: Callable[..., Hider], frames: list[np.ndarray]
) -> None:
    with pytest.raises(SettingsError, match=rf"{SIZE[1]}x{SIZE[0]} pixels.*--max-memory \d+M or more") as caught:
        list(hider(max_memory="10M").hide(frames))
    said = str(caught.value).split("--max-memory ")[1].split()[0]
    assert len(list(hider(max_memory=said).hide(frames))) == len(frames)


def test_a_run_in_less_memory_has_the_same_frames(hider: Callable[..., Hider], frames: list[np.ndarray]) -> None:
    limit = hider().room.needed(SIZE, 2)
    small = hider(max_memory=limit)
    assert max(len(chunk.frames) for chunk in small.explain(frames)) == 2
    difference = (explained(small, frames).output.int() - explained(hider(), frames).output.int()).abs()
    assert (difference > 1).float().mean() < 0.001


def test_a_graphics_card_takes_more_at_a_time_and_half_of_its_memory(
    hider: Callable[..., Hider], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = hider()

    def room(card: float, limit: int | None = None) -> Room:
        monkeypatch.setattr(memory, "memory_bytes", lambda _: card)
        return Room(CUDA, made.matcher, made.flow, limit)

    assert room(140e9).frames((720, 1280)) == MAX_CHUNK_FRAMES_CUDA
    assert 1 <= room(8e9).frames((720, 1280)) < MAX_CHUNK_FRAMES_CUDA
    # a card that seems too small may do it nevertheless, and says so if not
    assert room(1e9).frames((720, 1280)) == 1
    with pytest.raises(SettingsError, match="too little"):
        room(140e9, 10**8).frames((720, 1280))


# What does not fit


def refused_beyond(limit: int, lengths: list[int]) -> Callable[[list[int]], int]:
    def work(part: list[int]) -> int:
        if len(part) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80 GiB")
        lengths.append(len(part))
        return sum(part)

    return work


def halves(part: list[int]) -> list[list[int]]:
    return [part[: len(part) // 2], part[len(part) // 2 :]] if len(part) > 1 else []


@pytest.mark.parametrize(("limit", "expected"), [(9, [7]), (4, [3, 4]), (3, [3, 2, 2]), (1, [1] * 7)])
def test_what_does_not_fit_is_done_in_halves_and_in_order(limit: int, expected: list[int]) -> None:
    lengths: list[int] = []
    sums = list(in_parts(list(range(7)), refused_beyond(limit, lengths), halves))
    assert lengths == expected
    starts = np.cumsum([0, *lengths])
    assert sums == [sum(range(start, start + length)) for start, length in zip(starts, lengths, strict=False)]


def test_what_does_not_fit_by_itself_and_other_errors_are_raised() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        list(in_parts([1, 2], refused_beyond(0, []), halves))

    def broken(_: list[int]) -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        list(in_parts([1, 2], broken, halves))


class Fails:
    """Runs out of memory for more frames than `most`, in `stage`, after it has done its work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stage: str, most: int) -> None:
        self.failed = 0
        owner: Any = AccumulatedNoise if stage == "chunk" else pipeline
        original = getattr(owner, stage)

        def limited(*arguments: Any, **named: Any) -> Any:
            result = original(*arguments, **named)
            if len(result) > most:
                self.failed += 1
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80 GiB")
            return result

        monkeypatch.setattr(owner, stage, limited)


STAGES = ("flow_to_previous", "dilate_with_motion", "chunk", "composite")


@pytest.mark.parametrize(
    ("stage", "most", "every"),
    [*((stage, 2, "1") for stage in STAGES), ("chunk", 1, "1"), ("flow_to_previous", 1, "auto")],
)
def test_a_stage_that_runs_out_of_memory_changes_nothing_but_the_chunks(
    hider: Callable[..., Hider],
    frames: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    most: int,
    every: str,
) -> None:
    made = hider(every=every, noise_grain=6.0)
    monkeypatch.setattr(memory, "MAX_CHUNK_FRAMES", most)
    expected = explained(made, frames)
    monkeypatch.setattr(memory, "MAX_CHUNK_FRAMES", 4)
    fails = Fails(monkeypatch, stage, most)
    found = explained(made, frames)
    assert fails.failed > 0
    assert torch.equal(found.noise, expected.noise)
    assert torch.equal(found.flow, expected.flow)
    assert torch.equal(found.searched, expected.searched)
    assert ((found.output.int() - expected.output.int()).abs() > 1).float().mean() < 0.001


@pytest.mark.parametrize("stage", STAGES)
def test_a_single_frame_that_does_not_fit_is_an_error_in_one_sentence(
    hider: Callable[..., Hider], frames: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    Fails(monkeypatch, stage, 0)
    with pytest.raises(DeviceError, match=r"no memory left for a frame of 84x70: use a smaller --short-side"):
        list(hider().hide(frames[:2]))


def test_a_policy_is_asked_once_for_each_frame_however_often_it_is_tried(
    hider: Callable[..., Hider], frames: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = Policy().overridden(include=["0,0,20,20@00:02-00:04"], exclude=["40,40,60,60"])
    times = [(second, second + 1) for second in range(len(frames))]

    def run() -> HiddenChunk:
        chunks = list(hider(policy=policy).explain(frames, times))
        return chunks[0] if len(chunks) == 1 else HiddenChunk(*(_joined(chunks, name) for name in NAMES))

    expected = run()
    fails = Fails(monkeypatch, "composite", 1)
    found = run()
    assert fails.failed > 0
    assert torch.equal(found.alpha, expected.alpha)
    assert torch.equal(found.output, expected.output)


NAMES = ("frames", "output", "saliency", "alpha", "flow", "noise", "searched")


def _joined(chunks: list[HiddenChunk], name: str) -> torch.Tensor:
    return torch.cat([getattr(chunk, name) for chunk in chunks])


# To the device and back


def test_frames_are_sent_in_one_piece_and_what_is_on_the_processor_is_not_copied() -> None:
    frames = [torch.full((2, 3, 3), number, dtype=torch.uint8) for number in range(4)]
    chunk = sent(frames, torch.device("cpu"))
    assert torch.equal(chunk, torch.stack(frames))
    one, other = fetched(chunk, chunk[:2])
    assert one is chunk
    assert other.data_ptr() == chunk.data_ptr()


@pytest.mark.gpu
def test_frames_go_to_a_graphics_card_and_come_back() -> None:
    frames = [torch.full((2, 3, 3), number, dtype=torch.uint8) for number in range(4)]
    chunk = sent(frames, CUDA)
    assert chunk.is_cuda
    back, floats = fetched(chunk, chunk.float())
    assert torch.equal(back, torch.stack(frames))
    assert torch.equal(floats, torch.stack(frames).float())


@pytest.mark.gpu
def test_a_graphics_card_keeps_to_what_it_may_take(hider: Callable[..., Hider]) -> None:
    frames = torch.randint(0, 256, (40, 360, 640, 3), dtype=torch.uint8)
    made = hider(device="cuda", max_memory="1500M")
    torch.cuda.reset_peak_memory_stats()
    assert len(list(made.hide(frames))) == 40
    assert torch.cuda.max_memory_allocated() < 1500 * 2**20 - BASE_BYTES["cuda"]
