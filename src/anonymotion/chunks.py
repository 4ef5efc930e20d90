"""What goes through the pipeline, and what comes out: hidden frames with everything that decided their pixels.

Not here: how it comes about (pipeline), files made of it (exports, report).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from anonymotion import masks
from anonymotion.editing import Edits
from anonymotion.errors import SettingsError
from anonymotion.presets import Settings

FrameLike = TypeVar("FrameLike", bound=np.ndarray | Tensor)


def grouped(
    frames: Iterable[FrameLike], most: int, pixels: int, *, ahead: bool = False
) -> Iterator[tuple[list[FrameLike], bool]]:
    """Frames in groups of at least one, and whether they are known to be the last.

    most: frames of a group.  pixels: of all its frames together.  ahead: take one frame more before giving a group, to
    know which is the last.  Raises SettingsError for what is no picture.
    """
    iterator = iter(frames)
    first = next(iterator, None)
    while first is not None:
        if len(first.shape) != 3 or 0 in first.shape:
            raise SettingsError(f"a frame of shape {tuple(first.shape)} was given: expected (H, W, 3) uint8 RGB")
        size = max(1, min(most, pixels // (first.shape[0] * first.shape[1])))
        batch = [first, *islice(iterator, size - 1)]
        if ahead:
            first = next(iterator, None)
            yield batch, first is None
        else:
            yield batch, False
            first = next(iterator, None)


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
