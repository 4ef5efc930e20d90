"""What a policy does to the masks of a run: regions added, regions given back, and how much that was.

It works in the order of frames and on the mask as it is after matching (and whatever smooths it over time), before the
soft rim, so that the rim follows the edited mask.

Not here: what a policy is (policy), how attributes are matched (pipeline, saliency).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anonymotion.errors import SettingsError
from anonymotion.own_masks import MaskFolder
from anonymotion.policy import Policy
from anonymotion.shapes import Shape

Seconds = Fraction | float | int


@dataclass(frozen=True)
class Edits:
    """What was given back in each of T frames: shares of the frame in [0, 1], and whether it lies outside the spans."""

    kept: tuple[float, ...]
    excluded: tuple[float, ...]
    outside: tuple[bool, ...]


@dataclass
class Regions:
    """What a policy says of T frames: include, exclude and kept, (T, H, W) bool; active, (T,) bool, in the spans."""

    include: Tensor
    exclude: Tensor
    kept: Tensor
    active: Tensor

    @property
    def free(self) -> Tensor:
        """(T, H, W) bool: where nothing may be hidden, not even by the rim."""
        return self.exclude | self.kept | ~self.active[:, None, None]

    def part(self, start: int, stop: int) -> Regions:
        """Those of frames `start` to `stop`."""
        include, exclude, kept, active = self.include, self.exclude, self.kept, self.active
        return Regions(*(tensor[start:stop] for tensor in (include, exclude, kept, active)))

    def edit(self, weight: Tensor) -> Tensor:
        """(T, H, W) bool masks, or float32 weights in [0, 1], with what is included set and what is free at 0."""
        return weight.masked_fill(self.include, 1).masked_fill(self.free, 0)

    def given_back(self, weight: Tensor) -> Edits:
        """How much of the unedited `weight` (and of what is included) the edit takes away."""
        wanted = weight.float().masked_fill(self.include, 1).masked_fill(~self.active[:, None, None], 0)
        return Edits(
            kept=tuple((wanted * self.kept).mean(dim=(1, 2)).tolist()),
            excluded=tuple((wanted * (self.exclude & ~self.kept)).mean(dim=(1, 2)).tolist()),
            outside=tuple((~self.active).tolist()),
        )


class Editor:
    """The regions of one run, in the order of its frames.

    times: of each frame when it appears and when it goes, in seconds after the first; needed only where the policy
    has spans.  Raises SettingsError if they are needed and not there, InputError for masks that cannot be used.
    """

    def __init__(self, policy: Policy, times: Iterable[tuple[Seconds, Seconds]] | None = None) -> None:
        if policy.needs_times and times is None:
            raise SettingsError("the policy has spans, and the frames came without times: give times with the frames")
        self._policy = policy
        self._times: Iterator[tuple[Seconds, Seconds]] | None = iter(times) if policy.needs_times and times else None
        self._masks = None if policy.masks is None else MaskFolder(policy.masks)
        self._drawn: dict[tuple[Shape, bool, tuple[int, int]], NDArray[np.bool_]] = {}
        self._done = 0

    def take(self, count: int, size_hw: tuple[int, int], kept: Tensor | None, device: torch.device) -> Regions:
        """The regions of the next `count` frames; kept: (count, H, W) bool, where kept attributes match, or None."""
        include, exclude = np.zeros((count, *size_hw), bool), np.zeros((count, *size_hw), bool)
        active = np.ones(count, bool)
        for t in range(count):
            begin, end = self._moment()
            if self._policy.spans:
                active[t] = any(span.touches(begin, end) for span in self._policy.spans)
            for shape in self._policy.include:
                drawn = self._pixels(shape, size_hw, grow=True)
                if shape.span is None or shape.span.touches(begin, end):
                    include[t] |= drawn
            for shape in self._policy.exclude:
                drawn = self._pixels(shape, size_hw, grow=False)
                if shape.span is None or shape.span.holds(begin, end):
                    exclude[t] |= drawn
            if self._masks is not None:
                include[t] |= self._masks.read(self._done, size_hw)
            self._done += 1
        free = torch.zeros(count, *size_hw, dtype=torch.bool, device=device) if kept is None else kept
        added, spared, hiding = (torch.from_numpy(array).to(device) for array in (include, exclude, active))
        return Regions(added, spared, free, hiding)

    def finish(self) -> None:
        """The run has ended.  Raises InputError if there are more masks than there were frames."""
        if self._masks is not None:
            self._masks.check_count(self._done)

    def _moment(self) -> tuple[Fraction, Fraction]:
        if self._times is None:
            return Fraction(0), Fraction(0)
        moment = next(self._times, None)
        if moment is None:
            raise SettingsError(f"frame {self._done} came without its time: give as many times as frames")
        return Fraction(moment[0]), Fraction(moment[1])

    def _pixels(self, shape: Shape, size_hw: tuple[int, int], *, grow: bool) -> NDArray[np.bool_]:
        key = (shape, grow, size_hw)
        if key not in self._drawn:
            self._drawn[key] = shape.pixels(size_hw, grow=grow)
        return self._drawn[key]


@dataclass
class GivenBack:
    """What a policy took away from the masks of a run, collected frame by frame."""

    frames: int = 0
    frames_outside_spans: int = 0
    frames_kept: int = 0
    kept: float = 0.0
    frames_excluded: int = 0
    excluded: float = 0.0

    def add(self, edits: Edits) -> None:
        """Take the frames of a chunk."""
        for kept, excluded, outside in zip(edits.kept, edits.excluded, edits.outside, strict=True):
            self.frames += 1
            self.frames_outside_spans += outside
            self.frames_kept += kept > 0
            self.kept += kept
            self.frames_excluded += excluded > 0
            self.excluded += excluded

    def as_json(self) -> dict[str, Any]:
        """Mean shares over all frames, and numbers of frames."""
        frames = max(self.frames, 1)
        return {
            "kept": {"share_mean": round(self.kept / frames, 6), "frames": self.frames_kept},
            "excluded": {"share_mean": round(self.excluded / frames, 6), "frames": self.frames_excluded},
            "frames_outside_spans": self.frames_outside_spans,
        }

    def warnings(self, policy: Policy) -> list[str]:
        """Sentences for a user: what would have been hidden, and was not."""
        found, frames = [], max(self.frames, 1)
        if policy.keep:
            found.append(
                f"kept visible: {', '.join(policy.keep)} took {self.kept / frames:.1%} of the pixels back from the "
                f"mask, in {self.frames_kept} of {self.frames} frames"
            )
        if policy.exclude:
            found.append(
                f"kept visible: excluded shapes took {self.excluded / frames:.1%} of the pixels back from the mask, in "
                f"{self.frames_excluded} of {self.frames} frames"
            )
        if policy.spans:
            found.append(
                f"outside the spans the video is unchanged: {self.frames_outside_spans} of {self.frames} frames"
            )
        return found
