"""Ways to estimate optical flow: DIS through OpenCV, RAFT through torchvision, either at another resolution.

    dis, dis-fast            no weights; runs on the CPU whatever the device
    raft-small, raft-large   weights from --flow-weights, or the published ones of `PUBLISHED_WEIGHTS`

RAFT's published weights are the only thing here for which the network may be used, and only if RAFT was asked for, no
file was given, and torch hub's cache does not have them (weights.download).

Not here: what a flow means in coordinates, which pixels are occluded (fields).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anonymotion.errors import FlowError, SettingsError, WeightsError
from anonymotion.flow.fields import FlowEstimator, resize_flow

# torchvision's ports of RAFT's own checkpoints.  The method's code uses "RAFT-Sintel", raft-sintel.pth: trained on
# Chairs and Things, then on Sintel, KITTI, HD1K and Things (C+T+S+K+H), which is C_T_SKHT_V1.  C_T_SKHT_V2,
# torchvision's default, was trained anew by torchvision: near, but other weights.  Of RAFT-small its authors
# published one checkpoint, C_T_V1.
PUBLISHED_WEIGHTS = {
    "raft-small": ("Raft_Small_Weights", "C_T_V1"),
    "raft-large": ("Raft_Large_Weights", "C_T_SKHT_V1"),
}


class DISFlow:
    """Dense inverse search (Kroeger et al., ECCV 2016) as OpenCV implements it; runs on the CPU.

    preset: OpenCV's.  With `reduced` frames are taken at 0.6 of their size and at most 432 pixels on the shorter side,
    with a patch at every fourth pixel and 12 steps: a third of the time, and nearer to RAFT (docs/flow.md).
    """

    MIN_SIDE = 16  # below it OpenCV's pyramid fails an assertion
    SHARE, MOST = 0.6, 432

    def __init__(self, name: str, preset: str, *, reduced: bool = False) -> None:
        import cv2

        self.name = name
        self._cv2: Any = cv2
        self._estimator: Any = cv2.DISOpticalFlow.create(getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{preset}"))
        self._reduced = reduced
        if reduced:
            self._estimator.setPatchStride(4)
            self._estimator.setGradientDescentIterations(12)

    def between(self, current: Tensor, previous: Tensor) -> Tensor:
        """Flow from `current` to `previous`; see FlowEstimator.between."""
        height, width = current.shape[:2]
        if min(height, width) < self.MIN_SIDE:
            raise FlowError(
                f"frames of {width}x{height} pixels are too small for {self.name}: at least {self.MIN_SIDE}"
            )
        grey = [self._cv2.cvtColor(frame.cpu().numpy(), self._cv2.COLOR_RGB2GRAY) for frame in (current, previous)]
        if self._reduced:
            scale = min(self.SHARE, self.MOST / min(height, width))
            size = tuple(max(self.MIN_SIDE, round(length * scale)) for length in (width, height))
            grey = [self._cv2.resize(plane, size, interpolation=self._cv2.INTER_AREA) for plane in grey]
        flow = torch.from_numpy(self._estimator.calc(grey[0], grey[1], None)).permute(2, 0, 1)
        return (resize_flow(flow, (height, width)) if self._reduced else flow.contiguous()).to(current.device)


class RAFTFlow:
    """RAFT (Teed & Deng, ECCV 2020) through torchvision, with weights from a file.

    iterations: updates of the flow; the published code of the method uses 12.
    """

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
        network.feature_encoder = _Remembered(network.feature_encoder)
        self._network = network.eval().requires_grad_(False).to(device)

    @torch.inference_mode()
    def between(self, current: Tensor, previous: Tensor) -> Tensor:
        """Flow from `current` to `previous`; see FlowEstimator.between."""
        height, width = current.shape[:2]
        # RAFT works on eighths, and its correlation pyramid needs at least 16 of them on a side.
        padding = [max(128, -(-length // 8) * 8) - length for length in (width, height)]
        self._check_memory(current, (width + padding[0]) // 8 * ((height + padding[1]) // 8))
        pad = (padding[0] // 2, padding[0] - padding[0] // 2, padding[1] // 2, padding[1] - padding[1] // 2)
        batch = [
            torch.nn.functional.pad(frame.permute(2, 0, 1)[None].float() / 127.5 - 1, pad, mode="replicate")
            for frame in (current, previous)
        ]
        flow: Tensor = self._network(*batch, num_flow_updates=self._iterations)[-1][0]
        return flow[:, pad[2] : pad[2] + height, pad[0] : pad[0] + width].contiguous()

    def _check_memory(self, frame: Tensor, cells: int) -> None:
        """Refuse what cannot fit: RAFT compares all cells with all, and an operating system kills without a word."""
        needed = 4 * cells**2 * 4 / 3  # float32, with the pyramid's smaller levels
        memory = _memory_bytes(frame.device)
        if needed > memory:
            raise FlowError(
                f"{self.name} needs {needed / 1e9:.1f} GB for frames of {frame.shape[1]}x{frame.shape[0]} pixels, more "
                f"than the {memory / 1e9:.1f} GB of the machine: lower --flow-scale, or use --flow dis"
            )


class _Remembered(nn.Module):
    """An encoder of single images that does not work twice on the last two: of a frame RAFT wants the same features as
    the current one and, a call later, as the previous one.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self._last: list[tuple[Tensor, Tensor]] = []

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, H / 8, W / 8)."""
        found = [(image, self._features(image)) for image in images]
        self._last = found[-2:]
        return torch.stack([features for _, features in found])

    def _features(self, image: Tensor) -> Tensor:
        for known, its_features in self._last:
            if torch.equal(known, image):
                return its_features
        features: Tensor = self.encoder(image[None])[0]
        return features


def _memory_bytes(device: torch.device) -> float:
    """All memory of the device; infinite where the system does not say."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", ()):
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return float("inf")


class ResizedFlow:
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
        height, width = current.shape[:2]
        size_hw = tuple(max(1, round(length * self._scale)) for length in (height, width))
        batch = torch.stack((current, previous)).permute(0, 3, 1, 2).float()
        batch = torch.nn.functional.interpolate(
            batch, size=size_hw, mode="bilinear", align_corners=False, antialias=self._scale < 1
        )
        resized = batch.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        return resize_flow(self._estimator.between(resized[0], resized[1]), (height, width))


def published_weights(name: str) -> Path:
    """The file of `PUBLISHED_WEIGHTS[name]` in torch hub's cache, downloaded if it is not there.

    Raises WeightsError, with what to do without a network.
    """
    from torchvision.models import optical_flow

    from anonymotion.weights.download import fetch, hub_folder

    kind, version = PUBLISHED_WEIGHTS[name]
    url: str = getattr(optical_flow, kind)[version].url
    return fetch(url, hub_folder(), "give the file with --flow-weights, or use --flow dis")


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
