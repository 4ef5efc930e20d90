"""The fairness sheet: coverage and recognition by group, against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from anonymotion.cli import app
from anonymotion.errors import DatasetError, SettingsError
from anonymotion.research.datasets import open_dataset
from anonymotion.research.experiments import load_experiment
from anonymotion.research.fairness import PerVideo, covered_shares, fairness_sheet
from anonymotion.research.predict import Predictions, write_predictions
from anonymotion.research.runs import RunFolder, plan
from anonymotion.research.summaries import Summary

PEOPLE = {"ann": "F", "bea": "F", "cat": "F", "dan": "M", "eli": "M", "fay": ""}
RECOGNISED = {"ann", "dan", "eli", "fay"}
SPLITS = {"ann": "test", "bea": "test", "cat": "test", "dan": "test", "eli": "test", "fay": "test"}

EXPERIMENT = """
title = "six"
dataset = "folder"
needs = "nothing"
takes = "nothing"
seeds = [0]
threats = ["static"]

[[column]]
name = "identity"
task = "identity"
splits = ["listed"]
networks = ["dinov2-nearest"]

[[method]]
name = "source"

[[method]]
name = "strict"
ours = true
"""


def write(root: Path, kind: str) -> Path:
    """Six videos of two frames; half of each woman and all of each man is covered in the copy `strict`."""
    rows = ["file,action,person,gender,split"]
    for name, gender in PEOPLE.items():
        (root / name).mkdir(parents=True)
        image = np.full((16, 16, 3), 100, np.uint8)
        if kind == "strict":
            image[2 : 4 if gender == "F" else 6, 2:6] = 20
            image[7] = 101  # another decoder
        if kind == "person-mask":
            image[:] = 0
            image[2:6, 2:6] = 255
        for number in range(2):
            Image.fromarray(image).save(root / name / f"{number}.png")
        rows.append(f"{name},stand,{name},{gender},{SPLITS[name]}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture
def world(tmp_path: Path) -> tuple[Summary, Path, Path]:
    data = write(tmp_path / "data", "source")
    for kind in ("strict", "person-mask"):
        write(tmp_path / "copies" / kind, kind)
    (tmp_path / "six.toml").write_text(EXPERIMENT)
    run = RunFolder.create(tmp_path / "run", load_experiment(tmp_path / "six.toml"))
    people = tuple(PEOPLE)
    run.know_split(run.experiment.columns[0], "listed", people)
    right = np.array([number if name in RECOGNISED else (number + 1) % 6 for number, name in enumerate(people)])
    found = Predictions(people, people, np.arange(6), np.eye(6)[right], people)
    for job in plan(run.experiment):
        for method in job.tested_on:
            write_predictions(found, run.predictions(job, method))
    return Summary(RunFolder.open(tmp_path / "run")), data, tmp_path / "copies"


def test_groups_are_counted_and_compared(world: tuple[Summary, Path, Path]) -> None:
    summary, data, copies = world
    table = fairness_sheet(summary, data, copies, "gender", "strict")
    names = ["clips", "videos", "covered", "less the others", "identity, static", "less the others"]
    assert [heading.text for heading in table.headings] == names
    rows = {row.label: row.cells for row in table.rows}
    assert list(rows) == ["F", "M"]
    assert [cell.value for cell in rows["F"]] == pytest.approx([3, 3, 0.5, -0.5, 1 / 3, 1 / 3 - 1])
    assert [cell.value for cell in rows["M"]] == pytest.approx([2, 2, 1.0, 0.5, 1.0, 2 / 3])
    covered = rows["F"][2]
    assert (covered.low, covered.high) == (0.5, 0.5)  # all women alike
    recognised = rows["F"][4]
    assert recognised.low == 0
    assert recognised.high == 1
    assert any("1 clips without a label 'gender'" in note for note in table.notes)


def test_videos_are_what_is_drawn() -> None:
    values, videos = np.array([1.0, 1.0, 0.0, 0.0]), ("a", "a", "b", "b")
    mean, difference = PerVideo(values, ("x",) * 4, videos).by_group("x")
    assert mean.value == 0.5
    assert (mean.low, mean.high) == (0.0, 1.0)  # two videos, and one of them may be drawn twice
    assert difference.value is None  # there are no others


def test_coverage_counts_the_persons_pixels_alone(world: tuple[Summary, Path, Path]) -> None:
    _, data, copies = world
    source, strict, masks = (open_dataset("folder", p) for p in (data, copies / "strict", copies / "person-mask"))
    assert covered_shares(source, strict, masks, ["ann", "dan"]).tolist() == [0.5, 1.0]
    with pytest.raises(DatasetError, match="nobody was found in clip ann"):
        covered_shares(source, strict, strict, ["ann"])


def test_what_is_not_there_is_named(world: tuple[Summary, Path, Path]) -> None:
    summary, data, copies = world
    with pytest.raises(SettingsError, match="method 'blur' is not in six"):
        fairness_sheet(summary, data, copies, "gender", "blur")
    with pytest.raises(SettingsError, match=r"no clip has a label 'skin': folder knows action, identity, gender"):
        fairness_sheet(summary, data, None, "skin", "strict")


def test_the_command_prints_the_sheet(world: tuple[Summary, Path, Path], tmp_path: Path) -> None:
    summary, data, copies = world
    words = ["bench", "fairness", summary.run.path, "--data", data, "--copies", copies, "--format", "csv"]
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[1].startswith("F,3,,,3,,,50,50,50,-50")
    assert CliRunner().invoke(app, list(map(str, [*words, "-o", tmp_path / "sheet.csv"]))).exit_code == 0
    assert (tmp_path / "sheet.csv").read_text() == result.stdout
