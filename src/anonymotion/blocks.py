"""The transformer blocks of a backbone: tokens in, vectors of (layer, facet) pairs out, on whatever runs them.

`Blocks` is the computation, one pass for all pairs, ended at the deepest of them: for keys, queries and values the
attention and the MLP of that block are never computed.  An `Engine` runs it (backbone_torch, backbone_openvino).

A token meets the others in the attention alone, as their keys and values.  `BlocksInContext` computes some of a frame's
tokens only, among the keys and values that another frame has left of the others.

Not here: images to tokens, tokens to a grid (backbone), which engine is chosen (backbone_openvino), which tokens are
computed anew (reuse).
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anonymotion.registry import Facet

# (layer, facet) pairs, each once; results come in the same order.
Wanted = tuple[tuple[int, Facet], ...]

# Tokens of the prefix and of k cells, (prefix + k, D) float32; and keys and values of all others of a frame, by block,
# (2 L, M, D) float32.  M is 0 for a whole frame; L is `attending(wanted)`.
Part = tuple[Tensor, Tensor]


class Engine(Protocol):
    """What runs the blocks of one network.  takes_parts: whether `run_part` is there for it."""

    name: str
    takes_parts: bool

    def run(self, tokens: Tensor, wanted: Wanted, rotary: Tensor | None) -> tuple[Tensor, ...]:
        """(T, prefix + cells, D) float32 tokens -> for each of `wanted` (T, cells, D) float32, on the same device."""
        ...

    def run_part(self, part: Part, wanted: Wanted) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """For each of `wanted` (k, D) float32; and of a whole frame keys and values of its tokens, (2 L, N, D)."""
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


def attending(wanted: Wanted) -> int:
    """How many blocks compute their attention: not the deepest, unless its tokens are asked for."""
    return max(layer + (facet == "token") for layer, facet in wanted)


def no_others(wanted: Wanted, width: int) -> Tensor:
    """Keys and values of the others of a whole frame, (2 L, 0, D)."""
    return torch.zeros(2 * attending(wanted), 0, width)


class BlocksInContext(nn.Module):
    """What `Blocks` computes, of one `Part`, for networks whose positions are added, not turned."""

    def __init__(self, network: nn.Module, wanted: Wanted) -> None:
        super().__init__()
        # timm types its modules as Any; the attributes used are those of its VisionTransformer.
        self._network: Any = network
        self._wanted = wanted

    def forward(self, tokens: Tensor, others: Tensor) -> tuple[Tensor, ...]:
        """(1, prefix + k, D), (2 L, M, D) -> for each pair (1, k, D); and keys and values, (2 L, prefix + k, D)."""
        prefix, last = self._network.num_prefix_tokens, attending(self._wanted)
        found: dict[tuple[int, Facet], Tensor] = {}
        context = [tokens[:0]]
        for layer, block in enumerate(self._network.blocks[: 1 + max(layer for layer, _ in self._wanted)]):
            here = [facet for at, facet in self._wanted if at == layer]
            normalised = block.norm1(tokens)
            if layer == last:
                found.update(((layer, facet), _project(block.attn, normalised[:, prefix:], facet)) for facet in here)
                break
            queries, keys, values = block.attn.qkv(normalised).chunk(3, dim=-1)
            thirds: dict[Facet, Tensor] = {"query": queries, "key": keys, "value": values}
            found.update(((layer, facet), thirds[facet][:, prefix:]) for facet in here if facet != "token")
            context += [keys, values]
            keys = torch.cat((keys, others[2 * layer : 2 * layer + 1]), dim=1)
            values = torch.cat((values, others[2 * layer + 1 : 2 * layer + 2]), dim=1)
            tokens = tokens + block.ls1(_attended(block.attn, queries, keys, values))
            tokens = tokens + block.ls2(block.mlp(block.norm2(tokens)))
            if "token" in here:
                found[layer, "token"] = tokens[:, prefix:]
        return (*(found[pair] for pair in self._wanted), torch.cat(context))


def _attended(attention: Any, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """What a timm attention makes of (1, N, D) queries and (1, M, D) keys and values: (1, N, D)."""

    def heads(vectors: Tensor) -> Tensor:
        return vectors.reshape(1, -1, attention.num_heads, attention.head_dim).transpose(1, 2)

    mixed = F.scaled_dot_product_attention(
        attention.q_norm(heads(queries)), attention.k_norm(heads(keys)), heads(values)
    )
    projected: Tensor = attention.proj(mixed.transpose(1, 2).reshape(1, -1, queries.shape[-1]))
    return projected


def _project(attention: Any, tokens: Tensor, facet: Facet) -> Tensor:
    """Only the wanted third of a timm attention's fused query-key-value projection: (T, N, D), heads concatenated."""
    width = attention.qkv.weight.shape[0] // 3
    third = slice(*(width * (("query", "key", "value").index(facet) + i) for i in (0, 1)))
    bias = None if attention.qkv.bias is None else attention.qkv.bias[third]
    return F.linear(tokens, attention.qkv.weight[third], bias)
