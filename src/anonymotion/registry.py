"""What can be named: attributes, backbones, facets, flows, noises, aggregations, engines, methods, and the FeatureSpec.

Plain data without torch, so that a command line can list and check names at once.  The modules that do the work
look their own part up by the same names (a test compares the two).

Not here: building any of it (backbone, flow, noise, saliency), presets of them (presets).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal, get_args

from anonymotion.errors import SettingsError

Facet = Literal["key", "query", "value", "token"]
FACETS: tuple[Facet, ...] = get_args(Facet)

# Names become parts of file names and of flags such as `--threshold 0.5,logo=0.4`.
ATTRIBUTE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")

ATTRIBUTES = ("hair", "forehead", "eyes", "cheek", "lips", "hand", "arm", "torso", "leg")
GROUPS: dict[str, tuple[str, ...]] = {
    "face": ("forehead", "eyes", "cheek", "lips"),
    "body": ("torso", "arm", "leg", "hand"),
    "person": ATTRIBUTES,
}

FLOWS = {
    "dis": "dense inverse search, OpenCV's medium preset on smaller frames",
    "dis-fast": "dense inverse search, OpenCV's fast preset",
    "raft-small": "RAFT-small, as its authors trained it; downloaded if no --flow-weights are given",
    "raft-large": "RAFT-large, trained to Sintel as in the paper's code; downloaded if no --flow-weights are given",
}
NOISES = {
    "first-frame": "eq. 4 as printed",
    "accumulated": "follows the subject",
    "iid": "a new field per frame",
}
AGGREGATIONS = {
    "max": "the strongest",
    "noisy-or": "1 - product of (1 - s)",
    "mean": "eq. 1",
}

ENGINES = {
    "auto": "the fastest that is installed and keeps the masks",
    "torch": "as it is in float32, on any device",
    "torch-bf16": "products in bfloat16, for graphics cards",
    "openvino": "OpenVINO in float32, on CPUs",
    "openvino-bf16": "OpenVINO in bfloat16, on CPUs that compute with it",
    "openvino-int8": "OpenVINO with 8-bit weights and activations, on CPUs",
}


PositionRule = Literal["offset", "antialias", "rotary"]


@dataclass(frozen=True)
class Named:
    """One line of help, and where what is named lives: `module:attribute`, or None for what the pipeline has itself.

    The core does not import what compares itself with it: `methods` looks it up by this name when it is asked for.
    """

    help: str
    home: str | None = None


_NAIVE, _PERSON_MASKS = "anonymotion.baselines.naive", "anonymotion.baselines.person_masks"
METHODS: dict[str, Named] = {
    "noise": Named("ours: noise that moves with the scene"),
    "person-mean": Named("the mean colour of what it covers, per frame", f"{_NAIVE}:PERSON_MEAN"),
    "pixelate-4": Named("means of 4x4 blocks", f"{_NAIVE}:PIXELATE_4"),
    "pixelate-16": Named("means of 16x16 blocks", f"{_NAIVE}:PIXELATE_16"),
    "blur-weak": Named("Gaussian, 13 pixels wide, sigma 10", f"{_NAIVE}:BLUR_WEAK"),
    "blur-strong": Named("Gaussian, 21 pixels wide, sigma 10", f"{_NAIVE}:BLUR_STRONG"),
    "black": Named("black", f"{_NAIVE}:BLACK"),
}
PERSON_MASKS: dict[str, Named] = {
    "ours": Named("templates of the group person"),
    "deeplabv3-resnet50": Named("torchvision's; needs --person-weights", f"{_PERSON_MASKS}:deeplabv3_resnet50"),
    "deeplabv3-mobilenet": Named("torchvision's; needs --person-weights", f"{_PERSON_MASKS}:deeplabv3_mobilenet"),
}


@dataclass(frozen=True)
class BackboneEntry:
    """One row of the registry: how timm builds a backbone, and where its weights are.

    positions: how the publishers fit the positional embedding to another grid (`stem.interpolate_positions`).
    hub: its repository on the Hugging Face hub, in timm's names; nothing is fetched unless the backbone is asked for.
    embedded_file: its weights in the package.
    """

    architecture: str
    patch_size: int
    depth: int
    positions: PositionRule = "offset"
    licence: str = "Apache-2.0"
    hub: str | None = None
    embedded_file: str | None = None


BACKBONES: dict[str, BackboneEntry] = {
    "dinov2-vits14-embedded": BackboneEntry(
        "vit_small_patch14_dinov2",
        14,
        12,
        licence="MIT and Apache-2.0",
        embedded_file="vit_small_patch14_dinov2.fp16.safetensors.planes",
    ),
    "dino-vits8": BackboneEntry("vit_small_patch8_224", 8, 12, hub="timm/vit_small_patch8_224.dino"),
    "dino-vits16": BackboneEntry("vit_small_patch16_224", 16, 12, hub="timm/vit_small_patch16_224.dino"),
    "dino-vitb8": BackboneEntry("vit_base_patch8_224", 8, 12, hub="timm/vit_base_patch8_224.dino"),
    "dino-vitb16": BackboneEntry("vit_base_patch16_224", 16, 12, hub="timm/vit_base_patch16_224.dino"),
    "dinov2-vits14": BackboneEntry("vit_small_patch14_dinov2", 14, 12, hub="timm/vit_small_patch14_dinov2.lvd142m"),
    "dinov2-vitb14": BackboneEntry("vit_base_patch14_dinov2", 14, 12, hub="timm/vit_base_patch14_dinov2.lvd142m"),
    "dinov2-vits14-reg": BackboneEntry(
        "vit_small_patch14_reg4_dinov2", 14, 12, "antialias", hub="timm/vit_small_patch14_reg4_dinov2.lvd142m"
    ),
    "dinov2-vitb14-reg": BackboneEntry(
        "vit_base_patch14_reg4_dinov2", 14, 12, "antialias", hub="timm/vit_base_patch14_reg4_dinov2.lvd142m"
    ),
    "dinov3-vits16": BackboneEntry(
        "vit_small_patch16_dinov3",
        16,
        12,
        "rotary",
        licence="DINOv3 License (read it first)",
        hub="timm/vit_small_patch16_dinov3.lvd1689m",
    ),
}


def backbone_entry(name: str) -> BackboneEntry:
    """The registry's row of that name; SettingsError names the known ones."""
    if name not in BACKBONES:
        raise SettingsError(f"backbone {name!r} is not known: use one of {', '.join(BACKBONES)}")
    return BACKBONES[name]


