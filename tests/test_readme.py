"""What the README says is there: its commands, flags, links, and the Python that it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from synthetic import make_clip
from typer.testing import CliRunner

import anonymotion as am
from anonymotion import video
from anonymotion.cli import app

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_first_two_blocks_are_one_command_each() -> None:
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 2
    for block, end in zip(blocks, ("--attributes face,hair", ".venv/bin/pytest"), strict=True):
        assert block.strip().count("\n") == 0
        assert block.strip().startswith("python3 -m venv .venv && ")
        assert block.strip().endswith(end)


def test_every_command_shown_parses() -> None:
    shown = re.findall(r"^\$ anonymotion (.+)$", README, re.MULTILINE)
    assert len(shown) >= 3
    for line in shown:
        words = shlex.split(line)
        result = CliRunner().invoke(app, [*words, "--help"])
        assert result.exit_code == 0, line


def test_every_flag_named_exists() -> None:
    commands = ("hide", "saliency", "sample", "template add", "template preview", "attack", "studio")
    text = "".join(CliRunner().invoke(app, [*command.split(), "--help"]).output for command in commands)
    for flag in set(re.findall(r"`(--[a-z-]+)", README)):
        assert flag in text, flag


DOCUMENTS = ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    path = ROOT / name
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_nothing_is_left_to_fill_in() -> None:
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        assert "@@" not in path.read_text(encoding="utf-8"), path


@pytest.mark.slow
def test_the_python_shown_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    make_clip(tmp_path / "clip.mp4", frames=2)
    monkeypatch.chdir(tmp_path)
    with video.open_source(tmp_path / "clip.mp4") as source:
        frames = [frame.image for frame in source]
    monkeypatch.setattr(am, "hide_video", _with_low_threshold(am.hide_video))
    exec(compile(code, "README.md", "exec"), {"frames": frames})  # noqa: S102 - our own README
    assert (tmp_path / "hidden.mp4").stat().st_size > 0


def _with_low_threshold(hide_video: object) -> object:
    """The clip of the tests has nobody in it; a low threshold makes something match."""

    def wrapped(*arguments: object, **options: object) -> object:
        return hide_video(*arguments, threshold=0.01, contrast=0.0, **options)  # type: ignore[operator]

    return wrapped
