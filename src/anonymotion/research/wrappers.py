"""What is put around published architectures so that all take one clip tensor, and the small network of our own.

Not here: which network is built how (networks), flow colours (loading).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anonymotion.research.clips import slowfast_pack


class TwoSpeeds(nn.Module):
    """SlowFast on one clip: all frames to the fast path, every alpha-th to the slow one."""

    def __init__(self, network: nn.Module, alpha: int) -> None:
        super().__init__()
        self.network = network
        self.alpha = alpha

    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, classes) logits; T a multiple of alpha (the two paths are joined)."""
        scores: Tensor = self.network(slowfast_pack(clips, self.alpha))
        return scores


class TwoStreams(nn.Module):
    """E2S (Ilic et al., ECCV 2022): RGB and flow colours, each with its own head, then Linear(2n, n)."""

    def __init__(self, rgb: nn.Module, flow: nn.Module, classes: int) -> None:
        super().__init__()
        self.rgb, self.flow = rgb, flow
        self.joined = nn.Linear(2 * classes, classes)

    def forward(self, clips: Tensor) -> Tensor:
        """(B, 6, T, H, W) -> (B, classes) logits."""
        scores: Tensor = self.joined(torch.cat((self.rgb(clips[:, :3]), self.flow(clips[:, 3:])), dim=1))
        return scores


class OverFrames(nn.Module):
    """An image network on each frame; probabilities are averaged, and their logarithm is the score."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, classes) log probabilities; for T = 1 the network's own log softmax."""
        batch, count = clips.shape[0], clips.shape[2]
        scores = F.log_softmax(self.network(clips.transpose(1, 2).flatten(0, 1)), dim=1)
        mean: Tensor = torch.logsumexp(scores.reshape(batch, count, -1), dim=1) - torch.tensor(float(count)).log()
        return mean


class Small3D(nn.Module):
    """Four 3D convolutions, 0.3 million parameters: an epoch over some dozens of small clips takes seconds on a CPU.

    only_flow: takes (B, 6, T, H, W) and looks at the flow colours alone; otherwise (B, 3, T, H, W).
    """

    WIDTHS = (16, 32, 64, 128)

    def __init__(self, classes: int, *, only_flow: bool = False) -> None:
        super().__init__()
        self.only_flow = only_flow
        layers: list[nn.Module] = []
        before = 3
        for number, width in enumerate(self.WIDTHS):
            stride = (1, 2, 2) if number == 0 else (2, 2, 2)
            layers += [nn.Conv3d(before, width, 3, stride, padding=1, bias=False), nn.BatchNorm3d(width), nn.ReLU()]
            before = width
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Dropout(0.3))
        self.head = nn.Linear(before, classes)

    def forward(self, clips: Tensor) -> Tensor:
        """Clips -> (B, classes) logits."""
        scores: Tensor = self.head(self.layers(clips[:, 3:] if self.only_flow else clips))
        return scores
