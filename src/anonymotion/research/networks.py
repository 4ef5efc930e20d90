"""Recognition networks by name: 13 for actions, 5 for privacy, and small ones that train on a CPU.

Every network takes (B, 3, T, H, W) float32 clips, normalised, and gives (B, classes) scores: logits, or mean log
probabilities where outputs are averaged over frames.  E2S takes (B, 6, T, H, W): RGB and flow colours of the same clip.

Frames, stride and crop are those of the model zoo, as the paper used them.  `published` is the number of parameters
with the head that the weights were published with (400 classes of Kinetics, 1000 of ImageNet): in millions to two
decimals for PyTorchVideo (its model zoo page, docs/source/model_zoo.md), exact for torchvision (`num_params` of its
weights).  No count of E2S was published; it follows from two X3D and Linear(2n, n).

Not here: decoding and sampling (clips), training (train), probes on frozen features (probes).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from anonymotion.errors import MissingDependencyError, SettingsError, WeightsError

if TYPE_CHECKING:
    from torch import nn

WHOLE_CLIP = 0  # a stride: frames evenly spread over the whole clip
KINETICS_CLASSES, IMAGENET_CLASSES = 400, 1000
SLOWFAST_ALPHA = 4


@dataclass(frozen=True)
class NetworkEntry:
    """One row of the registry.

    label: as the paper writes it.  task: what it was used for.  family: who builds it, a key of `_BUILDERS`.
    frames x stride @ crop: its input; a stride of `WHOLE_CLIP` spreads the frames evenly over the clip.
    published: parameters with the published head, or None.  classes: of that head.
    channels: 3, or 6 with flow colours behind RGB.
    """

    label: str
    task: Literal["action", "privacy"]
    family: str
    architecture: str
    frames: int
    stride: int
    crop: int
    published: float | None = None
    classes: int = KINETICS_CLASSES
    channels: int = 3


def _video(label: str, architecture: str, sampling: tuple[int, int, int], millions: float) -> NetworkEntry:
    return NetworkEntry(label, "action", "pytorchvideo", architecture, *sampling, published=millions * 1e6)


def _image(label: str, architecture: str, parameters: int) -> NetworkEntry:
    return NetworkEntry(label, "privacy", "torchvision", architecture, 1, WHOLE_CLIP, 224, parameters, IMAGENET_CLASSES)


def _two_streams(label: str, architecture: str, sampling: tuple[int, int, int]) -> NetworkEntry:
    return NetworkEntry(label, "action", "e2s", architecture, *sampling, channels=6)


NETWORKS: dict[str, NetworkEntry] = {
    "c2d": _video("C2D", "c2d_r50", (8, 8, 224), 24.33),
    "csn": _video("CSN", "csn_r101", (32, 2, 224), 22.21),
    "e2s-x3d-l": _two_streams("E2S X3D L", "x3d_l", (16, 5, 312)),
    "e2s-x3d-m": _two_streams("E2S X3D M", "x3d_m", (16, 5, 224)),
    "e2s-x3d-s": _two_streams("E2S X3D S", "x3d_s", (13, 6, 182)),
    "i3d": _video("I3D", "i3d_r50", (8, 8, 224), 28.04),
    "mvit": _video("MViT", "mvit_base_16x4", (16, 4, 224), 36.61),
    "r2plus1d": _video("R2+1D", "r2plus1d_r50", (16, 4, 224), 28.11),
    "slow": _video("Slow", "slow_r50", (8, 8, 224), 32.45),
    "slowfast": _video("SlowFast", "slowfast_r50", (32, 2, 224), 34.57),
    "x3d-l": _video("X3D L", "x3d_l", (16, 5, 312), 6.15),
    "x3d-m": _video("X3D M", "x3d_m", (16, 5, 224), 3.79),
    "x3d-s": _video("X3D S", "x3d_s", (13, 6, 182), 3.79),
    "resnet-18": _image("ResNet-18", "resnet18", 11_689_512),
    "resnet-50": _image("ResNet-50", "resnet50", 25_557_032),
    "resnet-101": _image("ResNet-101", "resnet101", 44_549_160),
    "vit-b-16": _image("ViT-B/16", "vit_b_16", 86_567_656),
    "vit-b-32": _image("ViT-B/32", "vit_b_32", 88_224_232),
    # from scratch, for a CPU; no published weights
    "small-3d": NetworkEntry("small 3D", "action", "small", "clip", 16, 2, 64),
    "small-3d-whole": NetworkEntry("small 3D, whole clip", "privacy", "small", "clip", 16, WHOLE_CLIP, 64),
    "small-flow": NetworkEntry("small 3D on flow", "action", "small", "flow", 16, 2, 64, channels=6),
}
ACTION_NETWORKS = tuple(name for name in list(NETWORKS)[:13])
PRIVACY_NETWORKS = tuple(name for name in list(NETWORKS)[13:18])


def network_entry(name: str) -> NetworkEntry:
    """The registry's row of that name; SettingsError names the known ones."""
    if name not in NETWORKS:
        raise SettingsError(f"network {name!r} is not known: use one of {', '.join(NETWORKS)}")
    return NETWORKS[name]


