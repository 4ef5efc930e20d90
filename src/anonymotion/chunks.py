"""What comes out of the pipeline: hidden frames with everything that decided their pixels.

Not here: how it comes about (pipeline), files made of it (exports, report).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from anonymotion import masks
from anonymotion.editing import Edits
from anonymotion.presets import Settings


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
    planes = zip(chunk.saliency.unbind(1), thresholds, strict=True)
    reached = [masks.share(plane >= threshold) for plane, threshold in planes]
    none = chunk.alpha.new_empty(len(chunk.alpha), 0)
    return masks.share(chunk.alpha == 1), torch.stack(reached, dim=1) if reached else none
