"""Which frames are matched: the backbone costs more than all else, and what it found moves along the flow.

The masks of the frames in between come from both sides, by the union of `continuity`: a frame is never further than the
next matched one from what was found last, and the last frame is always matched.  So no frame is without a mask that the
frames around it have, and something that appears between two matched frames is carried back from the second.

With `auto` a frame is matched where the next of these is reached:

    distance   grows by one where a mask that was carried along the flow agrees with what is matched at its end, and is
               halved where it does not
    motion     the frame, or what is hidden in it, has moved far since the last matched one
    novelty    too much of the picture is not what the flow says it was in the last matched frame: what moves faster
               than the flow can follow, what flashes up, everything after a cut

Not here: how masks are joined (continuity), matching (matcher).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from anonymotion.continuity import cell_flow, cell_size, sources, to_cells
from anonymotion.presets import AUTO, Settings

# The furthest that `auto` goes, a third of a second of most videos, and where it begins.
LONGEST, FIRST = 8, 4

# Intersection over union of the carried mask and the matched one.  Masks of consecutive frames, matched each by itself,
# overlap by about 0.87 for borders that flicker, those of hands by less: only much less than that is a disagreement.
_AGREES, _DISAGREES = 0.5, 0.3

# What moves further than this since the last matched frame, in percent of the short side, is looked at again: the sum
# over frames of the speed that one cell in twenty of the frame exceeds, or one in ten of what is hidden in it.
_MOTION_LIMIT_PERCENT = 12.0
_FAST, _FAST_IN_MASK = 0.95, 0.9

# A cell is another one than what the flow says it was if its grey value differs by so much (of 255) from all of the 3x3
# cells there; so much of the frame (in percent) may be new since the last matched one.
_DIFFERS = 20.0
_NOVELTY_LIMIT_PERCENT = 0.5


def held_back(settings: Settings) -> int:
    """How many frames a run holds back at most: what is found in them may be hidden in the ones before."""
    return max(settings.look_ahead, LONGEST if settings.every == AUTO and settings.look_ahead else 0)


class KeyFrames:
    """Chooses the matched frames of one run, chunk by chunk.

    every: `auto`, or a number: each so many-th frame.  adapts: `auto` may leave frames out at all.
    """

    def __init__(self, every: str, *, adapts: bool = True) -> None:
        self._adapts = every == AUTO and adapts
        self._distance = FIRST if self._adapts else 1 if every == AUTO else int(every)
        self._since = self._distance  # the first frame is matched
        self._moved = 0.0
        self._taken = 0
        # in cells, (h, w): the last frame in grey, what is hidden in it, what of it is new
        self._grey: Tensor | None = None
        self._carried: Tensor | None = None
        self._new: Tensor | None = None

    @property
    def longest(self) -> int:
        """No two matched frames are further apart than this."""
        return LONGEST if self._adapts else self._distance

    def choose(self, frames: Tensor, flow: Tensor, *, last: bool) -> list[int]:
        """Which of the next T frames to match: (T, H, W, 3) uint8 and (T, 2, H, W) pixels to the previous frame.

        last: the stream ends with them.
        """
        cells = _grey_cells(frames) if self._adapts else None
        steps = cell_flow(flow, cell_size(flow))
        chosen, carried = [], self._carried
        for t in range(len(frames)):
            self._since += 1
            far = False
            if cells is not None:
                number = self._taken + t
                carried = None if carried is None else _moved_along(carried, steps[t], number)
                far = self._is_far(cells[t], steps[t], carried, number)
            if self._since >= self._distance or far or (last and t == len(frames) - 1):
                chosen.append(t)
                self._since, self._moved, self._new = 0, 0.0, None
        return chosen

    def _is_far(self, grey: Tensor, step: Tensor, carried: Tensor | None, number: int) -> bool:
        """Whether too much has moved, or is new, since the last matched frame."""
        before, self._grey = self._grey, grey
        if before is None:
            return True
        lengths = torch.hypot(step[0], step[1])
        short = min(grey.shape)
        speed = _exceeded(lengths.flatten(), _FAST)
        if carried is not None and carried.any():
            speed = max(speed, _exceeded(lengths[carried], _FAST_IN_MASK))
        self._moved += 100 * speed / short
        source, inside = sources(step, number)
        near = F.pad(before[None, None], (1, 1, 1, 1), mode="replicate")
        low, high = -F.max_pool2d(-near, 3, 1)[0, 0], F.max_pool2d(near, 3, 1)[0, 0]
        # what comes in over an edge is carried back from the next matched frame
        other = inside & ((grey > high.take(source) + _DIFFERS) | (grey < low.take(source) - _DIFFERS))
        self._new = other if self._new is None else other | self._new.take(source)
        share = 100 * float(self._new.float().mean())
        return self._moved > _MOTION_LIMIT_PERCENT or share > _NOVELTY_LIMIT_PERCENT

    def learn(self, chosen: list[int], masks: Tensor, flow: Tensor) -> None:
        """Take what was matched in the `chosen` of the frames: masks, (T, H, W) bool, and flow, (T, 2, H, W)."""
        if not self._adapts:
            return
        size = cell_size(masks)
        for t, (mask, step) in enumerate(zip(to_cells(masks, size), cell_flow(flow, size), strict=True)):
            if self._carried is not None:
                self._carried = _moved_along(self._carried, step, self._taken)
            self._taken += 1
            if t in chosen:
                if self._carried is not None:
                    self._adapt(self._carried, mask)
                self._carried = mask

    def _adapt(self, carried: Tensor, matched: Tensor) -> None:
        union = int((carried | matched).sum())
        agreement = int((carried & matched).sum()) / union if union else 1.0
        if agreement < _DISAGREES:
            self._distance = max(1, self._distance // 2)
        elif agreement >= _AGREES:
            self._distance = min(LONGEST, self._distance + 1)


def _grey_cells(frames: Tensor) -> Tensor:
    """(T, H, W, 3) uint8 -> (T, h, w) float32 mean values of cells, h = H / size rounded up."""
    size = cell_size(frames[..., 0])
    grey = frames.float().mean(dim=-1)
    if size == 1:
        return grey
    return F.avg_pool2d(grey[:, None], size, ceil_mode=True, count_include_pad=False)[:, 0]


def _exceeded(values: Tensor, share: float) -> float:
    """What all but 1 - `share` of (N,) values stay below."""
    return float(values.kthvalue(max(1, int(share * len(values)))).values)


def _moved_along(mask: Tensor, flow: Tensor, number: int) -> Tensor:
    """An (h, w) mask of the frame before frame `number`, moved to it along the flow, (2, h, w), that points back."""
    return mask.take(sources(flow, number)[0])
