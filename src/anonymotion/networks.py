"""The registry's backbones as timm modules with weights: `build_network`.

Weights are timm's, or those that the publishers of DINO, DINOv2 and DINOv3 put out, which timm renames.

Not here: the forward pass (backbone), reading files safely (weights), other networks (flow, baselines).
"""

from __future__ import annotations

import sys
from pathlib import Path
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
