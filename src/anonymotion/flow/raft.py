"""RAFT (Teed & Deng, ECCV 2020): torchvision's network, run over a row of frames instead of pair by pair.

    frames ──► features, of each once ──┐
                                        ├─► correlation of neighbours ──► updates, all pairs at once ──► flow
    frames but the first ──► context ───┘

The flow is made as large as the frame after the last update only; torchvision does so after each, for training.

RAFT's published weights are the only thing here for which the network may be used, and only if RAFT was asked for, no
file was given, and torch hub's cache does not have them (weights.download).

Not here: other estimators, frames resized first (estimators), what a flow means in coordinates (fields).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from anonymotion.device import memory_bytes
from anonymotion.errors import FlowError, WeightsError
from anonymotion.flow.fields import FlowEstimator

# torchvision's ports of RAFT's own checkpoints.  The method's code uses "RAFT-Sintel", raft-sintel.pth: trained on
# Chairs and Things, then on Sintel, KITTI, HD1K and Things (C+T+S+K+H), which is C_T_SKHT_V1.  C_T_SKHT_V2,
# torchvision's default, was trained anew by torchvision: near, but other weights.  Of RAFT-small its authors
# published one checkpoint, C_T_V1.
PUBLISHED_WEIGHTS = {
    "raft-small": ("Raft_Small_Weights", "C_T_V1"),
    "raft-large": ("Raft_Large_Weights", "C_T_SKHT_V1"),
}

# On a graphics card so many pairs are worked on at once as have room in this; a CPU is no faster with two than one.
BATCH_BYTES = 2 * 2**30

# Bytes per pixel of a frame as floats, and of its features.
FRAME_BYTES = 12 + 16

# RAFT works on eighths, and its correlation pyramid needs at least 16 of them on a side.
_EIGHTH, _LEAST_SIDE = 8, 128


class RAFTFlow(FlowEstimator):
    """RAFT with weights from a file.

    iterations: updates of the flow; the published code of the method uses 12.
    """

    def __init__(self, name: str, weights: Path, device: torch.device, iterations: int = 12) -> None:
        from torchvision.models import optical_flow

        from anonymotion.weights import load_weights

        self.name = name
        self._iterations = iterations
        network: Any = getattr(optical_flow, name.replace("-", "_"))(weights=None, progress=False)
        state, _ = load_weights(weights)
        try:
            network.load_state_dict(state, strict=True)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(f"weights {weights.name} do not fit torchvision's {name}: {reason}") from error
        self._device = device
        self._network = network.eval().requires_grad_(False).to(device)
        self._last: list[tuple[Tensor, Tensor]] = []  # the last frames, and their features
        radius = self._network.corr_block.radius
        steps = torch.arange(-radius, radius + 1, device=device).float()
        self._around = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1)

    def between(self, current: Tensor, previous: Tensor) -> Tensor:
        """Flow from `current` to `previous`; see FlowEstimator.between."""
        return self.over(torch.stack((previous, current)))[0]

    @torch.inference_mode()
    def over(self, frames: Tensor) -> Tensor:
        """See FlowEstimator.over; what the last two frames of the call before looked like is not worked out twice."""
        size_hw = (frames.shape[1], frames.shape[2])
        self._check_memory(size_hw)
        height, width = size_hw
        bottom, right = (padded - length for padded, length in zip(_padded(size_hw), size_hw, strict=True))
        top, left = bottom // 2, right // 2
        images = torch.nn.functional.pad(
            frames.permute(0, 3, 1, 2).float() / 127.5 - 1,
            (left, right - left, top, bottom - top),
            mode="replicate",
        )
        at_once = self._pairs_at_once(size_hw)
        features = self._features(frames, images, at_once)
        flows = [
            self._refined(images[start + 1 : start + 1 + at_once], features[start : start + 1 + at_once])
            for start in range(0, len(frames) - 1, at_once)
        ]
        return torch.cat(flows)[..., top : top + height, left : left + width].contiguous()

    def _features(self, frames: Tensor, images: Tensor, at_once: int) -> Tensor:
        """Of each of `images`, (T + 1, 3, H, W): (T + 1, C, H / 8, W / 8)."""
        found = self._remembered(frames)
        missing = [number for number, features in enumerate(found) if features is None]
        for start in range(0, len(missing), at_once):
            some = missing[start : start + at_once]
            for number, features in zip(some, self._network.feature_encoder(images[some]), strict=True):
                found[number] = features
        complete = torch.stack([features for features in found if features is not None])
        # copies: a part of the whole would keep all of it alive
        self._last = [(frame.clone(), of.clone()) for frame, of in zip(frames[-2:], complete[-2:], strict=True)]
        return complete

    def _remembered(self, frames: Tensor) -> list[Tensor | None]:
        """Of each frame the features, where it is one of the last two of the call before."""
        if not self._last or self._last[0][0].shape != frames.shape[1:]:
            return [None] * len(frames)
        # all comparisons in one look: a look waits for the device
        same = torch.stack([(frames == known).flatten(1).all(dim=1) for known, _ in self._last], dim=1).tolist()
        return [self._last[row.index(True)][1] if True in row else None for row in same]

    def _refined(self, images: Tensor, features: Tensor) -> Tensor:
        """(T, 2, H, W) flow of `images`, (T, 3, H, W), given the features of the frame before them and their own."""
        from torchvision.models.optical_flow._utils import upsample_flow

        network = self._network
        network.corr_block.build_pyramid(features[1:], features[:-1])
        context = network.context_encoder(images)
        width = network.update_block.hidden_state_size
        hidden, context = torch.tanh(context[:, :width]), F.relu(context[:, width:])
        rows, columns = (torch.arange(length, device=images.device) for length in features.shape[-2:])
        still = torch.stack(torch.meshgrid(columns, rows, indexing="xy")).float()
        flow = torch.zeros(len(images), *still.shape, device=images.device)
        for _ in range(self._iterations):
            near = _looked_up(network.corr_block.corr_pyramid, still + flow, self._around)
            hidden, change = network.update_block(hidden, context, near, flow)
            flow = flow + change
        network.corr_block.corr_pyramid = []  # as large as all else, and of no use to the next call
        weights = None if network.mask_predictor is None else network.mask_predictor(hidden)
        upsampled: Tensor = upsample_flow(flow=flow, up_mask=weights)
        return upsampled

    def working_bytes(self, size_hw: tuple[int, int], pairs: int) -> int:
        """See FlowEstimator.working_bytes."""
        height, width = _padded(size_hw)
        return round(
            min(pairs, self._pairs_at_once(size_hw)) * _pair_bytes(size_hw) + FRAME_BYTES * height * width * (pairs + 1)
        )

    def _pairs_at_once(self, size_hw: tuple[int, int]) -> int:
        return 1 if self._device.type == "cpu" else max(1, int(BATCH_BYTES // _pair_bytes(size_hw)))

    def _check_memory(self, size_hw: tuple[int, int]) -> None:
        """Refuse what cannot fit: RAFT compares all cells with all, and an operating system kills without a word."""
        needed, memory = _pyramid_bytes(size_hw), memory_bytes(self._device)
        if needed > memory:
            raise FlowError(
                f"{self.name} needs {needed / 1e9:.1f} GB for frames of {size_hw[1]}x{size_hw[0]} pixels, more "
                f"than the {memory / 1e9:.1f} GB of the machine: lower --flow-scale, or use --flow dis"
            )


def _looked_up(pyramid: Sequence[Tensor], places: Tensor, around: Tensor) -> Tensor:
    """What every level has around `places`, (T, 2, h, w) cells as (x, y): (T, C, h, w).

    around: (n, n, 2).  As torchvision's `CorrBlock.index_pyramid`, which makes `around` anew each time, on the CPU: a
    graphics card would be waited for after each update.
    """
    count, _, height, width = places.shape
    centres = places.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2)
    found = []
    for level in pyramid:
        x, y = (centres + around).unbind(dim=-1)
        rows, columns = level.shape[-2:]
        where = torch.stack((2 * x / (columns - 1) - 1, 2 * y / (rows - 1) - 1), dim=-1)
        found.append(F.grid_sample(level, where, align_corners=True).view(count, height, width, -1))
        centres = centres / 2
    return torch.cat(found, dim=-1).permute(0, 3, 1, 2).contiguous()


def _padded(size_hw: tuple[int, int]) -> tuple[int, int]:
    height, width = (max(_LEAST_SIDE, -(-length // _EIGHTH) * _EIGHTH) for length in size_hw)
    return height, width


def _pyramid_bytes(size_hw: tuple[int, int]) -> float:
    """All cells compared with all, float32, with the pyramid's smaller levels."""
    height, width = _padded(size_hw)
    return 4 * (height * width / _EIGHTH**2) ** 2 * 4 / 3


def _pair_bytes(size_hw: tuple[int, int]) -> float:
    """What one pair needs: the pyramid, a second copy of its ground while that is scaled, and the encoders' planes."""
    height, width = _padded(size_hw)
    return _pyramid_bytes(size_hw) * 7 / 4 + 320 * height * width


def published_weights(name: str) -> Path:
    """The file of `PUBLISHED_WEIGHTS[name]` in torch hub's cache, downloaded if it is not there.

    Raises WeightsError, with what to do without a network.
    """
    from torchvision.models import optical_flow

    from anonymotion.weights.download import fetch, hub_folder

    kind, version = PUBLISHED_WEIGHTS[name]
    url: str = getattr(optical_flow, kind)[version].url
    return fetch(url, hub_folder(), "give the file with --flow-weights, or use --flow dis")
