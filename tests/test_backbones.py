"""Every row of the registry: it builds, its keys are those of an independent implementation, its weights load."""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from anonymotion import networks
from anonymotion.backbone import Backbone
from anonymotion.errors import WeightsError
from anonymotion.networks import build_network, create
from anonymotion.patch_grid import PatchGrid
from anonymotion.registry import BACKBONES, FACETS, FeatureSpec
from anonymotion.stem import interpolate_positions

_PATH = Path(__file__).parent.parent / "benchmarks" / "backbone_reference.py"
_SPEC = importlib.util.spec_from_file_location("backbone_reference", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
reference = importlib.util.module_from_spec(_SPEC)
sys.modules["backbone_reference"] = reference
_SPEC.loader.exec_module(reference)

ROWS = pytest.mark.parametrize("name", BACKBONES)


def network_of(name: str, depth: int | None = None) -> Any:
    """A row's architecture with random weights; cut short, it is `create` with fewer blocks."""
    if depth is None:
        return reference.lively(create(BACKBONES[name]))
    return reference.lively(short_architecture(BACKBONES[name].architecture, depth))


@functools.cache
def weights_of(name: str) -> dict[str, torch.Tensor]:
    """Random weights of the row, cut to two blocks."""
    return dict(network_of(name, depth=2).state_dict())


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """`build_network` builds two blocks: naming and shapes are those of the whole."""
    monkeypatch.setattr(networks, "create", lambda entry: short_architecture(entry.architecture))


def short_architecture(architecture: str, depth: int = 2) -> Any:
    return timm.create_model(architecture, num_classes=0, dynamic_img_size=True, depth=depth)


def wrapped(name: str, network: Any) -> Backbone:
    return Backbone(name, network, BACKBONES[name].patch_size, "random", torch.device("cpu"))


def noise(side: int, width: int | None = None) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (1, side, width or side, 3), dtype=torch.uint8, generator=generator)


def largest_difference(name: str, network: Any) -> float:
    """Between our keys of the last block and those of the independent implementation, at the native grid."""
    side = reference.native_side(BACKBONES[name], network)
    wanted = FeatureSpec(name, len(network.blocks) - 1, "key", BACKBONES[name].patch_size, side)
    expected = reference.reference_keys(name, network, noise(side))
    found = wrapped(name, network).extract(noise(side), [wanted])[wanted].descriptors.flatten(1, 2)
    assert expected.abs().mean() > 0.1
    return float((found - expected).abs().max())


