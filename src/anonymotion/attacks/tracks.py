"""Where each pixel of one frame is in the other frames, chained from the true flow of the original: the worst case.

Positions are (h, w, 2) float32, (x, y) pixels of the crop, as OpenCV's remap wants them.

Not here: how flow is estimated (flow), what is averaged along it (recovery).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]

_NO_MAP: Any = None  # OpenCV takes None for the second map; its types do not know


@dataclass(frozen=True)
class Tracks:
    """Chained positions between the reference frame and T frames.

    reference: its index.  to_frame[t]: for each pixel of the reference where it is in frame t.  from_frame[t]: for
    each pixel of frame t where it is in the reference.
    """

    reference: int
    to_frame: tuple[Field, ...]
    from_frame: tuple[Field, ...]

    def aligned(self, planes: NDArray[Any]) -> Field:
        """(T, h, w) planes, each sampled along the tracks: (T, h, w) float32 in the place of the reference."""
        return np.stack([_sampled(plane, at) for plane, at in zip(planes, self.to_frame, strict=True)])

    def moved(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A picture of the reference, (h, w, 3) uint8, moved as the scene moves: (T, h, w, 3) uint8."""
        import cv2

        frames = [
            cv2.remap(picture, at, _NO_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT) for at in self.from_frame
        ]
        return np.stack(frames)


def _sampled(field: NDArray[Any], at: Field) -> Field:
    import cv2

    taken = cv2.remap(
        np.ascontiguousarray(field, np.float32), at, _NO_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(taken, np.float32)


def identity(size_hw: tuple[int, int]) -> Field:
    """Each pixel's own position."""
    y, x = np.mgrid[: size_hw[0], : size_hw[1]].astype(np.float32)
    return np.stack((x, y), axis=2)


def chain(backward: Field, forward: Field, reference: int) -> Tracks:
    """Tracks through T frames.

    backward: (T, h, w, 2), frame t to t-1 (that of frame 0 is not read).  forward: (T, h, w, 2), frame t to t+1 (that
    of the last frame is not read).
    """
    count, start = len(backward), identity(backward.shape[1:3])
    to_frame, from_frame = {reference: start}, {reference: start}
    for t in range(reference + 1, count):
        to_frame[t] = _followed(to_frame[t - 1], forward[t - 1])
        from_frame[t] = _sampled(from_frame[t - 1], start + backward[t])
    for t in range(reference - 1, -1, -1):
        to_frame[t] = _followed(to_frame[t + 1], backward[t + 1])
        from_frame[t] = _sampled(from_frame[t + 1], start + forward[t])
    order = range(count)
    return Tracks(reference, tuple(to_frame[t] for t in order), tuple(from_frame[t] for t in order))


def _followed(positions: Field, flow: Field) -> Field:
    return positions + _sampled(flow, positions)
