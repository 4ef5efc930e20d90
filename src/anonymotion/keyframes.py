"""Which frames are matched: the backbone costs more than all else, and what it found moves along the flow.

The masks of the frames in between come from both sides, by the union of `continuity`: each frame lies within
`look_ahead` of a matched one, and the last frame is always matched.  So no frame is without a mask that the frames
around it have, and something that appears between two matched frames is carried back from the second.

With `auto` the distance grows by one where a mask that was carried along the flow agrees with what is matched at its
end, is halved where it does not, and ends early where the scene moves a lot.

Not here: how masks are joined (continuity), matching (matcher).
"""

from __future__ import annotations

import torch
from torch import Tensor

from anonymotion.continuity import cell_flow, cell_size, to_cells, whole_steps
from anonymotion.presets import AUTO

# Intersection over union of the carried mask and the matched one.  Masks of consecutive frames, matched each by itself,
# overlap by about 0.87 for borders that flicker, so less than that is no disagreement.
_AGREES, _DISAGREES = 0.75, 0.6

# What moves further than this since the last matched frame, in percent of the short side, is looked at again: the sum
# over frames of the speed that only one cell in twenty exceeds.
_MOTION_LIMIT_PERCENT = 8.0
_FAST = 0.95


class KeyFrames:
    """Chooses the matched frames of one run, chunk by chunk.

    every: `auto`, or a number: each so many-th frame.  longest: the largest distance that `auto` takes, from 1; it
    begins with half of it.
    """

    def __init__(self, every: str, longest: int) -> None:
        self._adapts = every == AUTO
        self._longest = max(1, longest)
        self._distance = (self._longest + 1) // 2 if self._adapts else int(every)
        self._since = self._distance  # the first frame is matched
        self._moved = 0.0
        self._carried: Tensor | None = None
        self._taken = 0

    def choose(self, flow: Tensor, *, last: bool) -> list[int]:
        """Which of the next T frames to match, from their flow, (T, 2, H, W) pixels to the previous frame.

        last: the stream ends with them.
        """
        speeds = self._speeds(flow) if self._adapts and self._distance > 1 else [0.0] * len(flow)
        chosen = []
        for t, speed in enumerate(speeds):
            self._since += 1
            self._moved += speed
            ends = last and t == len(flow) - 1
            if self._since >= self._distance or self._moved > _MOTION_LIMIT_PERCENT or ends:
                chosen.append(t)
                self._since, self._moved = 0, 0.0
        return chosen

    @staticmethod
    def _speeds(flow: Tensor) -> list[float]:
        size = cell_size(flow)
        steps = cell_flow(flow, size)
        lengths = torch.hypot(steps[:, 0], steps[:, 1]).flatten(1)
        fast = lengths.kthvalue(max(1, int(_FAST * lengths.shape[1])), dim=1).values
        return [100 * length * size / min(flow.shape[-2:]) for length in fast.tolist()]

    def learn(self, chosen: list[int], masks: Tensor, flow: Tensor) -> None:
        """Take what was matched in the `chosen` of the frames: masks, (T, H, W) bool, and flow, (T, 2, H, W)."""
        if not self._adapts or self._longest == 1:
            return
        size = cell_size(masks)
        for t, (mask, step) in enumerate(zip(to_cells(masks, size), cell_flow(flow, size), strict=True)):
            if self._carried is not None:
                self._carried = self._moved_along(self._carried, step)
            self._taken += 1
            if t in chosen:
                if self._carried is not None:
                    self._adapt(self._carried, mask)
                self._carried = mask

    def _moved_along(self, mask: Tensor, flow: Tensor) -> Tensor:
        height, width = mask.shape
        x, y = whole_steps(flow, self._taken)
        x.add_(torch.arange(width, device=x.device)).clamp_(0, width - 1)
        y.add_(torch.arange(height, device=y.device)[:, None]).clamp_(0, height - 1)
        return mask.take(y * width + x)

    def _adapt(self, carried: Tensor, matched: Tensor) -> None:
        union = int((carried | matched).sum())
        agreement = int((carried & matched).sum()) / union if union else 1.0
        if agreement < _DISAGREES:
            self._distance = max(1, self._distance // 2)
        elif agreement >= _AGREES:
            self._distance = min(self._longest, self._distance + 1)
