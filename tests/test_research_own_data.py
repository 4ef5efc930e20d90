"""A researcher's own data: a folder per action, as UCF101 and HMDB51 have it, from videos to figures."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from bench_world import COLOURS, STEPS, squares
from synthetic import make_clip
from typer.testing import CliRunner

from anonymotion import video
from anonymotion.cli import app
from anonymotion.research.datasets import open_dataset
from anonymotion.research.experiments import load_experiment
from anonymotion.research.obfuscate import RATE

EXPERIMENT = Path(__file__).resolve().parents[1] / "experiments" / "folder.toml"
METHODS = "strict,first-frame,iid,pixelate-16"


def write(path: Path, frames: list[np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames[0].shape[:2]
    info = video.VideoInfo(width, height, RATE, 1 / RATE, pixel_format="yuv420p")
    with video.open_sink(path, info, source=None) as sink:
        for number, image in enumerate(frames):
            sink.write(image, video.Frame(number, image, number, info.time_base, 1))
        sink.commit()


def ucf(root: Path) -> Path:
    """ACTION/v_ACTION_gNN_c01.avi, and a list that says who is in it; whoever it is has a colour."""
    rows = [("file", "action", "person", "gender")]
    for number, person in enumerate(COLOURS, 1):
        for action in STEPS:
            name = f"{action.title()}/v_{action.title()}_g{number:02}_c01.avi"
            write(root / name, squares(person, action))
            rows.append((name, action.title(), person, "MF"[number % 2]))
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return root


def command(*words: object) -> str:
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_a_folder_per_action_is_read_with_its_groups(tmp_path: Path) -> None:
    data = open_dataset("folder", ucf(tmp_path / "data"))
    assert data.tasks == ("action", "identity", "gender")
    assert len(data.clips) == len(data.videos) == 9
    split = data.split("person-fold-0", "action")
    assert {data.clip(name).privacy["identity"] for name in split.test} == {"ann"}


@pytest.mark.slow
def test_from_own_videos_to_figures_and_a_sheet_of_groups(tmp_path: Path) -> None:
    data, copies, run, out = ucf(tmp_path / "data"), tmp_path / "copies", tmp_path / "run", tmp_path / "figures"
    command("data", "check", "folder", data)
    names = ["--variants", f"{METHODS},person-mask", "--short-side", 112]
    command("data", "obfuscate", "folder", data, "--out", copies, *names, "-q")
    clean = ["--set", 'threats=["static"]']  # half of the time
    command("bench", "run", EXPERIMENT, "--data", data, "--copies", copies, "-o", run, "-q", *clean)
    for name in ("fig7", "fig8"):
        command("bench", "figure", name, run, "-o", out)
        assert (out / f"{name}.svg").stat().st_size > 5000
    with (out / "fig7.csv").open() as file:
        shown = {row["method"] for row in csv.DictReader(file)}
    assert shown == {row.label or row.name for row in load_experiment(EXPERIMENT).methods}
    sheet = command("bench", "fairness", run, "--data", data, "--label", "gender", "--format", "csv")
    assert [line.split(",")[0] for line in sheet.splitlines()] == ["method", "F", "M"]
    clips = sorted(data.glob("*/*.avi"))[:2]
    make_clip(tmp_path / "extra.avi", frames=6, size=(64, 48))
    words = ["bench", "claim", "overlap", *clips, tmp_path / "extra.avi", "--frames", 3, "--short-side", 112, "-q"]
    assert "forehead" in command(*words)
