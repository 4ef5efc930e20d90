"""A user's own masks (`--masks DIR`): one picture per frame, numbered as `--export-masks` numbers them.

Everything is checked that could leave a frame without its mask: a number that is missing, a folder with too few or
too many pictures, a picture of another size or kind.

Not here: what is done with a mask (editing), how ours are written (exports).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from anonymotion.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

HIDE_FROM = 128
"""The grey level from which a pixel is hidden: 255 in our masks, less on their soft rim."""

MODES = ("1", "L", "P", "RGB")


class MaskFolder:
    """The masks `000000.png`, `000001.png` and on in `path`, read one by one.

    The digits may be fewer or more.  Raises InputError if the folder cannot be read, is empty, lacks a number or
    holds anything else that is not hidden.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            files = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
        except OSError as error:
            raise InputError(
                f"masks {path} cannot be read ({error.strerror}): give a folder of 000000.png, 000001.png and on"
            ) from error
        numbered: dict[int, Path] = {}
        for file in files:
            if not (file.stem.isascii() and file.stem.isdigit() and file.suffix.lower() == ".png"):
                raise InputError(
                    f"masks {path} holds {file.name[:60]!r}: expected 000000.png and on only, so move it away"
                )
            if int(file.stem) in numbered:
                raise InputError(f"masks {path} has two pictures of the number {int(file.stem)}: remove one")
            numbered[int(file.stem)] = file
        if not numbered:
            raise InputError(f"masks {path} holds no pictures: expected 000000.png, 000001.png and on, one per frame")
        missing = next((number for number in range(len(numbered)) if number not in numbered), None)
        if missing is not None:
            raise InputError(
                f"masks {path} has no {missing:06d}.png, but higher numbers: number the masks from 0, one per frame"
            )
        self._files = [numbered[number] for number in range(len(numbered))]

    def __len__(self) -> int:
        return len(self._files)

    def check_count(self, frames: int) -> None:
        """Raise InputError unless there are as many masks as frames."""
        if len(self) != frames:
            raise InputError(
                f"masks {self.path} has {len(self)} pictures for {frames} frames: give one for each frame, and no more"
            )

    def read(self, number: int, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
        """(H, W) bool: the pixels of frame `number` to hide.

        Raises InputError for a frame without a mask, another size than the upright frame's, or no grey picture.
        """
        from PIL import Image, UnidentifiedImageError

        if number >= len(self):
            raise InputError(f"masks {self.path} has no picture for frame {number}: give one for each frame")
        file = self._files[number]
        try:
            with Image.open(file) as picture:
                self._check(file, picture, size_hw)
                rgb = picture.convert("RGB") if picture.mode == "P" else picture
                return np.asarray(rgb.convert("L")) >= HIDE_FROM
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
            raise InputError(f"mask {file} cannot be read ({error}): write it again as 8-bit grey PNG") from error

    @staticmethod
    def _check(file: Path, picture: Image, size_hw: tuple[int, int]) -> None:
        height, width = size_hw
        if picture.size != (width, height):
            raise InputError(
                f"mask {file} is {picture.width}x{picture.height} pixels, and the upright frame is {width}x{height}: "
                "give masks of the frame's size"
            )
        if picture.mode not in MODES or "transparency" in picture.info:
            raise InputError(f"mask {file} is of kind {picture.mode} or transparent: write it as 8-bit grey PNG")
