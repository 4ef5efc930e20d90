"""Person masks of segmentation networks, with random weights: what they mean is not tested, where they go is."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from synthetic import make_clip
from tiny import patchwork
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.models import segmentation

from anonymotion import memory
from anonymotion.backbone import Backbone
from anonymotion.baselines import person_masks
from anonymotion.errors import NothingMatchedError, SettingsError, UnsupportedInputError, WeightsError
from anonymotion.methods import load_person_mask
from anonymotion.pipeline import Hider
from anonymotion.registry import PERSON_MASKS
from anonymotion.run import FileOptions, hide_video

BUILDERS = {"deeplabv3-resnet50": "deeplabv3_resnet50", "deeplabv3-mobilenet": "deeplabv3_mobilenet_v3_large"}
NAME = "deeplabv3-mobilenet"
OPTIONS: dict[str, Any] = {"method": "person-mean", "person_mask": NAME, "device": "cpu"}


@pytest.fixture(autouse=True)
def _small_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published side of 520 takes seconds a frame, and nothing here depends on it."""
    monkeypatch.setattr(person_masks, "SHORT_SIDE", 64)


@cache
def random_state(name: str) -> dict[str, Tensor]:
    """A random network with the second head that torchvision's files have; it finds a person in half of `frames`."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = getattr(segmentation, BUILDERS[name])(
            weights=None, weights_backbone=None, num_classes=21, aux_loss=True
        )
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None  # the plain mean of what it sees: random weights need it to answer at all
        with torch.no_grad():
            network.train()(prepared())
            scores = network.eval()(prepared())["out"][:, 15]
    state: dict[str, Tensor] = network.state_dict()
    assert any(key.startswith("aux_classifier.") for key in state)
    weight, bias = state["classifier.4.weight"], state["classifier.4.bias"]
    median, spread = scores.median(), scores.std()
    weight[15], bias[15] = weight[15] / spread, (bias[15] - median) / spread
    others = [number for number in range(21) if number != 15]
    weight[others], bias[others] = 0, 0
    return state


def prepared() -> Tensor:
    """The frames as the published weights take them, but smaller."""
    batch = torch.from_numpy(np.stack(frames()))
    pixels = interpolate(batch.permute(0, 3, 1, 2) / 255, size=(64, 85), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (pixels - mean) / std


def write(path: Path, name: str = NAME, bias: dict[int, float] | None = None) -> Path:
    """The random network as a file, some of the last layer's biases changed."""
    state = {key: value.clone() for key, value in random_state(name).items()}
    for number, value in (bias or {}).items():
        state["classifier.4.bias"][number] = value
    if path.suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    return path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write(tmp_path / "weights.safetensors")


def frames(count: int = 2) -> list[np.ndarray]:
    return [patchwork((48, 64), seed=number, block=8) for number in range(count)]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("deeplabv3-mobilenet", "weights.safetensors"),
        ("deeplabv3-mobilenet", "weights.pth"),
        pytest.param("deeplabv3-resnet50", "weights.pth", marks=pytest.mark.slow),
    ],
)
def test_the_mask_is_where_the_network_says_person(name: str, file: str, tmp_path: Path) -> None:
    """Against torchvision's own reading of its network."""
    mask = load_person_mask(name, write(tmp_path / file, name), torch.device("cpu"))
    assert mask is not None
    assert mask.name == name
    batch = torch.from_numpy(np.stack(frames()))
    planes = mask.planes(batch)
    assert planes.shape == (2, 1, 48, 64)
    assert planes.dtype == torch.float32
    assert 0 <= float(planes.min()) <= float(planes.max()) <= 1
    network = getattr(segmentation, BUILDERS[name])(weights=None, weights_backbone=None, num_classes=21, aux_loss=True)
    network.load_state_dict(random_state(name))
    with torch.inference_mode():
        scores = network.eval()(prepared())["out"]
    labels = interpolate(scores, size=(48, 64), mode="bilinear").argmax(dim=1)
    assert 0.05 < (labels == 15).float().mean() < 0.95
    assert ((planes[:, 0] >= 0.5) == (labels == 15)).float().mean() > 0.999


def test_every_network_of_the_registry_is_tested() -> None:
    assert {"ours", *BUILDERS} == set(PERSON_MASKS)


