"""Squares of pictures around what was found in them: cut out, enlarged, and what is seen there put back.

Not here: what is looked at again, and what for (closeup).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# The side of a square, in sides of the island that it is laid around, and the least in pixels.
MARGIN, LEAST_SIDE = 1.4, 24


class Square(NamedTuple):
    """Of `side` pixels, from (x, y) on; it may reach out of the picture."""

    x: int
    y: int
    side: int

    @classmethod
    def around(cls, x: float, y: float, side: float) -> Square:
        """With its centre at (x, y) in pixels."""
        side = max(LEAST_SIDE, round(side))
        return cls(round(x - side / 2), round(y - side / 2), side)

    def within(self, size_hw: tuple[int, int]) -> tuple[slice, slice]:
        """Its rows and columns in a picture of (H, W), none where it lies outside."""
        top, left = (min(max(0, start), length) for start, length in zip((self.y, self.x), size_hw, strict=True))
        return (
            slice(top, max(top, min(size_hw[0], self.y + self.side))),
            slice(left, max(left, min(size_hw[1], self.x + self.side))),
        )

    def holds(self, x: float, y: float) -> bool:
        """Whether a point lies in it, an eighth of its side away from its border."""
        edge = self.side / 8
        return all(low + edge <= at < low + self.side - edge for low, at in ((self.x, x), (self.y, y)))


def squares(found: Tensor, within: Tensor) -> list[tuple[Square, float]]:
    """Around the islands of a (H, W) bool mask, the tallest first, each with the share of its island that lies within
    another mask.
    """
    _, islands, boxes, _ = cv2.connectedComponentsWithStats(found.cpu().numpy().view(np.uint8), connectivity=4)
    shares = np.bincount(islands[within.cpu().numpy()], minlength=len(boxes)) / boxes[:, cv2.CC_STAT_AREA]
    around = [
        (Square.around(x + w / 2, y + h / 2, MARGIN * max(w, h)), h, share)
        for (x, y, w, h, _), share in zip(boxes[1:].tolist(), shares[1:].tolist(), strict=True)
    ]
    return [(square, share) for square, _, share in sorted(around, key=lambda each: -each[1])]


def enlarged(image: Tensor, square: Square, size: int) -> Tensor:
    """What a square of a (H, W, 3) uint8 picture shows, (size, size, 3) uint8; beyond the border its edge goes on."""
    rows, columns = (
        torch.arange(start, start + square.side, device=image.device).clamp(0, length - 1)
        for start, length in ((square.y, image.shape[0]), (square.x, image.shape[1]))
    )
    cut = image[rows][:, columns].permute(2, 0, 1)[None].float()
    resized = F.interpolate(cut, size=(size, size), mode="bicubic", antialias=True, align_corners=False)
    return resized[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8)


def put_back(saliency: Tensor, which: Sequence[int], looks: Sequence[tuple[Square, Tensor]]) -> None:
    """Put saliency of squares, (len(which), size, size) each, in the place of what planes `which` of (A, H, W) have.

    Where squares overlap the largest value counts.
    """
    size_hw = (saliency.shape[1], saliency.shape[2])
    for square, _ in looks:
        rows, columns = square.within(size_hw)
        for number in which:
            saliency[number, rows, columns] = 0
    for square, planes in looks:
        rows, columns = square.within(size_hw)
        whole = F.interpolate(planes[None], size=(square.side,) * 2, mode="bilinear", align_corners=False)[0]
        shown = (
            slice(rows.start - square.y, rows.stop - square.y),
            slice(columns.start - square.x, columns.stop - square.x),
        )
        for number, plane in zip(which, whole, strict=True):
            target = saliency[number, rows, columns]
            torch.maximum(target, plane[shown], out=target)


def only_in(plane: Tensor, places: Sequence[Square], threshold: float) -> Tensor:
    """(H, W) saliency, 0 in what is outside of the squares of those islands at `threshold` that reach into one."""
    values = plane.cpu().numpy()
    islands = cv2.connectedComponents((values >= threshold).view(np.uint8), connectivity=4)[1]
    reaches = np.zeros(islands.max() + 1, bool)
    outside = np.ones(values.shape, bool)
    for square in places:
        window = square.within(values.shape)
        reaches[islands[window].ravel()] = True
        outside[window] = False
    reaches[0] = False  # what is below the threshold
    return torch.from_numpy(np.where(reaches[islands] & outside, np.float32(0), values)).to(plane.device)
