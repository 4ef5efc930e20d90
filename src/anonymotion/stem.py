"""Images to the tokens that the blocks of a ViT take: patches projected, class token and registers, positions.

Not here: where patches lie (patch_grid), the blocks (blocks), weights (networks).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anonymotion.patch_grid import PatchGrid
from anonymotion.registry import PositionRule

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def projected(pixels: Tensor, projection: nn.Conv2d, stride: int, *, by_product: bool) -> Tensor:
    """Every patch times the weights, (T, 3, h, w) float32 -> (T, cells, D): a convolution, or a product of matrices."""
    if not by_product:
        return F.conv2d(pixels, projection.weight, projection.bias, stride=stride).flatten(2).transpose(1, 2)
    patches = F.unfold(pixels, projection.weight.shape[-1], stride=stride).transpose(1, 2)
    return F.linear(patches, projection.weight.flatten(1), projection.bias)


def interpolate_positions(embedding: Tensor, size_hw: tuple[int, int], rule: PositionRule) -> Tensor:
    """Resize a (1, N, D) positional embedding of a square grid to (1, rows * columns, D), float32.

    Bicubic, corners not aligned, as the publishers do: `offset` (DINO, DINOv2) samples with a scale factor of
    (cells + 0.1) / side, which moves the samples a little; `antialias` (DINOv2 with registers) with the exact size
    and a filter where the grid shrinks.  At the native size nothing is changed.
    """
    side = round(embedding.shape[1] ** 0.5)
    if (side, side) == size_hw:
        return embedding
    square = embedding.reshape(1, side, side, -1).permute(0, 3, 1, 2).float()
    if rule == "offset":
        scale = ((size_hw[0] + 0.1) / side, (size_hw[1] + 0.1) / side)
        resized = F.interpolate(square, scale_factor=scale, mode="bicubic", align_corners=False)
    else:
        resized = F.interpolate(square, size=size_hw, mode="bicubic", align_corners=False, antialias=True)
    return resized.permute(0, 2, 3, 1).flatten(1, 2)


class Stem:
    """The stem of one network on one device.

    network: a timm VisionTransformer, or what has the parts of one that come before its blocks
    (`networks.LazyNetwork`).  rule: how its positions are fitted to another grid.
    """

    def __init__(self, network: Any, rule: PositionRule, device: torch.device) -> None:
        self._network, self._rule, self._device = network, rule, device
        self.width, self.prefix_tokens = int(network.embed_dim), int(network.num_prefix_tokens)
        self._mean = torch.tensor(IMAGENET_MEAN, device=device).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(IMAGENET_STD, device=device).view(1, 3, 1, 1) * 255
        self._positions: dict[tuple[int, int], Tensor] = {}

    @property
    def grey_value(self) -> float:
        """By how much noise with a standard deviation of one grey value (of 255) changes a token, on average: the root
        of the mean square of the distance.
        """
        weights = self._network.patch_embed.proj.weight / self._std
        return float(weights.norm())

    @torch.inference_mode()
    def tokens(self, images: Tensor, grid: PatchGrid) -> Tensor:
        """(T, H, W, 3) uint8 RGB -> (T, prefix + cells, D) with positions; what timm does for stride = patch."""
        # on a CPU one by one: what a frame needs stays in its cache, and the same memory is used again
        size = 1 if self._device.type == "cpu" else len(images)
        return torch.cat([self._together(part, grid) for part in torch.split(images, size)])

    def rotary(self, grid: PatchGrid) -> Tensor | None:
        """What DINOv3 turns queries and keys by inside the attention; None for networks that add positions."""
        rope = getattr(self._network, "rope", None)
        turned: Tensor | None = None if rope is None else rope.get_embed(shape=(grid.rows, grid.columns))
        return turned

    def _together(self, images: Tensor, grid: PatchGrid) -> Tensor:
        network = self._network
        # resized channel by channel and projected pixel by pixel: what each is faster with
        pixels = images.to(self._device).permute(0, 3, 1, 2).float().contiguous()
        pixels = F.interpolate(
            pixels, size=grid.input_size_hw, mode="bicubic", align_corners=False, antialias=True
        ).clamp_(0, 255)
        pixels = pixels.sub_(self._mean).div_(self._std).contiguous(memory_format=torch.channels_last)
        # on a graphics card a convolution is rounded to TF32 unless it is told not to, a matrix product is not
        by_product = pixels.device.type != "cpu"
        patches = projected(pixels, network.patch_embed.proj, grid.stride, by_product=by_product)
        tokens = network.patch_embed.norm(patches)
        prefix = [
            token.expand(len(tokens), -1, -1)
            for token in (network.cls_token, getattr(network, "reg_token", None))
            if token is not None
        ]
        if network.pos_embed is not None:
            embedding = self._position_embedding((grid.rows, grid.columns))
            if network.no_embed_class:  # registers: the prefix carries no position
                tokens = tokens + embedding
            else:
                tokens, prefix = torch.cat([*prefix, tokens], dim=1) + embedding, []
        embedded: Tensor = network.norm_pre(torch.cat([*prefix, tokens], dim=1))
        return embedded

    def _position_embedding(self, size_hw: tuple[int, int]) -> Tensor:
        """The embedding for a grid of cells, computed once per grid; with the prefix's part where there is one."""
        if size_hw not in self._positions:
            embedding: Tensor = self._network.pos_embed
            prefix = 0 if self._network.no_embed_class else self.prefix_tokens
            grid_part = interpolate_positions(embedding[:, prefix:], size_hw, self._rule)
            self._positions[size_hw] = torch.cat([embedding[:, :prefix], grid_part], dim=1)
        return self._positions[size_hw]
