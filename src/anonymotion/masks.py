"""Saliency planes to an alpha: threshold, union, dilation, a soft rim that lies outside only.

All masks are (T, H, W) on one device; lengths are in pixels of the frame.

Not here: where planes come from (saliency), masks over time (continuity), mixing (compositor).
"""

from __future__ import annotations

import torch
from torch import Tensor


def threshold_union(planes: Tensor, thresholds: Tensor) -> Tensor:
    """Pixels where any attribute reaches its threshold: (T, A, H, W), (A,) -> (T, H, W) bool."""
    # plane by plane: a reduction over the planes of all pixels takes several times as long
    reached = torch.zeros(len(planes), *planes.shape[2:], dtype=torch.bool, device=planes.device)
    for plane, threshold in zip(planes.unbind(1), thresholds, strict=True):
        reached |= plane >= threshold
    return reached


def dilate(mask: Tensor, radius: int) -> Tensor:
    """Grow a (T, H, W) bool mask by `radius` pixels, in a square neighbourhood."""
    for axis in (1, 2):
        # Each step doubles how far a pixel has spread, so that a large radius costs little more than a small one.
        spread, length = 0, mask.shape[axis]
        while spread < min(radius, length - 1):
            step = min(spread + 1, radius - spread, length - 1)
            grown = mask.clone()
            grown.narrow(axis, step, length - step).logical_or_(mask.narrow(axis, 0, length - step))
            grown.narrow(axis, 0, length - step).logical_or_(mask.narrow(axis, step, length - step))
            mask, spread = grown, spread + step
    return mask


def soft_rim(mask: Tensor, width: int) -> Tensor:
    """Alpha of a (T, H, W) bool mask: exactly 1 inside, falling linearly to 0 over `width` pixels outside.

    At a (square) distance of d pixels it is 1 - d / (width + 1): the mean of the mask grown by 0 to width.
    """
    grown, total = mask, mask.float()
    for _ in range(width):
        grown = dilate(grown, 1)
        total += grown
    return (total / (width + 1)).masked_fill_(mask, 1.0)


def share(mask: Tensor) -> Tensor:
    """Share of the pixels of each frame that are set: (T, H, W) bool -> (T,) float32 in [0, 1]."""
    # frame by frame: counting along two of three dimensions is several times as slow
    counts = torch.stack([frame.count_nonzero() for frame in mask])
    return counts.float() / (mask.shape[1] * mask.shape[2])
