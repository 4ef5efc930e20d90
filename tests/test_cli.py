"""The command line as a user meets it: flags, exit statuses, one line per error, JSON alone on stdout."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest
import typer
from synthetic import make_audio_only, make_clip, truncate
from typer.testing import CliRunner, Result

from anonymotion.cli import app
from anonymotion.cli.commands import template_app
from anonymotion.cli.console import reported
from anonymotion.errors import MissingDependencyError
from anonymotion.presets import Settings

FAST = ["--short-side", "112"]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def one_line_error(result: Result, status: int = 1) -> str:
    assert result.exit_code == status, result.output
    lines = [line for line in result.stderr.splitlines() if "error:" in line]
    assert len(lines) == 1
    assert "Traceback" not in result.output
    assert "defect" not in lines[0], "an expected error must be a known one"
    return lines[0]


def test_every_setting_is_a_flag() -> None:
    text = " ".join(invoke("hide", "--help").output.split())
    for item in fields(Settings):
        if item.name != "preset":
            assert f"--{item.name.replace('_', '-')}" in text


@pytest.mark.parametrize("application", [app, template_app])
def test_every_command_has_help(application: object) -> None:
    commands = application.registered_commands  # type: ignore[attr-defined]
    assert commands
    for command in commands:
        assert command.callback.__doc__
        assert len(command.callback.__doc__.strip()) > 20


def test_usage_errors_are_status_2(tmp_path: Path) -> None:
    assert invoke("hide", tmp_path / "x.mp4").exit_code == 2
    assert invoke("hide", tmp_path / "x.mp4", "-o", "y.mp4", "-a", "hair", "--no-such-flag").exit_code == 2
    assert invoke("hide", tmp_path / "x.mp4", "-o", "y.mp4", "-a", "hair", "--seed", "seven").exit_code == 2


def test_bad_input_leaves_no_output(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=3)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    make_clip(tmp_path / "dot.avi", size=(1, 1), codec="rawvideo", pixel_format="bgr24", frames=2)
    make_audio_only(tmp_path / "sound.mp4")
    locked = tmp_path / "existing.mp4"
    locked.write_bytes(b"mine")
    before = sorted(tmp_path.iterdir())
    out = tmp_path / "out.mp4"
    cases: list[tuple[Path, Path, list[str], str]] = [
        (tmp_path / "none.mp4", out, ["-a", "hair"], "does not exist"),
        (tmp_path / "empty.mp4", out, ["-a", "hair"], "empty"),
        (tmp_path / "text.mp4", out, ["-a", "hair"], "text.mp4"),
        (tmp_path / "dot.avi", out, ["-a", "hair"], "1x1"),
        (tmp_path / "sound.mp4", out, ["-a", "hair"], "sound.mp4"),
        (clip, out, ["-a", "hiar"], "did you mean 'hair'"),
        (clip, out, ["-a", ""], "use some of"),
        (clip, clip, ["-a", "hair"], "clip.mp4"),
        (clip, tmp_path / "no" / "such" / "out.mp4", ["-a", "hair"], "does not exist"),
        (clip, tmp_path / "out.xyz", ["-a", "hair"], ".xyz"),
        (clip, locked, ["-a", "hair"], "--force"),
        (clip, out, ["-a", "hair", "--preset", "stritc"], "strict"),
        (clip, out, ["-a", "hair", "--threshold", "0"], "threshold"),
        (clip, out, ["-a", "hair", "--threshold", "0.5,hiar=0.2"], "hair"),
        (clip, out, ["-a", "hair", "--short-side", "100"], "14"),
        (clip, out, ["-a", "hair", "--noise-std", "0.5"], "noise"),
        (clip, out, ["-a", "hair", "--flow", "raft-small"], "--flow-weights"),
        (clip, out, ["-a", "hair", "--preset", "paper"], "--backbone-weights"),
        (clip, out, ["-a", "hair", "--backbone-weights", str(tmp_path / "text.mp4")], "text.mp4"),
        (clip, out, ["-a", "hair", "--audio", "louder"], "copy or drop"),
        (clip, out, ["-a", "hair", "--frame-rate", "fast"], "30000/1001"),
    ]
    for source, target, flags, expected in cases:
        line = one_line_error(invoke("hide", source, "-o", target, *flags))
        assert expected in line, line
        assert len(line) < 500, line
        assert sorted(tmp_path.iterdir()) == before, line
    assert locked.read_bytes() == b"mine"


def test_cuda_without_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    clip = make_clip(tmp_path / "clip.mp4", frames=2)
    line = one_line_error(invoke("hide", clip, "-o", tmp_path / "o.mp4", "-a", "hair", "--device", "cuda"))
    assert "--device cpu" in line
    assert not (tmp_path / "o.mp4").exists()


def test_truncated_input_and_its_flag(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", frames=50, size=(160, 128))
    cut = truncate(clip, 0.6)
    out = tmp_path / "out.mp4"
    line = one_line_error(invoke("hide", cut, "-o", out, "-a", "hair", *FAST))
    assert "--allow-truncated" in line
    assert not out.exists()
    result = invoke("hide", cut, "-o", out, "-a", "hair", *FAST, "--allow-truncated", "--threshold", "0.01")
    assert result.exit_code == 0, result.output
    assert out.stat().st_size > 0


def test_hide_with_json_prints_one_document(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=3)
    out = tmp_path / "a name with ünïcode & spaces.mp4"
    arguments = ("hide", clip, "-o", out, "-a", "face,hair", *FAST, "--threshold", "0.01", "--json")
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["schema_version"] == 1
    assert document["frames"] == 3
    assert document["attributes"] == ["forehead", "eyes", "cheek", "lips", "hair"]
    assert document["device"]["reason"]
    assert "Best effort" in result.stderr
    assert ("nothing was found in" in result.stderr) == (document["coverage"]["frames_without_match"] > 0)
    again = invoke(*arguments)
    assert json.loads(again.stdout)["error"]["exit_status"] == 1
    assert "--force" in one_line_error(again)


def test_nothing_matched_is_status_3(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=2)
    out = tmp_path / "out.mp4"
    one_line_error(invoke("hide", clip, "-o", out, "-a", "hair", *FAST, "--threshold", "1"), status=3)
    assert not out.exists()


def test_seed_and_dump_are_marked(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=2)
    flags = ("-a", "hair", *FAST, "--threshold", "0.01", "--seed", "1", "--dump", tmp_path / "dump")
    result = invoke("hide", clip, "-o", tmp_path / "out.mp4", *flags)
    assert result.exit_code == 0, result.output
    assert result.stderr.count("not for release") >= 3  # before the run, and a line per reason
    assert result.stdout == ""


def test_damaged_library_and_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=2)
    out = tmp_path / "out.mp4"
    with monkeypatch.context() as patch:
        patch.setattr("anonymotion.templates.TemplateLibrary.load.__func__.__defaults__", (tmp_path,))
        (tmp_path / "library.toml").write_text("this is [not toml")
        assert "TOML" in one_line_error(invoke("hide", clip, "-o", out, "-a", "hair"))
    with monkeypatch.context() as patch:
        patch.setattr("anonymotion.weights.FOLDER", tmp_path)
        (tmp_path / "vit_small_patch14_dinov2.fp16.safetensors.planes").write_bytes(b"\x00" * 100)
        patch.setattr(
            "anonymotion.weights.provenance",
            lambda: {"file": "vit_small_patch14_dinov2.fp16.safetensors.planes", "sha256": "00"},
        )
        assert "damaged" in one_line_error(invoke("hide", clip, "-o", out, "-a", "hair"))
    assert not out.exists()


def test_saliency_writes_pictures(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=2)
    result = invoke("saliency", clip, "-o", tmp_path / "heat", "-a", "hair,eyes", *FAST, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["frames"] == 2
    assert len(list((tmp_path / "heat").iterdir())) == 4


def test_template_list_and_show(tmp_path: Path) -> None:
    document = json.loads(invoke("template", "list", "--json").stdout)
    assert document["attributes"]["hair"]["exemplars"] >= 3
    assert document["groups"]["face"] == ["forehead", "eyes", "cheek", "lips"]
    shown = json.loads(invoke("template", "show", "hair", "--json", "--sheet", tmp_path / "hair.png").stdout)
    assert {row["attribute"] for row in shown["templates"]} == {"hair"}
    assert (tmp_path / "hair.png").stat().st_size > 10_000
    assert "--force" in one_line_error(invoke("template", "show", "hair", "--sheet", tmp_path / "hair.png"))
    assert "did you mean" in one_line_error(invoke("template", "show", "hare"))


def test_interrupt_leaves_nothing(tmp_path: Path) -> None:
    """SIGTERM in the middle of a real process: status 130, no output, no partial file."""
    clip = make_clip(tmp_path / "clip.mp4", frames=120, size=(320, 256))
    command = [sys.executable, "-m", "anonymotion", "hide", str(clip), "-o", str(tmp_path / "out.mp4"), "-a", "hair"]
    command += ["--export-masks", str(tmp_path / "masks")]  # its hidden folder shows that the run has begun
    process = subprocess.Popen(
        [*command, "--short-side", "224", "--threshold", "0.01"], stderr=subprocess.PIPE, env={**os.environ}
    )
    try:
        deadline = 600  # tenths of a second
        while not list(tmp_path.glob(".*partial*")) and process.poll() is None and deadline:
            deadline -= 1
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        assert process.poll() is None, process.communicate()
        process.terminate()
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert b"interrupted" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_an_interrupt_that_a_library_makes_an_error_of_its_own_is_still_one(capsys: pytest.CaptureFixture[str]) -> None:
    """As an import does that it comes into the middle of."""

    def imported() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        except BaseException as error:
            raise MissingDependencyError("it cannot be used (initialization failed)") from error

    with pytest.raises(typer.Exit) as ended, reported(as_json=False):
        imported()
    assert ended.value.exit_code == 130
    assert "interrupted; nothing was written" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x" * 300 + ".mp4", "loop.mp4"])
def test_names_that_cannot_be_used(tmp_path: Path, name: str) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=2)
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    before = sorted(path.name for path in tmp_path.iterdir())
    one_line_error(invoke("hide", clip, "-o", tmp_path / name, "-a", "hair", *FAST))
    one_line_error(invoke("hide", tmp_path / name, "-o", tmp_path / "out.mp4", "-a", "hair", *FAST))
    one_line_error(invoke("hide", clip, "-o", tmp_path / "out.mp4", "-a", "hair", "--dump", "/", *FAST))
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_the_longest_name_works(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=2)
    target = tmp_path / ("x" * 251 + ".mp4")
    result = invoke("hide", clip, "-o", target, "-a", "hair", *FAST, "--threshold", "0.01", "--contrast", "0")
    assert result.exit_code == 0, result.output
    assert target.stat().st_size > 0


def run_process(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "anonymotion", *(str(argument) for argument in arguments)]
    return subprocess.run(command, text=True, timeout=120, **options)  # type: ignore[call-overload,no-any-return]


def test_a_result_that_cannot_be_printed_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = run_process("template", "list", "--json", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "cannot be printed" in done.stderr


def test_nobody_listening_is_no_reason_to_fail(tmp_path: Path) -> None:
    target = tmp_path / "clip.mp4"
    shell = ["sh", "-c", f'"{sys.executable}" -m anonymotion sample "{target}" 2>&-']
    assert subprocess.run(shell, timeout=120).returncode == 0
    with open("/dev/full", "w") as full:
        assert run_process("sample", target, "--force", stderr=full).returncode == 0
    assert target.stat().st_size > 0