@ROWS
def test_weights_are_loaded_into_the_same_network_without_drawing_others_first(
    name: str, short: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "weights.safetensors"
    save_file(weights_of(name), file)
    drawn = networks.create(BACKBONES[name])
    drawn.load_state_dict(weights_of(name))
    before = torch.get_rng_state()
    loaded, _ = build_network(name, file)
    if BACKBONES[name].positions != "rotary":
        assert torch.equal(torch.get_rng_state(), before)
    for found, expected in (
        (loaded.state_dict(), drawn.state_dict()),
        (dict(loaded.named_buffers()), dict(drawn.named_buffers())),
    ):
        assert list(found) == list(expected)
        assert all(torch.equal(found[key], expected[key]) for key in expected)
    specs = [FeatureSpec(name, 1, facet, BACKBONES[name].patch_size, 112) for facet in FACETS]
    one, other = (wrapped(name, network).extract(noise(112, 160), specs) for network in (loaded, drawn))
    assert all(torch.equal(one[spec].descriptors, other[spec].descriptors) for spec in specs)


@ROWS
def test_keys_of_the_second_block_equal_those_of_transformers(name: str) -> None:
    assert largest_difference(name, network_of(name, depth=2)) < 1e-4


@pytest.mark.slow
@ROWS
def test_keys_of_the_last_block_equal_those_of_transformers(name: str) -> None:
    assert largest_difference(name, network_of(name)) < 1e-4


@pytest.mark.parametrize("name", ["dino-vits16", "dinov2-vits14-reg", "dinov3-vits16"])
def test_the_comparison_notices_a_wrong_position(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a key that ignored where its patch is would pass."""
    network = network_of(name, depth=2)
    if network.pos_embed is None:
        embed = network.rope.get_embed
        # ours gets other angles than the reference, which has its own rotation
        monkeypatch.setattr(network.rope, "get_embed", lambda shape: embed(shape).flip(0))
    else:
        expected = reference.reference_keys
        straight = network.pos_embed.data.clone()

        def flipped(*arguments: Any) -> torch.Tensor:
            network.pos_embed.data = straight.flip(1)
            try:
                return expected(*arguments)
            finally:
                network.pos_embed.data = straight

        monkeypatch.setattr(reference, "reference_keys", flipped)
    assert largest_difference(name, network) > 1e-2


@ROWS
def test_every_row_gives_every_facet_at_any_aspect_ratio(name: str) -> None:
    entry = BACKBONES[name]
    specs = [FeatureSpec(name, 1, facet, entry.patch_size, 4 * entry.patch_size) for facet in FACETS]
    network = network_of(name, depth=2)
    found = wrapped(name, network).extract(noise(60, 95), specs)
    for spec in specs:
        assert found[spec].descriptors.shape == (1, 4, 6, network.embed_dim)
        assert torch.isfinite(found[spec].descriptors).all()
    # a rotary position turns queries and keys inside the attention only
    key, query = found[specs[FACETS.index("key")]], found[specs[FACETS.index("query")]]
    assert not torch.allclose(key.descriptors, query.descriptors)


@ROWS
def test_the_registry_says_what_timm_builds(name: str) -> None:
    entry = BACKBONES[name]
    with torch.device("meta"):
        network: Any = create(entry)
    assert network.patch_embed.proj.kernel_size == (entry.patch_size, entry.patch_size)
    assert len(network.blocks) == entry.depth
    assert (network.pos_embed is None) == (entry.positions == "rotary")
    assert (getattr(network, "reg_token", None) is not None) == (entry.positions != "offset")
    assert (entry.embedded_file is None) != (entry.hub is None)


def test_the_published_setting_has_its_4015_tokens_and_runs() -> None:
    """ViT-S/8 with patches that overlap by half: stride 4 on 224x296."""
    spec = FeatureSpec("dino-vits8", 0, "key", 4, 224)
    grid = PatchGrid.of((240, 320), 8, spec)
    assert grid.rows * grid.columns == 4015
    found = wrapped("dino-vits8", network_of("dino-vits8", depth=1)).extract(noise(240, 320), [spec])[spec]
    assert found.descriptors.shape == (1, 55, 73, 384)


def cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Keys' kernel."""
    x = np.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def sampled(plane: np.ndarray, cells: int, scale: float, a: float = -0.75) -> np.ndarray:
    """Bicubic samples along the first axis at (i + 0.5) / scale - 0.5, border repeated."""
    at = (np.arange(cells) + 0.5) / scale - 0.5
    taps = np.floor(at).astype(int)[:, None] + np.arange(-1, 3)
    return np.einsum("it,it...->i...", cubic(at[:, None] - taps, a), plane[taps.clip(0, len(plane) - 1)])


@pytest.mark.parametrize("size_hw", [(5, 9), (16, 21), (55, 73)])
def test_positions_are_fitted_by_the_published_rule(size_hw: tuple[int, int]) -> None:
    """DINO and DINOv2: the factor is (cells + 0.1) / side, written out here with numpy."""
    plane = np.random.default_rng(0).normal(size=(7, 7, 3))
    expected = plane
    for axis, cells in enumerate(size_hw):
        turned = sampled(np.moveaxis(expected, axis, 0), cells, (cells + 0.1) / 7)
        expected = np.moveaxis(turned, 0, axis)
    embedding = torch.from_numpy(plane).float().reshape(1, 49, 3)
    found = interpolate_positions(embedding, size_hw, "offset")
    assert np.abs(found.reshape(*size_hw, 3).numpy() - expected).max() < 1e-5
    assert torch.equal(interpolate_positions(embedding, (7, 7), "offset"), embedding)


def test_positions_with_registers_are_fitted_to_the_exact_size() -> None:
    """Without the offset, with torch's other kernel (a = -0.5, away from the border); shrinking averages."""
    plane = np.random.default_rng(0).normal(size=(8, 8, 1))
    embedding = torch.from_numpy(plane).float().reshape(1, 64, 1)
    grown = interpolate_positions(embedding, (16, 16), "antialias").reshape(16, 16, 1).numpy()
    rows = sampled(plane, 16, 2.0, -0.5)
    expected = np.moveaxis(sampled(np.moveaxis(rows, 1, 0), 16, 2.0, -0.5), 0, 1)
    assert np.abs(grown - expected)[4:12, 4:12].max() < 1e-5
    checks = torch.tensor([1.0, -1.0] * 4).repeat(8, 1)
    shrunk = interpolate_positions(checks.reshape(1, 64, 1), (8, 2), "antialias")
    assert shrunk.abs().max() < 0.2
    assert interpolate_positions(checks.reshape(1, 64, 1), (8, 2), "offset").abs().max() > 0.5


def published(name: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """timm's weights as their publishers name them."""
    state = dict(state)
    width = state["cls_token"].shape[-1]
    if name == "dino-vits16":
        return {f"module.backbone.{key}": value for key, value in state.items()} | {"module.head.w": torch.ones(3)}
    state["mask_token"] = torch.zeros(1, width)
    if name == "dinov2-vits14-reg":
        state["register_tokens"] = state.pop("reg_token")
        state["pos_embed"] = torch.cat([torch.full((1, 1, width), 0.25), state["pos_embed"]], dim=1)
        state["cls_token"] = state["cls_token"] - 0.25
    if name == "dinov3-vits16":
        state["storage_tokens"] = state.pop("reg_token")
        state["rope_embed.periods"] = torch.ones(16)
        for number in range(2):
            for at in ("1", "2"):
                state[f"blocks.{number}.ls{at}.gamma"] = state.pop(f"blocks.{number}.gamma_{at}")
            state[f"blocks.{number}.attn.qkv.bias"] = torch.zeros(3 * width)
            state[f"blocks.{number}.attn.qkv.bias_mask"] = torch.full((3 * width,), float("nan"))
    return state


@pytest.mark.parametrize("name", ["dino-vits16", "dinov2-vits14", "dinov2-vits14-reg", "dinov3-vits16"])
@pytest.mark.usefixtures("short")
def test_weights_under_their_publishers_names_load(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = weights_of(name)
    torch.save({"teacher": published(name, own), "epoch": 3}, tmp_path / "published.pth")
    found, _ = build_network(name, tmp_path / "published.pth")
    assert capsys.readouterr().out == ""  # standard output belongs to results
    for key, value in found.state_dict().items():
        assert torch.allclose(value, own[key], atol=1e-6), key


def refused(name: str, path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        build_network(name, path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "other", "says"),
    [
        ("dino-vits8", "dino-vits16", "patch_embed"),
        ("dinov2-vits14-reg", "dinov2-vits14", "pos_embed"),
        ("dinov2-vits14", "dinov2-vits14-reg", "pos_embed"),
        ("dinov3-vits16", "dino-vits16", "do not fit"),
        ("dino-vits16", "dinov3-vits16", "pos_embed"),
    ],
)
@pytest.mark.usefixtures("short")
def test_weights_of_another_architecture_are_refused(name: str, other: str, says: str, tmp_path: Path) -> None:
    save_file(weights_of(other), tmp_path / "other.safetensors")
    message = refused(name, tmp_path / "other.safetensors")
    assert name in message or BACKBONES[name].architecture in message
    assert says in message


@pytest.mark.usefixtures("short")
def test_a_larger_grid_is_refused_and_not_resampled(tmp_path: Path) -> None:
    state = dict(weights_of("dino-vits16"))
    state["pos_embed"] = torch.zeros(1, 577, 384)
    save_file(state, tmp_path / "large.safetensors")
    assert "(1, 577, 384)" in refused("dino-vits16", tmp_path / "large.safetensors")


@pytest.mark.usefixtures("short")
def test_truncated_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "whole.safetensors"
    save_file(network_of("dino-vits16", depth=1).state_dict(), path)
    assert "do not fit" in refused("dino-vits16", path)
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:-1000])
    assert "not a whole safetensors file" in refused("dino-vits16", tmp_path / "cut.safetensors")


@pytest.mark.usefixtures("short")
def test_dinov3_weights_with_real_biases_are_refused(tmp_path: Path) -> None:
    state = published("dinov3-vits16", weights_of("dinov3-vits16"))
    state["blocks.1.attn.qkv.bias"] = torch.full((1152,), 0.1)
    torch.save(state, tmp_path / "biased.pth")
    assert "biases" in refused("dinov3-vits16", tmp_path / "biased.pth")


@pytest.mark.slow  # the hub tries six times
def test_an_unreachable_hub_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For real, not by the variable: nothing listens at this address."""
    import huggingface_hub

    monkeypatch.delenv("ANONYMOTION_OFFLINE")
    download = functools.partial(huggingface_hub.hf_hub_download, endpoint="http://127.0.0.1:9", cache_dir=tmp_path)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(WeightsError) as caught:
        build_network("dino-vits8")
    message = str(caught.value)
    assert "\n" not in message
    for part in ("model.safetensors", "timm/vit_small_patch8_224.dino", "--backbone-weights", "default backbone"):
        assert part in message


def test_without_a_connection_nothing_is_tried() -> None:
    with pytest.raises(WeightsError, match=r"ANONYMOTION_OFFLINE=1 forbids the network.*--backbone-weights"):
        build_network("dinov2-vitb14")


@pytest.mark.usefixtures("short")
def test_what_the_hub_has_cached_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    state = weights_of("dino-vits16")
    save_file(state, tmp_path / "model.safetensors")

    def download(repository: str, file_name: str, **_: Any) -> str:
        assert (repository, file_name) == ("timm/vit_small_patch16_224.dino", "model.safetensors")
        return str(tmp_path / "model.safetensors")

    monkeypatch.delenv("ANONYMOTION_OFFLINE")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    network, fingerprint = build_network("dino-vits16")
    assert len(fingerprint) == 64
    assert torch.equal(network.state_dict()["pos_embed"], state["pos_embed"])
