"""Numbers of one mask against regions: pure functions of (H, W) bool arrays.

A value that cannot be measured is NaN, never 0.

Not here: regions (regions), masks (masks), means over frames and clips (tables).
"""

from __future__ import annotations

import numpy as np

MISSED_BELOW = 0.9


def share(mask: np.ndarray, region: np.ndarray | None) -> float:
    """Share of the region that is masked, in [0, 1]; NaN for no region or an empty one."""
    if region is None or not region.any():
        return float("nan")
    return float(mask[region].mean())


def recall(mask: np.ndarray, region: np.ndarray | None) -> float:
    """Share of a region that is certainly the attribute's, at alpha = 1."""
    return share(mask, region)


def outside(mask: np.ndarray, person_wide: np.ndarray) -> float:
    """Masked share of the pixels outside the grown person."""
    return share(mask, ~person_wide)


def excess(mask: np.ndarray, person: np.ndarray | None, allowed: np.ndarray) -> float:
    """Masked share of those pixels of the person that are certainly not the attribute's."""
    return float("nan") if person is None else share(mask, person & ~allowed)


def points_covered(mask: np.ndarray, points: list[list[int]]) -> float:
    """Share of (x, y) pixels that are masked; NaN without points."""
    return float(np.mean([mask[y, x] for x, y in points])) if points else float("nan")


def aligned(previous: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """The mask of the frame before, carried along `flow` (2, H, W), pixels to the frame before, nearest pixel.

    What comes from outside the frame is False.
    """
    height, width = previous.shape
    x = np.rint(np.arange(width) + flow[0]).astype(int)
    y = np.rint(np.arange(height)[:, None] + flow[1]).astype(int)
    known = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    carried: np.ndarray = previous[y.clip(0, height - 1), x.clip(0, width - 1)] & known
    return carried


def steadiness(mask: np.ndarray, previous: np.ndarray, flow: np.ndarray) -> float:
    """IoU of a mask and the one before it, carried along the flow; 1 is steady.  NaN if both are empty."""
    carried = aligned(previous, flow)
    union = (mask | carried).sum()
    return float((mask & carried).sum() / union) if union else float("nan")


def tone_angle(lab: np.ndarray) -> float:
    """Individual typology angle of a skin colour (CIELAB: L*, a*, b*) in degrees: atan((L* - 50) / b*)."""
    return float(np.degrees(np.arctan2(lab[0] - 50, lab[2])))


# Lower bounds of the usual groups, in degrees; a dark picture darkens everyone in it.
TONES = ((41.0, "light"), (28.0, "intermediate"), (10.0, "tan"), (-30.0, "brown"), (-90.1, "dark"))


def tone_group(angle: float) -> str:
    """Name of the group of an individual typology angle in degrees."""
    return next(name for bound, name in TONES if angle > bound)
