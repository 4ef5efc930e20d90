"""Small scenes to attack: a patchwork that moves to the right under a still mask.

This file does not test anything.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tiny import moving, patchwork

from anonymotion.attacks.evidence import Box, Scene, core_of
from anonymotion.attacks.tracks import chain

SIZE = (64, 80)


def scene(frames: int = 7, weight: float = 1.0, rim: bool = False, step: int = 1, seed: int = 0) -> Scene:
    """`frames` frames of SIZE whose content moves right by `step` pixels; hidden in the middle with `weight`."""
    images = np.stack(moving(patchwork((64, 80 + step * frames), seed=seed), frames, SIZE, (step, 0)))
    alpha = np.zeros((frames, *SIZE), np.float32)
    if rim:
        alpha[:, 10:54, 14:66] = 0.5
    alpha[:, 12:52, 16:64] = weight
    backward = np.zeros((frames, *SIZE, 2), np.float32)
    backward[1:, ..., 0] = -step
    reference = frames // 2
    tracks = chain(backward, -np.roll(backward, -1, axis=0), reference)
    planes: Any = np.ascontiguousarray(np.moveaxis(backward, 3, 1))
    return Scene(images, alpha, planes, tracks, SIZE, Box(0, 0, SIZE[1], SIZE[0]), core_of(alpha[reference]))
