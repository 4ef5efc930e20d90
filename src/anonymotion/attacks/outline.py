"""What a hidden frame gives away by itself: where something was hidden.  The shape is not hidden, and this says so.

Two simple guesses, and an adversary knows the settings and so which of them is the better one.

Not here: what is recovered under the mask (recovery), who it is (benchmarks/not_hidden.py).
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anonymotion.attacks.evidence import Pictures, View
from anonymotion.presets import Settings

SHARE_OF_THE_NOISE = 0.45
WINDOW = 0.75
"""Of a grain: the sigma of the Gaussian in which colours are compared."""

Outlines = NDArray[np.bool_]


def of_noise(frames: Pictures, settings: Settings, frame_hw: tuple[int, int]) -> Outlines:
    """Where neighbouring colours differ as only the noise of these settings does: (T, h, w) bool.

    frames: (T, h, w, 3) uint8, the frame or a crop of it.  frame_hw: of the whole frame.  In noise the channels are
    independent, in footage nearly alike; red and blue minus green have a variance of 2/3 std^2 each in noise.
    """
    import cv2

    sigma = WINDOW * settings.grain_px(frame_hw)
    least = (SHARE_OF_THE_NOISE * sqrt(4 / 3) * settings.noise_std * 255) ** 2
    found = []
    for frame in frames.astype(np.float32):
        colour: NDArray[Any] = frame[..., ::2] - frame[..., 1:2]
        unlike = (colour - cv2.GaussianBlur(colour, (0, 0), sigma)) ** 2
        found.append(cv2.GaussianBlur(unlike, (0, 0), sigma).sum(2) > least)
    return np.stack(found)


def of_detail(view: View) -> Outlines:
    """Where the reference frame has more fine detail than half of the strongest there is: (h, w) bool."""
    import cv2

    frame = view.frame
    detail = np.abs(frame - cv2.GaussianBlur(frame, (0, 0), 2))
    level = cv2.GaussianBlur(detail, (0, 0), max(2.0, min(frame.shape) / 60))
    seen = np.clip(level / max(float(level.max()), 1e-6) * 255, 0, 255).astype(np.uint8)
    threshold, _ = cv2.threshold(seen, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return np.asarray(seen > threshold)


def overlap(found: Outlines, mask: Outlines) -> float:
    """Intersection over union; 0 where both are empty."""
    union = int((found | mask).sum())
    return float((found & mask).sum() / union) if union else 0.0


def silhouette_overlap(view: View, settings: Settings) -> float:
    """Of the mask of the reference frame with the better of the guesses."""
    scene, reference = view.scene, view.scene.reference
    mask = scene.alpha[reference] >= 0.5
    guesses = [of_detail(view)]
    if settings.method == "noise":
        guesses.append(of_noise(view.hidden[reference : reference + 1], settings, scene.frame_hw)[0])
    return max(overlap(guess, mask) for guess in guesses)
