"""The picture that a video shows at a given time.

This file does not decode: a Source does.
"""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

from anonymotion.errors import InputError, SettingsError
from anonymotion.video.base import Source
from anonymotion.video.info import Frame, Image
from anonymotion.video.opening import open_source

_CLOCK = re.compile(r"(?:(?:(\d{1,4}):)?(\d{1,2}):)?(\d{1,7}(?:\.\d{1,9})?)", re.ASCII)


def parse_time(text: str) -> Fraction:
    """Seconds from `3.2`, `00:03.2` or `1:02:03.5`.  Raises SettingsError."""
    found = _CLOCK.fullmatch(text.strip())
    hours, minutes, seconds = (Fraction(part or 0) for part in found.groups()) if found else (0, 0, -1)
    named = text.count(":")
    if seconds < 0 or (named > 1 and minutes >= 60) or (named > 0 and seconds >= 60):
        raise SettingsError(f"time {text[:40]!r} is not of the form [[HH:]MM:]SS[.FRACTION]: use e.g. 3.2 or 00:03.2")
    return Fraction(3600 * hours + 60 * minutes + seconds)


def frame_at(source: Source, seconds: Fraction | float = 0) -> Frame:
    """The frame of `source` that is shown at `seconds` after its first: the last one that begins by then.

    Reads no further than needed.  Raises InputError if the input ends before; the message says how long it is.
    """
    start = shown = None
    gap = Fraction(0)
    for frame in source:
        time = frame.pts * frame.time_base
        start = time if start is None else start
        if time - start > seconds and shown is not None:
            return shown
        if shown is not None:
            gap = time - shown.pts * shown.time_base
        shown = frame
    if shown is None or start is None:
        raise InputError(f"{source.path} holds no frame that could be used")
    # the last frame lasts as long as it says, or else as long as the one before it
    length = gap if shown.duration is None else shown.duration * shown.time_base
    end = shown.pts * shown.time_base - start + length
    if seconds > 0 and seconds >= end:
        raise InputError(
            f"{source.path} is {float(end):.3f} s long, so it shows nothing at {float(seconds):.3f} s: give an earlier "
            "time"
        )
    return shown


def image_at(
    path: Path, seconds: Fraction = Fraction(0), *, frame_rate: Fraction = Fraction(25), allow_truncated: bool = False
) -> Image:
    """The picture, (H, W, 3) uint8 RGB, that `path` shows at `seconds`; the rest as of `open_source`.

    Raises InputError and its children.
    """
    with open_source(path, frame_rate=frame_rate, allow_truncated=allow_truncated) as source:
        return frame_at(source, seconds).image
