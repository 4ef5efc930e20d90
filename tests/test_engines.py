"""What runs the blocks: OpenVINO gives what torch gives, is chosen where it can, and trusts no damaged cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import TINY, TINY_DEPTH, TINY_SIDE, TINY_WIDTH, tiny_network

from anonymotion import backbone_openvino, masks
from anonymotion.backbone import Backbone
from anonymotion.backbone_openvino import OpenVINOEngine, choose_engine
from anonymotion.backbone_torch import TorchEngine
from anonymotion.blocks import Wanted
from anonymotion.descriptor_cache import user_cache_folder
from anonymotion.doctor import _engine
from anonymotion.errors import DeviceError, MissingDependencyError, SettingsError
from anonymotion.networks import LazyNetwork, create
from anonymotion.patch_grid import PatchGrid
from anonymotion.pipeline import Hider
from anonymotion.registry import ENGINES, FACETS, FeatureSpec, backbone_entry
from anonymotion.run import hide_video
from anonymotion.sample import make_sample
from anonymotion.templates import TemplateLibrary

EVERYTHING: Wanted = tuple((layer, facet) for layer in range(TINY_DEPTH) for facet in FACETS)
CPU = torch.device("cpu")


@pytest.fixture
def openvino() -> Any:
    pytest.importorskip("openvino")
    return backbone_openvino.load_openvino()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own; the folder of converted models in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return user_cache_folder() / "openvino"


def tokens(count: int = 2, cells: int = TINY_SIDE**2, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 1 + cells, TINY_WIDTH, generator=torch.Generator().manual_seed(seed))


def samples() -> Iterator[torch.Tensor]:
    for seed in range(3):
        yield tokens(1, 20 + seed, seed)


def engine(name: str = "openvino", fingerprint: str = "tiny", seed: int = 0) -> OpenVINOEngine:
    return OpenVINOEngine(name, tiny_network(seed=seed), fingerprint, samples)


def cosine(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(F.cosine_similarity(first, second, dim=-1).mean())


# The same vectors


@pytest.mark.parametrize("cells", [1, 16, 45])
def test_every_layer_and_facet_is_torchs(openvino: Any, cells: int) -> None:
    batch = tokens(3, cells)
    expected = TorchEngine(tiny_network()).run(batch, EVERYTHING, None)
    found = engine().run(batch, EVERYTHING, None)
    assert len(found) == len(EVERYTHING)
    for own, right in zip(found, expected, strict=True):
        assert own.dtype == torch.float32
        assert own.shape == right.shape == (3, cells, TINY_WIDTH)
        assert torch.allclose(own, right, atol=1e-3 * float(right.abs().max()))


def test_a_result_is_not_overwritten_by_the_next_one(openvino: Any) -> None:
    one = engine()
    first = one.run(tokens(1, seed=1), ((2, "key"),), None)[0]
    before = first.clone()
    second = one.run(tokens(1, seed=2), ((2, "key"),), None)[0]
    assert torch.equal(first, before)
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_frames_given_together_have_the_bits_of_those_given_alone(openvino: Any, count: int) -> None:
    together = engine().run(tokens(count), EVERYTHING, None)
    alone = [engine().run(one[None], EVERYTHING, None) for one in tokens(count)]
    for number, vectors in enumerate(together):
        assert torch.equal(vectors, torch.cat([found[number] for found in alone]))


def test_no_thread_is_pinned_to_a_core(openvino: Any) -> None:
    compiled = engine()._request(EVERYTHING).get_compiled_model()
    assert compiled.get_property("ENABLE_CPU_PINNING") is False


def test_what_is_converted_ends_at_the_deepest_block_wanted(openvino: Any) -> None:
    def attentions(wanted: Wanted) -> int:
        model = engine()._make(wanted)
        return sum(node.get_type_name() == "ScaledDotProductAttention" for node in model.get_ops())

    assert attentions(((0, "key"),)) == 0
    assert attentions(((1, "value"), (0, "query"))) == 1
    assert attentions(((1, "token"),)) == 2


def test_eight_bits_are_near_torch_and_not_the_same(openvino: Any) -> None:
    pytest.importorskip("nncf")
    wanted: Wanted = ((0, "value"), (1, "key"))
    found = engine("openvino-int8").run(tokens(), wanted, None)
    for own, right in zip(found, TorchEngine(tiny_network()).run(tokens(), wanted, None), strict=True):
        assert cosine(own, right) > 0.99
        assert not torch.allclose(own, right, atol=1e-5)


def test_a_backbone_gives_the_same_with_every_engine(
    openvino: Any, tiny: Backbone, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = torch.randint(0, 256, (2, 60, 80, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    specs = [FeatureSpec(TINY, layer, facet, 14, 56) for layer, facet in ((2, "key"), (1, "value"))]  # type: ignore[arg-type]
    expected = tiny.extract(batch, specs)
    other = Backbone(TINY, tiny_network(), 14, tiny.fingerprint, CPU, engine(fingerprint=tiny.fingerprint))
    found = other.extract(batch, specs)
    for spec in specs:
        assert found[spec].grid == expected[spec].grid
        assert cosine(found[spec].descriptors, expected[spec].descriptors) > 0.9999
    assert other.exact().engine.name == "torch"
    assert torch.equal(other.exact().extract(batch, specs)[specs[0]].descriptors, expected[specs[0]].descriptors)
    assert tiny.exact() is tiny


# Built when it is needed


def test_the_embedded_network_gives_the_same_whether_or_not_its_blocks_were_built(openvino: Any) -> None:
    """With converted blocks timm is not needed; `exact` and conversions build what is missing."""
    name = "dinov2-vits14-embedded"
    images = torch.randint(0, 256, (2, 60, 80, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    spec = FeatureSpec(name, 9, "key", 14, 70)
    built, lazy = Backbone.load(name, CPU), Backbone.load(name, CPU, engine="openvino")
    grid = PatchGrid.of((60, 80), 14, spec)
    assert isinstance(lazy._network, LazyNetwork)
    assert lazy.fingerprint == built.fingerprint
    assert torch.equal(lazy.stem.tokens(images, grid), built.stem.tokens(images, grid))
    assert lazy.working_bytes(grid, 1) == built.working_bytes(grid, 1)
    expected = built.extract(images, [spec])[spec].descriptors
    assert cosine(lazy.extract(images, [spec])[spec].descriptors, expected) > 0.9999
    assert torch.equal(lazy.exact().extract(images, [spec])[spec].descriptors, expected)


def test_once_all_is_kept_a_run_imports_neither_timm_nor_an_optimiser(openvino: Any, tmp_path: Path) -> None:
    """They would take longer to import than a picture takes to hide."""
    make_sample(tmp_path / "clip.mp4", frames=2)
    code = (
        "import sys\nfrom anonymotion.run import hide_video\n"
        "from anonymotion.run import FileOptions\n"
        "hide_video(sys.argv[1], sys.argv[2], 'arm', files=FileOptions(force=True))\n"
        "print(*sorted({'timm', 'torchvision', 'torch._dynamo'} & set(sys.modules)))"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-c", code, str(tmp_path / "clip.mp4"), str(tmp_path / "out.mp4")]
    first, second = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()
        for _ in range(2)
    )
    assert "timm" in first
    assert second == ""


# bfloat16 by torch


@pytest.mark.parametrize("cells", [1, 16, 45])
def test_bfloat16_is_near_and_comes_back_as_float32(cells: int) -> None:
    network, batch = tiny_network(), tokens(2, cells)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    one = TorchEngine(network, bfloat16=True)
    found, expected = (which.run(batch, EVERYTHING, None) for which in (one, TorchEngine(network)))
    for own, right in zip(found, expected, strict=True):
        assert own.dtype == torch.float32
        assert own.shape == right.shape
        assert cosine(own, right) > 0.999
        assert not torch.equal(own, right)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_what_blocks_add_up_is_not_rounded_to_bfloat16() -> None:
    """In bfloat16 1000 + 0.125 is 1000."""
    network: Any = tiny_network()
    for block in network.blocks:
        for parameter in (*block.attn.parameters(), *block.mlp.parameters()):
            torch.nn.init.zeros_(parameter)
        torch.nn.init.constant_(block.mlp.fc2.bias, 0.125)
    batch = torch.full((1, 4, TINY_WIDTH), 1000.0)
    (found,) = TorchEngine(network, bfloat16=True).run(batch, ((TINY_DEPTH - 1, "token"),), None)
    assert torch.equal(found, torch.full((1, 3, TINY_WIDTH), 1000 + TINY_DEPTH * 0.125))


def test_attention_is_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fused(*_: Any, **__: Any) -> None:
        raise RuntimeError("fused")

    one = TorchEngine(tiny_network(), bfloat16=True)
    monkeypatch.setattr(F, "scaled_dot_product_attention", fused)
    with pytest.raises(RuntimeError, match="fused"):
        one.run(tokens(), ((1, "key"),), None)


def test_what_is_kept_of_a_library_is_float32s_whatever_runs(tiny: Backbone) -> None:
    low = Backbone(TINY, tiny._network, 14, tiny.fingerprint, CPU, TorchEngine(tiny._network, bfloat16=True))
    assert low.exact() is not low
    assert low.exact().engine.name == "torch"
    batch = torch.randint(0, 256, (1, 60, 80, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    spec = FeatureSpec(TINY, 2, "key", 14, 56)
    expected = tiny.extract(batch, [spec])[spec].descriptors
    assert torch.equal(low.exact().extract(batch, [spec])[spec].descriptors, expected)
    assert not torch.equal(low.extract(batch, [spec])[spec].descriptors, expected)


def test_keys_turned_by_position_can_be_bfloat16() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: Any = create(backbone_entry("dinov3-vits16")).eval()
        batch = torch.randn(1, network.num_prefix_tokens + 6, network.embed_dim)
    rotary = network.rope.get_embed(shape=(2, 3))
    wanted: Wanted = ((1, "key"), (2, "token"))
    found, right = (TorchEngine(network, bfloat16=low).run(batch, wanted, rotary) for low in (True, False))
    for own, expected in zip(found, right, strict=True):
        assert cosine(own, expected) > 0.999


@pytest.mark.gpu
def test_on_a_graphics_card_both_precisions_are_the_processors() -> None:
    network = tiny_network()
    expected = TorchEngine(network).run(tokens(2, 45), EVERYTHING, None)
    network = network.cuda()
    for low, least in ((False, 0.999999), (True, 0.999)):
        found = TorchEngine(network, bfloat16=low).run(tokens(2, 45).cuda(), EVERYTHING, None)
        for own, right in zip(found, expected, strict=True):
            assert cosine(own.cpu(), right) > least


# The cache


def test_a_converted_model_is_kept_for_this_user_alone_and_found_again(
    openvino: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: Wanted = ((1, "key"),)
    first = engine().run(tokens(), wanted, None)[0]
    (folder,) = cache.iterdir()
    assert folder.stat().st_mode & 0o777 == cache.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in folder.iterdir()} == {"model.xml", "model.bin", "sha256.json"}
    monkeypatch.setattr(OpenVINOEngine, "_make", lambda *_: pytest.fail("converted again"))
    assert torch.equal(engine().run(tokens(), wanted, None)[0], first)
    # of another number of tokens too, and for bfloat16 where there is that
    assert engine().run(tokens(1, 30), wanted, None)[0].shape == (1, 30, TINY_WIDTH)


@pytest.mark.parametrize(
    ("name", "damage"),
    [("model.xml", "changed"), ("model.bin", "changed"), ("model.bin", "cut"), ("sha256.json", "gone")],
)
def test_a_damaged_model_is_made_again(openvino: Any, cache: Path, name: str, damage: str) -> None:
    wanted: Wanted = ((1, "key"),)
    expected = engine().run(tokens(), wanted, None)[0]
    (folder,) = cache.iterdir()
    path = folder / name
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        middle = len(whole) // 2
        changed = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        path.write_bytes(whole[:middle] if damage == "cut" else changed)
    assert torch.equal(engine().run(tokens(), wanted, None)[0], expected)
    assert json.loads((folder / "sha256.json").read_text()) == backbone_openvino._sums(folder)


def test_everything_that_decides_a_model_is_in_its_key(openvino: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted: Wanted = ((1, "key"),)
    keys = [
        engine()._key(wanted),
        engine()._key(((1, "value"),)),
        engine(fingerprint="other")._key(wanted),
        engine("openvino-int8")._key(wanted),
    ]
    monkeypatch.setattr(backbone_openvino, "installed_version", lambda name: f"{name} of tomorrow")
    keys += [engine()._key(wanted), engine("openvino-int8")._key(wanted)]
    assert len(set(keys)) == len(keys)


def test_a_cache_that_cannot_be_written_costs_only_time(openvino: Any, cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder should be")
    assert engine().run(tokens(), ((1, "key"),), None)[0].shape == (2, TINY_SIDE**2, TINY_WIDTH)


def test_a_model_that_disagrees_with_torch_is_refused_and_not_kept(
    openvino: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = engine(seed=5)._make(((1, "key"),))
    monkeypatch.setattr(OpenVINOEngine, "_make", lambda *_: wrong)
    with pytest.raises(DeviceError, match=r"other descriptors than torch.*--engine torch"):
        engine().run(tokens(), ((1, "key"),), None)
    assert not cache.exists()


# The choice


def test_auto_takes_openvino_on_a_cpu_in_the_precision_that_it_computes_with(
    openvino: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for able, expected in ((True, "openvino-bf16"), (False, "openvino")):
        monkeypatch.setattr(backbone_openvino, "computes_bf16", lambda able=able: able)
        assert choose_engine("auto", CPU, TINY).name == expected
    with pytest.raises(DeviceError, match="--engine openvino"):
        choose_engine("openvino-bf16", CPU, TINY)


@pytest.mark.parametrize(("able", "expected"), [(True, "torch-bf16"), (False, "torch")])
def test_auto_takes_bfloat16_on_a_graphics_card_that_computes_with_it(
    monkeypatch: pytest.MonkeyPatch, able: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: able)
    choice = choose_engine("auto", torch.device("cuda"), TINY)
    assert choice.name == expected
    assert "bfloat16" in choice.reason
    assert choose_engine("torch", torch.device("cuda"), TINY).name == "torch"
    assert choose_engine("torch-bf16", CPU, TINY).name == "torch-bf16"


def test_auto_takes_torch_where_openvino_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_engine("auto", CPU, "dinov3-vits16").name == "torch"
    monkeypatch.setattr(backbone_openvino, "find_spec", lambda _: None)
    choice = choose_engine("auto", CPU, TINY)
    assert choice.name == "torch"
    assert "anonymotion[openvino]" in choice.reason


def test_what_was_asked_for_by_name_is_an_error_where_it_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="one of auto, torch"):
        choose_engine("onnx", CPU, TINY)
    with pytest.raises(SettingsError, match=r"device is cuda.*--engine torch"):
        choose_engine("openvino", torch.device("cuda"), TINY)
    with pytest.raises(SettingsError, match="turns its keys"):
        choose_engine("openvino", CPU, "dinov3-vits16")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependencyError, match=r"anonymotion\[openvino\]"):
        choose_engine("openvino", CPU, TINY)


def test_eight_bits_need_nncf(openvino: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone_openvino, "find_spec", lambda name: None if name == "nncf" else object())
    with pytest.raises(MissingDependencyError, match="NNCF"):
        choose_engine("openvino-int8", CPU, TINY)


def test_doctor_says_which_engine_and_why(openvino: Any) -> None:
    assert _engine("cpu", "torch") == {"name": "torch", "reason": "torch was asked for"}
    found = _engine("cpu", "auto")
    assert found["name"] in ENGINES
    assert "OpenVINO is installed" in found["reason"]


def test_openvino_and_nncf_are_imported_without_their_telemetry(openvino: Any) -> None:
    code = (
        "from anonymotion.backbone_openvino import load_openvino; load_openvino(); import nncf, sys; "
        "from openvino.tools import ovc; from nncf.telemetry.wrapper import telemetry; "
        "print(type(ovc.telemetry).__module__, type(telemetry).__module__, sys.modules['openvino_telemetry'])"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "unittest.mock", "None"], done.stderr


# The real network


def planes_mask(hider: Hider, image: np.ndarray) -> torch.Tensor:
    (_, planes), *_ = hider.saliency([image])
    thresholds = torch.tensor([hider.settings.threshold[name] for name in hider.attributes])
    return masks.threshold_union(torch.from_numpy(planes)[None], thresholds)[0]


def real_engines() -> list[str]:
    names = ["torch-bf16", "openvino", "openvino-bf16"]
    if backbone_openvino.find_spec("openvino") is None or not backbone_openvino.computes_bf16():
        names.remove("openvino-bf16")
    return names


@pytest.mark.parametrize("name", real_engines())
def test_descriptors_and_masks_of_real_pictures_are_torchs(name: str, library: TemplateLibrary) -> None:
    if name.startswith("openvino"):
        pytest.importorskip("openvino")
    hiders = {which: Hider("face,hair,torso,hand", engine=which) for which in ("torch", name)}
    both = either = 0
    for picture in ("astronaut",):
        image = library.pictures[picture].read()
        batch = torch.from_numpy(image.copy())[None]
        assert all(hider.backbone is not None for hider in hiders.values())
        specs = [hiders[name].settings.spec_of(attribute) for attribute in ("eyes", "hair", "torso")]
        expected, found = (hiders[which].backbone.extract(batch, specs) for which in ("torch", name))  # type: ignore[union-attr]
        for spec in specs:
            assert cosine(found[spec].descriptors, expected[spec].descriptors) >= 0.999
        first, second = (planes_mask(hiders[which], image) for which in ("torch", name))
        both, either = both + int((first & second).sum()), either + int((first | second).sum())
    assert either > 1000
    assert both / either >= 0.99


@pytest.mark.slow
def test_the_engine_is_in_the_result_and_its_output_is_torchs(openvino: Any, tmp_path: Path) -> None:
    make_sample(tmp_path / "clip.mp4", frames=3)
    shares = {}
    for name in ("torch", "auto"):
        result = hide_video(tmp_path / "clip.mp4", tmp_path / f"{name}.mp4", "face", engine=name)
        shares[result.as_json()["backbone"]["engine"]] = result.coverage["hidden_share_mean"]
    assert len(shares) == 2
    assert shares["torch"] == pytest.approx(min(shares.values()), rel=0.02)


INTERRUPTED_AFTERWARDS = """
import os, signal, sys, threading
sys.path.insert(0, {tests!r})
from test_engines import engine, tokens
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the shell that runs the tests does with it
kept = [engine()]
kept[0].run(tokens(), ((0, "key"),), None)
other = threading.Thread(target=kept.clear)
other.start()
other.join()
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_an_interrupt_after_a_thread_let_go_of_the_last_engine_is_only_an_interrupt(openvino: Any, cache: Path) -> None:
    code = INTERRUPTED_AFTERWARDS.format(tests=str(Path(__file__).parent))
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "interrupted\n"), found.stderr
