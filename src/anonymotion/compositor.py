"""The only place where pixels are mixed (eq. 5): O = I + S (N - I).  It demands a mask.

At alpha = 1 the output is the rounded noise and nothing else: `lerp_` returns its end point exactly for
weight 1, so no bit of the source survives, not even through rounding (a test holds it to that).

Not here: how alpha is made (masks), how noise is made (noise), quality of what an encoder does to the result.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from anonymotion import recycling


def composite(frames: Tensor, alpha: Tensor, noise: Tensor) -> Tensor:
    """Mix noise into frames: round(I + S (N - I)).

    frames: (T, H, W, 3) uint8.  alpha: (T, H, W) float32 in [0, 1].  noise: (T, H, W, 3) float32 in 0..255.
    Returns (T, H, W, 3) uint8.  Raises ValueError for any other shape, dtype or range: there is no default
    mask, and a frame whose mask is in doubt is not written.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != torch.uint8:
        raise ValueError(f"frames must be (T, H, W, 3) uint8, not {tuple(frames.shape)} {frames.dtype}")
    if alpha.shape != frames.shape[:3] or alpha.dtype != torch.float32:
        raise ValueError(f"alpha must be {tuple(frames.shape[:3])} float32, not {tuple(alpha.shape)} {alpha.dtype}")
    if noise.shape != frames.shape or noise.dtype != torch.float32:
        raise ValueError(f"noise must be {tuple(frames.shape)} float32, not {tuple(noise.shape)} {noise.dtype}")
    if frames.numel():
        # the extremes of what holds a NaN are NaN; all in one look, as a look waits for the device
        low, high, *of_noise = torch.stack((*alpha.aminmax(), *noise.aminmax())).tolist()
        if not (low >= 0 and high <= 1):  # also false for NaN
            raise ValueError(f"alpha must be in [0, 1], it is in [{low}, {high}]")
        if not all(map(math.isfinite, of_noise)):
            raise ValueError("noise must be finite")
    if frames.device.type != "cpu":
        return _mixed(frames, alpha, noise)
    output = recycling.empty(*frames.shape, dtype=torch.uint8)
    for planes in zip(frames, alpha, noise, output, strict=True):
        _mix_on_cpu(*planes)
    return output


def _mixed(pixels: Tensor, alpha: Tensor, noise: Tensor) -> Tensor:
    """The equation: (..., 3) uint8, (...) and (..., 3) float32 -> (..., 3) uint8."""
    return pixels.float().lerp_(noise, alpha[..., None]).round_().clamp_(0, 255).to(torch.uint8)


def _mix_on_cpu(frame: Tensor, alpha: Tensor, noise: Tensor, into: Tensor) -> None:
    """`_mixed` of one frame: copies, and the equation only where it mixes, which mostly is a thin rim."""
    import cv2

    weight = alpha.numpy()
    soft = np.flatnonzero((weight > 0) & (weight < 1))
    if 4 * len(soft) > weight.size:
        into.copy_(_mixed(frame, alpha, noise))
        return
    into.copy_(frame)
    # rounds halves to even, as torch does
    rounded = cv2.convertScaleAbs(np.maximum(noise.numpy(), 0))
    cv2.copyTo(rounded, (weight == 1).view(np.uint8), into.numpy())
    pixels, places = into.view(-1, 3), torch.from_numpy(soft)
    pixels[places] = _mixed(frame.reshape(-1, 3)[places], alpha.reshape(-1)[places], noise.reshape(-1, 3)[places])
