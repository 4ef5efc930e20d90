"""What an attack works on: a stretch of the clip around one frame, cut to the mask, with everything that is public.

The adversary knows the method, the exact mask and the true flow, which is more than a real one knows.

Not here: reading files (files), the attacks (recovery).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from anonymotion.attacks.scores import Grey, Region
from anonymotion.attacks.tracks import Tracks
from anonymotion.errors import SettingsError

Pictures = NDArray[np.uint8]

BLOCK = 16  # crops start and end on the grid of a codec's blocks, so that a crop is encoded as the frame was
MOST_SIDE = 256
MARGIN = 32

_BRIGHTNESS = np.array([0.299, 0.587, 0.114], np.float32)


def grey(pictures: NDArray[np.generic]) -> Grey:
    """(..., 3) RGB -> (...) float32 brightness in 0..255."""
    return np.asarray(pictures, np.float32) @ _BRIGHTNESS


@dataclass(frozen=True)
class Box:
    """A crop, pixels of the frame: x0 <= x < x1, y0 <= y < y1."""

    x0: int
    y0: int
    x1: int
    y1: int

    def cut(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """The crop of an (H, W, ...) array, a copy."""
        return np.ascontiguousarray(array[self.y0 : self.y1, self.x0 : self.x1])


@dataclass(frozen=True)
class Scene:
    """T frames of the original, cropped, and what decided where they were hidden.

    original: (T, h, w, 3) uint8.  alpha: (T, h, w) float32 in [0, 1].  backward: (T, 2, h, w) float32, true flow to
    the previous frame.  tracks: chained from it.  frame_hw: of the whole frame.  box: of the crop.
    core: (h, w) bool, where scores are taken in the reference frame.
    """

    original: Pictures
    alpha: NDArray[np.float32]
    backward: NDArray[np.float32]
    tracks: Tracks
    frame_hw: tuple[int, int]
    box: Box
    core: Region

    @property
    def reference(self) -> int:
        """The frame that is to be recovered."""
        return self.tracks.reference

    @cached_property
    def truth(self) -> Grey:
        """The original's reference frame, (h, w)."""
        return grey(self.original[self.reference])

    @cached_property
    def hidden_along_tracks(self) -> NDArray[np.bool_]:
        """(T, h, w): whether what the reference shows at a pixel is under the mask in frame t, too."""
        return self.tracks.aligned(self.alpha) >= 0.5 * float(self.alpha[self.reference][self.core].min())

    @property
    def uncovered_share(self) -> float:
        """Share of the core that some other frame of the stretch shows without a mask: a fault of masks, not noise."""
        return float((~self.hidden_along_tracks[:, self.core]).any(0).mean())


@dataclass(frozen=True)
class View:
    """A hidden clip as the adversary sees it, (T, h, w, 3) uint8, beside the scene.

    noise: (h, w, 3) float32, what the adversary takes for the noise of the reference frame; None where there is none.
    others: (K, h, w) float32, brightness of the reference frame of other clips hidden with that same noise.
    """

    scene: Scene
    hidden: Pictures
    noise: NDArray[np.float32] | None = None
    others: NDArray[np.float32] | None = None
    kept: dict[str, Grey] = field(default_factory=dict)

    @cached_property
    def frames(self) -> Grey:
        """Brightness, (T, h, w)."""
        return grey(self.hidden)

    @cached_property
    def aligned(self) -> Grey:
        """Brightness along the tracks, (T, h, w)."""
        return self.scene.tracks.aligned(self.frames)

    @property
    def frame(self) -> Grey:
        """The reference frame, (h, w)."""
        return np.asarray(self.frames[self.scene.reference])


def core_of(alpha: NDArray[np.float32]) -> Region:
    """Where a frame is hidden most: inside the mask without its border; of a blend, from half its largest weight on.

    alpha: (h, w) float32 in [0, 1].  The border that is left out has 1.5 % of the short side, so that no filter of
    an attack reaches out of a mask that is large enough.
    """
    import cv2

    peak = float(alpha.max())
    whole = alpha >= 1 if peak >= 1 else alpha >= max(0.5 * peak, 1e-6)
    width = max(1, round(0.015 * min(alpha.shape)))
    eroded = cv2.erode(whole.astype(np.uint8), np.ones((2 * width + 1, 2 * width + 1), np.uint8))
    return eroded.astype(bool) if eroded.sum() >= 64 else whole


def place_crop(alpha: NDArray[np.float32], alphas: NDArray[np.bool_]) -> Box:
    """The crop around the largest part of a mask.

    alpha: (H, W) of the reference frame.  alphas: (H, W) bool, where any frame of the stretch is hidden.
    Raises SettingsError if nothing is hidden.
    """
    import cv2

    core = core_of(alpha)
    if not core.any():
        raise SettingsError("the masks hide nothing in any frame: there is nothing to attack")
    _, labels, stats, _ = cv2.connectedComponentsWithStats(core.astype(np.uint8))
    part = labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    _, joined = cv2.connectedComponents(alphas.astype(np.uint8))
    beside = np.isin(joined, np.unique(joined[part & alphas])) & alphas
    sides = []
    for axis in (0, 1):
        inside, around = np.flatnonzero(part.any(axis)), np.flatnonzero((beside | part).any(axis))
        sides.append(_side(inside, around, alpha.shape[1 - axis]))
    (x0, x1), (y0, y1) = sides
    return Box(x0, y0, x1, y1)


def _side(inside: NDArray[np.intp], around: NDArray[np.intp], length: int) -> tuple[int, int]:
    first, last = int(around[0]) - MARGIN, int(around[-1]) + 1 + MARGIN
    if last - first > MOST_SIDE:
        centre = int(inside[0] + inside[-1]) // 2
        first, last = centre - MOST_SIDE // 2, centre + MOST_SIDE // 2
    return max(0, first // BLOCK * BLOCK), min(length, -(-last // BLOCK) * BLOCK)
