"""Masks over time: what is found in one frame is hidden in the frames around it too, moved along the flow.

The mask of frame t becomes the union of the masks of frames t-n to t+n (`look_ahead` is n), each carried to t along
the flow.  So a matcher that drops out for up to 2n frames between two detections leaves no frame unhidden, what was
found once stays hidden for n frames more (a minimum duration: nothing is ever dropped for being short), and borders
flicker less.

The number of frames since something was last found is carried, not a mask per frame: it is hidden while that is at
most n, and the past costs the same for any n.  From the past it is gathered: p in frame t was at p + v in t-1.  From
the future it is scattered: p in t+1 goes to p + v in t, so the flow that is there already is enough, and no second one
in the other direction has to be estimated; what several claim is hidden if one of them is, and small holes are closed.

Where not every frame is matched (keyframes), n is for each frame at least its distance to the next matched one and to
the last, so that what was found at either side is hidden in all frames between them; and in a matched frame at least
the distance to the nearer of the matched ones around it, so that one that drops out uncovers nothing either.  What is
hidden in a frame that was not matched grows by DRIFT_CELLS, for what the flow was wrong by.

What is carried is square cells of CELL_ROWS to the short side, far smaller than the patches that matching decides on;
a cell is hidden if any pixel of it is.  Pixels of frames smaller than that are carried one by one.

Across a cut the flow means nothing, and for n frames something more than necessary is hidden: that is the safe side.

Not here: one frame's mask and its growth by a fixed length (masks), flow (flow), when frames come out (pipeline).
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from anonymotion.masks import dilate
from anonymotion.noise_transport import to_pixels

CELL_ROWS = 180

# What is carried into a frame that was not matched may lie beside what it is to hide by so much.
DRIFT_CELLS = 1

# Growth with motion ends here, in percent of the short side: flow across a cut can be as long as the frame.
MOTION_LIMIT_PERCENT = 4.0

# Fractions of a cell are rounded with a threshold that changes by this from frame to frame: it spreads over 0..1 as
# evenly as a sequence can, so 0.4 cells per frame are 4 whole ones in ten frames, not none.
_GOLDEN = 0.6180339887498949


class Found(NamedTuple):
    """T frames and what was found in each, on one device.

    frames: (T, H, W, 3) uint8.  saliency: (T, A, H, W) float32.  flow: (T, 2, H, W) float32 pixels to the previous
    frame.  mask: (T, H, W) bool.  searched: (T,) bool, whether the frame itself was matched; else saliency is 0.
    kept: (T, H, W) bool, what must stay visible, which is never joined; None: nothing.
    """

    frames: Tensor
    saliency: Tensor
    flow: Tensor
    mask: Tensor
    searched: Tensor
    kept: Tensor | None = None

    def part(self, start: int, stop: int) -> Found:
        """Frames `start` to `stop`; not copied, which would cost more than all else here."""
        frames, saliency, flow, mask, searched = (tensor[start:stop] for tensor in self[:5])
        return Found(frames, saliency, flow, mask, searched, None if self.kept is None else self.kept[start:stop])


class _Cells(NamedTuple):
    """What is remembered of a frame; see Continuity."""

    flow: Tensor
    ages: Tensor
    matched: bool


class Continuity:
    """Joins the masks of a stream of frames; holds back at most `look_ahead` of them, and is for one run only.

    look_ahead: n of the module's text, 0 to 254; with 0 everything passes as it is.  longest: no two matched frames are
    further apart than this.
    """

    def __init__(self, look_ahead: int, longest: int = 1) -> None:
        self.look_ahead = look_ahead
        self._held_back = max(look_ahead, longest if longest > 1 else 0)
        self.held: deque[Found] = deque()
        # Of each frame held, in cells: flow to the previous frame, (2, h, w), and frames since something was last
        # found, 0 where it was in this one, (h, w) uint8; and whether it was matched.
        self._cells: deque[_Cells] = deque()
        self._matched_before = -1  # number of the last matched frame that is not held any more
        self._newest: Tensor | None = None  # ages of the last frame taken
        self._taken = 0

    def push(self, found: Found) -> list[Found]:
        """Take the next frames; give those, of these and of earlier ones, that are ready, maybe none, in pieces.

        Their masks are the joined ones, which hold all of the masks that were given.
        """
        if not self.look_ahead:
            return [found]
        size = cell_size(found.mask)
        searched = found.searched.tolist()
        for mask, flow, matched in zip(to_cells(found.mask, size), cell_flow(found.flow, size), searched, strict=True):
            self._cells.append(_Cells(flow, self._advance(mask, flow), matched))
        self.held.append(found)
        return self._release(max(0, len(self._cells) - self._held_back))

    def flush(self) -> list[Found]:
        """The frames still held, at the end of the stream."""
        return self._release(len(self._cells))

    def _advance(self, mask: Tensor, flow: Tensor) -> Tensor:
        """Take the next frame, (h, w) and (2, h, w) in cells; its ages."""
        if self._newest is None:
            ages = torch.full_like(mask, self._held_back + 1, dtype=torch.uint8)
        else:
            # What comes in over an edge is taken for what was at that edge: it may be the rest of it.
            places = sources(flow, self._taken)[0].view(-1)
            ages = self._older(self._newest.view(-1).index_select(0, places).view_as(mask))
        self._newest = ages.masked_fill_(mask, 0)
        self._taken += 1
        return ages

    def _older(self, ages: Tensor) -> Tensor:
        return (ages + 1).clamp_(max=self._held_back + 1)

    def _release(self, ready: int) -> list[Found]:
        """The first `ready` of the frames held, with the masks around them joined in."""
        joined = self._joined(ready)
        done = []
        while joined:
            part = self.held.popleft()
            count = len(part.mask)
            if count > len(joined):
                self.held.appendleft(part.part(len(joined), count))
                part = part.part(0, len(joined))
            cells = torch.stack(joined[:count])
            done.append(part._replace(mask=_or_cells(part.mask, cells)))
            del joined[:count]
        return done

    def _joined(self, ready: int) -> list[Tensor]:
        """Drop the cells of the first `ready` frames held; their joined masks, (h, w) bool each."""
        if not ready:
            return []
        masks = []
        ahead = torch.full_like(self._cells[0].ages, self._held_back + 1)
        first = self._taken - len(self._cells)
        reach = self._reach(first, ready)
        for t in reversed(range(len(self._cells))):
            flow, ages, matched = self._cells[t]
            ahead.masked_fill_(ages == 0, 0)
            if t < ready:
                joined = torch.minimum(ahead, ages) <= reach[t]
                masks.append(joined if matched else dilate(joined[None], DRIFT_CELLS)[0])
            if t > 0:
                ahead = self._carried_back(ahead, flow, first + t)
        for number in range(first, first + ready):
            if self._cells.popleft().matched:
                self._matched_before = number
        return masks[::-1]

    def _reach(self, first: int, ready: int) -> list[int]:
        """For how many frames before and after it something stays hidden, of each of the first `ready` frames held."""
        matched = [self._matched_before, *(first + t for t, cells in enumerate(self._cells) if cells.matched)]
        reach = []
        for number in range(first, first + ready):
            before = number - max((at for at in matched if 0 <= at < number), default=number)
            after = min((at for at in matched if at > number), default=number) - number
            own = number in matched
            needed = min(before, after) if own else max(before, after)
            reach.append(min(max(self.look_ahead, needed), self._held_back))
        return reach

    def _carried_back(self, ages: Tensor, flow: Tensor, number: int) -> Tensor:
        """Ages of frame `number`, (h, w), moved to the frame before it along the flow that points there."""
        height, width = ages.shape
        moved = torch.full_like(ages, self._held_back + 1)
        places = self._carried_cells(ages)
        x, y = whole_steps(flow.flatten(1).index_select(1, places), number)
        x += places % width
        y += places // width
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        # what leaves the frame says what is there already
        target = y.mul_(width).add_(x).where(inside, 0)
        older = self._older(ages.view(-1).index_select(0, places)).masked_fill_(~inside, self._held_back + 1)
        moved.view(-1).scatter_reduce_(0, target, older, reduce="amin")
        return _without_specks(moved)

    def _carried_cells(self, ages: Tensor) -> Tensor:
        """Places of cells, flat, with all whose age counts one frame further; all, where asking means waiting."""
        if ages.device.type == "cpu":
            return (ages < self._held_back).view(-1).nonzero()[:, 0]
        return torch.arange(ages.numel(), device=ages.device)


def dilate_with_motion(mask: Tensor, flow: Tensor, factor: float) -> Tensor:
    """Grow a (T, H, W) bool mask by about `factor` times the length of the flow, (T, 2, H, W), where it is set.

    In a square neighbourhood, by 0, 1, 2, 4, 8, ... cells: the next of these that is not smaller, 0 below half a
    cell, and at most MOTION_LIMIT_PERCENT of the short side.
    """
    size = cell_size(mask)
    limit = int(min(mask.shape[-2:]) * MOTION_LIMIT_PERCENT / 100 / size)
    levels = [*(2**k for k in range(limit.bit_length()) if 2**k < limit), limit]
    if not factor or not limit:
        return mask
    steps = cell_flow(flow, size)
    wanted = torch.hypot(steps[:, 0], steps[:, 1]).mul_(factor).masked_fill_(~to_cells(mask, size), 0)
    grown = torch.zeros_like(wanted, dtype=torch.bool)
    # From the largest level down: each adds its cells and grows all so far by the distance to the next one.
    for level, below in zip(levels[::-1], [*levels[-2::-1], 0], strict=True):
        grown = dilate(grown | (wanted > (below or 0.5)), level - below)
    return _or_cells(mask, grown)


def cell_size(mask: Tensor) -> int:
    """The side of a cell in pixels, for masks of (..., H, W)."""
    return max(1, min(mask.shape[-2:]) // CELL_ROWS)


def to_cells(mask: Tensor, size: int) -> Tensor:
    """Cells of (T, H, W) that have a set pixel: (T, h, w) bool, h = H / size rounded up."""
    if size == 1:
        return mask
    if mask.device.type == "cpu":
        return torch.stack([_cells_on_cpu(plane, size) for plane in mask])
    padded = F.pad(mask, (0, -mask.shape[2] % size, 0, -mask.shape[1] % size))
    rows = torch.stack([padded[:, k::size] for k in range(size)]).any(dim=0)
    return torch.stack([rows[:, :, k::size] for k in range(size)]).any(dim=0)


def _cells_on_cpu(plane: Tensor, size: int) -> Tensor:
    """See `to_cells`, for one frame, (H, W): the maximum of the pixels from each on; every `size`-th is a cell's."""
    spread = cv2.dilate(plane.numpy().view(np.uint8), np.ones((size, size), np.uint8), anchor=(0, 0))
    return torch.from_numpy(spread[::size, ::size].astype(bool))


