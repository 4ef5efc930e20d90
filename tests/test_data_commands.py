"""The `data` commands as a user meets them: what they print, and bad input that changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import miniatures
import pytest
from test_cli import invoke, one_line_error

from anonymotion.research.datasets import open_dataset


@pytest.fixture
def weizmann(tmp_path: Path) -> Path:
    return miniatures.weizmann(tmp_path / "data")


def test_check_prints_counts_labels_and_chance(weizmann: Path) -> None:
    result = invoke("data", "check", "weizmann", weizmann)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "weizmann: 48 clips of 12 videos, 240 frames"
    assert lines[1].startswith("action: 4 classes, bend 12, run 12")
    assert lines[2].startswith("identity: 3 classes, ada 16")
    row = next(line.split() for line in lines if line.startswith("person-fold-0"))
    assert row == ["person-fold-0", "action", "4", "4", "4", "25.0%"]
    document = json.loads(invoke("data", "check", "weizmann", weizmann, "--json", "--quick").stdout)
    assert document["problems"] == []
    assert document["frames"] is None
    assert document["splits"][0]["chance"] == 0.25


def test_check_of_a_damaged_copy_names_every_problem(weizmann: Path) -> None:
    (weizmann / "run" / "ada_run.avi").unlink()
    (weizmann / "bend" / "ben_bend.avi").write_bytes(b"no video")
    result = invoke("data", "check", "weizmann", weizmann)
    assert result.exit_code == 1
    assert "warning: run/ada_run.avi is missing" in result.stderr
    assert "warning: bend/ben_bend.avi cannot be read" in result.stderr
    assert "2 problems: 1 videos missing, 1 unreadable" in result.stderr
    assert "weizmann: 48 clips of 12 videos, 200 frames" in result.stdout


def test_wrong_roots_are_one_line(tmp_path: Path) -> None:
    for name, message in (("weizmann", "labels.csv is not there"), ("sbu", "no folders sXXsYY"), ("x", "is not known")):
        assert message in one_line_error(invoke("data", "check", name, tmp_path), 1)


def test_obfuscate_makes_goes_on_with_and_refuses_a_copy(weizmann: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("data", "obfuscate", "weizmann", weizmann, "--out", out, "--method", "pixelate-16")
    result = invoke(*command, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert (document["made"], document["there"], document["failed"]) == (12, 0, {})
    assert "settings is not for release: pixelation keeps the mean" in result.stderr
    copy = open_dataset("weizmann", out)
    assert copy.splits == open_dataset("weizmann", weizmann).splits
    assert invoke("data", "check", "weizmann", out).exit_code == 0
    again = invoke(*command)
    assert "wrote 0 videos (12 were there already)" in again.stderr
    message = one_line_error(invoke(*command, "--at-native"), 1)
    assert "was made with other settings (method.settings.at_native: False, now True)" in message


def test_a_failing_video_is_named_and_the_status_is_not_zero(weizmann: Path, tmp_path: Path) -> None:
    (weizmann / "run" / "ada_run.avi").write_bytes(b"no video")
    result = invoke("data", "obfuscate", "weizmann", weizmann, "--out", tmp_path / "out", "--variants", "source")
    assert result.exit_code == 1
    assert "run/ada_run.avi could not be copied" in result.stderr
    assert "1 videos failed" in result.stderr
    assert len(list((tmp_path / "out" / "source" / "frames").rglob("000000.png"))) == 11


def test_an_interrupt_says_that_the_same_command_goes_on(
    weizmann: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    command = ("data", "obfuscate", "weizmann", weizmann, "--out", tmp_path / "out", "--variants", "source")
    with monkeypatch.context() as patch:
        patch.setattr("anonymotion.research.obfuscate._copy_video", interrupted)
        assert "the same command goes on" in one_line_error(invoke(*command), 130)
    assert "is not finished" in one_line_error(invoke("data", "check", "weizmann", tmp_path / "out" / "source"))
    assert "wrote 12 videos (0 were there" in invoke(*command).stderr


def test_bad_requests_write_nothing(weizmann: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for flags, message in (
        (("--variants", "source,nonsense"), "variant 'nonsense' is not known"),
        (("--variants", "source,source"), "give each name once"),
        (("--variants", "strict", "--noise", "iid"), "says itself which preset"),
        (("--attributes", "tail"), "tail"),
        (("--preset", "loose"), "preset 'loose' is not known"),
        (("--method", "pixelate-4", "--test-key", "-2"), "test key -2"),
    ):
        assert message in one_line_error(invoke("data", "obfuscate", "weizmann", weizmann, "--out", out, *flags), 1)
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.shared
def test_the_default_network_hides_people_in_a_real_clip(shared: Path, tmp_path: Path) -> None:
    """The short way through everything: looks, a hidden copy and its neutral background, from one video."""
    real = shared / "data" / "weizmann"
    root = tmp_path / "data"
    miniatures.table(root / "labels.csv", [("file", "action", "person"), ("daria_jump.avi", "jump", "daria")])
    (root / "daria_jump.avi").write_bytes((real / "jump" / "daria_jump.avi").read_bytes())
    flags = ("--variants", "strict,strict+neutral,person-mask", "--short-side", "336", "--looks", tmp_path / "looks")
    result = invoke(
        *("data", "obfuscate", "folder", root, "--out", tmp_path / "out", "-a", "torso,arm,leg,hair", *flags)
    )
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "looks").glob("*/look.json"))) == 2
    masks = open_dataset("folder", tmp_path / "out" / "person-mask")
    assert masks.clips[0].id == "daria_jump"
