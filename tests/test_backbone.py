"""Patch descriptors: their grid, and that they are what timm's own forward pass computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from tiny import TINY, TINY_DEPTH, TINY_PATCH, TINY_SIDE, TINY_WIDTH, patchwork, tiny_backbone, tiny_network

from anonymotion.backbone import (
    Backbone,
    PatchFeatures,
)
from anonymotion.errors import SettingsError, UnsupportedInputError
from anonymotion.patch_grid import PatchGrid
from anonymotion.registry import BACKBONES, FACETS, BackboneEntry, FeatureSpec
from anonymotion.stem import IMAGENET_MEAN, IMAGENET_STD, projected
from anonymotion.template_bank import template_descriptor
from anonymotion.templates import TemplateLibrary
from anonymotion.weights import provenance

DINO8 = {"backbone": "dino-vits8", "stride": 4, "short_side": 224}


def spec(
    layer: int = 2, facet: str = "key", stride: int = 14, short_side: int = 56, mean: str | None = None
) -> FeatureSpec:
    return FeatureSpec(TINY, layer, facet, stride, short_side, mean)  # type: ignore[arg-type]


def images(count: int = 2, size_hw: tuple[int, int] = (56, 56), seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.stack([patchwork(size_hw, seed=seed + i) for i in range(count)]))


@pytest.mark.parametrize(
    ("image_hw", "patch", "settings", "input_hw", "cells"),
    [
        ((240, 320), 14, {"short_side": 224, "stride": 14}, (224, 294), (16, 21)),
        ((240, 320), 14, {"short_side": 448, "stride": 14}, (448, 602), (32, 43)),
        ((320, 240), 14, {"short_side": 224, "stride": 14}, (294, 224), (21, 16)),
        ((480, 640), 8, DINO8, (224, 296), (55, 73)),
        ((120, 160), 8, DINO8, (224, 296), (55, 73)),
        ((1, 1), 14, {"short_side": 14, "stride": 14}, (14, 14), (1, 1)),
    ],
)
def test_numbers_of_known_grids(
    image_hw: tuple[int, int], patch: int, settings: dict, input_hw: tuple, cells: tuple
) -> None:
    grid = PatchGrid.of(image_hw, patch, FeatureSpec(**settings))
    assert grid.input_size_hw == input_hw
    assert (grid.rows, grid.columns) == cells


@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(1, 14), st.sampled_from([56, 224]))
def test_every_grid_is_whole_and_keeps_the_aspect_ratio(height: int, width: int, stride: int, short_side: int) -> None:
    try:
        grid = PatchGrid.of((height, width), 14, FeatureSpec(stride=stride, short_side=short_side))
    except UnsupportedInputError:
        assume(False)
    assert min(grid.input_size_hw) == short_side
    for got, length in zip(grid.input_size_hw, (height, width), strict=True):
        assert got % 14 == 0
        assert abs(got - length * short_side / min(height, width)) <= 7.001
    assert (grid.rows - 1) * stride + 14 <= grid.input_size_hw[0]
    assert (grid.columns - 1) * stride + 14 <= grid.input_size_hw[1]


@given(st.integers(20, 900), st.integers(20, 900), st.integers(1, 14), st.sampled_from([56, 140]), st.data())
def test_the_pixel_at_a_cells_centre_is_in_that_cell(
    height: int, width: int, stride: int, short_side: int, data: st.DataObject
) -> None:
    try:
        grid = PatchGrid.of((height, width), 14, FeatureSpec(stride=stride, short_side=short_side))
    except UnsupportedInputError:
        assume(False)
    scale = [got / length for got, length in zip(grid.input_size_hw, (height, width), strict=True)]
    row, column = data.draw(st.integers(0, grid.rows - 1)), data.draw(st.integers(0, grid.columns - 1))
    # The centre of a patch in continuous coordinates of the image; half a pixel less is an index.
    y, x = ((cell * stride + 7) / s for cell, s in zip((row, column), scale, strict=True))
    assume(0 <= x - 0.5 < width and 0 <= y - 0.5 < height)
    assert grid.cell_at(x - 0.5, y - 0.5) == (row, column)
    if max(scale) < stride:  # otherwise several cells share a pixel
        assert grid.cell_at(int(x), int(y)) == (row, column)


@given(st.integers(1, 400), st.integers(1, 400), st.data())
def test_every_pixel_has_a_cell_and_no_other_point_has(height: int, width: int, data: st.DataObject) -> None:
    assume(1 / 8 < height / width < 8)
    grid = PatchGrid.of((height, width), 14, FeatureSpec(stride=7, short_side=56))
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    row, column = grid.cell_at(x, y)
    assert 0 <= row < grid.rows
    assert 0 <= column < grid.columns
    for outside in ((-1, y), (width, y), (x, -0.1), (x, height), (float("nan"), y)):
        with pytest.raises(SettingsError, match="outside"):
            grid.cell_at(*outside)


def test_a_ribbon_is_refused_rather_than_filling_the_memory() -> None:
    with pytest.raises(UnsupportedInputError, match="10000x10"):
        PatchGrid.of((10, 10000), 14, FeatureSpec())


def hooked(network: torch.nn.Module, batch: torch.Tensor) -> tuple[dict[int, torch.Tensor], dict[int, torch.Tensor]]:
    """timm's full forward pass: what each block's qkv put out, and each block's output, without the CLS token."""
    qkv: dict[int, torch.Tensor] = {}
    token: dict[int, torch.Tensor] = {}
    for number, block in enumerate(network.blocks):
        block.attn.qkv.register_forward_hook(lambda _m, _i, out, n=number: qkv.__setitem__(n, out[:, 1:]))
        block.register_forward_hook(lambda _m, _i, out, n=number: token.__setitem__(n, out[:, 1:]))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.inference_mode():
        network.forward_features((batch.permute(0, 3, 1, 2) / 255 - mean) / std)
    return qkv, token