def build(
    entry: NetworkEntry,
    classes: int,
    pretrained: str | Path | None = None,
    *,
    input_size: tuple[int, int] | None = None,
) -> nn.Module:
    """The network with a head of `classes` outputs, in training mode, on the CPU.

    pretrained: `hub` for the published weights (downloaded once, unless the network is forbidden), or a file of them;
        None starts from random numbers (of torch's global generator).  Only the head starts anew.
    input_size: (frames, crop) instead of the entry's; only MViT's positions depend on it.
    Raises WeightsError if weights cannot be had or do not fit, MissingDependencyError without the extra `research`.
    """
    if classes < 2:
        raise SettingsError(f"{entry.label} needs at least 2 classes to tell apart, and got {classes}")
    frames, crop = input_size or (entry.frames, entry.crop)
    return _BUILDERS[entry.family](entry, classes, pretrained, frames, crop)


def parameters(network: nn.Module) -> int:
    """The number of trainable values."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


# PyTorchVideo


def _pytorchvideo_hub() -> Any:
    """Its builders; importing them warns of torch.jit, which nothing here uses."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            from pytorchvideo.models import hub
    except (ImportError, RuntimeError, OSError) as error:
        raise MissingDependencyError(
            f"pytorchvideo cannot be imported ({error}): pip install 'anonymotion[research]'"
        ) from error
    return hub


def _video_network(
    entry: NetworkEntry, classes: int, pretrained: str | Path | None, frames: int, crop: int
) -> nn.Module:
    from torch import nn

    hub = _pytorchvideo_hub()
    options: dict[str, Any] = {}
    if entry.architecture.startswith(("x3d", "r2plus1d")):
        options["head_activation"] = None  # these two end in a softmax; losses and E2S want logits
    if entry.architecture.startswith("mvit"):
        options |= {"temporal_size": frames, "spatial_size": crop}
    network = getattr(hub, entry.architecture)(pretrained=False, **options)
    if pretrained is not None:
        _load(network, _published_state(hub, entry, pretrained), entry)
    head = network.head if hasattr(network, "head") else network.blocks[-1]
    head.proj = nn.Linear(head.proj.in_features, classes)
    _pool_everything(network)
    _plain_swish(network)
    if entry.architecture.startswith("slowfast"):
        from anonymotion.research.wrappers import TwoSpeeds

        return TwoSpeeds(network, SLOWFAST_ALPHA)
    return network  # type: ignore[no-any-return]


def _pool_everything(network: Any) -> None:
    """Make the last pooling global: the same at the nominal size, and defined for short clips and other crops."""
    from torch import nn

    for block in getattr(network, "blocks", ()):
        pool: Any = getattr(block, "pool", None)
        if isinstance(pool, nn.ModuleList):  # SlowFast: one per speed
            block.pool = nn.ModuleList(nn.AdaptiveAvgPool3d(1) for _ in pool)
        elif hasattr(pool, "post_conv"):  # X3D pools between two convolutions
            pool.pool = nn.AdaptiveAvgPool3d(1)
        elif isinstance(pool, nn.AvgPool3d) and hasattr(block, "proj"):
            block.pool = nn.AdaptiveAvgPool3d(1)


