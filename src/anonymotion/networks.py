"""The registry's backbones as timm modules with weights: `build_network`, or `embedded_network`, which waits with that.

Weights are timm's, or those that the publishers of DINO, DINOv2 and DINOv3 put out, which timm renames.

Not here: the forward pass (backbone), reading files safely (weights), other networks (flow, baselines).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from anonymotion.errors import WeightsError
from anonymotion.registry import BackboneEntry, backbone_entry
from anonymotion.weights import load_weights
from anonymotion.weights.hub import fetch_from_hub


def build_network(name: str, weights: Path | None = None) -> tuple[nn.Module, str]:
    """The backbone `name` as a module, and the SHA-256 of its weights' file.

    Without `weights` they come from the package, or from the Hugging Face hub.  Raises WeightsError if they cannot
    be had, are damaged, or belong to another architecture: nothing is resampled to fit.
    """
    entry = backbone_entry(name)
    if weights is None and entry.embedded_file is None:
        if entry.hub is None:
            raise WeightsError(f"the weights of {name} are not in the package: name a file with --backbone-weights")
        weights = fetch_from_hub(entry.hub, name)
    state, fingerprint = load_weights(weights, entry.embedded_file)
    network = _unfilled(entry)
    try:
        network.load_state_dict(_renamed(state, network, entry), strict=True)
    except (RuntimeError, KeyError, ValueError, IndexError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"these weights do not fit {name} (timm's {entry.architecture}): {reason}") from error
    return network, fingerprint


class LazyNetwork:
    """A timm VisionTransformer of which only the stem is there; its blocks are built when they are first needed.

    What runs converted blocks never needs them, and importing timm takes a third of the time that one picture takes.
    Its attributes are those of the VisionTransformer that stems and engines use.
    """

    no_embed_class, reg_token, rope = False, None, None

    def __init__(self, name: str, state: Mapping[str, Tensor], device: torch.device) -> None:
        """state: weights under timm's names, of a class token and no registers."""
        kernel, bias = (state[f"patch_embed.proj.{part}"].to(device) for part in ("weight", "bias"))
        self.patch_embed = SimpleNamespace(proj=SimpleNamespace(weight=kernel, bias=bias), norm=nn.Identity())
        self.cls_token, self.pos_embed = state["cls_token"].to(device), state["pos_embed"].to(device)
        self.norm_pre = nn.Identity()
        self.embed_dim, self.num_prefix_tokens = kernel.shape[0], 1
        self._name = name

    def __repr__(self) -> str:
        return f"LazyNetwork({backbone_entry(self._name).architecture})"

    @cached_property
    def whole(self) -> nn.Module:
        """All of it, on the CPU."""
        return build_network(self._name)[0].eval().requires_grad_(False)


def embedded_network(name: str, device: torch.device) -> tuple[LazyNetwork, str]:
    """The backbone `name`, whose weights are in the package, and the SHA-256 of them; raises as `build_network`."""
    state, fingerprint = load_weights(None, backbone_entry(name).embedded_file)
    return LazyNetwork(name, state, device), fingerprint


def whole(network: nn.Module | LazyNetwork) -> nn.Module:
    """The module itself, built now if need be."""
    return network.whole if isinstance(network, LazyNetwork) else network


def create(entry: BackboneEntry) -> nn.Module:
    """The architecture of a row with random weights."""
    import timm

    network: nn.Module = timm.create_model(entry.architecture, pretrained=False, num_classes=0, dynamic_img_size=True)
    return network


def _unfilled(entry: BackboneEntry) -> nn.Module:
    """The architecture of a row, whose parameters are yet to be loaded: drawing them takes longer than reading them."""
    with torch.device("meta"):
        network = create(entry)
    if next(network.buffers(), None) is not None:  # computed by the constructor, and in no file of weights
        return create(entry)
    return network.to_empty(device="cpu")


def _renamed(state: dict[str, Tensor], network: Any, entry: BackboneEntry) -> dict[str, Tensor]:
    """`state` under timm's names.  Raises WeightsError or KeyError if it is of another architecture."""
    if any(name.startswith("backbone.") for name in state):  # training checkpoints keep a head beside it
        state = {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}
    # timm would resample these two to make them fit, and nobody would know.
    for name, own in (("patch_embed.proj.weight", network.patch_embed.proj.weight), ("pos_embed", network.pos_embed)):
        spare = 1 if "register_tokens" in state and name == "pos_embed" else 0  # there the class token has a position
        if own is not None and (state[name].shape[-1], state[name].shape[1] - spare) != (own.shape[-1], own.shape[1]):
            raise WeightsError(
                f"these weights are not those of {entry.architecture}: {name} is {tuple(state[name].shape)}, expected "
                f"{tuple(own.shape)}"
            )
    if entry.positions == "rotary" and "pos_embed" not in state:
        biases = [name for name in state if name.endswith("qkv.bias")]
        if any(bool(state[name].any()) for name in biases):
            raise WeightsError(f"these weights have query, key or value biases, which {entry.architecture} has not")
        state = {name: value for name, value in state.items() if name not in biases}
    renamed: dict[str, Tensor] = sys.modules[type(network).__module__].checkpoint_filter_fn(dict(state), network)
    return renamed