def test_every_layer_and_facet_equals_timms_full_forward_pass(tiny: Backbone) -> None:
    batch = images()
    qkv, token = hooked(tiny_network(), batch)
    specs = [spec(layer, facet) for layer in range(TINY_DEPTH) for facet in FACETS]
    found = tiny.extract(batch, specs)
    assert set(found) == set(specs)
    for wanted, features in found.items():
        thirds = dict(zip(("query", "key", "value"), qkv[wanted.layer].split(TINY_WIDTH, dim=-1), strict=True))
        expected = {**thirds, "token": token[wanted.layer]}[wanted.facet]
        assert features.spec == wanted
        assert features.descriptors.dtype == torch.float32
        assert torch.allclose(features.descriptors, expected.reshape(2, TINY_SIDE, TINY_SIDE, TINY_WIDTH), atol=1e-4)
    assert len({features.descriptors.sum().item() for features in found.values()}) == len(specs)


@pytest.mark.parametrize("layer", range(TINY_DEPTH))
def test_asking_for_one_layer_gives_what_asking_for_all_gives(tiny: Backbone, layer: int) -> None:
    batch = images()
    everything = tiny.extract(batch, [spec(other, facet) for other in range(TINY_DEPTH) for facet in FACETS])
    for facet in FACETS:
        alone = tiny.extract(batch, [spec(layer, facet)])[spec(layer, facet)]
        assert torch.allclose(alone.descriptors, everything[spec(layer, facet)].descriptors, atol=1e-5)


def calls_for(specs: list[FeatureSpec]) -> dict[str, int]:
    """How often each attention and each MLP of the tiny network runs."""
    network = tiny_network()
    counts: dict[str, int] = {}
    for name, module in network.named_modules():
        if name.endswith(("attn", "mlp")):
            counts[name] = 0
            module.register_forward_hook(lambda _m, _i, _o, n=name: counts.__setitem__(n, counts[n] + 1))
    backbone = Backbone(TINY, network, TINY_PATCH, "x", torch.device("cpu"))
    backbone.extract(images(), specs)
    return counts


def test_keys_stop_before_the_attention_of_their_own_block(tiny: Backbone) -> None:
    counts = calls_for([spec(1, "key"), spec(1, "query")])
    assert counts == {
        "blocks.0.attn": 1, "blocks.0.mlp": 1,
        "blocks.1.attn": 0, "blocks.1.mlp": 0,
        "blocks.2.attn": 0, "blocks.2.mlp": 0,
    }  # fmt: skip


def test_tokens_stop_after_their_own_block_and_layers_share_one_pass(tiny: Backbone) -> None:
    counts = calls_for([spec(0, "value"), spec(1, "token"), spec(0, "key"), spec(1, "key", mean="library-1")])
    assert list(counts.values()) == [1, 1, 1, 1, 0, 0]


def test_a_batch_gives_what_its_images_give_alone(tiny: Backbone) -> None:
    batch = images(3, (60, 90))
    together = tiny.extract(batch, [spec()])[spec()].descriptors
    alone = torch.cat([tiny.extract(image[None], [spec()])[spec()].descriptors for image in batch])
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("size_hw", [(56, 56), (40, 61), (300, 33), (17, 17), (5, 9)])
@pytest.mark.parametrize("stride", [14, 7, 3])
def test_any_size_and_aspect_ratio(tiny: Backbone, size_hw: tuple[int, int], stride: int) -> None:
    features = tiny.extract(images(1, size_hw), [spec(stride=stride)])[spec(stride=stride)]
    assert features.grid == PatchGrid.of(size_hw, TINY_PATCH, spec(stride=stride))
    assert features.descriptors.shape == (1, features.grid.rows, features.grid.columns, TINY_WIDTH)
    assert torch.isfinite(features.descriptors).all()


