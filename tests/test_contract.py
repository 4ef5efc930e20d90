"""The fail-closed contract, line by line; where another test holds a line, it is named here.

1. One function writes pixels, and it requires a mask: `test_a_fault_leaves_nothing`, and test_video_verify.py
   (`test_no_picture_without_its_mask`, `test_a_lost_frame_is_noticed`), test_compositor.py.
2. Out of sight until verified; nothing after an error, Ctrl-C or kill: `test_a_fault_leaves_nothing`,
   `test_a_signal_leaves_nothing`, `test_a_kill_leaves_nothing_that_can_be_read`, test_leftovers.py,
   test_video_output_safety.py, test_video_verify.py; in numbers: benchmarks/faults.py.
3. Nothing matched: test_run.py (`test_nothing_matched_writes_nothing`), test_cli.py (status 3).
4. Metadata: test_metadata.py.
5. Secret noise: `test_the_noise_is_in_no_file`, test_noise.py, test_cli.py (`test_seed_and_dump_are_marked`).
6. The web UI does not exist yet.
7. Claims: `test_no_claim_of_legal_anonymity`.
"""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_days import FAULTS, SIGNALS, inject
from synthetic import make_clip
from tiny import TINY_SETTINGS, tiny_library

from anonymotion import memory
from anonymotion import target as target_module
from anonymotion.backbone import Backbone
from anonymotion.errors import AnonymotionError
from anonymotion.run import FileOptions, hide_video

ROOT = Path(__file__).resolve().parents[1]
CHILD = ROOT / "benchmarks" / "tiny_hide.py"
EXPECTED_KINDS = (AnonymotionError, ZeroDivisionError, ValueError, AttributeError, KeyboardInterrupt)


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


