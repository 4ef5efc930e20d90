"""Turning pictures upright from a display matrix.

A display matrix maps the stored picture to the shown one: (x', y') = (a x + c y, b x + d y), y downwards,
stored as nine 32-bit integers [a b u, c d v, x y w] with a, b, c, d in 16.16 fixed point.  Cameras use the
four rotations and, rarely, their mirror images; those eight are undone exactly, nothing else is.

This file does not resample: a rotation by any other angle is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from anonymotion.errors import UnsupportedInputError
from anonymotion.video.info import Image

_TOLERANCE_DEGREES = 1.0


@dataclass(frozen=True)
class Orientation:
    """How to show a stored picture: mirrored left to right first, then turned counter-clockwise.

    `quarter_turns` is 0 to 3.
    """

    quarter_turns: int = 0
    mirrored: bool = False

    @property
    def swaps_sides(self) -> bool:
        """Whether width and height change places."""
        return self.quarter_turns % 2 == 1

    def apply(self, image: Image) -> Image:
        """The upright picture, contiguous; (H, W, 3) or (W, H, 3) uint8."""
        if self.mirrored:
            image = image[:, ::-1]
        return np.ascontiguousarray(np.rot90(image, self.quarter_turns))


def orientation_of_matrix(matrix: bytes, name: str = "the video") -> Orientation:
    """The orientation that a display matrix (36 bytes, native int32) asks for; `name` is for messages.

    Raises UnsupportedInputError if it is not a multiple of 90 degrees (within 1 degree).
    """
    a, b, _, c, d = (float(v) for v in np.frombuffer(matrix[:20], np.int32))
    if a * d - b * c == 0:
        return Orientation()  # an empty matrix: players ignore it as well
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b  # the matrix is `mirror, then turn`; take the mirror out of the x column
    clockwise = math.degrees(math.atan2(b, a))  # y points down, so a positive angle turns clockwise
    turns = round(-clockwise / 90)
    if abs(-clockwise - 90 * turns) > _TOLERANCE_DEGREES:
        raise UnsupportedInputError(
            f"{name} is stored turned by {-clockwise:.1f} degrees; only 90, 180 and 270 can be undone: "
            "render it upright first (for example with ffmpeg) and use the result"
        )
    return Orientation(turns % 4, mirrored)
