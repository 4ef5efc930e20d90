"""Rectangles, polygons and spans of time, as a user gives them, and the pixels and frames that they mean.

Coordinates are (x, y) in the upright frame, x to the right and y down, where pixel (i, j) is the square from (i, j) to
(i + 1, j + 1): the rectangle 1,1,3,3 is the pixels 1 and 2 in both directions.

What lies on the edge is hidden: a shape to hide grows to every pixel that it touches, one to spare shrinks to those
that lie in it whole, and so it is with frames and spans.

Not here: which shapes are hidden and which are spared (policy), what that does to a mask (editing).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import isfinite
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from anonymotion.errors import SettingsError
from anonymotion.video.moments import parse_time

UNITS = ("pixels", "percent")
FORMS = "x0,y0,x1,y1 or x,y x,y x,y ... (pixels, or percent as 20%), with @00:10-00:20 at the end if it has a time"


@dataclass(frozen=True)
class Span:
    """A time range [start, end) in seconds after the first frame; None: from the start, to the end.

    Raises SettingsError if it is empty, or has neither.
    """

    start: Fraction | None = None
    end: Fraction | None = None

    def __post_init__(self) -> None:
        if self.start is None and self.end is None:
            raise SettingsError("a span without start and end is all of the video: give one of them, or leave it out")
        if self.end is not None and not self.end > (self.start or 0) >= 0:
            raise SettingsError(f"span {self} is empty: give a start before its end")

    @classmethod
    def parse(cls, text: str) -> Span:
        """Read `00:10-00:20`, `-00:20` or `00:10-`; times as of `video.parse_time`.  Raises SettingsError."""
        parts = text.split("-")
        if len(parts) != 2 or not text.strip(" -"):
            raise SettingsError(
                f"span {text[:60]!r} is not of the form START-END: use e.g. 00:10-00:20, 00:10- or -00:20"
            )
        start, end = (parse_time(part) if part.strip() else None for part in parts)
        return cls(start, end)

    def touches(self, begin: Fraction, end: Fraction) -> bool:
        """Whether anything of a frame that is shown from `begin` to `end` seconds lies in it."""
        late_enough = self.start is None or begin >= self.start or end > self.start
        return late_enough and (self.end is None or begin < self.end)

    def holds(self, begin: Fraction, end: Fraction) -> bool:
        """Whether all of a frame that is shown from `begin` to `end` seconds lies in it."""
        return (self.start is None or begin >= self.start) and (self.end is None or max(begin, end) <= self.end)

    def __str__(self) -> str:
        return f"{clock(self.start)}-{clock(self.end)}"

    def sentence(self) -> str:
        """The span in words."""
        if self.end is None:
            return f"from {clock(self.start)} on"
        return f"until {clock(self.end)}" if self.start is None else f"from {clock(self.start)} to {clock(self.end)}"


def clock(seconds: Fraction | None) -> str:
    """Seconds as `1:02:03.5` or `02:03.5`, exact where `parse_time` gave them; None is empty."""
    if seconds is None:
        return ""
    minutes, rest = divmod(seconds, 60)
    whole, fraction = divmod(rest, 1)
    tail = f"{float(fraction):.9f}".rstrip("0")[1:].rstrip(".")
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}:" if hours else "") + f"{minutes:02d}:{whole:02d}{tail}"


@dataclass(frozen=True)
class Shape:
    """A polygon in the upright frame, for the whole video or a span.

    points: at least 3 of (x, y).  unit: `pixels`, or `percent` of the frame's width and height.
    Raises SettingsError for fewer points, numbers that are not finite, no area, or a place that no frame has.
    """

    points: tuple[tuple[float, float], ...]
    unit: Literal["pixels", "percent"] = "pixels"
    span: Span | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", tuple((float(x), float(y)) for x, y in self.points))
        if self.unit not in UNITS:
            raise SettingsError(f"unit {self.unit!r} is not known: use one of {', '.join(UNITS)}")
        if len(self.points) < 3:
            raise SettingsError(f"a polygon has {len(self.points)} points: give at least 3")
        if not all(isfinite(number) and abs(number) < 1e6 for point in self.points for number in point):
            raise SettingsError("a shape has a coordinate that is not a number below 1000000: give pixels or percent")
        columns, rows = zip(*self.points, strict=True)
        flat = all(
            (x - columns[0]) * (rows[1] - rows[0]) == (y - rows[0]) * (columns[1] - columns[0]) for x, y in self.points
        )
        if min(columns) == max(columns) or min(rows) == max(rows) or (flat and self.points[0] != self.points[1]):
            raise SettingsError(f"shape {self} has no area: give x0 < x1 and y0 < y1, or points that are not in a line")
        far = 100 if self.unit == "percent" else 1e6
        if max(columns) <= 0 or max(rows) <= 0 or min(columns) >= far or min(rows) >= far:
            raise SettingsError(f"shape {self} lies outside every frame, so it would do nothing: give it another place")

    @classmethod
    def rectangle(
        cls,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        unit: Literal["pixels", "percent"] = "pixels",
        span: Span | None = None,
    ) -> Shape:
        """The rectangle from (x0, y0) to (x1, y1).  Raises SettingsError unless x0 < x1 and y0 < y1."""
        if not (x0 < x1 and y0 < y1):
            raise SettingsError(f"rectangle {x0:g},{y0:g},{x1:g},{y1:g} is empty: give x0 < x1 and y0 < y1")
        return cls(((x0, y0), (x1, y0), (x1, y1), (x0, y1)), unit, span)

    @classmethod
    def parse(cls, text: str) -> Shape:
        """Read the text form, `FORMS`.  Raises SettingsError."""
        places, separator, when = text.partition("@")
        points = [part.split(",") for part in places.split()]
        words = [word for point in points for word in point]
        percent = [word.endswith("%") for word in words]
        try:
            numbers = [float(word.removesuffix("%")) for word in words]
        except ValueError as error:
            raise SettingsError(f"shape {text[:80]!r} is not of the form {FORMS}") from error
        if any(percent) and not all(percent):
            raise SettingsError(
                f"shape {text[:80]!r} mixes pixels and percent: put % behind all of its numbers or none"
            )
        unit: Literal["pixels", "percent"] = "percent" if any(percent) else "pixels"
        span = Span.parse(when) if separator else None
        if len(points) == 1 and len(numbers) == 4:
            x0, y0, x1, y1 = numbers
            return cls.rectangle(x0, y0, x1, y1, unit, span)
        if len(points) < 3 or any(len(point) != 2 for point in points):
            raise SettingsError(f"shape {text[:80]!r} is not of the form {FORMS}")
        return cls(tuple(zip(numbers[::2], numbers[1::2], strict=True)), unit, span)

    @property
    def corners(self) -> tuple[float, float, float, float] | None:
        """(x0, y0, x1, y1) if it is a rectangle as `rectangle` makes them, else None."""
        (x0, y0), (x1, y1) = self.points[0], self.points[2]
        return (x0, y0, x1, y1) if self.points == ((x0, y0), (x1, y0), (x1, y1), (x0, y1)) else None

    def __str__(self) -> str:
        """The text form, which `parse` reads."""
        mark = "%" if self.unit == "percent" else ""
        if self.corners is not None:
            text = ",".join(f"{number:.10g}{mark}" for number in self.corners)
        else:
            text = " ".join(f"{x:.10g}{mark},{y:.10g}{mark}" for x, y in self.points)
        return text if self.span is None else f"{text}@{self.span}"

    def sentence(self) -> str:
        """The shape in words."""
        mark = "%" if self.unit == "percent" else ""
        named = [f"({x:g}{mark}, {y:g}{mark})" for x, y in self.points]
        text = f"the polygon {' '.join(named)}" if self.corners is None else f"the rectangle {named[0]} to {named[2]}"
        text += " of the frame's width and height" if mark else " in pixels"
        return text if self.span is None else f"{text}, {self.span.sentence()}"

    def pixels(self, size_hw: tuple[int, int], *, grow: bool) -> NDArray[np.bool_]:
        """(H, W) bool: the pixels it touches (`grow`), or those that lie in it whole.

        Where it crosses itself, what it winds around counts as inside if it grows, and by the even-odd rule if not.
        Raises SettingsError if it lies outside a frame of this size.
        """
        height, width = size_hw
        points = [(self._length(x, width), self._length(y, height)) for x, y in self.points]
        left, right = min(x for x, _ in points), max(x for x, _ in points)
        top, bottom = min(y for _, y in points), max(y for _, y in points)
        if left >= width or top >= height or right <= 0 or bottom <= 0:
            raise SettingsError(
                f"shape {self} lies outside the frame of {width}x{height} pixels, so it would do nothing: give another "
                "place, or percent"
            )
        x, y = np.arange(width)[None] + 0.5, np.arange(height)[:, None] + 0.5
        winding, crossings = np.zeros(size_hw, np.int32), np.zeros(size_hw, np.int32)
        edge = np.zeros(size_hw, bool)
        for (x0, y0), (x1, y1) in zip(points, (*points[1:], points[0]), strict=True):
            across, down = x1 - x0, y1 - y0
            side = across * (y - y0) - down * (x - x0)
            passes = (y0 <= y) != (y1 <= y)
            crossed = passes & ((side > 0) if down < 0 else (side < 0))
            winding += np.where(crossed, 1 if down > 0 else -1, 0)
            crossings += crossed
            near = (abs(x - (x0 + x1) / 2) < abs(across) / 2 + 0.5) & (abs(y - (y0 + y1) / 2) < abs(down) / 2 + 0.5)
            edge |= near & (abs(side) < (abs(across) + abs(down)) / 2)
        inside: NDArray[np.bool_] = (winding != 0) | edge if grow else (crossings % 2 == 1) & ~edge
        return inside

    def _length(self, number: float, whole: int) -> float:
        """Pixels; exact for percent, so that 20% of 640 is the edge of a pixel."""
        return number if self.unit == "pixels" else float(Fraction(str(number)) * whole / 100)
