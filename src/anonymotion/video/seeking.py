"""Any frame of an input by its number, for somebody who scrubs: by seeking where that is exact, else in order.

Numbers and times are those that a run from the first frame to the last would give.  The times are collected from the
packets, without decoding; then a frame is found by seeking to the key frame before it and decoding up to its time.
Where packets have no usable times (AVI, GIF, pictures) frames are decoded in order instead, which is slow backwards.

Not here: a cache of frames (whoever shows them knows how many), the check that an input is whole (reader).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from functools import cached_property
from pathlib import Path

from anonymotion.errors import InputError
from anonymotion.video.base import Source
from anonymotion.video.info import Frame, VideoInfo
from anonymotion.video.opening import open_source
from anonymotion.video.pictures import PICTURE_SUFFIXES
from anonymotion.video.reader import ContainerSource, open_container

# Decoding forward through so many frames is cheaper than a jump back to a key frame.
NEAR = 24


class FrameAccess(ABC):
    """Frames of one input by number; a context manager, for one thread at a time.

    `info` says what the file promises, `count` how many frames there are.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stack = ExitStack()

    @property
    @abstractmethod
    def info(self) -> VideoInfo:
        """What the input promises."""

    @property
    @abstractmethod
    def count(self) -> int:
        """How many frames there are; the first call may read through the input."""

    @abstractmethod
    def frame(self, number: int) -> Frame:
        """Frame `number`, from 0.  Raises InputError if there is none, or it cannot be decoded."""

    @abstractmethod
    def seconds(self, number: int) -> Fraction:
        """When frame `number` appears, in seconds after the first one."""

    def number_at(self, seconds: float) -> int:
        """The frame that is shown at `seconds` after the first one appears: the last one that begins by then."""
        low, high = 0, self.count - 1
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if float(self.seconds(middle)) <= seconds + 1e-6 else (low, middle - 1)
        return low

    def close(self) -> None:
        """Let go of the file; allowed more than once."""
        self._stack.close()

    def __enter__(self) -> FrameAccess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _missing(self, number: int) -> InputError:
        return InputError(f"{self.path.name} has no frame {number}: the last one is {self.count - 1}")


def open_frames(path: str | Path) -> FrameAccess:
    """Open a video, a GIF, a picture or a folder of pictures for frames by number; a cut file as far as it goes.

    Raises InputError and its children.
    """
    path = Path(path)
    if not path.is_dir() and path.suffix.lower() not in PICTURE_SUFFIXES:
        seeking = Seeking(path)
        if seeking.exact:
            return seeking
        seeking.close()
    return InOrder(path)


class InOrder(FrameAccess):
    """Frames decoded one after the other; going back starts again."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._source: Source = self._stack.enter_context(open_source(path, allow_truncated=True))
        self._info = self._source.info
        self._frames: Iterator[Frame] = iter(self._source)
        self._next = 0
        self._last: Frame | None = None

    @property
    def info(self) -> VideoInfo:
        """What the input promises."""
        return self._info

    @cached_property
    def count(self) -> int:
        """How many frames there are; read through once, since promises of such files are often wrong."""
        with open_source(self.path, allow_truncated=True) as source:
            return sum(1 for _ in source)

    def frame(self, number: int) -> Frame:
        """Frame `number`; see `FrameAccess.frame`."""
        if self._last is not None and self._last.index == number:
            return self._last
        if number < self._next:
            self._stack.close()
            self._source = self._stack.enter_context(open_source(self.path, allow_truncated=True))
            self._frames, self._next = iter(self._source), 0
        for frame in self._frames:
            self._next, self._last = frame.index + 1, frame
            if frame.index == number:
                return frame
        raise self._missing(number)

    def seconds(self, number: int) -> Fraction:
        """When frame `number` appears, by the mean rate."""
        return Fraction(0) if self._info.frame_rate is None else number / self._info.frame_rate


class Seeking(FrameAccess):
    """Frames of a container whose packets have times.

    exact: whether every packet has a time of its own, so that frames can be told apart by it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._source = self._stack.enter_context(_SeekingSource(path))
        self._times = sorted(_packet_times(path, self._source.stream_index))
        self.exact = bool(self._times) and len(set(self._times)) == len(self._times)

    @property
    def info(self) -> VideoInfo:
        """What the input promises."""
        return self._source.info

    @property
    def count(self) -> int:
        """How many frames have a time."""
        return len(self._times)

    def frame(self, number: int) -> Frame:
        """Frame `number`; see `FrameAccess.frame`."""
        if not 0 <= number < len(self._times):
            raise self._missing(number)
        return self._source.frame_at(number, self._times)

    def seconds(self, number: int) -> Fraction:
        """When frame `number` appears."""
        return (self._times[number] - self._times[0]) * self.info.time_base


class _SeekingSource(ContainerSource):
    """A container that can go back: the decoding of `ContainerSource`, from any key frame on."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, allow_truncated=True)
        self._shown: Frame | None = None

    @property
    def stream_index(self) -> int:
        """Of the video stream that is used."""
        return self._stream.index

    def frame_at(self, number: int, times: list[int]) -> Frame:
        """The frame of `times[number]`.  Raises InputError if the file gives another one there."""
        wanted = times[number]
        if self._shown is not None and self._shown.index == number:
            return self._shown
        behind = None if self._shown is None else number - self._shown.index
        if behind is None or not 0 < behind <= NEAR:
            self._go_to(wanted)
        while True:
            decoded, self._first = self._first or next(self._decoded, None), None
            if decoded is None or decoded.pts is None or decoded.pts > wanted:
                self._shown = None
                raise InputError(
                    f"frame {number} of {self.path.name} cannot be decoded by itself: convert the video to mp4 first"
                )
            if decoded.pts == wanted:
                self._last_pts = None  # going back is meant here
                self._shown = self._finish(decoded, number)
                return self._shown

    def _go_to(self, pts: int) -> None:
        assert self._container is not None  # noqa: S101 - for mypy: it is open until closed
        self._container.seek(pts, stream=self._stream, backward=True)
        self._first, self._decoded = None, self._decode(self._container)


def _packet_times(path: Path, stream_index: int) -> list[int]:
    """Times of the frames that are shown, from the packets alone; empty if one has none."""
    times = []
    with open_container(path) as container:
        for packet in container.demux(container.streams[stream_index]):
            if packet.size and not packet.is_discard:
                if packet.pts is None:
                    return []
                times.append(packet.pts)
    return times
