"""Policies as a user types them: flags, the file, what is printed, and `policy check`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from synthetic import make_clip
from tiny import nine_attributes
from typer.testing import CliRunner, Result

from anonymotion.backbone import Backbone
from anonymotion.cli import app
from anonymotion.templates import TemplateLibrary

ROOT = Path(__file__).resolve().parents[1]
TINY_FLAGS = ("--layer", "2", "--stride", "14", "--short-side", "56", "--threshold", "0.3", "--contrast", "0")


@pytest.fixture
def clip(tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clip; the command loads the tiny network and a generated library of the nine attributes."""
    library = nine_attributes(tmp_path / "library")
    monkeypatch.setattr(Backbone, "load", lambda *_: tiny)
    monkeypatch.setattr(TemplateLibrary, "load", lambda *_: library)
    return make_clip(tmp_path / "clip.mp4", frames=4)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def error_line(result: Result) -> str:
    assert result.exit_code == 1, result.output
    (line,) = [line for line in result.stderr.splitlines() if "error:" in line]
    assert "defect" not in line
    return line


def test_every_flag_at_once_and_what_is_reported(clip: Path, tmp_path: Path) -> None:
    flags = ("-a", "hair,body", "--keep", "leg", "--include", "0,0,20,20", "--include", "10%,10%,20%,20%")
    flags = (*flags, "--exclude", "80,0 96,0 96,30", "--span", "00:00.04-", *TINY_FLAGS)
    result = invoke("hide", clip, "-o", tmp_path / "o.mp4", *flags, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["attributes"] == ["hair", "torso", "arm", "hand"]
    assert document["settings"]["changed_from_preset"]["threshold"] == "0.3"
    policy = document["policy"]
    assert policy["file"] is None
    assert policy["include"] == ["0,0,20,20", "10%,10%,20%,20%"]
    assert policy["exclude"] == ["80,0 96,0 96,30"]
    assert policy["spans"] == ["00:00.04-"]
    assert policy["given_back"]["frames_outside_spans"] == 1
    assert policy["given_back"]["kept"]["frames"] == 3
    assert 0 < policy["given_back"]["kept"]["share_mean"] < 1
    assert "warning: kept visible: leg took" in result.stderr
    assert "warning: kept visible: excluded shapes took" in result.stderr
    assert "outside the spans the video is unchanged: 1 of 4 frames" in result.stderr
    assert "hid hair, torso, arm, hand, the given shapes in 4 frames" in result.stderr


def test_a_file_does_what_its_flags_do_and_flags_count_before_it(clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(
        "schema_version = 1\nattributes = ['hair']\n[settings]\nlayer = 2\nstride = 14\nshort_side = 56\n"
        "threshold = 0.3\ncontrast = 0\nfeather = 0\n[[include]]\nrectangle = [0, 0, 20, 20]\n"
    )
    by_file = invoke(
        "hide", clip, "-o", tmp_path / "a.mp4", "--policy", path, "--json", "--export-masks", tmp_path / "1"
    )
    flags = ("-a", "hair", "--include", "0,0,20,20", *TINY_FLAGS, "--feather", "0")
    by_flags = invoke("hide", clip, "-o", tmp_path / "b.mp4", *flags, "--json", "--export-masks", tmp_path / "2")
    assert by_file.exit_code == by_flags.exit_code == 0, by_file.output
    for file in sorted((tmp_path / "1").iterdir()):
        assert file.read_bytes() == (tmp_path / "2" / file.name).read_bytes()
    assert json.loads(by_file.stdout)["policy"]["from_arguments"] == []
    flags = ("--policy", path, "-a", "torso", "--dilation", "3", "--include", "0,0,9,9")
    mixed = json.loads(invoke("hide", clip, "-o", tmp_path / "c.mp4", *flags, "--json").stdout)
    assert mixed["attributes"] == ["torso"]
    assert mixed["settings"]["threshold"] == "0.3"
    assert mixed["settings"]["dilation"] == 3
    assert mixed["policy"]["file"] == "p.toml"
    assert mixed["policy"]["include"] == ["0,0,9,9"]
    assert set(mixed["policy"]["from_arguments"]) == {"attributes", "include", "settings.dilation"}


def test_without_a_policy_the_result_has_none(clip: Path, tmp_path: Path) -> None:
    result = invoke("hide", clip, "-o", tmp_path / "o.mp4", "-a", "hair", *TINY_FLAGS, "--json")
    assert json.loads(result.stdout)["policy"] == {}


def test_masks_and_shapes_need_no_attributes(clip: Path, tmp_path: Path) -> None:
    tiny = TINY_FLAGS[:6]
    masks = ("--export-masks", tmp_path / "masks")
    first = invoke("hide", clip, "-o", tmp_path / "a.mp4", "--include", "0,0,20,20", *tiny, *masks)
    assert first.exit_code == 0, first.output
    assert "hid the given shapes in 4 frames" in first.stderr
    second = invoke("hide", clip, "-o", tmp_path / "b.mp4", "--masks", tmp_path / "masks", *tiny)
    assert "hid own masks in 4 frames" in second.stderr
    assert "with no matching and dis" in second.stderr
    assert invoke("hide", clip, "-o", tmp_path / "c.mp4", "--exclude", "0,0,9,9").exit_code == 2


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (("--keep", "hari"), "did you mean 'hair'"),
        (("--keep", "hair"), "one place only"),
        (("--include", "1,2,3"), "include 1"),
        (("--include", "900,900,990,990"), "outside the frame"),
        (("--span", "5"), "spans 1"),
        (("--span", "05:00-"), "none of the 4 frames"),
        (("--masks", "nowhere"), "cannot be read"),
        (("--policy", "nowhere.toml"), "cannot be read"),
    ],
)
def test_flags_that_cannot_be(clip: Path, tmp_path: Path, flags: tuple[str, ...], part: str) -> None:
    assert part in error_line(invoke("hide", clip, "-o", tmp_path / "o.mp4", "-a", "hair", *TINY_FLAGS, *flags))
    assert not (tmp_path / "o.mp4").exists()


def test_policy_check(tmp_path: Path) -> None:
    result = invoke("policy", "check", ROOT / "docs" / "clinic.toml")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Hides person (")
    document = json.loads(invoke("policy", "check", ROOT / "docs" / "clinic.toml", "--json").stdout)
    assert document["sentences"] == result.stdout.splitlines()
    assert document["settings"]["threshold"].startswith("0.5,hair=0.3,")
    path = tmp_path / "p.toml"
    path.write_text("schema_version = 1\nkeep = ['hnad']")
    assert "keep" in error_line(invoke("policy", "check", path))
