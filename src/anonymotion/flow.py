"""Optical flow from each frame to the one before it: v(p, t) of eq. 4.

Convention, everywhere: (2, H, W) float32 in pixels, (dx, dy); frame t at p shows what frame t-1 showed at p + v.
`source_positions` is one of the two places where coordinates change their frame of reference (the other is
`backbone.PatchGrid`).

Not here: what is moved along the flow (noise, masks), occlusion masks, colours of flow pictures (overlays).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from anonymotion.errors import FlowError, SettingsError, WeightsError


class FlowEstimator(Protocol):
    """A way to estimate optical flow between two frames."""

    name: str

    def between(self, current: Tensor, previous: Tensor) -> Tensor:
        """Flow from `current` to `previous`, both (H, W, 3) uint8 RGB: (2, H, W) float32 pixels, (dx, dy)."""
        ...


def flow_to_previous(estimator: FlowEstimator, frames: Tensor, previous: Tensor | None) -> Tensor:
    """Flow of each of `frames`, (T, H, W, 3) uint8, to the frame before it: (T, 2, H, W) float32 pixels.

    `previous` is the last frame of the chunk before, or None at the start: then the first flow is zero.
    Raises FlowError if a value is not finite: hidden pixels would land anywhere.
    """
    flows = []
    for frame in frames:
        if previous is None:
            flow = torch.zeros(2, *frame.shape[:2], device=frame.device)
        else:
            flow = estimator.between(frame, previous)
        flows.append(check_flow(flow, (frame.shape[0], frame.shape[1]), estimator.name))
        previous = frame
    return torch.stack(flows)


def check_flow(flow: Tensor, size_hw: tuple[int, int], name: str) -> Tensor:
    """Return `flow` if it is finite and (2, H, W); raise FlowError otherwise."""
    if flow.shape != (2, *size_hw):
        raise FlowError(f"{name} gave a flow of shape {tuple(flow.shape)} for a frame of {size_hw}: expected (2, H, W)")
    if not torch.isfinite(flow).all():
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


class DISFlow:
    """Dense inverse search (Kroeger et al., ECCV 2016) as OpenCV implements it; runs on the CPU."""

    MIN_SIDE = 16  # below it OpenCV's pyramid fails an assertion

    def __init__(self, name: str, preset: str) -> None:
        import cv2

        self.name = name
        self._cv2: Any = cv2
        self._estimator: Any = cv2.DISOpticalFlow.create(getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{preset}"))

    def between(self, current: Tensor, previous: Tensor) -> Tensor:
        """Flow from `current` to `previous`; see FlowEstimator.between."""
        height, width = current.shape[:2]
        if min(height, width) < self.MIN_SIDE:
            raise FlowError(
                f"frames of {width}x{height} pixels are too small for {self.name}: at least {self.MIN_SIDE}"
            )
        grey = [self._cv2.cvtColor(frame.cpu().numpy(), self._cv2.COLOR_RGB2GRAY) for frame in (current, previous)]
        flow = torch.from_numpy(self._estimator.calc(grey[0], grey[1], None))
        return flow.permute(2, 0, 1).contiguous().to(current.device)


class RAFTFlow:
    """RAFT (Teed & Deng, ECCV 2020) through torchvision, with weights from a file."""

    def __init__(self, name: str, weights: Path, device: torch.device, iterations: int = 12) -> None:
        from torchvision.models import optical_flow

        from anonymotion.weights import load_weights

        self.name = name
        self._iterations = iterations
        network = getattr(optical_flow, name.replace("-", "_"))(weights=None, progress=False)
        state, _ = load_weights(weights)
        try:
            network.load_state_dict(state, strict=True)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(f"weights {weights.name} do not fit torchvision's {name}: {reason}") from error
        self._network = network.eval().requires_grad_(False).to(device)

    @torch.inference_mode()
    def between(self, current: Tensor, previous: Tensor) -> Tensor:
        """Flow from `current` to `previous`; see FlowEstimator.between."""
        height, width = current.shape[:2]
        # RAFT works on eighths, and its correlation pyramid needs at least 16 of them on a side.
        padding = [max(128, -(-length // 8) * 8) - length for length in (width, height)]
        pad = (padding[0] // 2, padding[0] - padding[0] // 2, padding[1] // 2, padding[1] - padding[1] // 2)
        batch = [
            torch.nn.functional.pad(frame.permute(2, 0, 1)[None].float() / 127.5 - 1, pad, mode="replicate")
            for frame in (current, previous)
        ]
        flow: Tensor = self._network(*batch, num_flow_updates=self._iterations)[-1][0]
        return flow[:, pad[2] : pad[2] + height, pad[0] : pad[0] + width].contiguous()


def _raft(name: str, weights: Path | None, device: torch.device) -> FlowEstimator:
    if weights is None:
        raise WeightsError(
            f"the weights of {name} are not in the package: give a file of torchvision's {name.replace('-', '_')} "
            "with --flow-weights, or use --flow dis"
        )
    return RAFTFlow(name, weights, device)


BUILDERS: dict[str, Callable[[Path | None, torch.device], FlowEstimator]] = {
    "dis": lambda weights, device: DISFlow("dis", "MEDIUM"),
    "dis-fast": lambda weights, device: DISFlow("dis-fast", "FAST"),
    "raft-small": lambda weights, device: _raft("raft-small", weights, device),
    "raft-large": lambda weights, device: _raft("raft-large", weights, device),
}


def load_flow(name: str, device: torch.device, weights: Path | None = None) -> FlowEstimator:
    """Build the estimator `name` of `BUILDERS`.  Raises SettingsError or WeightsError.  Never touches the network."""
    if name not in BUILDERS:
        raise SettingsError(f"flow {name!r} is not known: use one of {', '.join(BUILDERS)}")
    return BUILDERS[name](weights, device)