def _plain_swish(network: nn.Module) -> None:
    """Put torch's SiLU for PyTorchVideo's own, the same function, whose gradient uses what torch is about to remove."""
    from torch import nn

    for module in network.modules():
        for name, child in module.named_children():
            if type(child).__name__ == "Swish":
                setattr(module, name, nn.SiLU())


def _published_state(hub: Any, entry: NetworkEntry, pretrained: str | Path) -> dict[str, Any]:
    if pretrained != "hub":
        from anonymotion.weights import load_weights

        return load_weights(Path(pretrained))[0]
    from importlib import import_module

    home = import_module(getattr(hub, entry.architecture).__module__)
    return _from_hub(home.checkpoint_paths[entry.architecture], entry)["model_state"]  # type: ignore[no-any-return]


def _from_hub(url: str, entry: NetworkEntry) -> dict[str, Any]:
    """What is at a URL whose name carries no checksum, from torch hub's cache or once from the network."""
    from torch.hub import load_state_dict_from_url

    from anonymotion.weights.download import hub_folder, offline_because

    name = url.rsplit("/", 1)[-1]
    forbidden = offline_because()
    advice = f"get {url} on another machine and name the file as pretrained weights"
    if forbidden and not (hub_folder() / name).exists():
        raise WeightsError(f"{name} for {entry.label} is not in {hub_folder()}, and {forbidden}: {advice}")
    try:
        found: dict[str, Any] = load_state_dict_from_url(url, map_location="cpu", progress=False, weights_only=True)
    except Exception as error:  # transport and reader have no common base; each means: not there
        reason = " ".join(str(error).split())[:120]
        raise WeightsError(f"{name} for {entry.label} could not be had ({reason}): {advice}") from error
    return found


def _load(network: nn.Module, state: dict[str, Any], entry: NetworkEntry) -> None:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise WeightsError(f"the weights do not fit {entry.label}: {reason}") from error


# torchvision


def _image_network(
    entry: NetworkEntry, classes: int, pretrained: str | Path | None, frames: int, crop: int
) -> nn.Module:
    from torch import nn
    from torchvision import models

    from anonymotion.research.wrappers import OverFrames
    from anonymotion.weights import load_weights
    from anonymotion.weights.download import fetch, hub_folder

    network = models.get_model(entry.architecture, weights=None)
    if pretrained is not None:
        if pretrained == "hub":
            url = models.get_model_weights(entry.architecture)["IMAGENET1K_V1"].url
            pretrained = fetch(url, hub_folder(), "name the file as pretrained weights")
        _load(network, load_weights(Path(pretrained))[0], entry)
    if entry.architecture.startswith("vit"):
        network.heads.head = nn.Linear(network.heads.head.in_features, classes)
    else:
        network.fc = nn.Linear(network.fc.in_features, classes)
    return OverFrames(network)


# ours


def _two_stream_network(
    entry: NetworkEntry, classes: int, pretrained: str | Path | None, frames: int, crop: int
) -> nn.Module:
    from anonymotion.research.wrappers import TwoStreams

    rgb, flow = (_video_network(entry, classes, pretrained, frames, crop) for _ in range(2))
    return TwoStreams(rgb, flow, classes)


def _small_network(
    entry: NetworkEntry, classes: int, pretrained: str | Path | None, frames: int, crop: int
) -> nn.Module:
    from anonymotion.research.wrappers import Small3D

    if pretrained is not None:
        raise SettingsError(f"{entry.label} has no published weights: leave pretrained out")
    return Small3D(classes, only_flow=entry.architecture == "flow")


_BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "pytorchvideo": _video_network,
    "torchvision": _image_network,
    "e2s": _two_stream_network,
    "small": _small_network,
}
