"""What is kept of a picture that somebody marks: a crop around the mark, never more than the match needs.

The crop's shorter side is the picture's shorter side, so that the backbone, which resizes by that side, sees the
marked thing at the scale at which it sees it in the picture.

Not here: where crops are stored (user_library), which frame of a video is meant (video).
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np

from anonymotion.errors import TemplateError

# Frames are matched at a short side of 336 by default: more pixels than this serve nothing, and show more.
LARGEST_SHORT_SIDE = 1080
# A crop this many times as long as it is high still gives fewer patches than the backbone refuses.
LARGEST_RATIO = 4.0
# Grain and compression noise stay below this standard deviation (of 255), any texture is above it.
UNIFORM_BELOW = 4.0
# The default short side has 32 patches: a descriptor sees its own patch and mostly its neighbours.
PATCHES_PER_SIDE = 32


@dataclass(frozen=True)
class Mark:
    """A place in a picture of (width, height) pixels: exactly one of a point (x, y) and a box (x0, y0, x1, y1)."""

    point: tuple[float, float] | None = None
    box: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        if (self.point is None) == (self.box is None):
            raise TemplateError("mark one place: either a point (--at X,Y) or a box (--box X0,Y0,X1,Y1)")

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """The box, or the pixel at the point."""
        if self.box is not None:
            return self.box
        assert self.point is not None  # noqa: S101 - for mypy: checked above
        x, y = self.point
        return x, y, x + 1, y + 1

    def check(self, size_wh: tuple[int, int]) -> None:
        """Raise TemplateError unless the mark lies in a picture of (width, height) pixels and is usable there."""
        width, height = size_wh
        where = f"the picture is {width}x{height} pixels, (0, 0) is its upper left corner"
        if self.point is not None:
            x, y = self.point
            if not (0 <= x < width and 0 <= y < height):
                raise TemplateError(f"the point {x:g},{y:g} is outside the picture: {where}")
            return
        x0, y0, x1, y1 = self.extent
        if not (x0 < x1 and y0 < y1):
            raise TemplateError(f"the box {_text(self.extent)} is empty: give X0,Y0,X1,Y1 with X0 < X1 and Y0 < Y1")
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise TemplateError(f"the box {_text(self.extent)} is outside the picture: {where}")
        if min(x1 - x0, y1 - y0) < 1:
            raise TemplateError(f"the box {_text(self.extent)} is smaller than a pixel: mark more, or a point")

    def moved(self, left: float, top: float, scale: float) -> Mark:
        """The same place in a picture cut off at (left, top) and then scaled."""
        if self.point is not None:
            return Mark(point=((self.point[0] - left) * scale, (self.point[1] - top) * scale))
        x0, y0, x1, y1 = self.extent
        return Mark(box=((x0 - left) * scale, (y0 - top) * scale, (x1 - left) * scale, (y1 - top) * scale))


@dataclass(frozen=True)
class Crop:
    """A part of a picture: `image`, (h, w, 3) uint8 RGB, the mark in it, and its (left, top, right, bottom) there."""

    image: np.ndarray
    mark: Mark
    place: tuple[int, int, int, int]


def crop_place(size_wh: tuple[int, int], mark: Mark) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the crop for `mark` in a picture of (width, height) pixels.

    A square as wide as the picture's shorter side, as nearly centred on the mark as the borders allow; longer
    along a box that is longer.
    """
    side = min(size_wh)
    place = []
    for length, low, high in zip(size_wh, mark.extent[:2], mark.extent[2:], strict=True):
        first, last = math.floor(low), min(math.ceil(high), length)
        extent = max(side, last - first)
        start = round((low + high) / 2 - extent / 2)
        start = min(max(start, last - extent, 0), first, length - extent)
        place.append((start, start + extent))
    (left, right), (top, bottom) = place
    return left, top, right, bottom


def cut(image: np.ndarray, mark: Mark) -> Crop:
    """The crop of `image`, (H, W, 3) uint8 RGB upright, that is kept for `mark`.

    A picture with a shorter side above LARGEST_SHORT_SIDE is scaled down to it.  Raises TemplateError if the mark
    is not in the picture, or so long that the backbone would refuse the crop.
    """
    size_wh = (image.shape[1], image.shape[0])
    mark.check(size_wh)
    left, top, right, bottom = place = crop_place(size_wh, mark)
    short, long = sorted((right - left, bottom - top))
    if long > LARGEST_RATIO * short:
        raise TemplateError(
            f"a box {long} pixels long in a picture {short} pixels high cannot be matched: mark at most "
            f"{LARGEST_RATIO:g} times the shorter side"
        )
    part, scale = np.ascontiguousarray(image[top:bottom, left:right]), 1.0
    if short > LARGEST_SHORT_SIDE:
        from PIL import Image

        scale = LARGEST_SHORT_SIDE / short
        wanted = (round((right - left) * scale), round((bottom - top) * scale))
        part = np.asarray(Image.fromarray(part).resize(wanted, Image.Resampling.LANCZOS))
    inside = _fitted(mark.moved(left, top, scale), (part.shape[1], part.shape[0]))
    return Crop(part, inside, place)


def _fitted(mark: Mark, size_wh: tuple[int, int]) -> Mark:
    """Scaling rounds the size, which may leave a mark at the border outside, and may leave less than a pixel of it."""
    width, height = size_wh
    if mark.point is not None:
        return Mark(point=(min(mark.point[0], width - 0.5), min(mark.point[1], height - 0.5)))
    x0, y0, x1, y1 = mark.extent
    x1, y1 = min(x1, float(width)), min(y1, float(height))
    if min(x1 - x0, y1 - y0) < 1:
        return Mark(point=(min((x0 + x1) / 2, width - 0.5), min((y0 + y1) / 2, height - 0.5)))
    return Mark(box=(x0, y0, x1, y1))


def is_uniform(crop: Crop) -> bool:
    """Whether there is hardly anything to see at the mark: such a template matches walls and sky.

    Looked at: the box, or three patches around a point.
    """
    height, width = crop.image.shape[:2]
    x0, y0, x1, y1 = crop.mark.extent
    if crop.mark.point is not None:
        reach = 1.5 * min(height, width) / PATCHES_PER_SIDE
        x0, y0, x1, y1 = x0 - reach, y0 - reach, x1 + reach, y1 + reach
    rows, columns = slice(max(0, math.floor(y0)), math.ceil(y1)), slice(max(0, math.floor(x0)), math.ceil(x1))
    return float(crop.image[rows, columns].reshape(-1, 3).std(axis=0).max()) < UNIFORM_BELOW


def as_png(image: np.ndarray) -> bytes:
    """`image`, (H, W, 3) uint8 RGB, as the bytes of a PNG without metadata."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _text(numbers: tuple[float, ...]) -> str:
    return ",".join(f"{number:g}" for number in numbers)
