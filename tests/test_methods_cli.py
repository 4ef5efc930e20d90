"""`hide --method` and the switches of the ablations, as a user types them, with the tiny network behind them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import make_clip
from tiny import nine_attributes
from typer.testing import CliRunner, Result

from anonymotion import pipeline, video
from anonymotion.backbone import Backbone
from anonymotion.cli import app
from anonymotion.flow import FlowEstimator
from anonymotion.registry import ATTRIBUTES, METHODS
from anonymotion.templates import TemplateLibrary

NAIVE = tuple(name for name in METHODS if name != "noise")
TINY_FLAGS = ("--layer", "2", "--stride", "14", "--short-side", "56")


@pytest.fixture
def clip(tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clip; the command loads the tiny network and a generated library of the nine attributes."""
    library = nine_attributes(tmp_path / "library")
    monkeypatch.setattr(Backbone, "load", lambda *_: tiny)
    monkeypatch.setattr(TemplateLibrary, "load", lambda *_: library)
    return make_clip(tmp_path / "clip.mp4", frames=3)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def hidden(*arguments: object) -> dict[str, Any]:
    result = invoke("hide", *arguments, "--json")
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def dumped(folder: Path, key: str) -> np.ndarray:
    paths = sorted(folder.glob("*.npz"))
    assert len(paths) == 3
    return np.stack([np.load(path)[key] for path in paths])


@pytest.mark.parametrize("name", NAIVE)
def test_every_method_runs_with_and_without_attributes(name: str, clip: Path, tmp_path: Path) -> None:
    flags = ("--method", name, "--threshold", "0.3", *TINY_FLAGS)
    document = hidden(clip, "-o", tmp_path / "whole.mp4", *flags)
    assert document["settings"]["method"] == name
    assert document["attributes"] == (list(ATTRIBUTES) if name == "person-mean" else [])
    assert bool(document["not_for_release"]) == (name != "black")
    inside = hidden(clip, "-o", tmp_path / "part.mp4", "-a", "hair", *flags, "--dump", tmp_path / "dump")
    assert inside["attributes"] == ["hair"]
    assert inside["mask"] == {"source": "templates"}
    outside = dumped(tmp_path / "dump", "mask") == 0
    assert 0 < inside["coverage"]["hidden_share_mean"] < 1
    assert np.array_equal(dumped(tmp_path / "dump", "output")[outside], dumped(tmp_path / "dump", "image")[outside])


def test_what_is_printed_names_the_method_and_its_mask(clip: Path, tmp_path: Path) -> None:
    whole = invoke("hide", clip, "-o", tmp_path / "a.mp4", "--method", "blur-weak", *TINY_FLAGS)
    assert "hid the whole frame in 3 frames (100.0% of the pixels) with blur-weak on" in whole.stderr
    assert "not for release: a blur" in whole.stderr
    flags = ("-a", "hair", "--threshold", "0.3", *TINY_FLAGS)
    part = invoke("hide", clip, "-o", tmp_path / "b.mp4", "--method", "black", *flags)
    assert "with black (mask: templates, dinov2-vits14-embedded) on" in part.stderr
    assert "not for release" not in part.stderr
    ours = invoke("hide", clip, "-o", tmp_path / "c.mp4", *flags)
    assert "with dinov2-vits14-embedded and dis on" in ours.stderr


def test_black_is_black_in_the_file(clip: Path, tmp_path: Path) -> None:
    hidden(clip, "-o", tmp_path / "out.mp4", "--method", "black", *TINY_FLAGS)
    with video.open_source(tmp_path / "out.mp4") as source:
        assert max(frame.image.max() for frame in source) <= 2


def test_the_two_scales_are_a_flag(clip: Path, tmp_path: Path) -> None:
    flags = ("--method", "pixelate-16", *TINY_FLAGS)
    hidden(clip, "-o", tmp_path / "a.mp4", *flags, "--at-native", "--dump", tmp_path / "native")
    hidden(clip, "-o", tmp_path / "b.mp4", *flags, "--dump", tmp_path / "paper")
    native, paper = (dumped(tmp_path / name, "output")[0] for name in ("native", "paper"))
    blocks = native.reshape(4, 16, 6, 16, 3)
    assert (blocks == blocks[:, :1, :, :1]).all()
    assert len(np.unique(paper.reshape(-1, 3), axis=0)) > 50, "at a short side of 224 a block is 4.6 of these pixels"


