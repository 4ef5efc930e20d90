"""The transformer blocks of a backbone: tokens in, vectors of (layer, facet) pairs out, on whatever runs them.

`Blocks` is the computation, one pass for all pairs, ended at the deepest of them: for keys, queries and values the
attention and the MLP of that block are never computed.  An `Engine` runs it: `TorchEngine` as it is or in bfloat16, on
any device; `backbone_openvino` converted.

Not here: images to tokens, tokens to a grid (backbone), which engine is chosen (backbone_openvino).
"""

from __future__ import annotations

import copy
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anonymotion.registry import Facet

# (layer, facet) pairs, each once; results come in the same order.
Wanted = tuple[tuple[int, Facet], ...]


class Engine(Protocol):
    """What runs the blocks of one network."""

    name: str

    def run(self, tokens: Tensor, wanted: Wanted, rotary: Tensor | None) -> tuple[Tensor, ...]:
        """(T, prefix + cells, D) float32 tokens -> for each of `wanted` (T, cells, D) float32, on the same device."""
        ...


class Blocks(nn.Module):
    """The blocks of a timm VisionTransformer down to the deepest of `wanted`, without its prefix tokens in the end."""

    def __init__(self, network: nn.Module, wanted: Wanted) -> None:
        super().__init__()
        # timm types its modules as Any; the attributes used are those of its VisionTransformer.
        self._network: Any = network
        self._wanted = wanted

    def forward(self, tokens: Tensor, rotary: Tensor | None = None) -> tuple[Tensor, ...]:
        """As `Engine.run`; rotary: the positions that DINOv3 turns queries and keys by; the keys given are unturned."""
        position = {} if rotary is None else {"rope": rotary}
        prefix = self._network.num_prefix_tokens
        found: dict[tuple[int, Facet], Tensor] = {}
        last = max(layer for layer, _ in self._wanted)
        for layer, block in enumerate(self._network.blocks[: last + 1]):
            here = [facet for at, facet in self._wanted if at == layer]
            projections = [facet for facet in here if facet != "token"]
            if projections:
                normalised = block.norm1(tokens[:, prefix:])
                for facet in projections:
                    found[layer, facet] = _project(block.attn, normalised, facet)
            if layer < last or "token" in here:
                tokens = block(tokens, **position)
            if "token" in here:
                found[layer, "token"] = tokens[:, prefix:]
        return tuple(found[key] for key in self._wanted)


class TorchEngine:
    """The blocks on the device of the network: as they are, or with matrix products and attention in bfloat16.

    Attention is torch's fused one, which never has the matrix of all patches by all patches in memory.
    """

    def __init__(self, network: nn.Module, *, bfloat16: bool = False) -> None:
        self.name = "torch-bf16" if bfloat16 else "torch"
        self._network = _in_bfloat16(network) if bfloat16 else network

    @torch.inference_mode()
    def run(self, tokens: Tensor, wanted: Wanted, rotary: Tensor | None) -> tuple[Tensor, ...]:
        """See Engine.run."""
        found: tuple[Tensor, ...] = Blocks(self._network, wanted)(tokens, rotary)
        return tuple(vectors.float() for vectors in found)


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


def _project(attention: Any, tokens: Tensor, facet: Facet) -> Tensor:
    """Only the wanted third of a timm attention's fused query-key-value projection: (T, N, D), heads concatenated."""
    width = attention.qkv.weight.shape[0] // 3
    third = slice(*(width * (("query", "key", "value").index(facet) + i) for i in (0, 1)))
    bias = None if attention.qkv.bias is None else attention.qkv.bias[third]
    return F.linear(tokens, attention.qkv.weight[third], bias)
