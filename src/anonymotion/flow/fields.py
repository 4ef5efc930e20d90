"""Flow fields: what they mean in coordinates, over a chunk, at another size, and where they cannot be trusted.

Positions are pixel indices: (0, 0) is the centre of the first pixel, so the picture reaches from -0.5 to W - 0.5.
Coordinates change their frame of reference only in `source_positions` and `resize_flow`, and in `patch_grid`.

Not here: how flow is estimated (estimators), what is moved along it (noise, masks).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from anonymotion import recycling
from anonymotion.errors import FlowError

# Sundaram, Brox, Keutzer, "Dense point trajectories by GPU-accelerated large displacement optical flow" (ECCV 2010),
# eq. 5: the round trip may miss by a share of the distance travelled, and by a constant in square pixels.
OCCLUSION_SHARE = 0.01
OCCLUSION_SQUARE_PIXELS = 0.5


class FlowEstimator(Protocol):
    """A way to estimate optical flow between two frames, or along a row of them."""

    name: str

    def between(self, current: Tensor, previous: Tensor) -> Tensor:
        """Flow from `current` to `previous`, both (H, W, 3) uint8 RGB: (2, H, W) float32 pixels, (dx, dy)."""
        ...

    def over(self, frames: Tensor) -> Tensor:
        """The same of each frame but the first to the one before it: (T + 1, H, W, 3) uint8 -> (T, 2, H, W).

        T is at least 1.  Here pair by pair; what gains by working on all at once has its own.
        """
        return torch.stack([self.between(now, before) for before, now in pairwise(frames)])

    def working_bytes(self, size_hw: tuple[int, int], pairs: int) -> int:
        """About how much memory of the device `over` needs besides what it is given and gives, for frames of (H, W)."""
        return 0


def flow_to_previous(estimator: FlowEstimator, frames: Tensor, previous: Tensor | None) -> Tensor:
    """Flow of each of `frames`, (T, H, W, 3) uint8, to the frame before it: (T, 2, H, W) float32 pixels.

    `previous` is the last frame of the chunk before, or None at the start: then the first flow is zero.
    Raises FlowError if a value is not finite: hidden pixels would land anywhere.
    """
    size_hw = (frames.shape[1], frames.shape[2])
    row = frames if previous is None else torch.cat((previous[None], frames))
    flows = torch.zeros(0, 2, *size_hw, device=frames.device)
    if len(row) > 1:
        flows = check_flow(estimator.over(row), size_hw, estimator.name, len(row) - 1)
    if previous is None:
        flows = torch.cat((flows.new_zeros(1, 2, *size_hw), flows))
    return flows


def flow_and_occlusion(estimator: FlowEstimator, current: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
    """Flow from `current` to `previous`, both (H, W, 3) uint8 RGB, and where it cannot be trusted.

    Returns (2, H, W) float32 pixels and the (H, W) bool mask of `occlusion`.  Estimates the flow in both directions,
    so it costs twice as much as `between`; for what is occluded in `previous`, swap the frames.
    Raises FlowError if a flow is not finite or of another size than the frames.
    """
    size_hw = (current.shape[0], current.shape[1])
    forward = check_flow(estimator.between(current, previous), size_hw, estimator.name)
    backward = check_flow(estimator.between(previous, current), size_hw, estimator.name)
    return forward, occlusion(forward, backward)


def occlusion(forward: Tensor, backward: Tensor) -> Tensor:
    """Pixels of the frame where `forward` starts whose round trip does not come back: (H, W) bool.

    forward, backward: (2, H, W) float32 pixels, from one frame to another and from the other to the one.
    A pixel p with f = forward(p) and b = backward(p + f), sampled bilinearly, is occluded if
    |f + b|^2 >= 0.01 (|f|^2 + |b|^2) + 0.5 (Sundaram et al., ECCV 2010, eq. 5), or if p + f is outside the picture.
    Raises FlowError if the two differ in size or a value is not finite.
    """
    size_hw = (forward.shape[-2], forward.shape[-1])
    check_flow(forward, size_hw, "the flow forward")
    check_flow(backward, size_hw, "the flow backward")
    height, width = size_hw
    x, y = target = source_positions(forward)
    inside = (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)
    returned = sample_at(backward, target)
    miss = (forward + returned).square().sum(0)
    travelled = forward.square().sum(0) + returned.square().sum(0)
    # Strictly less, and asked this way round: a pixel whose sums overflow counts as occluded.
    returns: Tensor = inside & (miss < OCCLUSION_SHARE * travelled + OCCLUSION_SQUARE_PIXELS)
    return ~returns


def check_flow(flow: Tensor, size_hw: tuple[int, int], name: str, count: int | None = None) -> Tensor:
    """Return `flow` if it is finite and (2, H, W), or of so many frames (count, 2, H, W); raise FlowError otherwise."""
    expected = (2, *size_hw) if count is None else (count, 2, *size_hw)
    if flow.shape != expected:
        raise FlowError(f"{name} gave a flow of shape {tuple(flow.shape)} for frames of {size_hw}: expected {expected}")
    # the extremes of what holds a NaN are NaN; one look at all frames, as a look waits for the device
    if flow.numel() and not torch.isfinite(torch.stack(flow.aminmax())).all():
        raise FlowError(f"{name} gave a flow that is not finite: try another --flow, or report the clip")
    return flow


def source_positions(flow: Tensor) -> Tensor:
    """p + v(p): for each pixel index (x, y) where it was one frame before, (2, H, W) float32, as (x, y).

    Pixel indices, so that zero flow is exactly the identity.
    """
    height, width = flow.shape[-2:]
    x = torch.arange(width, dtype=torch.float32, device=flow.device).expand(height, width)
    y = torch.arange(height, dtype=torch.float32, device=flow.device)[:, None].expand(height, width)
    return torch.stack((x, y)) + flow


def sample_at(field: Tensor, positions: Tensor) -> Tensor:
    """`field`, (C, H, W) float32, at `positions`, (2, h, w) pixel indices as (x, y): (C, h, w), bilinear.

    At whole indices the values themselves; outside the picture those of its edge.
    """
    height, width = field.shape[-2:]
    x, y = positions[0].clamp(0, width - 1), positions[1].clamp(0, height - 1)
    left, top = x.floor().long().clamp(max=max(0, width - 2)), y.floor().long().clamp(max=max(0, height - 2))
    right, bottom = (left + 1).clamp(max=width - 1), (top + 1).clamp(max=height - 1)
    upper = torch.lerp(field[:, top, left], field[:, top, right], x - left)
    lower = torch.lerp(field[:, bottom, left], field[:, bottom, right], x - left)
    return torch.lerp(upper, lower, y - top)


def resize_flow(flow: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """`flow`, (..., 2, h, w) pixels of its own size, for the same pictures at (H, W): (..., 2, H, W) pixels of that.

    Positions follow the half-pixel rule, and lengths the exact ratios W / w and H / h (after rounding these are not
    the factor that was asked for), so a constant shift stays constant and a zero flow zero.
    """
    height, width = flow.shape[-2:]
    planes = flow.reshape(-1, 2, height, width)
    ratios = (size_hw[1] / width, size_hw[0] / height)
    if flow.device.type == "cpu":
        import cv2

        resized = recycling.empty(len(planes), 2, *size_hw)
        for fields, into in zip(planes.numpy(), resized.numpy(), strict=True):
            for plane, ratio, target in zip(fields, ratios, into, strict=True):
                cv2.resize(plane * np.float32(ratio), size_hw[::-1], dst=target, interpolation=cv2.INTER_LINEAR)
    else:
        resized = torch.nn.functional.interpolate(planes, size=size_hw, mode="bilinear", align_corners=False)
        resized *= torch.tensor(ratios, dtype=flow.dtype, device=flow.device)[:, None, None]
    return resized.reshape(*flow.shape[:-2], *size_hw)