@dataclass(frozen=True)
class FeatureSpec:
    """What a descriptor is; vectors of two different specs are never compared.

    backbone: a name of `BACKBONES`.
    layer: 0-based index of the transformer block.
    facet: `key`, `query`, `value` (outputs of the block's projections, heads concatenated), or `token` (the
        block's output).
    stride: distance of neighbouring patches in pixels of the resized image; the patch size, or less for
        overlapping patches.
    short_side: the image is resized so that its shorter side has this many pixels (a multiple of the patch).
    mean: the id of the fixed vector that is subtracted before the cosine, or None for raw descriptors.
    """

    backbone: str = "dinov2-vits14-embedded"
    layer: int = 11
    facet: Facet = "key"
    stride: int = 14
    short_side: int = 336
    mean: str | None = None

    def __post_init__(self) -> None:
        if self.facet not in FACETS:
            raise SettingsError(f"facet {self.facet!r} is not known: use one of {', '.join(FACETS)}")
        entry = backbone_entry(self.backbone)
        for name in ("layer", "stride", "short_side"):
            if not isinstance(getattr(self, name), int):
                raise SettingsError(f"{name} {getattr(self, name)!r} is not a whole number")
        if not 0 <= self.layer < entry.depth:
            raise SettingsError(f"layer {self.layer} is not in 0..{entry.depth - 1} of {self.backbone}")
        if not 1 <= self.stride <= entry.patch_size:
            raise SettingsError(
                f"stride {self.stride} is not in 1..{entry.patch_size}, the patch size of {self.backbone}"
            )
        if self.short_side < entry.patch_size or self.short_side % entry.patch_size:
            raise SettingsError(
                f"short side {self.short_side} is not a positive multiple of {entry.patch_size}, the patch size of "
                f"{self.backbone}: use e.g. {max(1, round(self.short_side / entry.patch_size)) * entry.patch_size}"
            )

    @property
    def raw(self) -> FeatureSpec:
        """The same spec without a de-biasing mean: what a backbone computes."""
        return replace(self, mean=None)