def test_other_patch_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES, "tiny8", BackboneEntry("none", 8, TINY_DEPTH))
    wanted = FeatureSpec("tiny8", 2, "key", 4, 32)
    found = tiny_backbone(8, name="tiny8").extract(images(1, (32, 48)), [wanted])[wanted]
    assert (found.grid.rows, found.grid.columns) == (7, 11)


def test_overlapping_patches_see_the_same_pixels_as_a_shifted_image(tiny: Backbone) -> None:
    """With stride 7 every second patch is a patch of stride 14: the projections agree before positions differ."""
    network = tiny_network()
    network.pos_embed.data.zero_()
    backbone = Backbone(TINY, network, TINY_PATCH, "x", torch.device("cpu"))
    batch = images(1)
    dense = backbone.extract(batch, [spec(0, stride=7)])[spec(0, stride=7)].descriptors
    sparse = backbone.extract(batch, [spec(0)])[spec(0)].descriptors
    assert torch.allclose(dense[:, ::2, ::2], sparse, atol=1e-4)
    assert not torch.allclose(dense[:, 1::2, 1::2], sparse[:, :-1, :-1], atol=1e-2)


@pytest.mark.parametrize(
    "bad",
    [
        torch.zeros(56, 56, 3, dtype=torch.uint8),
        torch.zeros(1, 3, 56, 56, dtype=torch.uint8),
        torch.zeros(1, 56, 56, 3),
    ],
)
def test_images_of_another_layout_are_refused(tiny: Backbone, bad: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="uint8"):
        tiny.extract(bad, [spec()])


def test_specs_of_another_backbone_are_refused(tiny: Backbone) -> None:
    with pytest.raises(SettingsError, match="dino-vits8"):
        tiny.extract(images(), [FeatureSpec(**DINO8)])


def test_features_check_their_own_shape() -> None:
    with pytest.raises(ValueError, match="4x4"):
        PatchFeatures(torch.zeros(1, 5, 4, 8), FeatureSpec(short_side=56), PatchGrid((56, 56), (56, 56), 14, 14))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": "resnet"}, "dinov2-vits14-embedded"),
        ({"layer": 12}, r"0\.\.11"),
        ({"layer": -1}, r"0\.\.11"),
        ({"facet": "keys"}, "key"),
        ({"stride": 0}, r"1\.\.14"),
        ({"stride": 15}, r"1\.\.14"),
        ({"short_side": 450}, "448"),
        ({"short_side": 0}, "14"),
    ],
)
def test_a_spec_that_cannot_be_is_refused_with_what_can(change: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        FeatureSpec(**change)


def test_embedded_weights_load_and_are_the_recorded_ones(embedded_backbone: Backbone) -> None:
    assert embedded_backbone.fingerprint == provenance()["sha256"]
    assert embedded_backbone.patch_size == 14
    wanted = FeatureSpec(layer=11, short_side=112)
    found = embedded_backbone.extract(images(1, (112, 112)), [wanted])[wanted].descriptors
    assert found.shape == (1, 8, 8, 384)
    assert torch.isfinite(found).all()


def test_hair_of_one_person_is_found_on_top_of_another_persons_head(
    embedded_backbone: Backbone, library: TemplateLibrary
) -> None:
    """Meaning, not numbers: de-biased by the two pictures themselves, the best match is where hair can be."""
    wanted = FeatureSpec(layer=10, short_side=224)

    def look(name: str) -> PatchFeatures:
        picture = torch.from_numpy(library.pictures[name].read().copy())[None]
        return embedded_backbone.extract(picture, [wanted])[wanted]

    here, there = look("astronaut_face"), look("obama_face")
    mean = (here.descriptors.mean(dim=(0, 1, 2)) + there.descriptors.mean(dim=(0, 1, 2))) / 2
    template = next(t for t in library.exemplars("hair") if t.picture == "astronaut_face")
    similarity = F.cosine_similarity(there.descriptors[0] - mean, template_descriptor(template, here) - mean, dim=-1)
    row, _ = divmod(int(similarity.argmax()), there.grid.columns)
    height = there.grid.image_size_hw[0]
    y = (row + 0.5) / there.grid.rows * height
    eyes = max(t.point[1] for t in library.exemplars("eyes") if t.picture == "obama_face" and t.point)
    lips = max(t.point[1] for t in library.exemplars("lips") if t.picture == "obama_face" and t.point)
    assert y < eyes < lips
    assert similarity.max() > 0.3
    assert similarity.max() > similarity.median() + 0.3


@pytest.mark.parametrize("stride", [14, 5])
def test_a_product_of_matrices_projects_patches_as_a_convolution_does(stride: int) -> None:
    network = tiny_network().requires_grad_(False)
    pixels = torch.randn(2, 3, 56, 70, generator=torch.Generator().manual_seed(0))
    one, other = (projected(pixels, network.patch_embed.proj, stride, by_product=by) for by in (False, True))
    assert one.shape == other.shape
    assert torch.allclose(one, other, atol=1e-4 * float(one.abs().max()))