@pytest.mark.parametrize(("unnamed", "force"), [(True, False), (True, True), (False, False)])
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_leaves_nothing(
    tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, unnamed: bool, force: bool
) -> None:
    """An error, no video, no masks, no dump; the input and an earlier output are as they were."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(memory, "MAX_CHUNK_FRAMES", 2)
    if not unnamed:  # as on systems without files that have no name
        monkeypatch.setattr(target_module, "open_unnamed", lambda path: None)
    library = tiny_library(tmp_path / "library")
    clip = make_clip(tmp_path / "in.mp4", frames=9)
    before = clip.read_bytes()
    folder = tmp_path / "out"
    folder.mkdir()
    output = folder / "hidden.mp4"
    earlier = force and not re.search("appears at|removed|replaced", name)
    if earlier:
        output.write_text("an earlier result")
    files = FileOptions(masks=folder / "masks", dump=folder / "dump", force=force)
    options: dict[str, Any] = {**TINY_SETTINGS, "library": library, "network": tiny, "threshold": 0.01}
    with monkeypatch.context() as patch:
        inject(name, 2, patch, output)
        with pytest.raises(EXPECTED_KINDS) as caught:
            hide_video(clip, output, "hair", files=files, **options)
    assert len(str(caught.value).splitlines()) <= 1
    assert clip.read_bytes() == before
    left = files_below(folder) if folder.exists() else []
    if "appears at the target" in name:
        assert left == ["hidden.mp4"]
        assert output.read_text() == "precious", "what is not ours was touched"
    elif earlier:
        assert left == ["hidden.mp4"]
        assert output.read_text() == "an earlier result"
    else:
        assert left == []
    assert not list(folder.glob(".*"))
    assert files_below(temporary) == []
    moved = tmp_path / "moved"
    assert not moved.exists() or files_below(moved) == []


def test_nothing_is_wrong_with_the_run_without_a_fault(tiny: Backbone, tmp_path: Path) -> None:
    """The faults above are what stops those runs."""
    clip = make_clip(tmp_path / "in.mp4", frames=9)
    files = FileOptions(masks=tmp_path / "masks", dump=tmp_path / "dump")
    library = tiny_library(tmp_path / "library")
    hide_video(
        clip,
        tmp_path / "hidden.mp4",
        "hair",
        files=files,
        **TINY_SETTINGS,
        library=library,
        network=tiny,
        threshold=0.01,
    )
    assert len(files_below(tmp_path / "masks")) == 9


# ---------------------------------------------------------------------- real processes


class Run:
    """A real process that hides a clip of 200 small frames with the tests' network, slowly."""

    def __init__(self, folder: Path, *extra: str) -> None:
        self.clip = make_clip(folder / "in.mp4", frames=200)
        self.folder, self.temporary = folder / "out", folder / "temporary"
        self.folder.mkdir()
        self.temporary.mkdir()
        self.output = self.folder / "hidden.mp4"
        self._arguments = [sys.executable, str(CHILD), str(self.clip), "-o", str(self.output), *extra]
        self._environment = {**os.environ, "TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1"}

    def start(self, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._arguments,
            stderr=subprocess.PIPE,
            text=True,
            env={**self._environment, **environment},
        )

    def wait_for(self, process: subprocess.Popen[str], count: int) -> None:
        """Until `count` masks were written."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if len(list(self.folder.glob(".masks*partial/*.png"))) >= count:
                return
            time.sleep(0.01)
        process.kill()
        pytest.fail(f"the run did not come to mask {count}: {process.communicate()}")


@pytest.fixture
def process_of() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes put here are gone after the test."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_leaves_nothing(tmp_path: Path, process_of: list[subprocess.Popen[str]], name: str) -> None:
    run = Run(tmp_path, "--export-masks", str(tmp_path / "out" / "masks"), "--dump", str(tmp_path / "out" / "dump"))
    process = run.start(ANONYMOTION_TEST_PACE="0.05")
    process_of.append(process)
    run.wait_for(process, 20)
    process.send_signal(getattr(signal, name))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1].endswith("interrupted; nothing was written")
    assert list(run.folder.iterdir()) == []
    assert files_below(run.temporary) == []


def test_a_kill_leaves_nothing_that_can_be_read(tmp_path: Path, process_of: list[subprocess.Popen[str]]) -> None:
    """SIGKILL: no video, hidden or not; folders for their owner only; and the next run sweeps them away."""
    run = Run(tmp_path, "--export-masks", str(tmp_path / "out" / "masks"), "--dump", str(tmp_path / "out" / "dump"))
    process = run.start(ANONYMOTION_TEST_PACE="0.05")
    process_of.append(process)
    run.wait_for(process, 20)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    left = sorted(run.folder.iterdir())
    assert [path.name.split(".")[1] for path in left] == ["dump", "masks"]
    for path in left:
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert files_below(run.temporary) == []
    again = run.start(ANONYMOTION_TEST_PACE="0")
    process_of.append(again)
    _, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    assert sorted(path.name for path in run.folder.iterdir()) == ["dump", "hidden.mp4", "masks"]


def test_two_runs_on_one_file(tmp_path: Path, process_of: list[subprocess.Popen[str]]) -> None:
    """One of them makes the output, the other one ends with an error; neither disturbs what the other writes."""
    run = Run(tmp_path, "--export-masks", str(tmp_path / "out" / "masks"))
    processes = [run.start(), run.start()]
    process_of.extend(processes)
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 1], errors
    assert sorted(path.name for path in run.folder.iterdir()) == ["hidden.mp4", "masks"]
    assert len(files_below(run.folder / "masks")) == 200


# ---------------------------------------------------------------------- secrets and claims


def test_the_noise_is_in_no_file(tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[bytes] = []
    urandom = os.urandom

    def recorded(count: int) -> bytes:
        drawn.append(urandom(count))
        return drawn[-1]

    monkeypatch.setattr(os, "urandom", recorded)
    clip = make_clip(tmp_path / "in.mp4", frames=4)
    library = tiny_library(tmp_path / "library")
    # with grains of one pixel the bytes that are drawn at first are one value per pixel
    options: dict[str, Any] = {**TINY_SETTINGS, "library": library, "network": tiny, "threshold": 0.01}
    hide_video(clip, tmp_path / "hidden.mp4", "hair", noise_grain=0, **options)
    (field,) = [raw for raw in drawn if len(raw) == 2 * 64 * 96 * 3][:1]
    data = (tmp_path / "hidden.mp4").read_bytes()
    pieces = {field[start : start + 16] for start in range(0, len(field) - 16, 16)}
    assert not any(piece in data for piece in pieces)
    assert len(np.unique(np.frombuffer(field, np.uint16))) > 1000


def test_no_claim_of_legal_anonymity() -> None:
    claims = re.compile(r"\b(GDPR|compliant|guarantee[sd]?|fully anonym\w+|irreversibl[ey])\b", re.IGNORECASE)
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "src").rglob("*.py")):
        found = claims.search(path.read_text(encoding="utf-8"))
        assert found is None, f"{path.name}: {found and found.group()}"
    assert "Best effort: review the output before publishing it" in (ROOT / "README.md").read_text(encoding="utf-8")