@pytest.mark.parametrize(
    ("flags", "status", "expected"),
    [
        ((), 2, "--attributes"),
        (("--method", "noise"), 2, "--attributes"),
        (("--method", "pixelat-4"), 1, "did you mean 'pixelate-4'"),
        (("--method", "black", "--preset", "paper-debiased"), 1, "--composite replace"),
        (("--method", "black", "--at-native"), 1, "at_native"),
        (("--method", "black", "--person-mask", "deeplabv3-resnet50"), 1, "person-mean"),
        (("--method", "person-mean", "--person-mask", "deeplabv3-resnet50"), 1, "--person-weights"),
        (("--method", "black", "-a", "hiar"), 1, "did you mean 'hair'"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    flags: tuple[str, ...], status: int, expected: str, clip: Path, tmp_path: Path
) -> None:
    result = invoke("hide", clip, "-o", tmp_path / "out.mp4", *flags, *TINY_FLAGS)
    assert result.exit_code == status, result.output
    assert expected in result.stderr
    if status == 1:
        assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out.mp4").exists()


# The ablations: attributes, their aggregation, the noise

FOUR = ("hair", "torso", "arm", "leg")


@pytest.mark.parametrize(
    "names",
    [*((name,) for name in ATTRIBUTES), FOUR, ("cheek", "eyes", "forehead", "hair"), tuple(reversed(ATTRIBUTES))],
    ids=",".join,
)
def test_any_subset_of_attributes_is_averaged(names: tuple[str, ...], clip: Path, tmp_path: Path) -> None:
    flags = ("--preset", "paper-debiased", "--attribute-aggregation", "mean", *TINY_FLAGS)
    document = hidden(clip, "-o", tmp_path / "o.mp4", *flags, "-a", ",".join(names), "--dump", tmp_path / "dump")
    assert document["attributes"] == list(names)
    planes, alpha = (dumped(tmp_path / "dump", key) for key in ("saliency", "mask"))
    assert planes.shape[1] == len(names)
    assert planes.max() > 0.1
    np.testing.assert_allclose(alpha, planes.mean(axis=1), atol=1e-6)


def test_more_attributes_dilute_the_mean_and_not_the_maximum(clip: Path, tmp_path: Path) -> None:
    """Four templates against all nine: the four's planes are the same, each with the weight of a ninth."""
    found = {}
    for how in ("mean", "max"):
        for names in (FOUR, ATTRIBUTES):
            folder = tmp_path / f"{how}{len(names)}"
            flags = ("--preset", "paper-debiased", "--attribute-aggregation", how, *TINY_FLAGS)
            hidden(clip, "-o", f"{folder}.mp4", *flags, "-a", ",".join(names), "--dump", folder)
            found[how, len(names)] = dumped(folder, "saliency"), dumped(folder, "mask")
    four, all_nine = found["mean", 4][0], found["mean", 9][0]
    np.testing.assert_allclose(four, all_nine[:, [ATTRIBUTES.index(name) for name in FOUR]], atol=1e-6)
    rest = all_nine.sum(axis=1) - four.sum(axis=1)
    np.testing.assert_allclose(found["mean", 9][1], (4 * found["mean", 4][1] + rest) / 9, atol=1e-5)
    strongest = four.max(axis=1) > 0.3
    assert strongest.any()
    assert (found["max", 9][1] >= found["max", 4][1] - 1e-6).all()
    np.testing.assert_allclose(found["max", 4][1], four.max(axis=1), atol=1e-6)
    assert found["mean", 9][1][strongest].mean() < found["mean", 4][1][strongest].mean()


def test_the_noise_is_a_switch(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def right(*_: object) -> torch.Tensor:
        """Every frame shows what the one before showed a pixel to the left."""
        return torch.stack([torch.full((64, 96), -1.0), torch.zeros(64, 96)])

    estimator = type("Right", (FlowEstimator,), {"name": "right", "between": right})()
    monkeypatch.setattr(pipeline, "load_flow", lambda *_, **__: estimator)
    noise = {}
    for how in ("first-frame", "accumulated", "iid"):
        flags = ("--preset", "paper-debiased", *TINY_FLAGS, "--noise", how, "-a", "hair", "--seed", "1")
        hidden(clip, "-o", tmp_path / f"{how}.mp4", *flags, "--dump", tmp_path / how)
        noise[how] = dumped(tmp_path / how, "noise")
    inner = slice(4, -4)
    first, accumulated, iid = (noise[how] for how in ("first-frame", "accumulated", "iid"))
    assert np.array_equal(first[1][:, inner], first[0][:, 3:-5])
    assert np.array_equal(first[2], first[1]), "eq. 4: the same flow moves the same first noise"
    assert np.array_equal(accumulated[2][:, inner], accumulated[0][:, 2:-6]), "the noise has moved twice"
    assert abs(np.corrcoef(iid[0].ravel(), iid[1].ravel())[0, 1]) < 0.05
