"""Person masks of segmentation networks, in place of our templates (`--person-mask`).

DeepLabv3 as torchvision has it (BSD-3-Clause), with weights from a file: those that torchvision publishes are
trained on the part of COCO that has the classes of Pascal VOC.  YOLOv8 is AGPL, and is not supported.

Not here: thresholds, growth and rim of the mask (pipeline, masks), downloads.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from anonymotion.errors import UnsupportedInputError, WeightsError
from anonymotion.stem import IMAGENET_MEAN, IMAGENET_STD
from anonymotion.weights import load_weights

CLASSES = 21  # Pascal VOC's and the background
PERSON = 15
SHORT_SIDE = 520  # of the published weights' own preprocessing
LONGEST_SIDE = 16 * SHORT_SIDE


class DeepLabMask:
    """One of torchvision's DeepLabv3 networks on one device.

    Raises WeightsError if the file is missing, unsafe, or of another network.
    """

    def __init__(self, name: str, builder: str, weights: Path, device: torch.device) -> None:
        from torchvision.models import segmentation

        self.name = name
        state, self.fingerprint = load_weights(weights)
        network = getattr(segmentation, builder)(
            weights=None, weights_backbone=None, progress=False, num_classes=CLASSES, aux_loss=False
        )
        try:
            # the published files also hold a second head, which only their training used
            network.load_state_dict({k: v for k, v in state.items() if not k.startswith("aux_classifier.")})
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(f"weights {weights.name} do not fit torchvision's {builder}: {reason}") from error
        self._network = network.eval().requires_grad_(False).to(device)
        self._mean = torch.tensor(IMAGENET_MEAN, device=device).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(IMAGENET_STD, device=device).view(1, 3, 1, 1) * 255

    @torch.inference_mode()
    def planes(self, frames: Tensor) -> Tensor:
        """See PersonMask.planes: p / (p + q), p the person's probability, q that of the likeliest other class.

        0.5 and more is exactly where the network's own label is `person`.  Raises UnsupportedInputError for a
        frame longer than 16 times its short side, WeightsError for an output that is not finite.
        """
        height, width = frames.shape[1:3]
        short = min(height, width)
        size_hw = (round(height * SHORT_SIDE / short), round(width * SHORT_SIDE / short))
        if max(size_hw) > LONGEST_SIDE:
            raise UnsupportedInputError(
                f"a picture of {width}x{height} pixels is too long for {self.name} (at most 16:1): crop it"
            )
        # one frame at a time: dilated convolutions at an eighth of 520 pixels need a lot of memory
        return torch.cat([self._plane(frame, size_hw) for frame in frames])

    def _plane(self, frame: Tensor, size_hw: tuple[int, int]) -> Tensor:
        """(H, W, 3) uint8 -> (1, 1, H, W)."""
        pixels = frame.permute(2, 0, 1)[None].float()
        pixels = F.interpolate(pixels, size=size_hw, mode="bilinear", align_corners=False, antialias=True)
        scores = self._network((pixels - self._mean) / self._std)["out"]
        # A comparison with NaN is false, and what is not over its threshold would be shown: stop instead.
        if not torch.isfinite(scores).all():
            raise WeightsError(f"{self.name} gave scores that are not finite: the weights are damaged")
        scores = F.interpolate(scores, size=frame.shape[:2], mode="bilinear", align_corners=False)
        others = torch.cat([scores[:, :PERSON], scores[:, PERSON + 1 :]], dim=1).amax(dim=1, keepdim=True)
        return torch.sigmoid(scores[:, PERSON : PERSON + 1] - others)


def deeplabv3_resnet50(weights: Path, device: torch.device) -> DeepLabMask:
    """DeepLabv3 with a ResNet-50."""
    return DeepLabMask("deeplabv3-resnet50", "deeplabv3_resnet50", weights, device)


def deeplabv3_mobilenet(weights: Path, device: torch.device) -> DeepLabMask:
    """DeepLabv3 with a MobileNetV3-Large: smaller, faster, coarser."""
    return DeepLabMask("deeplabv3-mobilenet", "deeplabv3_mobilenet_v3_large", weights, device)
