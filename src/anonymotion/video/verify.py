"""The one way from hidden pictures to a file, and the check of that file before it appears.

`HiddenWriter.write` demands a mask with every picture.  Of each it remembers a few masked pixels at random places,
as they were and as they were written, in memory only.  `verify` decodes the finished file again, while nobody else
can see it, and compares: number of pictures, size, times, streams, audio, and in each picture whether the pixels that
were remembered are now what was written or still what the source showed.

Pixels are compared by their brightness, which all encoders keep best.  Where t is the mean place of the decoded
brightness d between that of the source s (0) and that which was written w (1),

    t = sum((d - s) (w - s)) / sum((w - s)^2),

a picture that was not hidden has t near 0, whatever the encoder did to it.

Not here: how a picture is hidden (pipeline, compositor), how files are written (writer, pictures).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anonymotion.errors import InputError, OutputError
from anonymotion.video.base import Sink
from anonymotion.video.info import Frame, Image, VideoInfo

SAMPLES_PER_FRAME = 256
LEAST_SAMPLES_PER_FRAME = 8
BUDGET = 1 << 21
"""Samples that are kept in all, 6 bytes each; longer videos keep fewer of each picture."""

LEAST_PLACE = 0.25
"""Of t: a picture that was not hidden is at 0 +- 0.1, noise after the coarsest usual encoding at 0.5 and above."""

LEAST_CONTRAST = 8.0
"""Root mean square of w - s in grey levels from which on t can be told from the errors of an encoder."""

LARGEST_ERROR = 40.0
"""Mean of |d - w| in grey levels: a black or an unrelated picture is beyond."""

# one remembered pixel: its flat place, its brightness in the source and as it was written
_SAMPLE = np.dtype([("place", "<u4"), ("source", "u1"), ("written", "u1")])
_BRIGHTNESS = np.array([0.299, 0.587, 0.114], np.float32)


class HiddenWriter:
    """Writes hidden pictures into a sink, each with its mask, and verifies what the sink has made of them.

    must_differ: the pixels inside the mask are noise, so that they cannot be those of the source by chance.
    """

    def __init__(self, sink: Sink, info: VideoInfo, *, must_differ: bool) -> None:
        self.sink = sink
        self._info = info
        self._must_differ = must_differ
        self._random = np.random.default_rng()  # seeded by the operating system: nobody can know the places
        self._per_frame = SAMPLES_PER_FRAME
        self._kept = 0
        # as bytes and machine words: there is one of each per picture of what may be a long video
        self._samples: list[bytes] = []
        self._times = array("q")

    def write(self, hidden: Image, frame: Frame, mask: NDArray[np.float32]) -> None:
        """Write `hidden`, which replaces `frame.image`; both (H, W, 3) uint8.

        mask: (H, W) float32, the weight in [0, 1] with which each pixel was hidden.  Raises OutputError if the mask
        is missing or not one, a frame was left out, or masked pixels are still those of the source.
        """
        expected = frame.image.shape[:2]
        if not isinstance(mask, np.ndarray) or mask.shape != expected or mask.dtype != np.float32:
            got = f"{mask.shape} {mask.dtype}" if isinstance(mask, np.ndarray) else type(mask).__name__
            raise OutputError(f"frame {frame.index} came with a mask {got}; without one of {expected} float32 it stops")
        if not (float(mask.min()) >= 0 and float(mask.max()) <= 1):  # also false for NaN
            raise OutputError(f"the mask of frame {frame.index} is not in [0, 1]: nothing can be said about its pixels")
        if frame.index != len(self._times):
            raise OutputError(f"frame {frame.index} came where frame {len(self._times)} was due: frames were lost")
        self._remember(hidden, frame, mask)
        self.sink.write(hidden, frame)
        self._times.append(frame.pts)

    def _remember(self, hidden: Image, frame: Frame, mask: NDArray[np.float32]) -> None:
        places = _places(mask.ravel(), self._per_frame, self._random)
        before, after = frame.image.reshape(-1, 3)[places], hidden.reshape(-1, 3)[places]
        # a few pixels may be equal by chance, and the rim is mixed: only whole replacement is held to it
        whole = mask.ravel()[places] == 1
        if self._must_differ and int(whole.sum()) >= 16 and bool((before == after).all(1)[whole].mean() > 0.5):
            raise OutputError(f"frame {frame.index} is not hidden inside its mask: nothing was written; report this")
        sample = np.empty(len(places), _SAMPLE)
        sample["place"] = places
        sample["source"], sample["written"] = np.rint(before @ _BRIGHTNESS), np.rint(after @ _BRIGHTNESS)
        self._samples.append(sample.tobytes())
        self._kept += len(places)
        if self._kept > BUDGET and self._per_frame > LEAST_SAMPLES_PER_FRAME:
            self._per_frame //= 2
            end = self._per_frame * _SAMPLE.itemsize  # places are in random order: the first are a fair choice
            self._samples = [sample[:end] for sample in self._samples]
            self._kept = sum(map(len, self._samples)) // _SAMPLE.itemsize

    @property
    def times_seconds(self) -> list[float]:
        """When each picture that was written appears."""
        return [float(pts * self._info.time_base) for pts in self._times]

    def verify(self) -> Path:
        """Finish the hidden file or folder and decode it again; its path.  Raises OutputError, and leaves nothing."""
        try:
            path = self.sink.finish()
            count = 0
            for count, (image, time) in enumerate(self._decoded(path), 1):
                self._check(count - 1, image, time)
            if count != len(self._times):
                raise self._failed(f"{len(self._times)} pictures were written and {count} are in it")
        except BaseException:
            self.sink.discard()
            raise
        return path

    def _decoded(self, path: Path) -> Iterator[tuple[Image, Fraction | None]]:
        from anonymotion.video.pictures import read_back
        from anonymotion.video.reader import ContainerSource
        from anonymotion.video.streams import check_streams

        try:
            if self.sink.container is None:
                yield from ((image, None) for image in read_back(path))
                return
            check_streams(path, self.sink, self._info)
            with ContainerSource(path) as source:
                yield from ((frame.image, frame.pts * frame.time_base) for frame in source)
        except InputError as error:
            raise self._failed(f"it cannot be read again: {error}") from error

    def _check(self, index: int, image: Image, time: Fraction | None) -> None:
        if index >= len(self._times):
            raise self._failed(f"{len(self._times)} pictures were written and more are in it")
        if image.shape != (self._info.height, self._info.width, 3):
            raise self._failed(f"picture {index} has the shape {image.shape}")
        if time is not None:
            ticks = self._times[index] - (self._times[0] if self.sink.starts_at_zero else 0)
            expected = ticks * self._info.time_base
            if abs(time - expected) > self.sink.time_tolerance:
                raise self._failed(
                    f"picture {index} is at {float(time):.4f} s instead of {float(expected):.4f} s; try .mp4 or .mkv"
                )
        sample = np.frombuffer(self._samples[index], _SAMPLE)
        if not len(sample):
            return
        decoded = image.reshape(-1, 3)[sample["place"]] @ _BRIGHTNESS
        source, written = sample["source"].astype(np.float32), sample["written"].astype(np.float32)
        change = written - source
        if len(sample) >= LEAST_SAMPLES_PER_FRAME and float((change**2).mean()) >= LEAST_CONTRAST**2:
            place = float((decoded - source) @ change / (change @ change))
            if place < LEAST_PLACE:
                raise self._failed(f"picture {index} still shows the source inside its mask; try a lower --quality")
        error = float(np.abs(decoded - written).mean())
        if error > LARGEST_ERROR:
            raise self._failed(f"picture {index} is not what was written (mean error {error:.0f} of 255)")

    def _failed(self, what: str) -> OutputError:
        return OutputError(f"{self.sink.path} failed its check after writing, so it was not made: {what}")


def _places(mask: NDArray[np.float32], count: int, random: np.random.Generator) -> NDArray[np.uint32]:
    """Up to `count` random places where the flat `mask` is 1; where it is nowhere 1, where it is not 0."""
    tried = random.integers(mask.size, size=4 * count)
    found = tried[mask[tried] == 1]
    for least in (1.0, np.finfo(np.float32).tiny):
        if len(found) < count:  # a small mask: look at all of it
            inside = np.flatnonzero(mask >= least)
            found = random.permutation(inside)[:count] if len(inside) else found
        if len(found):
            break
    return np.asarray(found[:count], np.uint32)
