"""Stages in threads: the same items in the same order, errors where they belong, and nothing that goes on after."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from synthetic import make_clip
from tiny import SIZE, TINY_SETTINGS, moving, patchwork, tiny_library

from anonymotion import memory, video
from anonymotion.backbone import Backbone
from anonymotion.errors import FlowError
from anonymotion.exports import ChunkWriter
from anonymotion.pipeline import HiddenChunk, Hider
from anonymotion.run import hide_video
from anonymotion.scheduler import ahead
from anonymotion.templates import TemplateLibrary


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def numbers(end: int, made: list[int] | None = None) -> Generator[int, None, None]:
    for number in range(end):
        if made is not None:
            made.append(number)
        yield number


def wait_until(true: Any) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.parametrize("length", [1, 2, 7])
def test_the_same_items_in_the_same_order(length: int) -> None:
    with ahead(numbers(200), "test", length) as items:
        assert list(items) == list(range(200))
        assert list(items) == [], "the end stays the end"


def test_they_are_made_in_another_thread_before_they_are_asked_for() -> None:
    names: list[str] = []

    def named() -> Generator[int, None, None]:
        for number in range(3):
            names.append(threading.current_thread().name)
            yield number

    with ahead(named(), "somewhere else") as items:
        wait_until(lambda: len(names) == 2)
        assert list(items) == [0, 1, 2]
    assert names == ["somewhere else"] * 3


@pytest.mark.parametrize("length", [1, 3])
def test_only_so_many_wait(length: int) -> None:
    made: list[int] = []
    with ahead(numbers(100, made), "test", length) as items:
        for taken in range(5):
            # those that wait, and one in the hands of the thread
            wait_until(lambda taken=taken: len(made) == taken + length + 1)
            time.sleep(0.02)
            assert len(made) == taken + length + 1
            assert next(items) == taken


@pytest.mark.parametrize("error", [FlowError("no flow"), KeyboardInterrupt(), SystemExit(3), MemoryError()])
def test_an_error_comes_where_its_item_would_have(error: BaseException) -> None:
    def failing() -> Generator[int, None, None]:
        yield from range(4)
        raise error

    with ahead(failing(), "one") as first, ahead((2 * n for n in first), "two") as second:
        assert [next(second) for _ in range(4)] == [0, 2, 4, 6]
        with pytest.raises(type(error)) as caught:
            next(second)
    assert caught.value is error
    assert "failing" in [entry.name for entry in caught.traceback], "it says where it happened"


def fail_at(items: Iterator[int]) -> None:
    assert next(items) == 0
    raise ZeroDivisionError


def test_a_failure_of_the_user_ends_all_threads_and_closes_what_they_use() -> None:
    closed: list[str] = []

    def stage(name: str, items: Iterator[int]) -> Generator[int, None, None]:
        try:
            yield from items
        finally:
            closed.append(name)

    with pytest.raises(ZeroDivisionError), ahead(stage("one", count()), "one") as first:  # noqa: SIM117
        with ahead(stage("two", first), "two") as second:
            fail_at(second)
    assert sorted(closed) == ["one", "two"]


def test_an_interrupt_reaches_who_waits_and_another_one_does_not_leave_the_thread_behind() -> None:
    released = threading.Event()

    def slow() -> Generator[int, None, None]:
        released.wait(10)
        yield 0

    def interrupt() -> None:
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)  # while the first one waits for the thread
        time.sleep(0.1)
        released.set()

    other = threading.Thread(target=interrupt)
    # a shell starts what runs in its background with interrupts ignored, and Python leaves that as it is
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        other.start()
        with pytest.raises(KeyboardInterrupt), ahead(slow(), "slow") as items:
            next(items)
        assert released.is_set()
        other.join()
    finally:
        signal.signal(signal.SIGINT, before)


# ---------------------------------------------------------------------- in a run


@pytest.fixture
def small(tmp_path: Path) -> TemplateLibrary:
    return tiny_library(tmp_path / "library")


def hider(small: TemplateLibrary, tiny: Backbone, **settings: Any) -> Hider:
    return Hider(
        "hair", library=small, network=tiny, device="cpu", seed=7, **{**TINY_SETTINGS, "threshold": 0.01, **settings}
    )


@pytest.mark.parametrize("settings", [{}, {"every": "auto"}, {"every": "2"}, {"preset": "paper-debiased"}], ids=str)
def test_every_bit_is_that_of_the_run_without_threads(
    small: TemplateLibrary, tiny: Backbone, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    monkeypatch.setattr(memory, "MAX_CHUNK_FRAMES", 3)
    if settings.get("preset"):
        settings = {**settings, "threshold": None}
    frames = moving(patchwork((140, 160)), 20, SIZE, (2, 1))
    one = list(hider(small, tiny, **settings).explain(frames))
    two = list(hider(small, tiny, **settings).explain(iter(frames), overlap=True))
    assert len(one) == len(two) > 5
    for alone, overlapped in zip(one, two, strict=True):
        for name in ("frames", "output", "saliency", "alpha", "flow", "noise", "searched"):
            assert torch.equal(getattr(alone, name), getattr(overlapped, name)), name


def test_a_file_has_what_the_frames_alone_would_have(small: TemplateLibrary, tiny: Backbone, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=21)

    class Kept(ChunkWriter):
        def __init__(self) -> None:
            self.output: list[np.ndarray] = []

        def write(self, chunk: HiddenChunk) -> None:
            self.output.extend(chunk.output.numpy())

    kept = Kept()
    result = hide_video(
        clip,
        tmp_path / "hidden.mp4",
        "hair",
        watch=kept,
        library=small,
        network=tiny,
        device="cpu",
        seed=7,
        threshold=0.01,
        **TINY_SETTINGS,
    )
    with video.open_source(clip) as source:
        expected = list(hider(small, tiny).hide(frame.image for frame in source))
    assert result.frames == len(expected) == 21
    assert all(np.array_equal(got, wanted) for got, wanted in zip(kept.output, expected, strict=True))


def test_memory_is_bounded_when_the_user_is_slow(small: TemplateLibrary, tiny: Backbone) -> None:
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        while True:
            taken += 1
            yield np.zeros((*SIZE, 3), np.uint8)

    with closing(hider(small, tiny, look_ahead=0).explain(endless(), overlap=True)) as chunks:
        next(chunks)
        time.sleep(0.5)
        # one used, and at both belts one that waits and one in hand
        assert taken <= 5 * memory.MAX_CHUNK_FRAMES
