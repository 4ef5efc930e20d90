"""Damaged inputs and odd names.  In bulk: benchmarks/fuzz.py, of which 150 inputs run here."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic import make_clip
from tiny import TINY_SETTINGS, tiny_library

from anonymotion.backbone import Backbone
from anonymotion.errors import InputError
from anonymotion.run import FileOptions, hide_video
from anonymotion.video import open_source

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@functools.cache
def mutations() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutations", BENCHMARKS / "mutations.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def originals() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        return dict(mutations().seeds(Path(folder)))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(which=st.integers(0, 14), seed=st.integers(0, 2**32), truncated=st.booleans())
def test_reading_a_damaged_file_ends_well_or_in_a_known_error(
    tmp_path: Path, which: int, seed: int, truncated: bool
) -> None:
    name = list(originals())[which]
    path = tmp_path / f"in{Path(name).suffix}"
    path.write_bytes(mutations().mutate(originals()[name], random.Random(seed)))
    with contextlib.suppress(InputError), open_source(path, allow_truncated=truncated) as source:
        frames = list(source)
        assert frames
        assert {frame.image.shape for frame in frames} == {(source.info.height, source.info.width, 3)}


@given(seed=st.integers(0, 2**32))
@settings(max_examples=50)
def test_mutations_are_reproducible_and_never_empty(seed: int) -> None:
    original = bytes(range(256)) * 8
    first, second = (mutations().mutate(original, random.Random(seed)) for _ in range(2))
    assert first == second
    assert len(first) >= 16


@pytest.mark.slow
def test_150_damaged_inputs_in_processes_of_their_own() -> None:
    """No traceback, no hang, no crash, no output after a failure."""
    command = [sys.executable, str(BENCHMARKS / "fuzz.py"), "--count", "150", "--seed", "7", "--limit", "60"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "150 inputs, 0 of them came out badly" in done.stdout


@pytest.mark.slow
def test_memory_and_open_files_of_a_long_run_are_flat() -> None:
    command = [sys.executable, str(BENCHMARKS / "soak.py"), "--frames", "4000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"000 frames +[\d.]+ MB", done.stdout)) == 4


NAMES = [
    "with spaces and 'quotes' \"of\" both kinds",
    "ünïcödé 影片 🎥",
    "a\nnew line",
    "-o",
    "--force",
    "%06d",
    "back\\slash",
    "*?[x]",
    "file:name",
    "é" * 125,
    "x" * 251,
]


@pytest.mark.parametrize("name", NAMES)
def test_odd_names(tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Of the input, the output, the masks and the report; relative, so that a leading dash leads."""
    library = tiny_library(tmp_path / "library")
    for folder in ("in", "out"):
        (tmp_path / folder).mkdir()
    make_clip(tmp_path / "plain.mp4", frames=3).rename(tmp_path / "in" / f"{name}.mp4")
    monkeypatch.chdir(tmp_path / "in")
    options: dict[str, Any] = {**TINY_SETTINGS, "library": library, "network": tiny, "threshold": 0.01}
    hide_video(f"{name}.mp4", tmp_path / "out" / f"{name}.mp4", "hair", **options)
    monkeypatch.chdir(tmp_path / "out")
    hide_video(f"{name}.mp4", f"{name[:120]}.mkv", "hair", files=FileOptions(masks=Path(name[:120])), **options)
    assert sorted(path.name for path in Path().iterdir()) == sorted([f"{name}.mp4", f"{name[:120]}.mkv", name[:120]])


def test_a_name_in_an_error_is_one_line(tiny: Backbone, tmp_path: Path, invoke_cli: Callable[..., Any]) -> None:
    (tmp_path / "a\nb.mp4").write_text("not a video")
    result = invoke_cli("hide", tmp_path / "a\nb.mp4", "-o", tmp_path / "out.mp4", "-a", "hair")
    assert result.exit_code == 1
    assert len([line for line in result.stderr.splitlines() if line]) == 1


@pytest.fixture
def invoke_cli() -> Callable[..., Any]:
    from typer.testing import CliRunner

    from anonymotion.cli import app

    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])
