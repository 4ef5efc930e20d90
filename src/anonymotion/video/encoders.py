"""Which container and encoder a suffix means, and how the encoder is set.

H.264 in mp4, mov and mkv, VP9 in webm, MPEG-4 part 2 in avi (FFmpeg reads H.264 in avi one frame late),
a palette per picture in GIF.

The scale of `quality`: lower is better and larger.  H.264 (0 to 51) and VP9 (0 to 63) take a constant rate
factor, 6 more halves the size or so; MPEG-4 (1 to 31) a quantiser, 1 being close to lossless.

This file does not write: `writer` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from anonymotion.errors import OutputError, SettingsError
from anonymotion.video.color import ColorTags, from_rgb
from anonymotion.video.info import Image, VideoInfo

if TYPE_CHECKING:
    from av.video.reformatter import VideoReformatter

LEAST_CHROMA_PSNR = 43.0
"""dB; halving the chroma of the first picture must keep this much, or the chroma is not halved."""


@dataclass(frozen=True)
class Format:
    """A kind of output: FFmpeg's name of the container, the encoder, its default and largest `quality`."""

    container: str
    encoder: str
    quality: int
    worst_quality: int
    holds_audio: bool = True


_H264 = ("libx264", 13, 51)
FORMATS = {
    ".mp4": Format("mp4", *_H264),
    ".mov": Format("mov", *_H264),
    ".mkv": Format("matroska", *_H264),
    ".avi": Format("avi", "mpeg4", 1, 31),
    ".webm": Format("webm", "libvpx-vp9", 10, 63),
    ".gif": Format("gif", "gif", 0, 0, holds_audio=False),
}
"""Video outputs by suffix, in lower case."""


def format_of(path: Path) -> Format:
    """The format that the suffix of `path` means.  Raises OutputError, naming the known ones."""
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise OutputError(
            f"{path} has the suffix {path.suffix!r}; known are {' '.join(FORMATS)}, .png and .jpg for a single "
            "picture, and no suffix for a folder of pictures"
        ) from None


def checked_quality(kind: Format, quality: int | None) -> int:
    """`quality`, or the default where it is None.  Raises SettingsError outside the encoder's range."""
    if quality is None:
        return kind.quality
    if not 0 <= quality <= kind.worst_quality:
        raise SettingsError(
            f"quality {quality} for {kind.container}: expected 0 (best) to {kind.worst_quality} (smallest file)"
        )
    return quality


def check_pixel_shape(kind: Format, info: VideoInfo, path: Path) -> None:
    """Raise OutputError where pixels that are not square would be shown as squares."""
    if kind.encoder == "libvpx-vp9" and info.sample_aspect_ratio != 1:
        raise OutputError(
            f"{path}: webm cannot keep the shape of the input's pixels ({info.sample_aspect_ratio}, not square): "
            "choose .mkv or .mp4"
        )


def choose_pixel_format(
    kind: Format, info: VideoInfo, tags: ColorTags, first: Image, reformatter: VideoReformatter
) -> tuple[str, str | None]:
    """The pixel format for a video whose first picture is `first`, and a sentence if it is unusual."""
    if kind.encoder == "gif":
        return "pal8", "GIF is lossy: at most 256 colours per picture, and times in steps of 10 ms."
    if kind.encoder == "libx264" and (info.width % 2 or info.height % 2):
        return "yuv444p", (
            f"The size {info.width}x{info.height} is odd, so the colour is stored in full (yuv444p), which some "
            "players cannot show."
        )
    if kind.encoder == "mpeg4" or "420" in info.pixel_format or info.pixel_format in ("nv12", "nv21", "gray"):
        return "yuv420p", None  # its chroma is halved already, or empty
    if _psnr_of_halving(first, tags, reformatter) >= LEAST_CHROMA_PSNR:
        return "yuv420p", None
    return "yuv444p", (
        "The colours of the input are too fine for yuv420p, so they are stored in full (yuv444p), which some "
        "players cannot show."
    )


def _psnr_of_halving(image: Image, tags: ColorTags, reformatter: VideoReformatter) -> float:
    halved = from_rgb(image, "yuv420p", tags, reformatter)
    back = reformatter.reformat(halved, format="rgb24").to_ndarray()
    error = float(np.mean((image.astype(np.float32) - back.astype(np.float32)) ** 2))
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


def encoder_options(kind: Format, quality: int, is_yuv444: bool) -> dict[str, str]:
    """FFmpeg options of the encoder."""
    if kind.encoder == "libx264":
        # Tuned for small errors in RGB: an error of chroma spreads over four pixels and three channels.
        return {
            "crf": str(quality),
            "preset": "veryfast",
            "tune": "psnr",
            "x264-params": "chroma-qp-offset=-6",
        }
    if kind.encoder == "mpeg4":
        steps = max(1, quality)
        return {"flags": "+qscale+bitexact", "global_quality": str(118 * steps), "qmin": "1"}  # 118: FF_QP2LAMBDA
    if kind.encoder == "libvpx-vp9":
        return {
            "crf": str(quality),
            "b": "0",
            "deadline": "realtime",  # as good as "good" at this quality, and four times as fast
            "cpu-used": "6",
            "row-mt": "1",
            "profile": "1" if is_yuv444 else "0",
            # hidden reference frames would need to hold 25 pictures
            "auto-alt-ref": "0",
            "lag-in-frames": "0",
        }
    return {}
