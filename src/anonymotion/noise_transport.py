"""Where the noise of a frame comes from: eq. 4 with the flow accumulated, for fields of any values.

A `Transport` is told the flow of one frame after the other.  It says which pixels of the new frame cannot have their
value from the frame before (`step`), and moves the others (`carry`).  Values move to whole pixels, never blended, so
that a field stays white and uniform.  What rounding leaves over is carried along as the remainder and added to the next
step: a subject that moves a fifth of a pixel per frame still moves its noise one pixel in five frames.

A value is used by one pixel only: where several claim it (stretching, disocclusion) one keeps it, and the others, like
those whose source lies outside the frame, need new values.

In grains of more than a pixel single new pixels would be salt and pepper, which costs a codec most.  There all
claims are granted and counted, and a square of the size of a grain is drawn anew as a whole once its pixels had
one grant too many on average: grains that are stretched get back to their size before they are twice as long.

There are two: `TensorTransport` for any device, and `CPUTransport`, which gives the same bits in a third of the time.

Not here: values and randomness (noise), how flow is found (flow).
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anonymotion.flow import source_positions

# Distances are compared in this fraction of a pixel: a whole number, so that the nearest claim is always the same.
_STEPS = 1024

# OpenCV addresses pixels with 16 bits.
_LONGEST_CV2_SIDE = 32766

Floats = NDArray[np.float32]


class Transport(ABC):
    """Moves fields over frames of (H, W), for one run."""

    def copy(self) -> Self:
        """Another one, which goes on from here; what a step changes must not be shared with it."""
        return copy.copy(self)

    @abstractmethod
    def step(self, flow: Tensor) -> Tensor:
        """Take the flow of the next frame to the one before, (2, H, W) pixels; where new values are needed.

        The (H, W) bool mask of pixels whose value is not one that `carry` brings.
        """

    @abstractmethod
    def carry(self, values: Tensor, into: Tensor) -> None:
        """Move the values of the frame before, (H, W, 3) float32, along the last step into a tensor like them."""

    @abstractmethod
    def lay(self, field: Tensor, fresh: Tensor, values: Tensor) -> None:
        """Put the pixels of `field` into `values`, both (H, W, 3) float32, where `fresh`, (H, W) bool, is set."""


def make_transport(size_hw: tuple[int, int], grain: int, device: torch.device) -> Transport:
    """The fastest one; grain: side in pixels of the squares that are drawn anew together."""
    if device.type == "cpu" and max(size_hw) <= _LONGEST_CV2_SIDE:
        return CPUTransport(size_hw, grain)
    return TensorTransport(size_hw, grain, device)


def to_pixels(grains: Tensor, side: int, size_hw: tuple[int, int]) -> Tensor:
    """(rows, columns, ...) -> (H, W, ...): each becomes a square of `side` pixels, cut at the right and below.

    grains: float32 with three channels, or bool without, as many as there are such squares in the frame.
    """
    height, width = size_hw
    if grains.device.type != "cpu":
        return grains.repeat_interleave(side, 0).repeat_interleave(side, 1)[:height, :width].contiguous()
    # columns first: whole rows are then copied at once
    return torch.from_numpy(grains.numpy().repeat(side, axis=1)[:, :width].repeat(side, axis=0)[:height])


class TensorTransport(Transport):
    """See `Transport`: for tensors on `device`, which it never waits for.  A step replaces its tensors."""

    def __init__(self, size_hw: tuple[int, int], grain: int, device: torch.device) -> None:
        self._size_hw, self._grain = size_hw, grain
        self._remainder = torch.zeros(2, *size_hw, device=device)
        self._still = source_positions(self._remainder)
        self._granted = torch.zeros(size_hw, device=device)
        self._index = torch.zeros(size_hw, dtype=torch.int32, device=device)

    def step(self, flow: Tensor) -> Tensor:
        """See Transport.step."""
        # The remainder belongs to the value, so it is read where the value will come from.
        source = self._places(self._inside(self._still + _nearest(flow)))
        step = self._remainder.flatten(1).index_select(1, source.flatten()).view_as(flow).add_(flow)
        whole = _nearest(step)
        # That of a new value stays: it moves in step with its neighbours, or they would collide.
        self._remainder = step.sub_(whole)
        wanted = whole.add_(self._still)
        reached = self._inside(wanted)
        inside = (reached == wanted).all(dim=0)
        self._index = self._places(reached)
        keeps = inside & _one_claim_per_source(self._index, inside, self._remainder)
        return ~keeps if self._grain == 1 else self._worn(keeps)

    def carry(self, values: Tensor, into: Tensor) -> None:
        """See Transport.carry."""
        torch.index_select(values.view(-1, 3), 0, self._index.flatten(), out=into.view(-1, 3))

    def lay(self, field: Tensor, fresh: Tensor, values: Tensor) -> None:
        """See Transport.lay."""
        torch.where(fresh[..., None], field, values, out=values)

    def _inside(self, positions: Tensor) -> Tensor:
        """The nearest pixels of the frame, for (2, H, W) whole positions as (x, y)."""
        height, width = self._size_hw
        return torch.stack((positions[0].clamp(0, width - 1), positions[1].clamp(0, height - 1)))

    def _places(self, positions: Tensor) -> Tensor:
        """(2, H, W) whole positions in the frame -> (H, W) int32 places in a flat frame."""
        # half as wide as what torch takes by default: moving numbers is what costs here
        x, y = positions.int()
        places: Tensor = y.mul_(self._size_hw[1]).add_(x)
        return places

    def _worn(self, keeps: Tensor) -> Tensor:
        """(H, W) bool: the squares that are to be drawn anew, given the pixels that keep a value for themselves."""
        granted = self._granted.flatten().index_select(0, self._index.flatten()).view_as(self._granted).add_(~keeps)
        squares = torch.nn.functional.avg_pool2d(
            granted[None, None], self._grain, ceil_mode=True, count_include_pad=False
        )[0, 0]
        worn = to_pixels(squares >= 1, self._grain, self._size_hw)
        self._granted = granted.masked_fill_(worn, 0)
        return worn


def _nearest(displacement: Tensor) -> Tensor:
    """The nearest whole displacement, halves up.

    Rounding halves to even would send neighbours that move by half a pixel to the same place, and it is the
    displacement that is rounded, not the position, so that all pixels of a rigid motion take the same step.
    """
    return (displacement + 0.5).floor()


def _one_claim_per_source(index: Tensor, valid: Tensor, remainder: Tensor) -> Tensor:
    """(H, W) bool: for each source pixel the one valid claim with the smallest remainder (ties: first pixel).

    The choice is a minimum over integer keys, so that it does not depend on the order of parallel writes.
    """
    count = index.numel()
    kind = torch.int if (_STEPS + 1) * count <= torch.iinfo(torch.int).max else torch.long
    distance = (remainder.abs().amax(0).clamp_(max=1) * _STEPS).to(kind)
    key = distance.mul_(count).flatten().add_(torch.arange(count, dtype=kind, device=index.device))
    key.masked_fill_(~valid.flatten(), torch.iinfo(kind).max)
    best = torch.full_like(key, torch.iinfo(kind).max)
    source = index.flatten().long()
    best.scatter_reduce_(0, source, key, reduce="amin")
    return (best.index_select(0, source) == key).reshape(index.shape)


class CPUTransport(Transport):
    """See `Transport`: with OpenCV and numpy, which need fewer passes over memory.

    Raises cv2.error if a side is longer than 32,766 pixels.
    """

    def __init__(self, size_hw: tuple[int, int], grain: int) -> None:
        import cv2

        self._cv2: Any = cv2
        self._size_hw, self._grain = size_hw, grain
        height, width = size_hw
        self._still = (np.arange(width, dtype=np.float32)[None], np.arange(height, dtype=np.float32)[:, None])
        self._last = (np.float32(width - 1), np.float32(height - 1))
        self._remainder = np.zeros((2, *size_hw), np.float32)
        # where each pixel's value comes from: x and y
        self._source = np.zeros((2, *size_hw), np.float32)
        self._granted = np.zeros(size_hw, np.float32)

    def copy(self) -> Self:
        """See Transport.copy: all else is written anew in each step, or replaced."""
        other = super().copy()
        other._remainder = self._remainder.copy()
        return other

    def step(self, flow: Tensor) -> Tensor:
        """See Transport.step."""
        inside = self._advance(flow.numpy())
        places = self._source[1].astype(np.int32)
        places *= self._size_hw[1]
        places += self._source[0].astype(np.int32)
        keeps = torch.from_numpy(inside)
        keeps &= _one_claim_per_source(torch.from_numpy(places), keeps, torch.from_numpy(self._remainder))
        return ~keeps if self._grain == 1 else torch.from_numpy(self._worn(~inside))

    def carry(self, values: Tensor, into: Tensor) -> None:
        """See Transport.carry."""
        self._cv2.remap(values.numpy(), *self._source, self._cv2.INTER_NEAREST, dst=into.numpy())

    def lay(self, field: Tensor, fresh: Tensor, values: Tensor) -> None:
        """See Transport.lay."""
        self._cv2.copyTo(field.numpy(), fresh.numpy().view(np.uint8), values.numpy())

    def _advance(self, flow: Floats) -> NDArray[np.bool_]:
        """Where each pixel's value comes from, and what rounding leaves over; (H, W): whether it is in the frame."""
        for axis in (0, 1):
            near = np.add(flow[axis], np.float32(0.5), out=self._source[axis])
            np.add(np.floor(near, out=near), self._still[axis], out=near)
        steps = [self._at(plane) for plane in self._remainder]
        inside = np.ones(self._size_hw, bool)
        for axis, step in enumerate(steps):
            step += flow[axis]
            whole = np.add(step, np.float32(0.5), out=self._source[axis])
            np.floor(whole, out=whole)
            np.subtract(step, whole, out=self._remainder[axis])
            whole += self._still[axis]
            inside &= whole >= 0
            inside &= whole <= self._last[axis]
            np.clip(whole, 0, self._last[axis], out=whole)
        return inside

    def _at(self, plane: Floats) -> Floats:
        """(H, W) `plane` where the values come from, or at the nearest pixel of the frame."""
        found: Floats = self._cv2.remap(
            plane, *self._source, self._cv2.INTER_NEAREST, borderMode=self._cv2.BORDER_REPLICATE
        )
        return found

    def _worn(self, alone: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """See TensorTransport._worn; alone: (H, W), the pixels that keep no value for themselves."""
        height, width = self._size_hw
        granted = self._at(self._granted)
        granted += alone
        rows, columns = (np.arange(0, length, self._grain) for length in (height, width))
        sums = np.add.reduceat(np.add.reduceat(granted, rows, axis=0), columns, axis=1)
        pixels = np.outer(np.diff(rows, append=height), np.diff(columns, append=width))
        worn: NDArray[np.bool_] = to_pixels(torch.from_numpy(sums >= pixels), self._grain, self._size_hw).numpy()
        self._granted = np.multiply(granted, ~worn, out=granted)
        return worn