def test_ours_is_no_network() -> None:
    assert load_person_mask("ours", None, torch.device("cpu")) is None


def test_the_mask_goes_the_way_of_every_mask(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threshold, growth, mean colour; the backbone is not loaded."""

    def load(*_: object, **__: object) -> None:
        raise AssertionError("the backbone was loaded")

    monkeypatch.setattr(Backbone, "load", load)
    hider = Hider(person_weights=weights, dilation=5, feather=0, **OPTIONS)
    assert hider.attributes == ("person",)
    (chunk,) = hider.explain(frames())
    over = chunk.saliency[:, 0] >= 0.5
    assert 0.05 < over.float().mean() < 0.95
    assert (chunk.alpha[over] == 1).all()
    assert 0 < over.sum() < (chunk.alpha == 1).sum() < over.numel()
    for frame, output, alpha in zip(chunk.frames, chunk.output, chunk.alpha, strict=True):
        covered = alpha == 1
        mean = frame[covered].double().mean(0).round().to(torch.uint8)
        assert torch.equal(output[covered], mean.expand(int(covered.sum()), 3))
        assert torch.equal(output[~covered], frame[~covered])


@pytest.mark.parametrize(("score", "share"), [(1e4, 1.0), (-1e4, 0.0)])
def test_the_result_names_the_source(score: float, share: float, tmp_path: Path) -> None:
    path = write(tmp_path / "weights.safetensors", bias={15: score})
    clip = make_clip(tmp_path / "clip.mp4", frames=2)
    files = FileOptions(allow_empty=True, dump=tmp_path / "dump")
    result = hide_video(clip, tmp_path / "out.mp4", files=files, person_weights=path, **OPTIONS)
    assert result.mask["source"] == NAME
    assert len(result.mask["weights_sha256"]) == 64
    assert result.backbone == {"name": "none", "weights_sha256": "none", "engine": "none"}
    assert result.settings["person_mask"] == NAME
    assert result.coverage["hidden_share_mean"] == result.coverage["attributes"]["person"] == share
    assert np.load(tmp_path / "dump" / "000000.npz")["saliency"].shape[0] == 1
    if not share:
        with pytest.raises(NothingMatchedError):
            hide_video(clip, tmp_path / "none.mp4", person_weights=path, **OPTIONS)
        assert not (tmp_path / "none.mp4").exists()


def test_chunking_does_not_change_the_result(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for size in (1, 3):
        monkeypatch.setattr(memory, "MAX_CHUNK_FRAMES", size)
        results.append(list(Hider(person_weights=weights, **OPTIONS).hide(frames(3))))
    assert all(np.array_equal(*pair) for pair in zip(*results, strict=True))


def test_weights_must_be_there_and_fit(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"--person-weights.*--person-mask ours"):
        Hider(**OPTIONS)
    with pytest.raises(WeightsError, match="cannot be read"):
        Hider(person_weights=tmp_path / "none.pth", **OPTIONS)
    save_file({"backbone.conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="do not fit torchvision's deeplabv3_mobilenet_v3_large"):
        Hider(person_weights=tmp_path / "other.safetensors", **OPTIONS)


def test_scores_that_are_not_finite_stop_the_run(tmp_path: Path) -> None:
    path = write(tmp_path / "weights.safetensors", bias={3: float("nan")})
    with pytest.raises(WeightsError, match="not finite"):
        list(Hider(person_weights=path, **OPTIONS).hide(frames()))


def test_a_strip_is_refused(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(UnsupportedInputError, match="16:1"):
        list(Hider(person_weights=weights, **OPTIONS).hide([patchwork((20, 400))]))


def test_it_is_for_the_mean_colour_of_a_person_only(weights: Path) -> None:
    with pytest.raises(SettingsError, match="--method person-mean"):
        Hider(person_weights=weights, **{**OPTIONS, "method": "black"})
    with pytest.raises(SettingsError, match="--attributes"):
        Hider("hair", person_weights=weights, **OPTIONS)
    with pytest.raises(SettingsError, match="did you mean 'deeplabv3-mobilenet'"):
        Hider(**{**OPTIONS, "person_mask": "deeplab-mobilenet"})
