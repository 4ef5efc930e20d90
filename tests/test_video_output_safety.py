"""The output appears whole or not at all, and never in place of something else."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic import make_clip, make_folder

from anonymotion import target as target_module
from anonymotion.errors import OutputError
from anonymotion.video import Sink, open_sink, open_source, probe

TARGETS = ["out.mp4", "out.mkv", "out.webm", "out.gif", "out.avi", "out"]


@pytest.fixture(params=["unnamed", "named"])
def hidden_as(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to hide a file that is being written; "named" is that of systems without unnamed files."""
    if request.param == "named":
        monkeypatch.setattr(target_module, "open_unnamed", lambda path: None)
    elif not sys.platform.startswith("linux"):
        pytest.skip("files without a name are of Linux")
    return str(request.param)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return make_clip(tmp_path / "in" / "in.mp4", frames=4)


def write_all(clip: Path, sink: Sink) -> None:
    with open_source(clip) as source:
        for frame in source:
            sink.write(frame.image, frame)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.usefixtures("hidden_as")
def test_nothing_is_left_on_an_exception(tmp_path: Path, clip: Path, target: str, error: type[BaseException]) -> None:
    def interrupted() -> None:
        with open_sink(tmp_path / target, probe(clip), source=clip) as sink:
            write_all(clip, sink)
            raise error

    with pytest.raises(error):
        interrupted()
    assert names(tmp_path) == ["in"]


@pytest.mark.usefixtures("hidden_as")
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_left_without_commit(tmp_path: Path, clip: Path, target: str) -> None:
    with open_sink(tmp_path / target, probe(clip), source=clip) as sink:
        write_all(clip, sink)
        sink.finish()
    assert names(tmp_path) == ["in"]


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_made_of_nothing(tmp_path: Path, clip: Path, target: str) -> None:
    sink = open_sink(tmp_path / target, probe(clip), source=clip)
    with sink, pytest.raises(OutputError, match="no picture"):
        sink.commit()
    assert names(tmp_path) == ["in"]


@pytest.mark.parametrize("target", TARGETS)
def test_hidden_and_private_until_commit(tmp_path: Path, clip: Path, target: str, hidden_as: str) -> None:
    before = os.umask(0o027)
    try:
        with open_sink(tmp_path / target, probe(clip), source=clip) as sink:
            write_all(clip, sink)
            hidden = [p for p in tmp_path.iterdir() if p.name != "in"]
            assert len(hidden) == (hidden_as == "named" or target == "out")
            for path in hidden:
                assert path.name.startswith(".out.")
                assert ".partial" in path.name
                assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
            finished = sink.finish()
            with open_source(finished) as source:  # can be verified before it appears
                assert len(list(source)) == 4
            sink.commit()
    finally:
        os.umask(before)
    assert names(tmp_path) == ["in", target]
    mode = stat.S_IMODE((tmp_path / target).stat().st_mode)
    assert mode == (0o750 if target == "out" else 0o640)


@pytest.mark.parametrize("link", ["same", "symlink", "hardlink"])
def test_the_input_is_never_the_output(tmp_path: Path, clip: Path, link: str) -> None:
    target = clip
    if link != "same":
        target = tmp_path / "other.mp4"
        target.symlink_to(clip) if link == "symlink" else target.hardlink_to(clip)
    before = clip.read_bytes()
    with pytest.raises(OutputError, match="is the input itself"):
        open_sink(target, probe(clip), source=clip, force=True)
    assert clip.read_bytes() == before


def test_the_input_folder_is_never_the_output(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "f")
    with pytest.raises(OutputError, match="is the input itself"):
        open_sink(folder, probe(folder), source=folder, force=True)
    picture = folder / "1.png"
    with pytest.raises(OutputError, match="holds the input"):
        open_sink(folder, probe(picture), source=picture, force=True)


@pytest.mark.usefixtures("hidden_as")
def test_existing_output(tmp_path: Path, clip: Path) -> None:
    target = tmp_path / "out.mp4"
    target.write_text("precious")
    with pytest.raises(OutputError, match="exists already"):
        open_sink(target, probe(clip), source=clip)
    assert target.read_text() == "precious"
    with open_sink(target, probe(clip), source=clip, force=True) as sink:
        write_all(clip, sink)
        assert target.read_text() == "precious"
        sink.commit()
    assert probe(target).frame_count == 4


@pytest.mark.usefixtures("hidden_as")
def test_output_that_appears_meanwhile_is_kept(tmp_path: Path, clip: Path) -> None:
    target = tmp_path / "out.mp4"
    with open_sink(target, probe(clip), source=clip) as sink:
        write_all(clip, sink)
        target.write_text("precious")
        with pytest.raises(OutputError, match="appeared"):
            sink.commit()
    assert target.read_text() == "precious"
    assert names(tmp_path) == ["in", "out.mp4"]


def test_existing_folders(tmp_path: Path, clip: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    with open_sink(target, probe(clip), source=clip) as sink:  # empty: fine
        write_all(clip, sink)
        sink.commit()
    assert len(names(target)) == 4
    with pytest.raises(OutputError, match="not empty"):
        open_sink(target, probe(clip), source=clip)
    (target / "000009.png").touch()
    with open_sink(target, probe(clip), source=clip, force=True) as sink:
        write_all(clip, sink)
        sink.commit()
    assert len(names(target)) == 4
    (target / "thesis.txt").touch()
    with pytest.raises(OutputError, match=r"thesis\.txt"):
        open_sink(target, probe(clip), source=clip, force=True)
    assert names(tmp_path) == ["in", "out"]


def test_missing_folder(tmp_path: Path, clip: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        open_sink(tmp_path / "none" / "out.mp4", probe(clip), source=clip)


def test_folder_without_permission(tmp_path: Path, clip: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if os.access(closed, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(OutputError, match="may not be written"):
        open_sink(closed / "out.mp4", probe(clip), source=clip)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from anonymotion.errors import OutputError
from anonymotion.video import open_sink, open_source
source, target, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    with open_source(source) as reader, open_sink(target, reader.info, source=source) as sink:
        for frame in reader:
            sink.write(frame.image, frame)
        sink.commit()
except OutputError as error:
    print(error)
    sys.exit(7)
"""


@pytest.mark.parametrize("limit", [0, 2000, 12000])
@pytest.mark.parametrize("target", TARGETS)
def test_full_disk(tmp_path: Path, target: str, limit: int) -> None:
    (tmp_path / "in").mkdir()
    clip = make_clip(tmp_path / "in" / "in.mp4", frames=20, size=(320, 240))
    command = [sys.executable, "-W", "error", "-c", FULL_DISK, clip, tmp_path / target, str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 7, done.stderr
    assert "disk is full" in done.stdout
    assert done.stderr == ""
    assert names(tmp_path) == ["in"]
