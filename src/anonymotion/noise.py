"""The noise that replaces people: eq. 3, and three ways to carry it from frame to frame (eq. 4 among them).

    first-frame   eq. 4 as printed: N(p, t) = N(p + v(p, t), 1), nearest sample, coordinates clamped to the frame
    accumulated   each frame moves the noise of the frame before it, so the noise follows the subject
    iid           a new field per frame (the paper's ablation, Figure 8)

A field is drawn in grains: squares of one value.  A grain of one pixel is eq. 3; larger ones are what block codecs can
keep at a moderate price, and what is left of the noise when a network looks at a smaller picture.

Secrecy matters here: whoever knows the noise can look for what is under a soft blend.  Without a seed every
value comes from the operating system's randomness, is used in one run and is never stored.

Not here: where noise is put (compositor), how flow is found (flow).
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from anonymotion.errors import SettingsError
from anonymotion.flow import source_positions


class Randomness(Protocol):
    """A source of uniform numbers."""

    def uniform(self, *shape: int) -> Tensor:
        """Float32 numbers in (0, 1), on the CPU."""
        ...


class SystemRandomness:
    """The operating system's cryptographic randomness: nobody can rebuild it, not even we."""

    def uniform(self, *shape: int) -> Tensor:
        """Float32 numbers in (0, 1) on a lattice of 65,536 values."""
        count = int(np.prod(shape))
        raw = np.frombuffer(os.urandom(2 * count), dtype=np.uint16)
        return torch.from_numpy((raw.astype(np.float32) + 0.5) / 65536).reshape(shape)


