"""Keys of the registry's backbones by an independent implementation: Hugging Face transformers.

`reference_keys(name, network, image)` copies the weights of our network, name by name, into the transformers model
of the same family, runs it, and gives the keys of the last block before any rotation.  A weight that is left over on
either side is an error.  Needs transformers (extra `dev`).

Not here: our own forward pass (anonymotion.backbone), positions at other grids than the native one.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from anonymotion.registry import BACKBONES, BackboneEntry
from anonymotion.stem import IMAGENET_MEAN, IMAGENET_STD

# timm's name of a module -> transformers' name of it, without the prefix of the block
COMMON = {
    "attn.proj": "attention.o_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "norm1": "norm1",
    "norm2": "norm2",
    "ls1.gamma": "layer_scale1.lambda1",
    "ls2.gamma": "layer_scale2.lambda1",
}
DINO = COMMON | {"norm1": "layernorm_before", "norm2": "layernorm_after"}
DINOV3 = COMMON | {
    "mlp.fc1": "mlp.up_proj",
    "mlp.fc2": "mlp.down_proj",
    "gamma_1": "layer_scale1.lambda1",
    "gamma_2": "layer_scale2.lambda1",
}
# never read by a forward pass without masked patches, or after the last block
UNUSED = re.compile(r"embeddings\.mask_token|pooler\..*")


def native_side(entry: BackboneEntry, network: Any) -> int:
    """Side in pixels of the square picture at which the positional embedding needs no resizing."""
    return 256 if network.pos_embed is None else int(network.patch_embed.grid_size[0]) * entry.patch_size


def reference_keys(name: str, network: Any, images: Tensor) -> Tensor:
    """Keys of the last block for `images`, (T, side, side, 3) uint8 of the native side: (T, cells, D) float32."""
    entry = BACKBONES[name]
    model, block_prefix, names = _model(entry, network)
    state = {}
    for own, value in network.state_dict().items():
        state.update(_renamed(own, value, block_prefix, names, int(network.embed_dim)))
    missing, unexpected = model.load_state_dict(state, strict=False)
    left = [key for key in missing if not UNUSED.fullmatch(key)] + unexpected
    if left:
        raise ValueError(f"weights of {name} that the two implementations do not share: {left}")
    found: list[Tensor] = []
    last = model.get_submodule(f"{block_prefix}{len(network.blocks) - 1}.attention.k_proj")
    last.register_forward_hook(lambda _module, _inputs, output: found.append(output))
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.inference_mode():
        model.eval()((images.permute(0, 3, 1, 2) / 255 - mean) / std)
    return found[0][:, int(network.num_prefix_tokens) :]


def _model(entry: BackboneEntry, network: Any) -> tuple[Any, str, dict[str, str]]:
    import transformers

    shape = {
        "hidden_size": network.embed_dim,
        "num_attention_heads": network.blocks[0].attn.num_heads,
        "num_hidden_layers": len(network.blocks),
        "image_size": native_side(entry, network),
        "patch_size": entry.patch_size,
    }
    if entry.positions == "rotary":
        rotary = transformers.DINOv3ViTConfig(
            **shape, num_register_tokens=4, intermediate_size=4 * network.embed_dim, query_bias=False, value_bias=False
        )
        return transformers.DINOv3ViTModel(rotary), "model.layer.", DINOV3
    if entry.positions == "antialias":
        registers = transformers.Dinov2WithRegistersConfig(**shape, num_register_tokens=4)
        return transformers.Dinov2WithRegistersModel(registers), "encoder.layer.", COMMON
    if "dinov2" in entry.architecture:
        return transformers.Dinov2Model(transformers.Dinov2Config(**shape)), "encoder.layer.", COMMON
    plain = transformers.ViTConfig(**shape, intermediate_size=4 * network.embed_dim, layer_norm_eps=1e-6)
    return transformers.ViTModel(plain), "layers.", DINO


def _renamed(own: str, value: Tensor, block_prefix: str, names: dict[str, str], width: int) -> dict[str, Tensor]:
    """One of timm's weights under transformers' names (the fused projection becomes three)."""
    inside = re.fullmatch(r"blocks\.(\d+)\.(.+)", own)
    if inside is None:
        renamed = {
            "cls_token": "embeddings.cls_token",
            "reg_token": "embeddings.register_tokens",
            "pos_embed": "embeddings.position_embeddings",
            "patch_embed.proj.weight": f"embeddings.patch_embeddings{_projection(names)}.weight",
            "patch_embed.proj.bias": f"embeddings.patch_embeddings{_projection(names)}.bias",
            "norm.weight": f"{_last_norm(names)}.weight",
            "norm.bias": f"{_last_norm(names)}.bias",
        }[own]
        if own == "pos_embed" and value.shape[1] == round(value.shape[1] ** 0.5) ** 2:
            # timm folds the class token's position into the token itself where there are registers
            value = torch.cat([torch.zeros(1, 1, width), value], dim=1)
        return {renamed: value}
    prefix, rest = f"{block_prefix}{inside[1]}.", inside[2]
    if rest.startswith("attn.qkv"):
        kind = rest.rpartition(".")[2]
        parts = zip("qkv", value.chunk(3), strict=True)
        return {f"{prefix}attention.{letter}_proj.{kind}": part for letter, part in parts}
    if rest in names:
        return {prefix + names[rest]: value}
    module, _, kind = rest.rpartition(".")
    return {f"{prefix}{names[module]}.{kind}": value}


def _projection(names: dict[str, str]) -> str:
    return "" if names is DINOV3 else ".projection"


def _last_norm(names: dict[str, str]) -> str:
    return "norm" if names is DINOV3 else "layernorm"


def lively(network: Any, seed: int = 0) -> Any:
    """Random weights under which attention, positions, biases and layer scales all matter to the result."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        offset = 1.0 if name.endswith(("norm1.weight", "norm2.weight")) else 0.3 if "gamma" in name else 0.0
        spread = 0.5 if name.endswith(("token", "pos_embed")) else 0.08
        parameter.data = offset + spread * torch.randn(parameter.shape, generator=generator)
    return network.eval()
