"""Where the patches of a descriptor grid lie in a picture: pixel (x, y) <-> cell (row, column).

One of the two places where coordinates change their frame of reference; the other is `flow.warp`.

Not here: descriptors (backbone), planes of them enlarged (saliency.upsample).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from anonymotion.errors import SettingsError, UnsupportedInputError
from anonymotion.registry import FeatureSpec

# Attention costs the square of this: a picture many times as long as it is high would run for minutes per frame.
# 16:9 at a short side of 896 has 7,296, the published setting 4,015.
MAX_TOKENS = 8192


@dataclass(frozen=True)
class PatchGrid:
    """Where the cells of a descriptor grid lie in the image they were computed from.

    The image of `image_size_hw` pixels is resized to `input_size_hw`, and cell (row, column) is the patch whose
    first pixel is (row * stride, column * stride) there.  Positions are continuous: pixel x spans [x, x + 1).
    """

    image_size_hw: tuple[int, int]
    input_size_hw: tuple[int, int]
    patch_size: int
    stride: int

    @classmethod
    def of(cls, image_size_hw: tuple[int, int], patch_size: int, spec: FeatureSpec) -> PatchGrid:
        """The grid of an image of (height, width) pixels: aspect ratio kept to the nearest whole patch."""
        height, width = image_size_hw
        short = min(height, width)

        def fit(length: int) -> int:
            return max(1, round(length * spec.short_side / short / patch_size)) * patch_size

        grid = cls(image_size_hw, (fit(height), fit(width)), patch_size, spec.stride)
        if grid.rows * grid.columns > MAX_TOKENS:
            raise UnsupportedInputError(
                f"a picture of {width}x{height} pixels gives {grid.rows * grid.columns} patches at a short side of "
                f"{spec.short_side} (at most {MAX_TOKENS}): crop it, or use a smaller --short-side"
            )
        return grid

    @property
    def rows(self) -> int:
        """Number of cells from top to bottom."""
        return (self.input_size_hw[0] - self.patch_size) // self.stride + 1

    @property
    def columns(self) -> int:
        """Number of cells from left to right."""
        return (self.input_size_hw[1] - self.patch_size) // self.stride + 1

    def _cell_positions(self, positions: Tensor, axis: int) -> Tensor:
        """Continuous image positions -> continuous cell index (0 is the centre of the first cell)."""
        scale = self.input_size_hw[axis] / self.image_size_hw[axis]
        return (positions * scale - self.patch_size / 2) / self.stride

    def cell_at(self, x: float, y: float) -> tuple[int, int]:
        """The (row, column) of the cell whose centre is nearest to pixel (x, y).

        Raises SettingsError if the pixel is not in the image.
        """
        height, width = self.image_size_hw
        if not (0 <= x < width and 0 <= y < height):
            raise SettingsError(f"point ({x}, {y}) is outside the picture of {width}x{height} pixels")
        row = self._cell_positions(torch.tensor(y + 0.5), 0).round().clamp(0, self.rows - 1)
        column = self._cell_positions(torch.tensor(x + 0.5), 1).round().clamp(0, self.columns - 1)
        return int(row), int(column)

    def interpolation(self, axis: int, device: torch.device) -> Tensor:
        """The (image size, cells) float32 matrix of bilinear interpolation along `axis` (0 rows, 1 columns).

        The centre of pixel i is at i + 0.5 (the half-pixel rule); beyond the outermost cell centres the value
        of the outermost cell continues.
        """
        cells = (self.rows, self.columns)[axis]
        centres = torch.arange(self.image_size_hw[axis], dtype=torch.float64) + 0.5
        position = self._cell_positions(centres, axis).clamp(0, cells - 1)
        lower = position.floor().clamp(max=max(cells - 2, 0)).long()
        weight = position - lower
        matrix = torch.zeros(len(centres), cells, dtype=torch.float64)
        matrix.scatter_(1, lower[:, None], 1 - weight[:, None])
        if cells > 1:
            matrix.scatter_(1, lower[:, None] + 1, weight[:, None])
        return matrix.to(device, torch.float32)
