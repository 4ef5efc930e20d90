"""The blocks of a backbone run by torch, on the device of the network: as they are, or partly in bfloat16.

Not here: what the blocks compute (blocks), CPUs without torch's help (backbone_openvino).
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from anonymotion.blocks import Blocks, BlocksInContext, Part, Wanted


class TorchEngine:
    """The blocks on the device of the network: as they are, or with matrix products and attention in bfloat16.

    Attention is torch's fused one, which never has the matrix of all patches by all patches in memory.
    """

    def __init__(self, network: nn.Module, *, bfloat16: bool = False) -> None:
        self.name = "torch-bf16" if bfloat16 else "torch"
        # what bfloat16 is for are graphics cards, where choosing patches frame by frame costs more than it saves
        self.takes_parts = not bfloat16
        self._network = _in_bfloat16(network) if bfloat16 else network

    @torch.inference_mode()
    def run(self, tokens: Tensor, wanted: Wanted, rotary: Tensor | None) -> tuple[Tensor, ...]:
        """See Engine.run."""
        found: tuple[Tensor, ...] = Blocks(self._network, wanted)(tokens, rotary)
        return tuple(vectors.float() for vectors in found)

    @torch.inference_mode()
    def run_part(self, part: Part, wanted: Wanted) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """See Engine.run_part."""
        tokens, others = part
        *found, context = BlocksInContext(self._network, wanted)(tokens[None], others)
        return tuple(vectors[0] for vectors in found), None if others.shape[1] else context


class _ToBFloat16(nn.Module):
    def forward(self, tokens: Tensor) -> Tensor:
        return tokens.bfloat16()


def _in_bfloat16(network: Any) -> nn.Module:
    """What `Blocks` needs of a timm network, its products in bfloat16, cast once.

    What is added up from block to block stays float32, and so do means and variances: some of DINO's channels are so
    much larger than the others that these would be rounded away beside them.
    """
    copied: Any = nn.Module()
    copied.num_prefix_tokens = network.num_prefix_tokens
    copied.blocks = copy.deepcopy(network.blocks)
    for block in copied.blocks:
        block.norm1, block.norm2 = (nn.Sequential(norm, _ToBFloat16()) for norm in (block.norm1, block.norm2))
        block.attn.bfloat16()
        block.mlp.bfloat16()
    result: nn.Module = copied.eval()
    return result
