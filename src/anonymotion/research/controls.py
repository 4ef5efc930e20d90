"""Controls of an experiment: clips in which only the person is left, or all but the person.

How much of "identity" is the person, and how much background, colour cast and camera?  `replace_background` gives
everybody the same neutral surroundings; `remove_person` leaves the surroundings alone.

The person is where the nine attributes are found, each frame by itself, without the growth of `strict` (`PERSON_LOOK`)
and without specks (`main_parts`).  On Weizmann that is the whole person and a rim of 2 to 4 pixels, nearly all of it
inside what `strict` replaces, so that little but noise is left of a hidden clip.  The clip's temporal median instead
finds only what moves of somebody who stays in place, as half of the actions do.

Not here: what finds a person (pipeline, looks), how copies are written (obfuscate).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from anonymotion.errors import SettingsError
from anonymotion.research.clips import read_clip
from anonymotion.research.datasets import Clip, Dataset

NEUTRAL = 128
"""The grey that takes the place of a background or a person."""

BOX_MARGIN = 4
"""Pixels by which the box of a person is larger than what was found of it."""

LEAST_PART = 0.1
"""Of the largest connected part of a person: what is smaller is no part of one (a flower pot, a stain)."""

PERSON_ATTRIBUTES = "person"
PERSON_LOOK: dict[str, Any] = {"dilation": 0, "feather": 0, "motion_dilation": 0, "look_ahead": 0}


def main_parts(person: Tensor) -> Tensor:
    """(T, H, W) bool without the connected parts that are smaller than `LEAST_PART` of the largest of their frame."""
    import cv2

    kept = []
    for mask in person.numpy():
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        areas = stats[:, cv2.CC_STAT_AREA]
        areas[0] = 0  # the ground
        large = areas >= LEAST_PART * areas.max() if count > 1 else np.zeros(1, bool)
        large[0] = False
        kept.append(large[labels])
    return torch.from_numpy(np.stack(kept))


def replace_background(frames: Tensor, person: Tensor) -> Tensor:
    """Neutral grey everywhere but on the person: (T, H, W, 3) uint8, (T, H, W) bool -> (T, H, W, 3) uint8.

    A frame in which nobody was found is grey all over.
    """
    return torch.where(person[..., None], frames, torch.full_like(frames, NEUTRAL))


class PersonRemover:
    """Fills the box around the person with neutral grey, in the frames of one clip, in order.

    Where nobody is found, the last box is filled; before anybody was found, the whole frame.
    """

    def __init__(self) -> None:
        self._box: tuple[slice, slice] = (slice(None), slice(None))
        self.frames_without_person = 0

    def __call__(self, frames: Tensor, person: Tensor) -> Tensor:
        """(T, H, W, 3) uint8 and (T, H, W) bool -> (T, H, W, 3) uint8."""
        result = frames.clone()
        for image, mask in zip(result, person, strict=True):
            self._box = self._around(mask)
            image[self._box] = NEUTRAL
        return result

    def _around(self, mask: Tensor) -> tuple[slice, slice]:
        places = mask.nonzero()
        if not len(places):
            self.frames_without_person += 1
            return self._box
        (top, left), (bottom, right) = places.amin(0).tolist(), places.amax(0).tolist()
        return (
            slice(max(0, top - BOX_MARGIN), bottom + 1 + BOX_MARGIN),
            slice(max(0, left - BOX_MARGIN), right + 1 + BOX_MARGIN),
        )


class Controlled:
    """A control as a transform of a loader: frames of a clip in, frames out.

    masks: a copy of the data set of the variant `person-mask` (obfuscate).
    keep: `person` makes the background neutral, `background` removes the person.
    """

    def __init__(self, masks: Dataset, *, keep: Literal["person", "background"] = "person") -> None:
        if keep not in ("person", "background"):
            raise SettingsError(f"keep {keep!r} is not known: use person or background")
        self.masks = masks
        self._keeps_person = keep == "person"

    def __call__(self, frames: np.ndarray, clip: Clip) -> np.ndarray:
        """All frames of `clip`, (T, H, W, 3) uint8 -> the same shape.  Raises as `read_clip` does."""
        mask = torch.from_numpy(read_clip(self.masks.clip(clip.id), self.masks.root)[..., 0] >= NEUTRAL)
        images = torch.from_numpy(frames)
        changed = replace_background(images, mask) if self._keeps_person else PersonRemover()(images, mask)
        return changed.numpy()
