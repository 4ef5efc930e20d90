"""Which colour matrix and range a video gets, and the conversion of RGB to it.

Reading and writing must use the same matrix: where a video does not say, swscale assumes BT.601 limited
both ways, so `not said` is written back as `not said`.  Pictures that are not YUV (GIF, PNG) are written
as BT.709 limited and say so.  Halving the chroma by area averaging undoes the doubling by repetition
that swscale does on reading: 45 to 47 dB for one round trip on real clips, against 41 to 44 with its
default filter.

This file does not decode, encode or choose a codec.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from anonymotion.errors import UnsupportedInputError
from anonymotion.video.info import UNSPECIFIED, Image, VideoInfo

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.reformatter import VideoReformatter

# swscale's numbers of the matrices (SWS_CS_*) by H.273 number; 2 is left to its default, BT.601
_SWSCALE_MATRIX = {1: 1, 2: None, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}
_AREA_ACCURATE = 0x20 | 0x40000  # SWS_AREA | SWS_ACCURATE_RND
LIMITED, FULL = 1, 2


@dataclass(frozen=True)
class ColorTags:
    """Matrix, range, primaries and transfer curve, as H.273 numbers (range: 0, 1 limited, 2 full)."""

    space: int = UNSPECIFIED
    range: int = 0
    primaries: int = UNSPECIFIED
    trc: int = UNSPECIFIED


def is_yuv(pixel_format: str) -> bool:
    """Whether FFmpeg's pixel format of that name has a YUV matrix (grey and palettes have none)."""
    return pixel_format.startswith(("yuv", "nv", "uyvy", "yvyu", "y210", "vuya", "ayuv"))


def is_full_range(pixel_format: str, color_range: int) -> bool:
    """Whether values run from 0 to 255: said by the tag, or by one of the old `yuvj` formats."""
    return color_range == FULL or pixel_format.startswith("yuvj")


def tags_to_write(info: VideoInfo) -> ColorTags:
    """The tags that the output of a source with `info` gets: the source's own wherever it is YUV."""
    if not is_yuv(info.pixel_format):
        return ColorTags(space=1, range=LIMITED, primaries=1, trc=13)  # sRGB pictures in a BT.709 matrix
    space = info.color_space if info.color_space in _SWSCALE_MATRIX else UNSPECIFIED
    return ColorTags(space, info.color_range, info.color_primaries, info.color_trc)


def check_matrix(pixel_format: str, color_space: int) -> None:
    """Raise UnsupportedInputError for a YUV matrix that cannot be converted to RGB."""
    if is_yuv(pixel_format) and color_space not in (*_SWSCALE_MATRIX, 0, 3):
        raise UnsupportedInputError(
            f"the video uses colour matrix number {color_space} (ITU-T H.273), which is not supported: "
            "convert it to BT.709 first"
        )


def to_rgb(frame: VideoFrame, reformatter: VideoReformatter) -> tuple[Image, bool]:
    """A decoded frame as (H, W, 3) uint8 RGB, and whether anything in it was transparent.

    Transparent parts are laid over white: dropping the channel alone would bring back what it hid.
    """
    if is_yuv(frame.format.name) and frame.colorspace in (0, 3):
        frame.colorspace = UNSPECIFIED  # identity and reserved make no sense for YUV; players ignore them
    if not any(component.is_alpha for component in frame.format.components):
        rgb: Any = reformatter.reformat(frame, format="rgb24").to_ndarray()
        return rgb, False
    rgba: Any = reformatter.reformat(frame, format="rgba").to_ndarray()
    alpha = rgba[:, :, 3:]
    if bool((alpha == 255).all()):
        return np.ascontiguousarray(rgba[:, :, :3]), False
    return over_white(rgba), True


def over_white(rgba: Image) -> Image:
    """(H, W, 4) uint8 RGBA laid over white: (H, W, 3) uint8 RGB."""
    alpha = rgba[:, :, 3:].astype(np.uint16)
    mixed = (rgba[:, :, :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return mixed.astype(np.uint8)


def from_rgb(image: Image, pixel_format: str, tags: ColorTags, reformatter: VideoReformatter) -> VideoFrame:
    """An (H, W, 3) uint8 RGB image as a frame in `pixel_format` (8-bit planar YUV), tagged."""
    from av import VideoFrame

    frame = reformatter.reformat(
        VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24"),
        format=pixel_format,
        dst_colorspace=_SWSCALE_MATRIX[tags.space],
        dst_color_range=FULL if tags.range == FULL else LIMITED,
        interpolation=_AREA_ACCURATE,
    )
    frame.colorspace = tags.space
    frame.color_range = tags.range
    return frame
