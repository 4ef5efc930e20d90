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

import copy
import os
from abc import ABC, abstractmethod
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from anonymotion import recycling
from anonymotion.device import sent
from anonymotion.errors import SettingsError
from anonymotion.flow import source_positions
from anonymotion.noise_transport import make_transport, to_pixels


class Randomness(Protocol):
    """A source of uniform numbers."""

    def uniform(self, *shape: int) -> Tensor:
        """Float32 numbers in (0, 1), on the CPU."""
        ...

    def copy(self) -> Randomness:
        """Another source, which goes on as this one would, as far as anybody can know how that is."""
        ...


class SystemRandomness:
    """The operating system's cryptographic randomness: nobody can rebuild it, not even we."""

    def uniform(self, *shape: int) -> Tensor:
        """Float32 numbers in (0, 1) on a lattice of 65,536 values."""
        count = int(np.prod(shape))
        raw = np.frombuffer(os.urandom(2 * count), dtype=np.uint16)
        return torch.from_numpy((raw.astype(np.float32) + 0.5) / 65536).reshape(shape)

    def copy(self) -> SystemRandomness:
        """See Randomness.copy."""
        return self


class SeededRandomness:
    """Reproducible numbers, for tests and experiments only: a result made with it is not for release."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def uniform(self, *shape: int) -> Tensor:
        """Float32 numbers in (0, 1) from the seeded generator."""
        raw = torch.randint(0, 65536, shape, generator=self._generator)
        return (raw.float() + 0.5) / 65536

    def copy(self) -> SeededRandomness:
        """See Randomness.copy."""
        other = SeededRandomness(0)
        other._generator.set_state(self._generator.get_state())
        return other


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
        values = self._randomness.uniform(*shape, 3) * self._span + self._low
        return values if self._device.type == "cpu" else sent([values], self._device)[0]

    def copy(self) -> Self:
        """Another field, which goes on from here as this one would: for work that may have to be done again."""
        other = copy.copy(self)
        other._randomness = self._randomness.copy()
        return other

    def _draw_grains(self) -> Tensor:
        """Values of a new field, (rows, columns, 3), one for each grain."""
        height, width = self._size_hw
        return self._draw(-(-height // self._grain), -(-width // self._grain))

    def _draw_field(self) -> Tensor:
        """A new field in grains, (H, W, 3)."""
        grains = self._draw_grains()
        return grains if self._grain == 1 else to_pixels(grains, self._grain, self._size_hw)

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

    How it is moved, and which pixels get new values: `noise_transport`.
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
        self._transport = make_transport(size_hw, grain, device)
        self._fresh = torch.zeros(size_hw, dtype=torch.bool, device=device)

    @property
    def reseeded_share(self) -> float:
        """Share of the pixels of the last frame that got new values."""
        return int(self._fresh.count_nonzero()) / self._fresh.numel()

    def copy(self) -> Self:
        """See NoiseField.copy."""
        other = super().copy()
        other._transport = self._transport.copy()
        return other

    def chunk(self, flows: Tensor) -> Tensor:
        """See NoiseField.chunk."""
        fields = recycling.empty(len(flows), *self._size_hw, 3, device=self._device)
        for flow, field in zip(flows, fields, strict=True):
            if self._first is None:
                field.copy_(self.next(flow))
            else:
                self._move_into(flow, field)
                self._values = field
        # its own: whoever uses the chunk may change it, and it need not be kept for one frame
        self._values = None if self._values is None else self._values.clone()
        return fields

    def _move(self, flow: Tensor) -> Tensor:
        moved = torch.empty(*self._size_hw, 3, device=self._device)
        self._move_into(flow, moved)
        self._values = moved
        return moved

    def _move_into(self, flow: Tensor, moved: Tensor) -> None:
        """The field after the last one, into (H, W, 3) float32."""
        values = self._first if self._values is None else self._values
        assert values is not None  # noqa: S101 - for mypy: `next` has set it
        self._fresh = fresh = self._transport.step(flow)
        self._transport.carry(values, moved)
        if self._grain > 1:
            grains = self._draw_grains()
            # not asked of a graphics card, which would have to be waited for
            if moved.device.type != "cpu" or fresh.any():
                self._transport.lay(to_pixels(grains, self._grain, self._size_hw), fresh, moved)
            return
        count = int(fresh.count_nonzero())
        if count:
            moved[fresh] = self._draw(count)


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
