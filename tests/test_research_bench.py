"""Experiments end to end on nine tiny clips: run, resume, refuse, tables of predictions."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_world import index_copy, make_bench, make_world
from typer.testing import CliRunner

from anonymotion.cli import app
from anonymotion.errors import DatasetError, InputError, SettingsError
from anonymotion.research import bench
from anonymotion.research.bench import Done, Places, run_experiment
from anonymotion.research.datasets import open_dataset
from anonymotion.research.experiments import Experiment, load_experiment
from anonymotion.research.predict import read_predictions
from anonymotion.research.runs import RunFolder, plan
from anonymotion.research.summaries import Summary

World = tuple[Path, Path, Path]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_bench(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def finished(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One whole run, which tests only read."""
    output = tmp_path_factory.mktemp("run") / "squares"
    done = run(world, output)
    assert (done.before, done.absent) == (0, ())
    return output


def run(world: World, output: Path, *changes: str, **options: object) -> Done:
    data, copies, file = world
    return run_experiment(load_experiment(file, changes), Places(data, copies, output), device="cpu", **options)  # type: ignore[arg-type]


def command(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["bench", *map(str, words)])
    return result.exit_code, result.stdout, result.stderr


def experiment(world: World) -> Experiment:
    return load_experiment(world[2])


def test_the_plan_trains_static_networks_once_and_adapted_ones_per_method(world: World) -> None:
    jobs = plan(experiment(world))
    action = [job for job in jobs if job.column == "action"]
    # 3 folds; the probe once, the network with 2 seeds; on the source, and on grey; noise has no action column
    assert len(action) == 3 * (1 + 2) * 2
    assert {job.tested_on for job in action if job.learned_on == "source"} == {("source", "grey")}
    assert {job.tested_on for job in jobs if job.learned_on == "noise"} == {("noise",)}
    assert len(jobs) == len(action) + 3 * 2 * 3
    assert jobs[0].network == "flow-linear"


def test_every_clip_of_every_fold_is_predicted_once(world: World, finished: Path) -> None:
    files = list((finished / "predictions").rglob("*.csv"))
    assert len(files) == sum(len(job.tested_on) for job in plan(experiment(world)))
    for column in ("action", "identity"):
        network = "small-3d" if column == "action" else "small-3d-whole"
        for seed in (0, 1):
            found = (finished / "predictions" / column / network).glob(f"*/seed{seed}/source--source.csv")
            clips = [clip for path in found for clip in read_predictions(path).clips]
            assert len(clips) == len(set(clips)) == 9


def test_weights_that_nobody_needs_again_are_gone(finished: Path) -> None:
    kept = {path.parent.name for path in (finished / "models").rglob("weights.safetensors")}
    assert kept == {"source"}


