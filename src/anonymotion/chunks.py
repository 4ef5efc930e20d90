"""What goes through the pipeline, in portions, and what comes out: hidden frames with all that decided their pixels.

Not here: how it comes about (pipeline), files made of it (exports, report).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from anonymotion import masks
from anonymotion.continuity import Found
from anonymotion.device import sent
from anonymotion.editing import Edits, Regions
from anonymotion.errors import SettingsError
from anonymotion.presets import Settings

FrameLike = TypeVar("FrameLike", bound=np.ndarray | Tensor)


def grouped(
    frames: Iterable[FrameLike], most: Callable[[tuple[int, int]], int], *, ahead: bool = False
) -> Iterator[tuple[list[FrameLike], bool]]:
    """Frames in groups of at least one, and whether they are known to be the last.

    most: how many frames of (H, W) make a group.  ahead: take one frame more before giving a group, to know which is
    the last.  Raises SettingsError for what is no picture.
    """
    iterator = iter(frames)
    first = next(iterator, None)
    while first is not None:
        if len(first.shape) != 3 or 0 in first.shape:
            raise SettingsError(f"a frame of shape {tuple(first.shape)} was given: expected (H, W, 3) uint8 RGB")
        batch = [first, *islice(iterator, most((first.shape[0], first.shape[1])) - 1)]
        if ahead:
            first = next(iterator, None)
            yield batch, first is None
        else:
            yield batch, False
            first = next(iterator, None)


def as_chunk(batch: Sequence[np.ndarray | Tensor], previous: Tensor | None, device: torch.device) -> Tensor:
    """(T, H, W, 3) uint8 on `device`.

    Raises SettingsError unless all are such frames of one size, that of the `previous` one if there is one.
    """
    # a copy only where torch needs one: reversed channels, read-only or mapped memory
    tensors = [
        torch.from_numpy(np.require(f, requirements=("C", "W", "E"))) if isinstance(f, np.ndarray) else f for f in batch
    ]
    expected = tensors[0].shape if previous is None else previous.shape
    for tensor in tensors:
        if tensor.dtype != torch.uint8 or tensor.ndim != 3 or tensor.shape[2] != 3 or tensor.shape != expected:
            raise SettingsError(
                f"a frame of shape {tuple(tensor.shape)} {tensor.dtype} was given: expected (H, W, 3) uint8 RGB, "
                f"all of one size ({tuple(expected)})"
            )
    return sent(tensors, device)


def halves(given: tuple[Tensor, bool]) -> list[tuple[Tensor, bool]]:
    """Frames and whether the stream ends with them, in two; nothing if it is one frame."""
    frames, last = given
    middle = len(frames) // 2
    return [(frames[:middle], False), (frames[middle:], last)] if middle else []


def halves_found(given: tuple[Found, Regions | None]) -> list[tuple[Found, Regions | None]]:
    """What was found in some frames and what a policy says of them, in two; nothing if it is one frame."""
    found, regions = given
    count = len(found.frames)
    spans = [(0, count // 2), (count // 2, count)] if count > 1 else []
    return [(found.part(*span), None if regions is None else regions.part(*span)) for span in spans]


@dataclass(frozen=True)
class HiddenChunk:
    """T frames and everything that decided their pixels, on the pipeline's device.

    frames, output: (T, H, W, 3) uint8.  saliency: (T, A, H, W) and alpha: (T, H, W), float32 in [0, 1].
    flow: (T, 2, H, W) float32 pixels to the previous frame, zeros where none was estimated (whole frame).
    noise: (T, H, W, 3) float32 in 0..255, what was put in the place of pixels.
    searched: (T,) bool, whether the frame itself was matched (`every`); where it was not, saliency is zero.
    edits: what a policy took away from the masks; None without one.
    """

    frames: Tensor
    output: Tensor
    saliency: Tensor
    alpha: Tensor
    flow: Tensor
    noise: Tensor
    searched: Tensor
    edits: Edits | None = None


def hidden_shares(chunk: HiddenChunk, settings: Settings, attributes: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Of each frame the hidden share, (T,), and that of each attribute by itself, (T, A), float32 in [0, 1].

    For a replacement the pixels of the final mask, and those that reach the attribute's threshold; for a blend mean
    weights.
    """
    if settings.composite == "blend":
        return chunk.alpha.mean(dim=(1, 2)), chunk.saliency.mean(dim=(2, 3))
    thresholds = torch.tensor([settings.threshold[name] for name in attributes], device=chunk.saliency.device)
    return masks.share(chunk.alpha == 1), masks.reached_shares(chunk.saliency, thresholds)
