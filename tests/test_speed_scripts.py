"""The scripts that measure speed run, in tiny sizes: what they say is left to those who read it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from anonymotion.sample import make_sample

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu.sh"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_measures_end_up_in_one_document(tmp_path: Path) -> None:
    environment = {**os.environ, "DEVICE": "cpu", "TINY": "1", "PYTHON": sys.executable}
    out = tmp_path / "speed.json"
    done = subprocess.run([str(SCRIPT), str(out)], env=environment, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(out.read_text())
    assert document["failed"] == []
    pipeline = document["pipeline"]
    assert {row["row"] for row in pipeline["rows"]} == {"strict", "paper"}
    assert {(row["engine"], row["dtype"]) for row in pipeline["rows"]} == {
        ("torch-bf16", "bfloat16"),
        ("torch", "float32"),
    }
    assert set(pipeline["limits"]) == {"float32_tflops", "tf32_tflops", "bfloat16_tflops", "copy_gb_per_second"}
    assert all(value > 0 for value in pipeline["limits"].values())
    assert pipeline["versions"]["torch"]
    for row in pipeline["rows"]:
        assert row["frames_per_second"] > 0
        assert row["frames_per_second_without_flow"] > 0
        assert set(row["ms_per_frame"]) == {"flow", "match", "mask", "noise", "composite"}
        assert set(row["floor_ms_per_frame"]) == {"match", "flow", "planes"}
        assert row["floor_share"] > 0
        assert (row["flow_gflop_per_frame"] > 0) == (row["row"] == "paper")
    # the published pipeline's work and ours find the same
    assert document["reference"]["largest_difference"] <= 1 / 255
    assert document["reference-bf16"]["engine"] == "torch-bf16"
    assert document["reference"]["templates"] == 4
    assert document["files"]["rows"][0]["frames"] == 3


@pytest.mark.slow
def test_stages_are_measured_one_by_one() -> None:
    command = [sys.executable, str(SCRIPT.with_name("stages.py")), "--frames", "12", "--size", "96x64"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = dict(line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:])
    assert {"flow", "noise", "composite", "encode"} < set(rows)
    assert float(rows["all"]) > 0


@pytest.mark.slow
def test_what_reuse_changes_is_measured_beside_all_patches(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    make_sample(clip, frames=6)
    command = [sys.executable, str(SCRIPT.with_name("reuse_study.py")), "--clips", str(clip), "--step", "1"]
    command += ["--looks", "4", "--noise", "0.01", "64", "--attributes", "lips"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    little, much = (line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:])
    # the camera moves: with no noise allowed every patch has changed, and nothing differs
    assert little[:3] == ["clip", "0.01", "100"]
    assert {cell for cell in little[3:] if cell != "-"} == {"100.0 (100) +0.0"}
    assert int(much[2]) < 100
    twice = subprocess.run([*command, "--second-looks"], capture_output=True, text=True, timeout=300)
    assert twice.returncode == 0, twice.stderr
    name, every, taken, *shares = twice.stdout.splitlines()[2].strip("| ").split(" | ")
    assert (name, every, shares) == ("clip", taken, ["0.0"] * 3)  # lips alone: nothing else hides them
