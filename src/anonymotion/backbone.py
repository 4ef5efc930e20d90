"""Patch descriptors of a DINO ViT: images in, one vector per patch out (section 3.2 of the paper).

`Backbone.extract` runs one pass for all layers asked for and stops at the deepest of them (blocks).

Not here: weights and architectures (networks), where patches lie (patch_grid), images to tokens (stem), what runs the
blocks (blocks, backbone_openvino), what the descriptors are compared with (templates, saliency), the de-biasing mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from anonymotion.backbone_torch import TorchEngine
from anonymotion.blocks import Engine, Wanted
from anonymotion.errors import SettingsError
from anonymotion.networks import LazyNetwork, build_network, embedded_network, whole
from anonymotion.patch_grid import PatchGrid
from anonymotion.registry import FeatureSpec, backbone_entry
from anonymotion.stem import Stem

# Vectors per token that a block holds at a time: itself, normalised, three projections, and twice the four of its MLP.
_VECTORS_AT_WORK = 13

# Pictures that an engine is tried on have so many patches on their short side, whatever frames will have.
SAMPLE_CELLS = 32


@dataclass(frozen=True)
class PatchFeatures:
    """Descriptors of a batch of images of one size.

    descriptors: (T, rows, columns, D) float32.
    """

    descriptors: Tensor
    spec: FeatureSpec
    grid: PatchGrid

    def __post_init__(self) -> None:
        if self.descriptors.ndim != 4 or self.descriptors.shape[1:3] != (self.grid.rows, self.grid.columns):
            raise ValueError(
                f"descriptors of shape {tuple(self.descriptors.shape)} do not fit a grid of "
                f"{self.grid.rows}x{self.grid.columns} cells"
            )


class Backbone:
    """A DINO ViT on one device, as a function from images to patch descriptors.

    `fingerprint` identifies the weights (SHA-256 of their file); caches of descriptors carry it.  `engine` is what runs
    the blocks, by default torch; a `network` that is lazy is built when something needs its blocks.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module | LazyNetwork,
        patch_size: int,
        fingerprint: str,
        device: torch.device,
        engine: Engine | None = None,
    ) -> None:
        self.name = name
        self.patch_size = patch_size
        self.fingerprint = fingerprint
        self.device = device
        self._network = network
        if isinstance(network, nn.Module):
            network.eval().requires_grad_(False).to(device)
        self.stem = Stem(network, backbone_entry(name).positions, device)
        self.engine = engine or TorchEngine(whole(network).to(device))

    @classmethod
    def load(cls, name: str, device: torch.device, weights: Path | None = None, engine: str = "torch") -> Backbone:
        """Build the backbone `name` with the weights of the file `weights`, else of the package, else of the hub.

        engine: one of `registry.ENGINES`.  Raises WeightsError if there are no weights, or if they are damaged or of
        another architecture, and what `choose_engine` raises.  Touches the network only for a backbone that is not in
        the package, without `weights`.
        """
        entry, chosen = backbone_entry(name), engine
        if engine != "torch":
            from anonymotion.backbone_openvino import OpenVINOEngine, choose_engine

            chosen = choose_engine(engine, device, name).name
        if not chosen.startswith("openvino"):
            network, fingerprint = build_network(name, weights)
            loaded = cls(name, network, entry.patch_size, fingerprint, device)
            if chosen == "torch-bf16":
                loaded.engine = TorchEngine(network, bfloat16=True)
            return loaded
        lazy = weights is None and entry.embedded_file is not None
        given, fingerprint = embedded_network(name, device) if lazy else build_network(name, weights)
        converted = OpenVINOEngine(chosen, given, fingerprint, partial(samples_of, name, given))
        return cls(name, given, entry.patch_size, fingerprint, device, converted)

    @property
    def takes_parts(self) -> bool:
        """Whether it pays to compute some patches of a frame only, and is possible (blocks.BlocksInContext).

        Not on graphics cards, which would wait for the choice of patches; nor where blocks turn keys by position.
        """
        turns_keys = backbone_entry(self.name).positions == "rotary"
        return self.engine.takes_parts and self.device.type == "cpu" and not turns_keys

    def exact(self) -> Backbone:
        """The same network run by torch in float32: what is kept of it does not depend on what runs here."""
        if self.engine.name == "torch":
            return self
        return Backbone(self.name, self._network, self.patch_size, self.fingerprint, self.device)

    def working_bytes(self, grid: PatchGrid, specs: int) -> int:
        """About how much memory `extract` needs for a picture: what a block works with, and descriptors."""
        tokens = grid.rows * grid.columns + self.stem.prefix_tokens
        return 4 * self.stem.width * tokens * (_VECTORS_AT_WORK + specs)

    def extract(self, images: Tensor, specs: Sequence[FeatureSpec]) -> dict[FeatureSpec, PatchFeatures]:
        """Descriptors of `images`, (T, H, W, 3) uint8 RGB on any device, for each of `specs`.

        Specs that differ only in layer, facet or mean share one pass.  The `mean` of a spec is not applied
        here: that is done where descriptors are compared.
        """
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != torch.uint8:
            raise ValueError(f"images must be (T, H, W, 3) uint8, not {tuple(images.shape)} {images.dtype}")
        foreign = {spec.backbone for spec in specs} - {self.name}
        if foreign:
            raise SettingsError(f"specs of {', '.join(sorted(foreign))} were asked of the backbone {self.name}")
        result: dict[FeatureSpec, PatchFeatures] = {}
        for short_side, stride in dict.fromkeys((spec.short_side, spec.stride) for spec in specs):
            group = [spec for spec in specs if (spec.short_side, spec.stride) == (short_side, stride)]
            grid = PatchGrid.of((images.shape[1], images.shape[2]), self.patch_size, group[0])
            wanted = wanted_of(group)
            found = self.engine.run(self.stem.tokens(images, grid), wanted, self.stem.rotary(grid))
            result.update(features_of(found, wanted, grid, group))
        return result


def wanted_of(specs: Sequence[FeatureSpec]) -> Wanted:
    """What an engine is asked for to have descriptors of all specs, which have one size and stride."""
    return tuple(dict.fromkeys((spec.layer, spec.facet) for spec in specs))


def features_of(
    found: tuple[Tensor, ...], wanted: Wanted, grid: PatchGrid, specs: Sequence[FeatureSpec]
) -> dict[FeatureSpec, PatchFeatures]:
    """What an engine gave, (T, cells, D) for each of `wanted`, by spec."""
    maps = dict(zip(wanted, found, strict=True))
    shape = (len(found[0]), grid.rows, grid.columns, -1)
    return {spec: PatchFeatures(maps[spec.layer, spec.facet].reshape(shape), spec.raw, grid) for spec in specs}


def samples_of(name: str, network: nn.Module | LazyNetwork) -> Iterator[Tensor]:
    """Tokens of the built-in library's pictures, (1, N, D) each, on the CPU: photographs and renderings in turn."""
    from anonymotion.templates import TemplateLibrary

    entry = backbone_entry(name)
    stem, patch = Stem(network, entry.positions, torch.device("cpu")), entry.patch_size
    spec = FeatureSpec(name, 0, "key", patch, SAMPLE_CELLS * patch)
    pictures = list(TemplateLibrary.load().pictures.values())
    for picture in pictures[::3] + pictures[1::3] + pictures[2::3]:
        image = torch.from_numpy(picture.read().copy())[None]
        yield stem.tokens(image, PatchGrid.of((image.shape[1], image.shape[2]), patch, spec))
