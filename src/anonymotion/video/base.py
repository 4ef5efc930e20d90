"""What every source and every sink can do, whatever is behind it.

This file does not know containers, pictures or files: `reader`, `writer` and `pictures` do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

from anonymotion.video.digests import AudioDigest
from anonymotion.video.info import Frame, Image, VideoInfo


class Noted:
    """Something with `notes`: sentences for the user about what was ignored, dropped or changed."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, sentence: str) -> None:
        """Add a sentence to `notes` unless it is there already."""
        if sentence not in self.notes:
            self.notes.append(sentence)


class Source(Noted, ABC):
    """Pictures in presentation order, one pass, in constant memory; a context manager.

    `info` says what the file promises.  `notes` are sentences about what was ignored or dropped; the list
    is complete once the iteration has ended.  Reaching the end of the iteration means that the whole
    input was read: a shortfall raises TruncatedInputError before the iteration ends.
    """

    path: Path
    info: VideoInfo

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames once.  Raises InputError, TruncatedInputError, UnsupportedInputError."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file; allowed more than once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Sink(Noted, ABC):
    """Where pictures go; a context manager that leaves nothing behind unless `commit` was called.

    `write` takes pictures in presentation order.  `finish` completes the hidden file and says where it
    is, so that it can be verified; `commit` (which calls `finish` if need be) makes it appear under its
    name.  Leaving the `with` block in any other way removes everything that was written.

    `container`: FFmpeg's name, None for pictures.  `starts_at_zero`: its times count from the first picture.
    `time_tolerance`: seconds by which it may miss a time.  `audio`: what was copied, stream by stream.
    """

    path: Path

    def __init__(self) -> None:
        super().__init__()
        self.frames_written = 0
        self.keeps_audio = False
        # what the check after writing has to know
        self.container: str | None = None
        self.starts_at_zero = False
        self.time_tolerance = Fraction(1, 1000)
        self.audio: list[AudioDigest] = []

    @abstractmethod
    def write(self, image: Image, frame: Frame) -> None:
        """Write `image`, (H, W, 3) uint8 RGB of the announced size, at the time of `frame`.

        Raises OutputError: another size, a time not after the previous one, a full disk.
        """

    @abstractmethod
    def finish(self) -> Path:
        """Complete the hidden file (or folder), flushed to the disk; its path.  Raises OutputError."""

    @abstractmethod
    def commit(self) -> None:
        """Make the result appear under its name.  Raises OutputError; then nothing is left."""

    @abstractmethod
    def retract(self) -> None:
        """Remove the result again after `commit`, because what belongs to it did not appear."""

    @abstractmethod
    def discard(self) -> None:
        """Remove everything that was written, unless committed; allowed more than once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()