def test_running_twice_computes_nothing(world: World, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(bench, "train", fail)
    monkeypatch.setattr(bench, "Probe", fail)
    done = run(world, finished)
    assert (done.now, done.before) == (0, len(plan(experiment(world))))


def test_what_was_lost_is_computed_again_and_the_same(world: World, finished: Path) -> None:
    path = finished / "predictions/action/small-3d/person-fold-1/seed1/grey--grey.csv"
    before = path.read_bytes()
    path.unlink()
    assert run(world, finished).now == 1
    assert path.read_bytes() == before


@pytest.mark.parametrize("change", ["training.max_epochs=3", "seeds=[0, 2]", "input.crop=24", "weight=0.3"])
def test_a_changed_configuration_is_refused(world: World, finished: Path, change: str) -> None:
    with pytest.raises(SettingsError, match="another configuration"):
        run(world, finished, change)


def test_reworded_sentences_and_more_loading_threads_are_no_change(world: World, finished: Path) -> None:
    assert run(world, finished, "title=other", "takes=long", "training.workers=1").now == 0
    run(world, finished)


def test_another_copy_of_the_same_name_is_refused(world: World, finished: Path, tmp_path: Path) -> None:
    data, copies, _ = world
    other = make_world(tmp_path / "copies" / "grey", "grey")
    (other / "labels.csv").write_text((other / "labels.csv").read_text().replace("cat,stay", "cat,sit"))
    index_copy(other)
    (tmp_path / "copies" / "noise").symlink_to(copies / "noise")
    (finished / "predictions/action/flow-linear/person-fold-0/seed0/grey--grey.csv").unlink()
    with pytest.raises(SettingsError, match="copy grey is not the one"):
        run((data, tmp_path / "copies", world[2]), finished)
    run(world, finished)


def test_two_commands_may_work_on_one_run(world: World, tmp_path: Path) -> None:
    """Each on networks of its own: neither forgets what the other has noted."""
    data, copies, _ = world
    one, two = (RunFolder.create(tmp_path / "run", experiment(world)) for _ in range(2))
    column = experiment(world).columns[0]
    one.know_copy("grey", open_dataset("weizmann", copies / "grey"))
    two.know_split(column, "person-fold-0", ["ann_run"])
    one.note_speed("grey", 0.5)
    two.know_copy("source", open_dataset("weizmann", data))
    document = json.loads((tmp_path / "run" / "run.json").read_text())
    assert set(document["copies"]) == {"grey", "source"}
    assert RunFolder.open(tmp_path / "run").seconds_per_frame == {"grey": 0.5}
    with pytest.raises(SettingsError, match="the copy grey is not the one"):
        two.know_copy("grey", open_dataset("weizmann", copies / "noise"))


def test_missing_copies_are_named_or_left_out_and_said(world: World, tmp_path: Path) -> None:
    data, _, file = world
    with pytest.raises(DatasetError, match=r"no finished copy .* of grey, noise .*--allow-missing"):
        run_experiment(load_experiment(file), Places(data, None, tmp_path / "run"))
    done = run_experiment(
        load_experiment(file), Places(data, None, tmp_path / "run"), networks=["flow-linear"], allow_missing=True
    )
    assert done.absent == ("grey",)
    assert done.now == 3
    table = Summary(RunFolder.open(tmp_path / "run")).main()
    assert [row.cells[0].value is None for row in table.rows] == [False, True, True, True, False]
    assert any("left out: small 3D" in note for note in table.notes)


@pytest.mark.parametrize("index", [{"finished": False}, {"failed": {"run/ann_run": "cannot be read"}}])
def test_an_unfinished_copy_counts_as_missing(world: World, tmp_path: Path, index: dict[str, object]) -> None:
    data, copies, file = world
    for name in ("grey", "noise"):
        shutil.copytree(copies / name, tmp_path / name)
    path = tmp_path / "grey" / "copy.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **index}))
    with pytest.raises(DatasetError, match=r"no finished copy \(with its copy.json\) of grey in"):
        run_experiment(load_experiment(file), Places(data, tmp_path, tmp_path / "run"))


def test_a_folder_without_an_index_is_no_copy(world: World, tmp_path: Path) -> None:
    """It may be of anything, and half of it."""
    data, copies, file = world
    shutil.copytree(copies / "noise", tmp_path / "noise")
    make_world(tmp_path / "grey", "grey")
    with pytest.raises(DatasetError, match="of grey in"):
        run_experiment(load_experiment(file), Places(data, tmp_path, tmp_path / "run"))
    done = run_experiment(
        load_experiment(file),
        Places(data, tmp_path, tmp_path / "run"),
        networks=["flow-linear"],
        allow_missing=True,
        device="cpu",
    )
    assert done.absent == ("grey",)


def test_an_interrupt_says_what_is_kept(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C after three trainings: what they predicted is there, and the same command does the rest."""
    data, copies, file = world
    words = ["run", file, "--data", data, "--copies", copies, "-o", tmp_path / "run", "--networks", "flow-linear"]
    learn = bench.Probe
    left = iter(range(3))

    def interrupted(*arguments: Any) -> bench.Probe:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return learn(*arguments)

    monkeypatch.setattr(bench, "Probe", interrupted)
    status, _, errors = command(*words)
    assert status == 130
    assert f"is kept in {tmp_path / 'run'}" in errors
    assert "the same command goes on" in errors
    assert "nothing was written" not in errors
    monkeypatch.setattr(bench, "Probe", learn)
    assert "3 trainings done now, 3 were done already" in command(*words)[2]


def test_a_network_that_is_not_in_the_experiment_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'i3d' is not in squares"):
        run(world, tmp_path / "run", networks=["i3d"])


def test_the_table_is_made_of_the_predictions_alone(world: World, finished: Path) -> None:
    summary = Summary(RunFolder.open(finished))
    table = summary.main()
    rows = {row.label: dict(zip((h.text for h in table.headings), row.cells, strict=True)) for row in table.rows}
    assert list(rows) == ["source", "grey", "noise", "grey †", "somebody (published)"]
    files = sorted((finished / "predictions/action/flow-linear").glob("*/seed0/source--grey.csv"))
    right = np.concatenate([(p := read_predictions(path)).predicted == p.labels for path in files])
    assert rows["grey †"]["action, static"].value == pytest.approx(right.mean())
    assert rows["noise"]["action, static"].value is None
    assert rows["somebody (published)"]["f, identity, static"].value == pytest.approx(0.8)
    f = rows["grey"]["f, identity, adapted"]
    a, p = (rows["grey"][f"{name}, adapted"].value for name in ("action", "identity"))
    assert a is not None
    assert p is not None
    assert f.value == pytest.approx((a + 1 - p) / 2)
    assert f.low is not None
    assert f.low <= f.value <= f.high  # type: ignore[operator]
    assert "identity: 9 clips are tested, chance is 33.3%" in table.notes


def test_differences_are_of_the_same_videos(finished: Path) -> None:
    summary = Summary(RunFolder.open(finished))
    main, table = summary.main(), summary.differences()
    rows = {row.label: dict(zip((h.text for h in main.headings), row.cells, strict=True)) for row in main.rows}
    assert table.title == "grey, less each other method"
    assert [row.label for row in table.rows] == ["source", "noise", "grey †"]
    checked = 0
    for heading, column in zip(table.headings, range(len(table.headings)), strict=True):
        for row in table.rows:
            ends = rows["grey"][heading.text].value, rows[row.label][heading.text].value
            cell = row.cells[column]
            if None in ends:
                assert cell.value is None
                continue
            assert cell.value == pytest.approx(ends[0] - ends[1])  # type: ignore[operator]
            assert cell.low is not None
            assert cell.low <= cell.value <= cell.high  # type: ignore[operator]
            checked += 1
    assert checked >= 8
    # where the row that shows grey again has the same networks, it differs from it in no draw
    dagger = table.rows[-1].cells[[h.text for h in table.headings].index("identity, static")]
    assert (dagger.value, dagger.low, dagger.high) == (0, 0, 0)


def test_without_a_row_of_ours_there_are_no_differences(world: World, finished: Path, tmp_path: Path) -> None:
    document = json.loads((finished / "run.json").read_text())
    for method in document["experiment"]["methods"]:
        method["ours"] = False
    shutil.copytree(finished / "predictions", tmp_path / "predictions")
    (tmp_path / "run.json").write_text(json.dumps(document))
    table = Summary(RunFolder.open(tmp_path)).differences()
    assert table.rows == ()
    assert "no row is ours" in table.title


def test_colour_says_who_it_is_and_motion_what_they_do(finished: Path) -> None:
    """The flow of the clips, and of their grey copies, tells the three actions apart."""
    table = Summary(RunFolder.open(finished)).breakdown()
    flow = next(
        place for place, h in enumerate(table.headings) if h.text == "action, static: flow statistics, linear probe"
    )
    assert table.rows[0].cells[flow].value is not None
    assert table.rows[0].cells[flow].value > 0.6  # type: ignore[operator]


def test_predictions_of_too_few_clips_are_refused(world: World, finished: Path) -> None:
    path = finished / "predictions/action/flow-linear/person-fold-0/seed0/source--source.csv"
    whole = path.read_text()
    path.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    with pytest.raises(InputError, match="not of all clips"):
        Summary(RunFolder.open(finished)).main()
    path.write_text(whole)


def test_the_commands_run_and_print(world: World, tmp_path: Path) -> None:
    data, copies, file = world
    output = tmp_path / "run"
    words = ["run", file, "--data", data, "--copies", copies, "-o", output, "--networks", "flow-linear"]
    status, _, errors = command(*words)
    assert status == 0, errors
    assert "6 trainings done now, 0 were done already" in errors
    assert command(*words)[2].startswith("anonymotion: 0 trainings done now, 6 were done already")
    status, text, _ = command("table", output)
    assert status == 0
    assert "grey" in text
    status, text, _ = command("table", output, "--format", "csv", "--table", "source")
    assert next(iter(csv.reader(io.StringIO(text))))[:2] == ["method", "top-1"]
    assert command("table", output, "--table", "all", "--format", "markdown", "-o", tmp_path / "t.md")[0] == 0
    assert (tmp_path / "t.md").read_text().count("| method |") == 5
    status, _, errors = command("table", output, "-o", tmp_path / "t.md")
    assert status == 1
    assert "--force" in errors
    assert command("table", output, "--format", "pdf")[0] == 1
    assert "no folder of a run" in command("table", tmp_path)[2]


def test_bench_list_says_what_each_needs(world: World) -> None:
    status, text, _ = command("list", world[2].parent)
    assert status == 0
    assert "squares.toml: squares" in text
    assert "needs  nothing" in text
    assert json.loads(command("list", world[2].parent, "--json")[1])["experiments"][0]["trainings"] == 36
    assert "no experiments in" in command("list", world[0])[2]


def test_methods_are_timed_and_the_table_then_says_so(world: World, tmp_path: Path) -> None:
    """Blurring the whole frame needs no network."""
    data, _, file = world
    text = file.read_text().replace('"grey"', '"blur-weak"').replace('"noise"', '"person-removed"')
    (tmp_path / "x.toml").write_text(text)
    run_experiment(
        load_experiment(tmp_path / "x.toml"),
        Places(data, None, tmp_path / "run"),
        networks=["flow-linear"],
        allow_missing=True,
    )
    assert Summary(RunFolder.open(tmp_path / "run")).main().headings[-1].text != "ms/frame"
    status, text, errors = command("speed", tmp_path / "run", "--data", data, "--frames", 3, "--device", "cpu")
    assert status == 0, errors
    assert text.startswith("blur-weak")
    table = Summary(RunFolder.open(tmp_path / "run")).main()
    assert table.headings[-1].text == "ms/frame"
    assert table.rows[0].cells[-1].value is None
    assert table.rows[1].cells[-1].value > 0  # type: ignore[operator]
    assert command("speed", tmp_path / "run", "--data", data, "--frames", 0)[0] == 1
