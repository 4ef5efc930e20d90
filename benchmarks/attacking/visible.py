"""What anybody sees of somebody hidden by noise, without undoing anything: outline, motion, and whose outline it is.

Outlines are (T, H, W) bool, flows (T, 2, H, W) float32 pixels to the previous frame.

Not here: which clips and copies (not_hidden.py), what is recovered under the mask (attacks.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import cv2
import numpy as np

from anonymotion.attacks.outline import of_noise
from anonymotion.presets import Settings

SOMEBODY = 4  # grains: the side of a square that fits into the outline; coloured edges of footage are thin
GAIT_HW = (44, 32)


def outline_of(frames: np.ndarray, settings: Settings) -> np.ndarray:
    """Where an adversary who knows the settings sees noise in (T, H, W, 3) uint8."""
    return of_noise(frames, settings, (frames.shape[1], frames.shape[2]))


def sees_somebody(outlines: np.ndarray, settings: Settings) -> np.ndarray:
    """(T,): whether an outline is large enough, and in one piece, to be somebody."""
    square = np.ones((SOMEBODY * settings.grain_px(outlines.shape[1:3]),) * 2, np.uint8)
    return np.array([cv2.erode(outline.astype(np.uint8), square).any() for outline in outlines])


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's, 0 where either does not vary."""
    a, b = one.astype(np.float64) - one.mean(), other.astype(np.float64) - other.mean()
    norm = sqrt(float((a * a).sum()) * float((b * b).sum()))
    return float((a * b).sum() / norm) if norm > 1e-9 * a.size else 0.0


def motion_agreement(seen: np.ndarray, true: np.ndarray, inside: np.ndarray) -> tuple[float, float]:
    """How well the flow of the hidden clip tells that of the original: per pixel inside, and of the region's mean.

    Each is the mean over the two components of the correlation over the frames after the first.
    """
    inside = inside[1:]
    pixels, means = [], []
    counts = inside.sum((1, 2))
    some = counts >= 64
    if some.sum() < 3:
        return 0.0, 0.0
    for axis in (0, 1):
        a, b = seen[1:, axis], true[1:, axis]
        pixels.append(correlation(a[inside], b[inside]))
        series = [(plane * inside).sum((1, 2))[some] / counts[some] for plane in (a, b)]
        means.append(correlation(*series))
    return float(np.mean(pixels)), float(np.mean(means))


def gait_picture(outlines: np.ndarray) -> np.ndarray | None:
    """The mean of the outlines, each cut to its largest part, GAIT_HW, as gait recognition has it; None without any.

    Height and width are scaled by the same factor, so that a person far away is as large as one nearby.
    """
    height, width = GAIT_HW
    total, count = np.zeros(GAIT_HW, np.float32), 0
    for outline in outlines.astype(np.uint8):
        _, labels, stats, centres = cv2.connectedComponentsWithStats(outline)
        if len(stats) < 2:
            continue
        largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
        top, tall = int(stats[largest, cv2.CC_STAT_TOP]), int(stats[largest, cv2.CC_STAT_HEIGHT])
        if stats[largest, cv2.CC_STAT_AREA] < 64:
            continue
        scale = height / tall
        place = np.array([[scale, 0, width / 2 - scale * centres[largest][0]], [0, scale, -scale * top]], np.float32)
        total += cv2.warpAffine((labels == largest).astype(np.float32), place, (width, height))
        count += 1
    return total / count if count else None


def nearest(probe: np.ndarray, gallery: Sequence[np.ndarray]) -> int:
    """The number of the gallery's most similar picture, whichever way it faces."""
    ways = (probe, probe[:, ::-1])
    return int(np.argmin([min(float(np.square(way - entry).sum()) for way in ways) for entry in gallery]))
