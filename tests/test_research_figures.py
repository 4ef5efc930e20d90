"""Figures and tables of a run: numbers against hand-made predictions; files whole or not at all; commands."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from bench_world import EXPERIMENT
from PIL import Image
from typer.testing import CliRunner

from anonymotion.cli import app
from anonymotion.errors import OutputError, SettingsError
from anonymotion.research import drawing
from anonymotion.research.drawing import Drawn, new_figure, save, styled
from anonymotion.research.experiments import load_experiment
from anonymotion.research.figures import RUN_FIGURES, figure_5, figure_7, figure_8, lead
from anonymotion.research.predict import Predictions, write_predictions
from anonymotion.research.runs import RunFolder, plan
from anonymotion.research.summaries import Summary

# method -> how many of the 9 clips are recognised, for action and for identity
RIGHT = {"source": (9, 9), "strict": (8, 3), "iid": (5, 3), "strict@hair": (9, 6), "strict@leg": (7, 4)}
CLASSES = ("ann", "bob", "cat")


@pytest.fixture
def summary(tmp_path: Path) -> Summary:
    """A run of invented predictions: probes alone, static alone."""
    head = EXPERIMENT.split("[[method]]")[0]
    head = head.replace('"flow-linear", "small-3d"', '"flow-linear"').replace("small-3d-whole", "dinov2-linear")
    head = head.replace('title = "squares"', 'title = "squares"\nthreats = ["static"]')
    methods = "".join(f'[[method]]\nname = "{n}"\n{"ours = true" if n == "strict" else ""}\n' for n in RIGHT)
    file = tmp_path / "invented.toml"
    file.write_text(head + methods)
    run = RunFolder.create(tmp_path / "run", load_experiment(file))
    for column in run.experiment.columns:
        for number, split in enumerate(column.splits):
            run.know_split(column, split, [f"clip{3 * number + place}" for place in range(3)])
    for job in plan(run.experiment):
        column = run.experiment.column(job.column)
        fold = column.splits.index(job.split)
        clips = tuple(run.tested(column, job.split))
        for method in job.tested_on:
            right = RIGHT[method][0 if column.is_action else 1]
            labels = np.arange(3)
            answer = np.array([label if 3 * fold + label < right else (label + 1) % 3 for label in labels])
            path = run.predictions(job, method)
            write_predictions(Predictions(clips, clips, labels, np.eye(3)[answer], CLASSES), path)
    return Summary(RunFolder.open(tmp_path / "run"))


def values(drawn: Drawn) -> dict[str, list[float | None]]:
    assert drawn.numbers is not None
    return {row.label: [cell.value for cell in row.cells] for row in drawn.numbers.rows}


def test_figure_5_has_each_attribute_and_the_subset_that_is_used(summary: Summary) -> None:
    drawn = figure_5(summary)
    assert values(drawn) == {
        "source": [1, 1],
        "hair": [1, pytest.approx(6 / 9)],
        "leg": [pytest.approx(7 / 9), pytest.approx(4 / 9)],
        "strict": [pytest.approx(8 / 9), pytest.approx(3 / 9)],
    }
    (axes,) = drawn.figure.axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["hair", "leg", "strict"]
    heights = sorted(round(bar.get_height(), 1) for bar in axes.patches)  # type: ignore[attr-defined]
    assert heights == [33.3, 44.4, 66.7, 77.8, 88.9, 100.0]
    assert "identity: chance is 33.3%" in drawn.numbers.notes  # type: ignore[union-attr]


def test_figure_8_compares_the_noises(summary: Summary) -> None:
    assert list(values(figure_8(summary))) == ["source", "strict", "iid"]


def test_figure_7_is_eq_6_over_lambda(summary: Summary) -> None:
    drawn = figure_7(summary)
    strict = values(drawn)["strict"]
    a, p = 8 / 9, 3 / 9
    assert strict == pytest.approx([a, 0.75 * a + 0.25 * (1 - p), (a + 1 - p) / 2, 0.25 * a + 0.75 * (1 - p), 1 - p])
    axes = drawn.figure.axes[0]
    drawn_lines = {line.get_label(): np.asarray(line.get_ydata()) for line in axes.lines}
    assert drawn_lines["strict"][[0, 50, 100]] == pytest.approx([a, (a + 1 - p) / 2, 1 - p])
    # the line of ours is the one that is seen first
    widths = {line.get_label(): line.get_linewidth() for line in axes.lines}
    assert max(widths, key=lambda name: widths[name]) == "strict"
    looks = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in axes.lines}
    assert len(looks) == len(axes.lines)


def test_where_ours_leads() -> None:
    points = {"source": (1.0, 1.0), "ours": (0.8, 0.2), "other": (0.9, 0.4)}
    # 0.8 (1-w) + 0.8 w > 0.9 (1-w) + 0.6 w  <=>  w > 1/3
    weights = np.linspace(0, 1, 101)
    assert lead(points, {"ours"}, weights) == pytest.approx(np.mean(weights > 1 / 3))
    assert np.isnan(lead({"ours": (1, 0)}, {"ours"}, weights))


@pytest.mark.parametrize(("name", "wanted"), [("fig5", "single attribute"), ("fig8", "at least 2"), ("fig7", "no two")])
def test_a_run_without_what_a_figure_shows_is_refused(tmp_path: Path, name: str, wanted: str) -> None:
    file = tmp_path / "squares.toml"
    file.write_text(EXPERIMENT)
    run = RunFolder.create(tmp_path / "run", load_experiment(file))
    with pytest.raises(SettingsError, match=wanted):
        RUN_FIGURES[name](Summary(run))


def test_a_figure_without_any_prediction_says_how_to_go_on(summary: Summary) -> None:
    for path in (summary.run.path / "predictions").rglob("*.csv"):
        path.unlink()
    for make in (figure_5, figure_7, figure_8):
        with pytest.raises(SettingsError, match="go on with `bench run`"):
            make(Summary(summary.run))


def test_files_are_the_same_for_the_same_numbers_and_hold_no_date(summary: Summary, tmp_path: Path) -> None:
    paths = save([figure_8(summary)], tmp_path / "one", force=False)
    again = save([figure_8(summary)], tmp_path / "two", force=False)
    assert [path.name for path in paths] == ["fig8.svg", "fig8.png", "fig8.csv"]
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in again]
    assert ElementTree.fromstring(paths[0].read_bytes()).tag.endswith("svg")  # noqa: S314 - our own file
    with Image.open(paths[1]) as image:
        assert image.size[0] > 300
    rows = list(csv.DictReader(paths[2].read_text().splitlines()))
    assert [row["method"] for row in rows] == ["source", "strict", "iid"]
    assert float(rows[1]["identity, static"]) == pytest.approx(100 / 3, abs=0.01)


def test_nothing_is_replaced_unasked_and_all_files_appear_or_none(
    summary: Summary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = figure_8(summary).numbers
    with styled():
        first, other = (Drawn(name, new_figure(1, 1), numbers) for name in ("first", "other"))
    there = save([first], tmp_path, force=False)
    with pytest.raises(OutputError, match="--force"):
        save([other, first], tmp_path, force=False)
    save([first], tmp_path, force=True)
    monkeypatch.setattr(drawing, "to_csv", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OutputError, match="full"):
        save([other], tmp_path, force=False)
    assert {path for path in tmp_path.iterdir() if path.stem in ("first", "other")} == set(there)


def test_our_style_does_not_leak(summary: Summary) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    figure_8(summary)
    assert dict(matplotlib.rcParams) == before


def command(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["bench", *map(str, words)])
    return result.exit_code, result.stdout, result.stderr


def test_one_command_draws_a_figure(summary: Summary, tmp_path: Path) -> None:
    out = tmp_path / "pictures"
    for name in RUN_FIGURES:
        status, _, errors = command("figure", name, summary.run.path, "-o", out)
        assert status == 0, errors
    assert len(list(out.iterdir())) == 9
    assert "--force" in command("figure", "fig5", summary.run.path, "-o", out)[2]
    assert "'fig9' is not known" in command("figure", "fig9", summary.run.path, "-o", out)[2]
    assert "of one run" in command("figure", "fig7", summary.run.path, tmp_path, "-o", tmp_path / "p")[2]
    file = tmp_path / "file"
    file.write_text("")
    assert "is a file" in command("figure", "fig7", summary.run.path, "-o", file)[2]


def test_the_shipped_experiments_of_figures_have_what_their_figures_need(tmp_path: Path) -> None:
    folder = Path(__file__).resolve().parents[1] / "experiments"
    for name, figure, least in (("fig5", "fig5", 10), ("fig8", "fig8", 3), ("claims", None, 4)):
        experiment = load_experiment(folder / f"weizmann_{name}.toml")
        hiding = [row.name for row in experiment.measured if row.name != "source"]
        assert len(hiding) >= least
        run = RunFolder.create(tmp_path / name, experiment)
        if figure is not None:
            with pytest.raises(SettingsError, match="go on with `bench run`"):
                RUN_FIGURES[figure](Summary(run))
    assert json.loads(command("list", folder, "--json")[1])["experiments"]
