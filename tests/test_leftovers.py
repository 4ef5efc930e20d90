"""What a killed run leaves is swept by the next one; what a living run writes, or what is not ours, is not."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from anonymotion import target as target_module
from anonymotion.errors import OutputError
from anonymotion.leftovers import HIDDEN, claim, hidden_name, make_file, make_folder, sweep
from anonymotion.target import HiddenFile, HiddenFolder, commit_all, whole_file

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no locks, no sweeping")

KILLED = """
import os, sys
from pathlib import Path
from anonymotion import target
target.open_unnamed = lambda path: None
folder = Path(sys.argv[1])
file = target.HiddenFile(folder / "video.mp4", force=False)
file.partial.write_bytes(b"obfuscated")
dump = target.HiddenFolder(folder / "dump", force=False, private=True)
(dump.partial / "0.npz").write_bytes(b"clean")
print("ready", flush=True)
if sys.argv[2] == "wait":
    sys.stdin.read()
os.kill(os.getpid(), 9)
"""


def start(folder: Path, what: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder), what], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_what_a_kill_left_is_private_and_is_swept(tmp_path: Path) -> None:
    start(tmp_path, "die").communicate(timeout=30)
    left = sorted(tmp_path.iterdir())
    assert len(left) == 2
    for path in left:
        assert HIDDEN.fullmatch(path.name)
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    with HiddenFolder(tmp_path / "masks", force=False):
        assert [path.name.split(".")[1] for path in tmp_path.iterdir()] == ["masks"]
    assert list(tmp_path.iterdir()) == []


def test_what_a_living_run_writes_stays(tmp_path: Path) -> None:
    process = start(tmp_path, "wait")
    before = sorted(tmp_path.iterdir())
    assert len(before) == 2
    sweep(tmp_path)
    HiddenFile(tmp_path / "other.mp4", force=False).discard()
    assert sorted(tmp_path.iterdir()) == before
    process.communicate(b"", timeout=30)
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_ours_are_swept(tmp_path: Path) -> None:
    kept = [
        ".x.partial",
        "x.anonymotion-0123abcd.partial",
        ".x.anonymotion-0123abcd.partial.mp4.txt",
        ".x.anonymotion-xy.partial",
    ]
    for name in kept:
        (tmp_path / name).write_text("precious")
    deep = tmp_path / ".deep.anonymotion-0123abcd.partial"
    (deep / "below").mkdir(parents=True)
    link = tmp_path / ".link.anonymotion-0123abcd.partial"
    link.symlink_to(tmp_path / ".x.partial")
    (tmp_path / ".stale.anonymotion-0123abcd.partial.mp4").write_text("left over")
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, deep.name, link.name])


def test_a_claim_that_was_swept_before_it_was_locked_is_made_again(tmp_path: Path) -> None:
    for make in (make_file, make_folder):
        swept: list[Path] = []

        def make_and_lose(name: Path, make: object = make, swept: list[Path] = swept) -> int:
            descriptor = make(name)  # type: ignore[operator]
            if len(swept) < 2:
                swept.append(name)
                name.rmdir() if name.is_dir() else name.unlink()
            return int(descriptor)

        name, descriptor = claim(tmp_path / "video.mp4", make_and_lose)
        assert len(swept) == 2
        assert name.exists()
        os.close(descriptor)
        sweep(tmp_path)
        assert not name.exists()


@pytest.mark.parametrize("name", ["a", "ü" * 120 + ".mp4", "x" * 251 + ".mp4", "-rf.mp4", "a\nb.mp4", "a.b.c d.webm"])
def test_hidden_names_fit_and_are_recognised(tmp_path: Path, name: str) -> None:
    hidden = hidden_name(tmp_path / name)
    assert HIDDEN.fullmatch(hidden.name)
    assert len(os.fsencode(hidden.name)) <= 255
    assert hidden.parent == tmp_path


@pytest.mark.parametrize("unnamed", [True, False])
def test_what_was_replaced_comes_back_when_the_rest_does_not_appear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unnamed: bool
) -> None:
    if not unnamed:
        monkeypatch.setattr(target_module, "open_unnamed", lambda path: None)
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "0.png").write_text("old")
    (tmp_path / "report.html").write_text("old")
    (tmp_path / "video.mp4").write_text("old")
    masks = HiddenFolder(tmp_path / "masks", force=True)
    (masks.partial / "1.png").write_text("new")
    report = HiddenFile(tmp_path / "report.html", force=True)
    report.partial.write_text("new")
    video = HiddenFile(tmp_path / "video.mp4", force=True)
    video.partial.write_text("new")
    (tmp_path / "video.mp4").unlink()
    (tmp_path / "video.mp4").symlink_to(tmp_path / "report.html")  # replaced by a link during the run
    with pytest.raises(OutputError, match="replaced by something else"):
        commit_all([masks, report, video])
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["0.png"]
    assert (tmp_path / "report.html").read_text() == "old"
    assert (tmp_path / "video.mp4").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["masks", "report.html", "video.mp4"]


def test_a_second_retraction_does_not_take_the_old_folder(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "0.png").write_text("old")
    masks = HiddenFolder(tmp_path / "masks", force=True)
    masks.commit()
    masks.retract()
    masks.retract()
    assert (tmp_path / "masks" / "0.png").read_text() == "old"


def test_a_committed_folder_drops_what_it_replaced(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "0.png").write_text("old")
    with HiddenFolder(tmp_path / "masks", force=True) as masks:
        (masks.partial / "1.png").write_text("new")
        commit_all([masks])
    assert [path.name for path in tmp_path.iterdir()] == ["masks"]
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["1.png"]


@pytest.mark.parametrize("unnamed", [True, False])
def test_a_whole_file_appears_at_the_end_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unnamed: bool
) -> None:
    if not unnamed:
        monkeypatch.setattr(target_module, "open_unnamed", lambda path: None)
    path = tmp_path / "table.md"
    with whole_file(path, force=False) as partial:
        partial.write_text("first")
        assert not path.exists()
    assert path.read_text() == "first"
    for error, expected in ((OSError(28, "full"), OutputError), (ValueError("ours"), ValueError)):
        with pytest.raises(expected) as caught, whole_file(path, force=True) as partial:  # noqa: PT012 - half of it
            partial.write_text("half")
            raise error
        assert path.read_text() == "first"
    assert "ours" in str(caught.value)
    with pytest.raises(OutputError, match="appeared"), whole_file(path, force=False) as partial:
        partial.write_text("second")
    assert [item.name for item in tmp_path.iterdir()] == ["table.md"]