def _or_cells(mask: Tensor, cells: Tensor) -> Tensor:
    """(T, H, W) bool with all pixels of cells, (T, h, w), set."""
    size, size_hw = cell_size(mask), (mask.shape[1], mask.shape[2])
    return torch.stack([plane | to_pixels(some, size, size_hw) for plane, some in zip(mask, cells, strict=True)])


def cell_flow(flow: Tensor, size: int) -> Tensor:
    """(T, 2, H, W) pixels -> (T, 2, h, w) cells, that of one pixel of each."""
    return flow if size == 1 else flow[:, :, ::size, ::size] / size


def whole_steps(flow: Tensor, number: int) -> Tensor:
    """Whole cells that frame `number` moves by along `flow`, (2, ...): int64, the same for the same flow.

    It is the displacement that is rounded, not the position, so that all of a rigid motion takes the same step.
    """
    return (flow + (0.5 + number * _GOLDEN) % 1).floor_().long()


def sources(flow: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Where each cell of frame `number` was in the frame before it, along the flow, (2, h, w), that points there:
    (h, w) int64, flat, the nearest cell of the frame; and (h, w) bool, whether it was in the frame.
    """
    height, width = flow.shape[1:]
    x, y = whole_steps(flow, number)
    x.add_(torch.arange(width, device=x.device))
    y.add_(torch.arange(height, device=y.device)[:, None])
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return y.clamp_(0, height - 1) * width + x.clamp_(0, width - 1), inside


def _without_specks(plane: Tensor) -> Tensor:
    """(h, w) uint8, the least of the 3x3 cells around each and then the greatest, at edges of those that are there."""
    if plane.device.type == "cpu":
        return torch.from_numpy(cv2.morphologyEx(plane.numpy(), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)))
    # what lies outside counts as nothing for either
    values = plane[None, None].float()
    least = -F.max_pool2d(-values, 3, stride=1, padding=1)
    return F.max_pool2d(least, 3, stride=1, padding=1)[0, 0].to(torch.uint8)
