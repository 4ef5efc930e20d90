"""The `template` commands as a user meets them: what they print, and bad input that changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from scenes import background, logo, place, save
from synthetic import make_clip
from test_cli import invoke, one_line_error
from tiny import TINY_SETTINGS

from anonymotion.backbone import Backbone
from anonymotion.cli import template_commands
from anonymotion.presets import PRESETS, settings_for
from anonymotion.templates import TemplateLibrary


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the templates of this test's user go."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "anonymotion" / "library"


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A picture of 480x320 pixels with a logo at (130, 110) to (220, 200)."""
    frame, box = place(logo(), background("r_street_empty"), 130, 110)
    assert box == (130, 110, 220, 200)
    return save(frame, tmp_path / "scene.png")


ADD = ("--attribute", "logo", "--box", "130,110,220,200")


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {str(p): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def test_add_list_show_and_remove(scene: Path, own_folder: Path, tmp_path: Path) -> None:
    result = invoke("template", "add", scene, *ADD)
    assert result.exit_code == 0, result.output
    assert "is a template of logo, which has 1 now" in result.stderr
    assert "a crop of 320x320 pixels" in result.stderr
    assert str(own_folder / "pictures") in result.stderr
    assert f"template preview {scene} --attribute logo" in result.stderr
    assert "warning" not in result.stderr
    assert result.stdout == ""
    assert "logo         1 exemplars in 1 pictures (1 of them your own)" in invoke("template", "list").stdout
    document = json.loads(invoke("template", "list", "--json").stdout)
    assert document["attributes"]["logo"]["own"] == 1
    assert document["attributes"]["hair"]["own"] == 0
    (row,) = json.loads(invoke("template", "show", "logo", "--json", "--sheet", tmp_path / "s.png").stdout)["templates"]
    assert row["own"]
    assert row["licence"].startswith("private")
    assert row["id"] in invoke("template", "show", "logo").stdout
    removed = invoke("template", "remove", row["id"])
    assert removed.exit_code == 0, removed.output
    assert list((own_folder / "pictures").iterdir()) == []
    assert "logo" not in invoke("template", "list").stdout


def test_show_prints_nothing_that_a_terminal_would_obey(scene: Path) -> None:
    invoke("template", "add", scene, *ADD, "--subject", "red\x1b[31m\nlogo  at (0, 0)")
    (line,) = invoke("template", "show", "logo").stdout.splitlines()
    assert "\x1b" not in line


def test_a_frame_of_a_video_and_a_folder_of_ones_own(tmp_path: Path, own_folder: Path) -> None:
    clip = make_clip(tmp_path / "a clip.mp4", frames=10)
    folder = tmp_path / "mine"
    result = invoke(
        *("template", "add", clip, "--at-time", "00:00.2", "-a", "block", "--at", "8,8", "--library", folder, "--json")
    )
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert Path(document["file"]).parent == folder / "pictures"
    assert document["attribute"] == "block"
    assert f"'{clip}' --attribute block --at-time 00:00.2 --library {folder}" in result.stderr
    assert not own_folder.exists()
    assert "block" in invoke("template", "list", "--library", folder).stdout
    assert "block" not in invoke("template", "list").stdout


def test_a_uniform_place_is_warned_of_and_still_kept(tmp_path: Path) -> None:
    Image.fromarray(np.full((64, 80, 3), 200, np.uint8)).save(tmp_path / "blank.png")
    result = invoke("template", "add", tmp_path / "blank.png", "-a", "wall", "--at", "20,20")
    assert result.exit_code == 0, result.output
    (warning,) = [line for line in result.stderr.splitlines() if "warning" in line]
    assert "nearly uniform at 20,20: this template will match walls and sky" in warning
    assert "wall" in invoke("template", "list").stdout


def test_bad_input_of_add_changes_nothing(scene: Path, tmp_path: Path) -> None:
    invoke("template", "add", scene, *ADD)
    clip = make_clip(tmp_path / "clip.mp4", frames=10)
    (tmp_path / "file").write_text("no folder")
    before = snapshot(tmp_path)
    logo_flag = ("-a", "logo")
    cases: list[tuple[tuple[object, ...], str]] = [
        ((scene, *logo_flag, "--box", "400,250,500,300"), "outside the picture: the picture is 480x320"),
        ((scene, *logo_flag, "--at", "480,20"), "outside the picture: the picture is 480x320"),
        ((scene, *logo_flag, "--at", "-1,20"), "outside"),
        ((scene, *logo_flag, "--box", "20,20,10,40"), "empty"),
        ((scene, *logo_flag, "--at", "20"), "X,Y"),
        ((scene, *logo_flag, "--at", "20,nan"), "X,Y"),
        ((scene, *logo_flag, "--box", "1,2,3"), "X0,Y0,X1,Y1"),
        ((scene, *logo_flag), "either a point"),
        ((scene, *logo_flag, "--at", "20,20", "--box", "1,2,3,4"), "either a point"),
        ((scene, "-a", "face", "--at", "20,20"), "group"),
        ((scene, "-a", "my logo", "--at", "20,20"), "cannot be used"),
        ((scene, "-a", "plate", "--at", "20,20", "--negative"), "no template yet"),
        ((scene, *ADD), "already"),
        ((scene, *ADD, "--negative"), "remove that one first"),
        ((scene, *logo_flag, "--at", "20,20", "--at-time", "soon"), "00:03.2"),
        ((scene, *logo_flag, "--at", "20,20", "--library", tmp_path / "file"), "cannot be written"),
        ((clip, *logo_flag, "--at", "20,20", "--at-time", "1:00"), "0.400 s long"),
        ((tmp_path / "none.png", *logo_flag, "--at", "20,20"), "does not exist"),
        ((tmp_path / "file", *logo_flag, "--at", "20,20"), "file"),
    ]
    for arguments, expected in cases:
        line = one_line_error(invoke("template", "add", *arguments))
        assert expected in line, line
        assert len(line) < 500, line
        assert snapshot(tmp_path) == before, line


def test_bad_input_of_the_others_changes_nothing(scene: Path, tmp_path: Path) -> None:
    invoke("template", "add", scene, *ADD)
    absent = tmp_path / "absent"
    before = snapshot(tmp_path)
    cases: list[tuple[tuple[object, ...], str]] = [
        (("remove",), "either"),
        (("remove", "00000000"), "not in the library"),
        (("remove", "-a", "hair"), "built in"),
        (("list", "--library", absent), "template add"),
        (("show", "--library", absent), "template add"),
        (("remove", "-a", "logo", "--library", absent), "template add"),
        (("export", tmp_path / "x.safetensors", "-a", "logo", "--library", absent), "template add"),
        (("export", tmp_path / "x.safetensors", "-a", "hair"), "built-in"),
        (("export", tmp_path / "x.pt", "-a", "logo"), ".safetensors"),
        (("import", tmp_path / "x.safetensors"), "x.safetensors"),
        (("import", scene), ".safetensors"),
        (("preview", scene, "-a", "lgo"), "did you mean 'logo'"),
        (("preview", scene, "-a", "face"), "group"),
        (("preview", scene, "-a", "logo", "-o", scene), "scene.png"),
        (("preview", scene, "-a", "logo", "-o", tmp_path / "x.jpg"), ".png"),
        (("preview", scene, "-a", "logo", "--at-time", "9"), "long"),
        (("preview", scene, "-a", "logo", "--library", absent), "template add"),
    ]
    for arguments, expected in cases:
        line = one_line_error(invoke("template", *arguments))
        assert expected in line, line
        assert snapshot(tmp_path) == before, line
    for command in ("hide", "saliency"):
        result = invoke(command, scene, "-o", tmp_path / "out.png", "-a", "logo", "--library", absent)
        assert "template add" in one_line_error(result)
        assert snapshot(tmp_path) == before


def test_a_damaged_library_stops_every_command(scene: Path, own_folder: Path, tmp_path: Path) -> None:
    """Also those that name built-in attributes only: it might have more exemplars of them."""
    invoke("template", "add", scene, *ADD)
    (own_folder / "library.toml").write_text("schema_version = [")
    for arguments in (("template", "list"), ("template", "add", scene, *ADD)):
        assert "TOML" in one_line_error(invoke(*arguments))
    assert "TOML" in one_line_error(invoke("hide", scene, "-o", tmp_path / "out.png", "-a", "hair"))
    assert not (tmp_path / "out.png").exists()


def test_export_and_import(scene: Path, tmp_path: Path, tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "strict", settings_for("strict", **TINY_SETTINGS))
    monkeypatch.setattr(template_commands, "_backbone", lambda: tiny)
    invoke("template", "add", scene, *ADD, "--subject", "a star")
    invoke("template", "add", scene, "-a", "logo", "--at", "30,300", "--negative")
    file, other = tmp_path / "logo.safetensors", tmp_path / "other"
    result = invoke("template", "export", file, "-a", "logo")
    assert result.exit_code == 0, result.output
    assert "2 crops of the pictures" in result.stderr
    assert "--force" in one_line_error(invoke("template", "export", file, "-a", "logo"))
    received = invoke("template", "import", file, "--library", other, "--json")
    assert received.exit_code == 0, received.output
    document = json.loads(received.stdout)
    assert (len(document["added"]), document["skipped"], document["compared"]) == (2, 0, 2)
    assert "some are negative: less is hidden as logo" in received.stderr
    assert len(TemplateLibrary.load(other).templates) == 2
    assert "2 were there already" in invoke("template", "import", file).stderr
    with safe_open(file, framework="pt") as stream:
        metadata = {**stream.metadata(), "format_version": "2"}
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a dict
    save_file(tensors, tmp_path / "newer.safetensors", metadata)
    before = snapshot(tmp_path)
    assert "upgrade anonymotion" in one_line_error(invoke("template", "import", tmp_path / "newer.safetensors"))
    assert snapshot(tmp_path) == before
