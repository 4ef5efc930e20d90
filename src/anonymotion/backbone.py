"""Patch descriptors of a DINO ViT: images in, one vector per patch out (section 3.2 of the paper).

`Backbone.extract` runs one pass for all layers asked for and stops at the deepest of them (blocks).

`PatchGrid` is one of the two places where coordinates change their frame of reference (the other is
`flow.warp`): pixel (x, y) of the image <-> cell (row, column) of the descriptor grid.

Not here: weights and architectures (networks), what the descriptors are compared with (templates, saliency), the
de-biasing mean, what runs the blocks (blocks, backbone_openvino).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anonymotion.blocks import Engine, TorchEngine, Wanted
from anonymotion.errors import SettingsError, UnsupportedInputError
from anonymotion.networks import build_network
from anonymotion.registry import Facet, FeatureSpec, PositionRule, backbone_entry

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Attention costs the square of this: a picture many times as long as it is high would run for minutes per frame.
# 16:9 at a short side of 896 has 7,296, the published setting 4,015.
MAX_TOKENS = 8192

# Vectors per token that a block holds at a time: itself, normalised, three projections, and twice the four of its MLP.
_VECTORS_AT_WORK = 13

# Pictures that an engine is tried on have so many patches on their short side, whatever frames will have.
SAMPLE_CELLS = 32


@dataclass(frozen=True)
class PatchGrid:
    """Where the cells of a descriptor grid lie in the image they were computed from.

    The image of `image_size_hw` pixels is resized to `input_size_hw`, and cell (row, column) is the patch whose
    first pixel is (row * stride, column * stride) there.  Positions are continuous: pixel x spans [x, x + 1).
    """

    image_size_hw: tuple[int, int]
    input_size_hw: tuple[int, int]
    patch_size: int
    stride: int

    @classmethod
    def of(cls, image_size_hw: tuple[int, int], patch_size: int, spec: FeatureSpec) -> PatchGrid:
        """The grid of an image of (height, width) pixels: aspect ratio kept to the nearest whole patch."""
        height, width = image_size_hw
        short = min(height, width)

        def fit(length: int) -> int:
            return max(1, round(length * spec.short_side / short / patch_size)) * patch_size

        grid = cls(image_size_hw, (fit(height), fit(width)), patch_size, spec.stride)
        if grid.rows * grid.columns > MAX_TOKENS:
            raise UnsupportedInputError(
                f"a picture of {width}x{height} pixels gives {grid.rows * grid.columns} patches at a short side of "
                f"{spec.short_side} (at most {MAX_TOKENS}): crop it, or use a smaller --short-side"
            )
        return grid

    @property
    def rows(self) -> int:
        """Number of cells from top to bottom."""
        return (self.input_size_hw[0] - self.patch_size) // self.stride + 1

    @property
    def columns(self) -> int:
        """Number of cells from left to right."""
        return (self.input_size_hw[1] - self.patch_size) // self.stride + 1

    def _cell_positions(self, positions: Tensor, axis: int) -> Tensor:
        """Continuous image positions -> continuous cell index (0 is the centre of the first cell)."""
        scale = self.input_size_hw[axis] / self.image_size_hw[axis]
        return (positions * scale - self.patch_size / 2) / self.stride

    def cell_at(self, x: float, y: float) -> tuple[int, int]:
        """The (row, column) of the cell whose centre is nearest to pixel (x, y).

        Raises SettingsError if the pixel is not in the image.
        """
        height, width = self.image_size_hw
        if not (0 <= x < width and 0 <= y < height):
            raise SettingsError(f"point ({x}, {y}) is outside the picture of {width}x{height} pixels")
        row = self._cell_positions(torch.tensor(y + 0.5), 0).round().clamp(0, self.rows - 1)
        column = self._cell_positions(torch.tensor(x + 0.5), 1).round().clamp(0, self.columns - 1)
        return int(row), int(column)

    def interpolation(self, axis: int, device: torch.device) -> Tensor:
        """The (image size, cells) float32 matrix of bilinear interpolation along `axis` (0 rows, 1 columns).

        The centre of pixel i is at i + 0.5 (the half-pixel rule); beyond the outermost cell centres the value
        of the outermost cell continues.
        """
        cells = (self.rows, self.columns)[axis]
        centres = torch.arange(self.image_size_hw[axis], dtype=torch.float64) + 0.5
        position = self._cell_positions(centres, axis).clamp(0, cells - 1)
        lower = position.floor().clamp(max=max(cells - 2, 0)).long()
        weight = position - lower
        matrix = torch.zeros(len(centres), cells, dtype=torch.float64)
        matrix.scatter_(1, lower[:, None], 1 - weight[:, None])
        if cells > 1:
            matrix.scatter_(1, lower[:, None] + 1, weight[:, None])
        return matrix.to(device, torch.float32)


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


class Backbone:
    """A DINO ViT on one device, as a function from images to patch descriptors.

    `fingerprint` identifies the weights (SHA-256 of their file); caches of descriptors carry it.  `engine` is what runs
    the blocks, by default torch.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        patch_size: int,
        fingerprint: str,
        device: torch.device,
        engine: Engine | None = None,
    ) -> None:
        self.name = name
        self.patch_size = patch_size
        self.fingerprint = fingerprint
        self.device = device
        # timm types its modules as Any; the attributes used are those of its VisionTransformer.
        self._network: Any = network.eval().requires_grad_(False).to(device)
        self.engine = engine or TorchEngine(network)
        self._mean = torch.tensor(IMAGENET_MEAN, device=device).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(IMAGENET_STD, device=device).view(1, 3, 1, 1) * 255
        self._positions: dict[tuple[int, int], Tensor] = {}

    @classmethod
    def load(cls, name: str, device: torch.device, weights: Path | None = None, engine: str = "torch") -> Backbone:
        """Build the backbone `name` with the weights of the file `weights`, else of the package, else of the hub.

        engine: one of `registry.ENGINES`.  Raises WeightsError if there are no weights, or if they are damaged or of
        another architecture, and what `choose_engine` raises.  Touches the network only for a backbone that is not in
        the package, without `weights`.
        """
        network, fingerprint = build_network(name, weights)
        loaded = cls(name, network, backbone_entry(name).patch_size, fingerprint, device)
        if engine != "torch":
            from anonymotion.backbone_openvino import OpenVINOEngine, choose_engine

            chosen = choose_engine(engine, device, name).name
            if chosen.startswith("openvino"):
                loaded.engine = OpenVINOEngine(chosen, network, fingerprint, loaded._samples)
            elif chosen == "torch-bf16":
                loaded.engine = TorchEngine(network, bfloat16=True)
        return loaded

    def exact(self) -> Backbone:
        """The same network run by torch in float32: what is kept of it does not depend on what runs here."""
        if self.engine.name == "torch":
            return self
        return Backbone(self.name, self._network, self.patch_size, self.fingerprint, self.device)

    def working_bytes(self, grid: PatchGrid, specs: int) -> int:
        """About how much memory `extract` needs for a picture: what a block works with, and descriptors."""
        tokens = grid.rows * grid.columns + int(self._network.num_prefix_tokens)
        return 4 * int(self._network.embed_dim) * tokens * (_VECTORS_AT_WORK + specs)

    def _samples(self) -> Iterator[Tensor]:
        """Tokens of the built-in library's pictures, (1, N, D) each: photographs and renderings in turn."""
        from anonymotion.templates import TemplateLibrary

        spec = FeatureSpec(self.name, 0, "key", self.patch_size, SAMPLE_CELLS * self.patch_size)
        pictures = list(TemplateLibrary.load().pictures.values())
        for picture in pictures[::3] + pictures[1::3] + pictures[2::3]:
            image = torch.from_numpy(picture.read().copy())[None]
            grid = PatchGrid.of((image.shape[1], image.shape[2]), self.patch_size, spec)
            yield self._embed(image, grid)

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
        size_hw = (images.shape[1], images.shape[2])
        for short_side, stride in dict.fromkeys((spec.short_side, spec.stride) for spec in specs):
            group = [spec for spec in specs if (spec.short_side, spec.stride) == (short_side, stride)]
            grid = PatchGrid.of(size_hw, self.patch_size, group[0])
            wanted = tuple(dict.fromkeys((spec.layer, spec.facet) for spec in group))
            maps = self._forward(images, grid, wanted)
            result.update((spec, PatchFeatures(maps[spec.layer, spec.facet], spec.raw, grid)) for spec in group)
        return result

    def _forward(self, images: Tensor, grid: PatchGrid, wanted: Wanted) -> dict[tuple[int, Facet], Tensor]:
        """One pass over the blocks, collecting (layer, facet) -> (T, rows, columns, D)."""
        # DINOv3 turns queries and keys by their position inside the attention.
        rope = getattr(self._network, "rope", None)
        rotary = None if rope is None else rope.get_embed(shape=(grid.rows, grid.columns))
        found = self.engine.run(self._embed(images, grid), wanted, rotary)
        return {
            pair: vectors.reshape(len(vectors), grid.rows, grid.columns, -1)
            for pair, vectors in zip(wanted, found, strict=True)
        }

    @torch.inference_mode()
    def _embed(self, images: Tensor, grid: PatchGrid) -> Tensor:
        """Images -> tokens with positional embedding, (T, prefix + cells, D); what timm does for stride = patch."""
        # on a CPU one by one: what a frame needs stays in its cache, and the same memory is used again
        size = 1 if self.device.type == "cpu" else len(images)
        return torch.cat([self._tokens(part, grid) for part in torch.split(images, size)])

    def _tokens(self, images: Tensor, grid: PatchGrid) -> Tensor:
        network = self._network
        # resized channel by channel and projected pixel by pixel: what each is faster with
        pixels = images.to(self.device).permute(0, 3, 1, 2).float().contiguous()
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
            prefix = 0 if self._network.no_embed_class else self._network.num_prefix_tokens
            rule = backbone_entry(self.name).positions
            grid_part = interpolate_positions(embedding[:, prefix:], size_hw, rule)
            self._positions[size_hw] = torch.cat([embedding[:, :prefix], grid_part], dim=1)
        return self._positions[size_hw]
