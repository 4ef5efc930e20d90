"""Saliency planes to an alpha: threshold, union, dilation, a soft rim that lies outside only.

All masks are (T, H, W) on one device; lengths are in pixels of the frame.  On a CPU they go frame by frame through
OpenCV and numpy, which work on bytes and stay in the cache: the same bits in a fraction of the time.

Not here: where planes come from (saliency), masks over time (continuity), mixing (compositor).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from anonymotion import recycling


def threshold_union(planes: Tensor, thresholds: Tensor) -> Tensor:
    """Pixels where any attribute reaches its threshold: (T, A, H, W), (A,) -> (T, H, W) bool."""
    reached = torch.zeros(len(planes), *planes.shape[2:], dtype=torch.bool, device=planes.device)
    for some, into in zip(_at_a_time(planes), _at_a_time(reached), strict=True):
        # plane by plane: a reduction over the planes of all pixels takes several times as long
        for plane, threshold in zip(some.unbind(1), thresholds, strict=True):
            into |= _reached(plane, threshold)
    return reached


def _at_a_time(frames: Tensor) -> tuple[Tensor, ...]:
    """The frames of (T, ...), one by one on a CPU, where what a frame needs then stays in its cache; else together."""
    return torch.split(frames, 1 if frames.device.type == "cpu" else max(1, len(frames)))


def _reached(plane: Tensor, threshold: Tensor) -> Tensor:
    """`plane >= threshold`; numpy needs a third of torch's time for it."""
    if plane.device.type == "cpu":
        return torch.from_numpy(plane.numpy() >= threshold.numpy())
    return plane >= threshold


def dilate(mask: Tensor, radius: int) -> Tensor:
    """Grow a (T, H, W) bool mask by `radius` pixels, in a square neighbourhood."""
    if radius and mask.device.type == "cpu":
        return _dilated_on_cpu(mask, radius)
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


def _dilated_on_cpu(mask: Tensor, radius: int) -> Tensor:
    """See `dilate`: with OpenCV, the same bits."""
    import cv2

    grown = torch.empty(mask.shape, dtype=torch.bool)
    square = np.ones([2 * min(radius, length) + 1 for length in mask.shape[1:]], np.uint8)
    for plane, into in zip(mask.contiguous().numpy().view(np.uint8), grown.numpy().view(np.uint8), strict=True):
        cv2.dilate(plane, square, dst=into)
    return grown


def soft_rim(mask: Tensor, width: int) -> Tensor:
    """Alpha of a (T, H, W) bool mask: exactly 1 inside, falling linearly to 0 over `width` pixels outside.

    At a (square) distance of d pixels it is 1 - d / (width + 1): the mean of the mask grown by 0 to width.
    """
    grown, total = mask, mask.to(torch.uint8 if width < 255 else torch.int16)
    for _ in range(width):
        grown = dilate(grown, 1)
        total += grown
    alpha = recycling.empty(*mask.shape, device=mask.device)
    return torch.div(total, width + 1, out=alpha).masked_fill_(mask, 1.0)


def share(mask: Tensor) -> Tensor:
    """Share of the pixels of each frame that are set: (T, H, W) bool -> (T,) float32 in [0, 1]."""
    if mask.device.type == "cpu":
        counts = torch.tensor([np.count_nonzero(frame) for frame in mask.numpy()])
    else:
        # frame by frame: counting along two of three dimensions is several times as slow
        counts = torch.stack([frame.count_nonzero() for frame in mask])
    return counts.float() / (mask.shape[1] * mask.shape[2])


def reached_shares(planes: Tensor, thresholds: Tensor) -> Tensor:
    """Share of the pixels of each plane that reach its threshold: (T, A, H, W), (A,) -> (T, A) float32 in [0, 1]."""
    shares = planes.new_zeros(planes.shape[:2])
    for some, into in zip(_at_a_time(planes), _at_a_time(shares), strict=True):
        for number, (plane, threshold) in enumerate(zip(some.unbind(1), thresholds, strict=True)):
            into[:, number] = share(_reached(plane, threshold))
    return shares
