"""Ways to estimate optical flow: DIS through OpenCV, RAFT by its name, either at another resolution.

    dis, dis-fast            no weights; runs on the CPU whatever the device
    raft-small, raft-large   weights from --flow-weights, or the published ones of `PUBLISHED_WEIGHTS`

Not here: what a flow means in coordinates, which pixels are occluded (fields), RAFT itself (raft).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anonymotion.errors import FlowError, SettingsError
from anonymotion.flow.fields import FlowEstimator, resize_flow
from anonymotion.flow.raft import RAFTFlow, published_weights


class DISFlow(FlowEstimator):
    """Dense inverse search (Kroeger et al., ECCV 2016) as OpenCV implements it; runs on the CPU.

    preset: OpenCV's.  With `reduced` frames are taken at 0.6 of their size, at least 216 and at most 432 pixels on the
    shorter side: less than half of the time, and nearer to RAFT (docs/flow.md).  Frames that are no larger than that
    stay as they are: what moves in them moves by little.
    """

    MIN_SIDE = 16  # below it OpenCV's pyramid fails an assertion
    SHARE, LEAST, MOST = 0.6, 216, 432

    def __init__(self, name: str, preset: str, *, reduced: bool = False) -> None:
        import cv2

        self.name = name
        self._cv2: Any = cv2
        self._estimator: Any = cv2.DISOpticalFlow.create(getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{preset}"))
        self._reduced = reduced

    def between(self, current: Tensor, previous: Tensor) -> Tensor:
        """Flow from `current` to `previous`; see FlowEstimator.between."""
        return self.over(torch.stack((previous, current)))[0]

    def over(self, frames: Tensor) -> Tensor:
        """See FlowEstimator.over; frames come from the device at once and flows go there at once."""
        height, width = frames.shape[1:3]
        if min(height, width) < self.MIN_SIDE:
            raise FlowError(
                f"frames of {width}x{height} pixels are too small for {self.name}: at least {self.MIN_SIDE}"
            )
        grey = [self._cv2.cvtColor(frame.numpy(), self._cv2.COLOR_RGB2GRAY) for frame in frames.cpu()]
        reduced = self._reduced and min(height, width) > self.LEAST
        if reduced:
            size = self._reduced_wh(grey[0])
            grey = [self._cv2.resize(plane, size, interpolation=self._cv2.INTER_AREA) for plane in grey]
        flows = torch.empty(len(grey) - 1, 2, *grey[0].shape)
        for flow, (before, now) in zip(flows, pairwise(grey), strict=True):
            flow.copy_(torch.from_numpy(self._estimator.calc(now, before, None)).permute(2, 0, 1))
        return (resize_flow(flows, (height, width)) if reduced else flows).to(frames.device)

    def _reduced_wh(self, plane: Any) -> tuple[int, int]:
        short = min(plane.shape)
        scale = max(self.LEAST / short, min(self.SHARE, self.MOST / short))
        return round(plane.shape[1] * scale), round(plane.shape[0] * scale)


class ResizedFlow(FlowEstimator):
    """Another estimator at another resolution: frames are resized, the flow comes back in pixels of the frame.

    scale: factor of both sides, half-pixel rule, antialiased where it shrinks.  The published code of the method
    used 4 for KTH and IPN (160x120 and 320x240 pixels); the paper does not mention it.
    """

    def __init__(self, estimator: FlowEstimator, scale: float) -> None:
        self.name = estimator.name
        self._estimator = estimator
        self._scale = scale

    def between(self, current: Tensor, previous: Tensor) -> Tensor:
        """Flow from `current` to `previous`; see FlowEstimator.between."""
        return self.over(torch.stack((previous, current)))[0]

    def over(self, frames: Tensor) -> Tensor:
        """See FlowEstimator.over; each frame is resized once."""
        size_hw = (frames.shape[1], frames.shape[2])
        resized = torch.nn.functional.interpolate(
            frames.permute(0, 3, 1, 2).float(),
            size=self._worked_hw(size_hw),
            mode="bilinear",
            align_corners=False,
            antialias=self._scale < 1,
        )
        resized = resized.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        return resize_flow(self._estimator.over(resized), size_hw)

    def working_bytes(self, size_hw: tuple[int, int], pairs: int) -> int:
        """See FlowEstimator.working_bytes: with the resized frames, as floats and as bytes."""
        worked_hw = self._worked_hw(size_hw)
        resized = 15 * (pairs + 1) * worked_hw[0] * worked_hw[1]
        return resized + self._estimator.working_bytes(worked_hw, pairs)

    def _worked_hw(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        height, width = (max(1, round(length * self._scale)) for length in size_hw)
        return height, width


def _raft(name: str, weights: Path | None, device: torch.device, iterations: int) -> FlowEstimator:
    return RAFTFlow(name, published_weights(name) if weights is None else weights, device, iterations)


Builder = Callable[[Path | None, torch.device, int], FlowEstimator]
BUILDERS: dict[str, Builder] = {
    "dis": lambda weights, device, iterations: DISFlow("dis", "MEDIUM", reduced=True),
    "dis-fast": lambda weights, device, iterations: DISFlow("dis-fast", "FAST"),
    "raft-small": lambda weights, device, iterations: _raft("raft-small", weights, device, iterations),
    "raft-large": lambda weights, device, iterations: _raft("raft-large", weights, device, iterations),
}


def load_flow(
    name: str, device: torch.device, weights: Path | None = None, *, iterations: int = 12, scale: float = 1.0
) -> FlowEstimator:
    """Build the estimator `name` of `BUILDERS`.

    weights: a file for RAFT.  Without one the network is used if, and only if, `name` is a RAFT whose published
    weights are not in torch hub's cache; `ANONYMOTION_OFFLINE=1` forbids that too.
    iterations: updates of RAFT's flow, 1 or more; DIS has none.  scale: see ResizedFlow; 1 leaves frames as they are.
    Raises SettingsError or WeightsError.
    """
    if name not in BUILDERS:
        raise SettingsError(f"flow {name!r} is not known: use one of {', '.join(BUILDERS)}")
    estimator = BUILDERS[name](weights, device, iterations)
    return estimator if scale == 1 else ResizedFlow(estimator, scale)
