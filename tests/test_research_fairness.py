"""The fairness sheet: coverage and recognition by group, against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bench_world import STATIC_ONLY, experiment
from PIL import Image
from typer.testing import CliRunner

from anonymotion.cli import app
from anonymotion.errors import DatasetError, SettingsError
from anonymotion.research.datasets import open_dataset
from anonymotion.research.experiments import load_experiment
from anonymotion.research.fairness import PerVideo, covered_shares, fairness_sheet, read_groups, recalls
from anonymotion.research.predict import Predictions, write_predictions
from anonymotion.research.runs import RunFolder, plan
from anonymotion.research.summaries import Summary

PEOPLE = {"ann": "F", "bea": "F", "cat": "F", "dan": "M", "eli": "M", "fay": ""}
RECOGNISED = {"ann", "dan", "eli", "fay"}
SPLITS = {"ann": "test", "bea": "test", "cat": "test", "dan": "test", "eli": "test", "fay": "test"}

EXPERIMENT = experiment(
    "six", "folder", {"identity": (["listed"], ["dinov2-nearest"])}, ["source", "strict"], head=STATIC_ONLY
)


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


def test_a_file_says_who_is_in_which_group_and_then_people_are_drawn(
    world: tuple[Summary, Path, Path], tmp_path: Path
) -> None:
    summary, data, copies = world
    (tmp_path / "age.csv").write_text("identity,age\nann,old\nbea,old\ncat,young\ndan,young\n")
    table = fairness_sheet(summary, data, copies, "age", "strict", groups=tmp_path / "age.csv")
    assert table.headings[1].text == "identity"
    rows = {row.label: row.cells for row in table.rows}
    assert [cell.value for cell in rows["old"][:4]] == pytest.approx([2, 2, 0.5, -0.25])
    assert [cell.value for cell in rows["young"][:4]] == pytest.approx([2, 2, 0.75, 0.25])
    assert any("intervals over values of identity" in note for note in table.notes)
    assert any("2 clips without a label 'age'" in note for note in table.notes)


def test_what_is_drawn_is_the_person_whoever_has_more_clips(tmp_path: Path) -> None:
    for name in ("ann_a", "ann_b", "dan_a"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name / "0.png")
    lines = ["file,action,person", "ann_a,walk,ann", "ann_b,run,ann", "dan_a,walk,dan"]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "gender.csv").write_text("identity,gender\nann,F\n")
    dataset = open_dataset("folder", tmp_path)
    groups = read_groups(tmp_path / "gender.csv", "gender", dataset)
    assert [(groups.group(clip), groups.drawn(clip)) for clip in dataset.clips] == [
        ("F", "ann"),
        ("F", "ann"),
        ("", "dan"),
    ]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("identity,age\nann,old\n", "has no column 'gender'"),
        ("name,gender\nann,F\n", "has no column that says whose gender it is"),
        ("identity,gender\nann,F\nann,M\n", "line 3: identity 'ann' occurs twice"),
        ("identity,gender\nzoe,F\n", "line 2: identity 'zoe' is none of ann, bea"),
    ],
)
def test_a_file_of_groups_that_does_not_fit_is_refused(
    world: tuple[Summary, Path, Path], tmp_path: Path, text: str, wrong: str
) -> None:
    (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(DatasetError, match=wrong):
        read_groups(tmp_path / "groups.csv", "gender", open_dataset("folder", world[1]))


def test_recall_of_an_independent_instrument_by_group(world: tuple[Summary, Path, Path], tmp_path: Path) -> None:
    summary, data, copies = world
    lines = [
        "clip,frame,attribute,mask,recall",
        "data/ann,0,hair,ours,0.5",
        "data/ann,1,hair,ours,1.0",
        "data/dan,0,hair,ours,",  # not sure in this frame
        "data/dan,1,hair,ours,0.25",
        "data/dan,1,hair,whole person,1.0",
        "data/ann,0,leg,ours,1.0",
        "elsewhere/dan,1,hair,ours,0.0",
        "data/fay,0,hair,ours,0.0",  # in no group
    ]
    rows = tmp_path / "rows.csv"
    rows.write_text("\n".join(lines) + "\n")
    dataset = open_dataset("folder", data)
    found = recalls(rows, dataset, ["hair"])
    assert found == {"hair": {"ann": 0.75, "dan": 0.25, "fay": 0.0}}
    table = fairness_sheet(summary, data, copies, "gender", "strict", coverage=rows, attributes=["hair"])
    assert [heading.text for heading in table.headings][-2:] == ["recall of hair", "less the others"]
    assert {row.label: [cell.value for cell in row.cells[-2:]] for row in table.rows} == {
        "F": [0.75, 0.5],
        "M": [0.25, -0.5],
    }
    assert "clips of columns that have fewer: recall of hair 2" in table.notes
    with pytest.raises(DatasetError, match="no recall of torso in a clip of folder"):
        recalls(rows, dataset, ["hair", "torso"])
    rows.write_text("clip,frame,attribute,mask,recall\ndata/ann,0,hair,ours,much\n")
    with pytest.raises(DatasetError, match="line 2: recall 'much' is no number"):
        recalls(rows, dataset, ["hair"])


def test_the_shipped_labels_of_weizmann_are_read_by_the_command(
    world: tuple[Summary, Path, Path], tmp_path: Path
) -> None:
    shipped = Path(__file__).parents[1] / "experiments" / "weizmann_gender.csv"
    people = [line.split(",") for line in shipped.read_text().splitlines()[1:]]
    assert len({name for name, _ in people}) == 9
    assert sorted({gender for _, gender in people}) == ["F", "M"]
    summary, data, copies = world
    own = tmp_path / "own.csv"
    own.write_text("identity,side\n" + "".join(f"{name},{'left' if name < 'c' else 'right'}\n" for name in PEOPLE))
    words = ["bench", "fairness", summary.run.path, "--data", data, "--label", "side", "--groups", own]
    result = CliRunner().invoke(app, [*map(str, words), "--copies", str(copies), "--format", "csv"])
    assert result.exit_code == 0, result.stderr
    assert [line.split(",")[0] for line in result.stdout.splitlines()[1:3]] == ["left", "right"]
