"""What a video is (`VideoInfo`), and one of its pictures (`Frame`).

Plain values that any stage can hold; `Fraction` wherever a float would drift over a long video.  Colour
tags are the numbers of ITU-T H.273, as FFmpeg gives them: `color_space` is the YUV matrix (1 = BT.709,
2 = not said, 5 and 6 = BT.601, 9 = BT.2020), `color_range` is 0 = not said, 1 = limited, 2 = full.

This file does not read or write anything, and does not import av.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

UNSPECIFIED = 2
"""The H.273 value of a matrix, of primaries and of a transfer curve that nobody stated."""

Image = NDArray[np.uint8]
"""A picture: (height, width, 3) uint8, RGB, upright, rows from the top."""


@dataclass(frozen=True)
class AudioInfo:
    """One audio stream of the input.

    `index` is its stream number in the file, `codec` FFmpeg's name of its codec, `sample_rate` in hertz.
    """

    index: int
    codec: str
    channels: int
    sample_rate: int


@dataclass(frozen=True)
class VideoInfo:
    """What a video promises, in the terms of its upright picture.

    `width`, `height`: pixels, after rotation was undone.  `frame_rate`: average frames per second, None
    if unknown; for pictures the rate that was asked for.  `time_base`: seconds per unit of `Frame.pts`.
    `duration_seconds`, `frame_count`: what the container promises, None if it promises nothing.
    `sample_aspect_ratio`: width of a pixel over its height, upright; 1 if nobody states it.
    `rotation_degrees`: 0, 90, 180 or 270, counter-clockwise, already undone.  `bit_depth`: bits of one
    channel.  `container`: FFmpeg's name of the format, or "pictures".  `is_still`: a single picture.
    """

    width: int
    height: int
    frame_rate: Fraction | None
    time_base: Fraction
    duration_seconds: float | None = None
    frame_count: int | None = None
    sample_aspect_ratio: Fraction = Fraction(1)
    rotation_degrees: int = 0
    bit_depth: int = 8
    pixel_format: str = "rgb24"
    color_space: int = UNSPECIFIED
    color_range: int = 0
    color_primaries: int = UNSPECIFIED
    color_trc: int = UNSPECIFIED
    audio: tuple[AudioInfo, ...] = ()
    container: str = "pictures"
    codec: str = "png"
    is_still: bool = False

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"a video of {self.width}x{self.height} pixels; both must be at least 1")
        if self.time_base <= 0:
            raise ValueError(f"time_base {self.time_base}; it must be above 0")
        if self.frame_rate is not None and self.frame_rate <= 0:
            raise ValueError(f"frame_rate {self.frame_rate}; it must be above 0 or None")
        if self.sample_aspect_ratio <= 0:
            raise ValueError(f"sample_aspect_ratio {self.sample_aspect_ratio}; it must be above 0")


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture and its place in time.

    `index` counts from 0 in presentation order.  `image` is (H, W, 3) uint8 RGB, upright and contiguous.
    `pts` and `duration` are in units of `time_base` seconds; `duration` is None where it is not known.
    """

    index: int
    image: Image
    pts: int
    time_base: Fraction
    duration: int | None = None

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(f"image {self.image.shape} {self.image.dtype}; expected (H, W, 3) uint8")

    @property
    def time_seconds(self) -> float:
        """When the picture appears, in seconds from the start of the file."""
        return float(self.pts * self.time_base)