class SeededRandomness:
    """Reproducible numbers, for tests and experiments only: a result made with it is not for release."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def uniform(self, *shape: int) -> Tensor:
        """Float32 numbers in (0, 1) from the seeded generator."""
        raw = torch.randint(0, 65536, shape, generator=self._generator)
        return (raw.float() + 0.5) / 65536


class NoiseField(ABC):
    """Noise of a run: (H, W, 3) values per frame, uniform in [mean - std, mean + std] of 0..255 (eq. 3).

    mean, std: in 0..1 of the full range, the same for the three channels, mean - std >= 0 and mean + std <= 1.
    grain: side in pixels of the squares of one value that a new field is made of.
    Subclasses say how frame t is made; `next` is called once per frame, in order.
    """

    def __init__(
        self,
        size_hw: tuple[int, int],
        randomness: Randomness,
        mean: float,
        std: float,
        device: torch.device,
        grain: int = 1,
    ) -> None:
        self._size_hw = size_hw
        self._grain = grain
        self._randomness = randomness
        self._low, self._span = (mean - std) * 255, 2 * std * 255
        self._device = device
        self._first: Tensor | None = None

    def _draw(self, *shape: int) -> Tensor:
        return (self._randomness.uniform(*shape, 3) * self._span + self._low).to(self._device)

    def _draw_field(self) -> Tensor:
        """A new field in grains, (H, W, 3)."""
        if self._grain == 1:
            return self._draw(*self._size_hw)
        height, width = self._size_hw
        grains = self._draw(-(-height // self._grain), -(-width // self._grain))
        return grains.repeat_interleave(self._grain, 0).repeat_interleave(self._grain, 1)[:height, :width].contiguous()

    def next(self, flow: Tensor) -> Tensor:
        """The field of the next frame, (H, W, 3) float32 in 0..255, given its flow to the previous frame."""
        if self._first is None:
            self._first = self._draw_field()
            return self._first
        return self._move(flow)

    def chunk(self, flows: Tensor) -> Tensor:
        """The fields of the next T frames, (T, H, W, 3), given their flows, (T, 2, H, W)."""
        return torch.stack([self.next(flow) for flow in flows])

    @abstractmethod
    def _move(self, flow: Tensor) -> Tensor:
        """The field of a frame after the first, (H, W, 3), given its flow to the previous frame, (2, H, W)."""


class FirstFrameNoise(NoiseField):
    """Eq. 4 as printed: the first field, sampled at p + v(p, t).

    v is the flow of a single step, so the noise moves between frames by the change of velocity.
    """

    def _move(self, flow: Tensor) -> Tensor:
        assert self._first is not None  # noqa: S101 - for mypy: `next` has set it
        height, width = self._size_hw
        x, y = source_positions(flow).round().long()
        return self._first[y.clamp(0, height - 1), x.clamp(0, width - 1)]


class IIDNoise(NoiseField):
    """A new field for every frame: destroys motion on purpose (Figure 8)."""

    def _move(self, flow: Tensor) -> Tensor:
        return self._draw_field()


class AccumulatedNoise(NoiseField):
    """Noise that follows the subject: the field of frame t is that of frame t-1, moved by v(p, t).

    Values are moved to whole pixels, never blended, so that the field stays white and uniform.  What rounding
    leaves over is carried along in `_remainder` and added to the next step: a subject that moves a fifth of a
    pixel per frame still moves its noise one pixel in five frames.  A value is used by one pixel only: where
    several pixels claim it (stretching, disocclusion) one keeps it, the others and those whose source lies
    outside the frame get new values.

    In grains of more than a pixel single new pixels would be salt and pepper, which costs a codec most.  There all
    claims are granted and counted, and a square of the size of a grain is drawn anew as a whole once its pixels had
    one grant too many on average: grains that are stretched get back to their size before they are twice as long.
    """

    def __init__(
        self,
        size_hw: tuple[int, int],
        randomness: Randomness,
        mean: float,
        std: float,
        device: torch.device,
        grain: int = 1,
    ) -> None:
        super().__init__(size_hw, randomness, mean, std, device, grain)
        self._values: Tensor | None = None
        self._remainder = torch.zeros(2, *size_hw, device=device)
        self._still = source_positions(self._remainder)
        self._granted = torch.zeros(size_hw, device=device)
        self.reseeded_share = 0.0

    def _move(self, flow: Tensor) -> Tensor:
        values = self._first if self._values is None else self._values
        assert values is not None  # noqa: S101 - for mypy: `next` has set it
        # The remainder belongs to the value, so it is read where the value will come from.
        source = self._index(self._inside(self._still + _nearest(flow)))
        step = self._remainder.flatten(1).index_select(1, source.flatten()).view_as(flow).add_(flow)
        whole = _nearest(step)
        remainder = step.sub_(whole)
        wanted = whole.add_(self._still)
        reached = self._inside(wanted)
        inside = (reached == wanted).all(dim=0)
        index = self._index(reached)

        keeps = inside & _one_claim_per_source(index, inside, remainder)
        moved = values.reshape(-1, 3).index_select(0, index.flatten()).view_as(values)
        fresh = ~keeps if self._grain == 1 else self._worn(index, keeps)
        count = int(fresh.sum())
        if count:
            # Its remainder stays: a new value moves in step with its neighbours, or they would collide.
            moved[fresh] = self._draw(count) if self._grain == 1 else self._draw_field()[fresh]
        self._values, self._remainder = moved, remainder
        self.reseeded_share = count / fresh.numel()
        return moved

    def _inside(self, positions: Tensor) -> Tensor:
        """The nearest pixels of the frame, for (2, H, W) whole positions as (x, y)."""
        height, width = self._size_hw
        return torch.stack((positions[0].clamp(0, width - 1), positions[1].clamp(0, height - 1)))

    def _index(self, positions: Tensor) -> Tensor:
        """(2, H, W) whole positions in the frame -> (H, W) int32 places in a flat frame."""
        # half as wide as what torch takes by default: moving numbers is what costs here
        x, y = positions.int()
        places: Tensor = y.mul_(self._size_hw[1]).add_(x)
        return places

    def _worn(self, index: Tensor, keeps: Tensor) -> Tensor:
        """(H, W) bool: the squares that are to be drawn anew, given where each pixel's value came from."""
        height, width = self._size_hw
        granted = self._granted.flatten().index_select(0, index.flatten()).view_as(self._granted).add_(~keeps)
        squares = torch.nn.functional.avg_pool2d(
            granted[None, None], self._grain, ceil_mode=True, count_include_pad=False
        )[0, 0]
        worn = (squares >= 1).repeat_interleave(self._grain, 0).repeat_interleave(self._grain, 1)[:height, :width]
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
    kind = torch.int if 1025 * count <= torch.iinfo(torch.int).max else torch.long
    distance = (remainder.abs().amax(0).clamp_(max=1) * 1024).to(kind)
    key = distance.mul_(count).flatten().add_(torch.arange(count, dtype=kind, device=index.device))
    key.masked_fill_(~valid.flatten(), torch.iinfo(kind).max)
    best = torch.full_like(key, torch.iinfo(kind).max)
    source = index.flatten().long()
    best.scatter_reduce_(0, source, key, reduce="amin")
    return (best.take(source) == key).reshape(index.shape)


FIELDS: dict[str, type[NoiseField]] = {
    "first-frame": FirstFrameNoise,
    "accumulated": AccumulatedNoise,
    "iid": IIDNoise,
}


def make_noise(
    name: str,
    size_hw: tuple[int, int],
    *,
    mean: float,
    std: float,
    device: torch.device,
    seed: int | None = None,
    grain: int = 1,
) -> NoiseField:
    """The noise field `name` of `FIELDS` for frames of (H, W); without a seed its values are secret.

    grain: side in pixels of the squares that new values come in, from 1.
    Raises SettingsError for an unknown name, a range that leaves 0..1, or a grain below one pixel.
    """
    if name not in FIELDS:
        raise SettingsError(f"noise {name!r} is not known: use one of {', '.join(FIELDS)}")
    if not (std > 0 and mean - std >= 0 and mean + std <= 1):
        raise SettingsError(f"noise mean {mean} +- {std} leaves the range 0..1, or has no width: lower --noise-std")
    if grain < 1:
        raise SettingsError(f"a grain of {grain} pixels is less than one: raise --noise-grain")
    randomness: Randomness = SystemRandomness() if seed is None else SeededRandomness(seed)
    return FIELDS[name](size_hw, randomness, mean, std, device, grain)
