"""Experiment files: what is wrong in one is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench_world import EXPERIMENT

from anonymotion.errors import SettingsError
from anonymotion.research.experiments import load_experiment, parse_experiment
from anonymotion.research.runs import slug


def write(folder: Path, text: str) -> Path:
    path = folder / "x.toml"
    path.write_text(text)
    return path


def test_it_survives_json(tmp_path: Path) -> None:
    experiment = load_experiment(write(tmp_path, EXPERIMENT))
    assert parse_experiment(json.loads(json.dumps(experiment.as_json()))) == experiment
    assert experiment.name == "x"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[training]", "[training]\nspeed = 3", "'speed' is not known"),
        ('"small-3d-whole"', '"small-4d"', "network 'small-4d' is not known"),
        ("batch = 4", 'batch = "4"', "batch is '4', expected int"),
        ("batch = 4", "batch = true", "batch is True, expected int"),
        ("seeds = [0, 1]", "seeds = [1, 1]", "different seeds"),
        ("seeds = [0, 1]", "seeds = []", "different seeds"),
        ('name = "source"', 'name = "original"', "first method is original"),
        ('name = "noise"', 'name = "grey"', "two methods are called 'grey'"),
        ('of = "grey"', 'of = "gray"', "method 'gray' is not known"),
        ("action = 90", "activity = 90", "column 'activity' is not known"),
        ('title = "squares"', "", "title"),
        ("[[column]]", '[[column]]\nstatic = "best"', "combines by 'best'"),
        ("privacy_frames = 2", 'threats = ["fixed"]', "threats are fixed"),
        ("[training]", "[training", "no TOML"),
        ("[training]", "training = 3\n[other]", "expected a table"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in EXPERIMENT
    with pytest.raises(SettingsError) as caught:
        load_experiment(write(tmp_path, EXPERIMENT.replace(old, new, 1)))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value).strip()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml cannot be read"):
        load_experiment(tmp_path / "none.toml")


def test_settings_can_be_changed(tmp_path: Path) -> None:
    changes = ["training.batch=7", "seeds=[5]", "pretrained=hub", "input.flip=false"]
    experiment = load_experiment(write(tmp_path, EXPERIMENT), changes)
    assert (experiment.training.batch, experiment.seeds, experiment.pretrained) == (7, (5,), "hub")
    assert not experiment.input.flip
    for wrong in ("batch", "=3", "title.x=1"):
        with pytest.raises(SettingsError, match="change"):
            load_experiment(write(tmp_path, EXPERIMENT), [wrong])


def test_names_become_paths() -> None:
    assert slug("identity, background replaced") == "identity-background-replaced"
    assert slug("../x y/z") == "..-x-y-z"
    assert "/" not in slug("a/b")
