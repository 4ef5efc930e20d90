"""Choosing attributes: measured on validation clips alone, nested for what it is worth, written as a policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from bench_world import EXPERIMENT, make_world
from tiny import TINY_SETTINGS, nine_attributes
from typer.testing import CliRunner

from anonymotion.backbone import Backbone
from anonymotion.cli import app
from anonymotion.errors import SettingsError
from anonymotion.policy import Policy
from anonymotion.presets import Settings, settings_for
from anonymotion.research import choosing
from anonymotion.research.choosing import Choice, choose, scaled
from anonymotion.research.datasets import Dataset, open_dataset
from anonymotion.research.experiments import Experiment, load_experiment
from anonymotion.research.looks import OnePass
from anonymotion.research.selection import Candidate, Score
from anonymotion.templates import TemplateLibrary

NETWORKS = EXPERIMENT.replace('"flow-linear", "small-3d"', '"flow-linear"').replace("small-3d-whole", "dinov2-nearest")
SETTINGS = settings_for(
    "strict",
    **{**TINY_SETTINGS, "layer": "2", "contrast": "0.02", "threshold": "0.3", "look_ahead": 1, "close_up": 0},  # type: ignore[arg-type]
)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return open_dataset("weizmann", make_world(tmp_path / "data"))


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    file = tmp_path / "squares.toml"
    file.write_text(NETWORKS)
    return load_experiment(file)


@pytest.fixture
def nine(tmp_path: Path, tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> TemplateLibrary:
    network = OnePass("dinov2-vits14-embedded", tiny._network, tiny.patch_size, "tiny", torch.device("cpu"))
    for kind in (OnePass, Backbone):
        monkeypatch.setattr(kind, "load", lambda *_, **__: network)
    return nine_attributes(tmp_path / "nine")


def test_a_choice_is_a_policy_that_hides_and_says_what_it_is_worth(
    dataset: Dataset, experiment: Experiment, nine: TemplateLibrary, tmp_path: Path
) -> None:
    told: list[str] = []
    choice = choose(
        experiment,
        dataset,
        tmp_path / "work",
        most=1,
        scales=(0.8, 1.0),
        attributes=("hair", "leg"),
        settings=SETTINGS,
        library=nine,
        device="cpu",
        tell=told.append,
    )
    tried = [candidate for candidate, _ in choice.tried]
    default = Candidate(("hair", "arm", "torso", "leg"))
    assert {Candidate(()), default, Candidate(("hair",)), Candidate(("leg",))} <= set(tried)
    assert sum(candidate.scale == 0.8 for candidate in tried) == 1
    assert choice.default == default
    assert len(choice.nested) == 3
    by_candidate = dict(choice.tried)
    # the colours are all there, so without hiding anything everybody is recognised
    assert by_candidate[Candidate(())].privacy == 1
    assert by_candidate[Candidate(())].hidden == 0
    assert 0 < by_candidate[default].hidden < 1
    assert len(told) == len(set(told))  # nothing is hidden twice in the same way
    assert list(choice.tested)[-1] == "nothing"
    candidates, worth = choice.tables()
    assert len(candidates.rows) == len(tried)
    assert sum(row.label.startswith("* ") for row in candidates.rows) == 1
    assert len(worth.rows) == 3
    file = tmp_path / "policy.toml"
    file.write_text(choice.policy().as_toml())
    policy = Policy.load(file)
    assert policy.attributes == choice.recommended[0].attributes
    assert policy.effective_settings() == scaled(SETTINGS, choice.recommended[0].scale)


def test_no_split_chooses_by_a_clip_that_it_tests(
    dataset: Dataset, experiment: Experiment, nine: TemplateLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = choosing._Trials(experiment, dataset, tmp_path / "work", SETTINGS, nine, "cpu", None)
    asked: list[Sequence[Sequence[tuple[Candidate, str, str]]]] = []
    monkeypatch.setattr(bench, "_score", lambda trials: asked.append(trials) or Score(0, 0, 0, 0, 0))
    candidate = Candidate(("hair",))
    for number in range(bench.splits):
        bench.validate(candidate, bench.tested_by(number))
        for column, trials in zip(bench.columns, asked[-1], strict=True):
            clips = {clip for _, _, clip in trials}
            assert clips
            assert not clips & set(dataset.split(column.splits[number], column.task).test)
    bench.validate(candidate, ())
    validating = {
        (column.name, split, clip)
        for column in bench.columns
        for split in column.splits
        for clip in dataset.split(split, column.task).validation
    }
    found = {
        (column.name, split, clip)
        for column, trials in zip(bench.columns, asked[-1], strict=True)
        for _, split, clip in trials
    }
    assert found == validating
    bench.test([candidate] * bench.splits)
    tested = [clip for _, _, clip in asked[-1][0]]
    assert sorted(tested) == sorted({clip.id for clip in dataset.clips if "." not in clip.id})


def test_a_probe_learns_from_the_clean_clips_that_train_and_no_others(
    dataset: Dataset, experiment: Experiment, nine: TemplateLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = choosing._Trials(experiment, dataset, tmp_path / "work", SETTINGS, nine, "cpu", None)
    asked: list[tuple[Path, tuple[str, ...]]] = []

    def features(name: str, dataset: Dataset, clips: Sequence[str]) -> np.ndarray:
        asked.append((dataset.root, tuple(clips)))
        return np.random.default_rng(0).normal(size=(len(clips), 1, 3)).astype(np.float32)

    monkeypatch.setattr(bench.features, "of", features)
    (column, _) = bench.columns
    bench._probe(column, column.splits[1], "flow-linear")
    assert asked == [(dataset.root, dataset.split(column.splits[1], column.task).train)]


def test_thresholds_are_scaled_one_by_one_and_stay_thresholds() -> None:
    settings: Settings = settings_for("strict", threshold="0.5,face=0.4,hair=0.9", close_up=0)
    assert str(scaled(settings, 1.25).threshold) == "0.625,face=0.5,hair=1.0"
    assert str(scaled(settings, 0.5).threshold) == "0.25,face=0.2,hair=0.45"
    assert scaled(settings, 1.0) == settings


def test_a_policy_names_thresholds_only_where_they_were_changed(tmp_path: Path) -> None:
    def policy(scale: float) -> Policy:
        score = Score(1, 0, 1, 0, 0.1)
        chosen = (Candidate(("hair",), scale), score)
        settings = settings_for("strict", short_side=448, close_up=0)
        return Choice([chosen], chosen, [], chosen[0], {}, (), settings).policy()

    assert policy(1.0).settings == {"short_side": 448, "close_up": 0}
    assert policy(0.75).effective_settings().threshold["hair"] == 0.3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"flow-linear"', '"small-3d"', "has no probe"),
        (
            'splits = ["person-fold-0", "person-fold-1", "person-fold-2"]',
            'splits = ["person-fold-0"]',
            "as many splits",
        ),
        ('name = "identity"\n', 'name = "identity"\ncopies = "{method}+neutral"\n', "no privacy column"),
    ],
)
def test_experiments_that_cannot_choose_are_refused(
    dataset: Dataset, nine: TemplateLibrary, tmp_path: Path, old: str, new: str, message: str
) -> None:
    file = tmp_path / "other.toml"
    assert old in NETWORKS
    file.write_text(NETWORKS.replace(old, new))
    with pytest.raises(SettingsError, match=message):
        choose(load_experiment(file), dataset, tmp_path / "work", settings=SETTINGS, library=nine, device="cpu")


def test_attributes_that_are_not_there_are_refused(
    dataset: Dataset, experiment: Experiment, nine: TemplateLibrary, tmp_path: Path
) -> None:
    options = {"settings": SETTINGS, "library": nine, "device": "cpu", "attributes": ("tail",)}
    with pytest.raises(SettingsError, match="'tail' cannot be chosen"):
        choose(experiment, dataset, tmp_path / "work", **options)  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_command_writes_a_policy_that_hide_takes(tmp_path: Path) -> None:
    data = make_world(tmp_path / "data")
    (tmp_path / "squares.toml").write_text(NETWORKS)
    policy, table = tmp_path / "policy.toml", tmp_path / "table.md"
    words = ["select", tmp_path / "squares.toml", "--data", data, "--work", tmp_path / "work", "-o", policy]
    words += ["--candidates", "hair,torso", "--most", "1", "--scales", "1", "--short-side", "112", "--table", table]
    result = CliRunner().invoke(app, ["bench", *map(str, [*words, "--device", "cpu"])])
    assert result.exit_code == 0, result.stderr
    assert "What choosing is worth" in result.stdout
    assert "**Candidates**" in table.read_text()
    assert policy.read_text().startswith("# Chosen by")
    result = CliRunner().invoke(app, ["policy", "check", str(policy)])
    assert "short_side to 112" in result.stdout
    hidden = ["hide", data / "run" / "ann_run", "-o", tmp_path / "out", "--policy", policy, "--allow-empty", "-q"]
    assert CliRunner().invoke(app, list(map(str, hidden))).exit_code == 0
    again = CliRunner().invoke(app, ["bench", *map(str, words)])
    assert again.exit_code == 1
    assert "--force" in again.stderr
