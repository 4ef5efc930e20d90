"""The attack command and `hide --self-test`: files in, words, JSON and a page out, and nothing else left."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic import make_clip
from typer.testing import CliRunner, Result

from anonymotion.attacks.files import DumpFolder, KeptMasks, MaskFolder, choose_stretch
from anonymotion.chunks import HiddenChunk
from anonymotion.cli import app

HIDE = ["-a", "hair", "--threshold", "0.01", "--contrast", "0", "--short-side", "56", "--quiet"]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a clip, what hides it, its masks and its dump."""
    folder = tmp_path_factory.mktemp("hidden")
    clip = make_clip(folder / "clip.mp4", frames=5)
    done = invoke(
        "hide", clip, "-o", folder / "out.mp4", *HIDE, "--export-masks", folder / "masks", "--dump", folder / "dump"
    )
    assert done.exit_code == 0, done.output
    return folder


def test_masks_in_memory_in_a_folder_and_in_a_dump_are_the_same(hidden: Path) -> None:
    dump, masks, kept = DumpFolder(hidden / "dump"), MaskFolder(hidden / "masks"), KeptMasks()
    planes = torch.stack([torch.from_numpy(dump.plane(index)) for index in range(len(dump))])
    nothing = torch.zeros(0)
    kept.write(HiddenChunk(nothing, nothing, nothing, planes, nothing, nothing, nothing))
    assert len(dump) == len(masks) == len(kept) == 5
    for index in range(5):
        assert np.array_equal(masks.plane(index), kept.plane(index))
        assert np.abs(masks.plane(index) - dump.plane(index)).max() <= 1 / 255
        assert np.array_equal(masks.plane(index) == 1, dump.plane(index) == 1)
    assert dump.settings.short_side == 56
    stretch = choose_stretch(masks, 3)
    assert stretch.stop - stretch.start == 3
    assert stretch.start <= stretch.reference < stretch.stop


def test_attack_prints_one_document_and_writes_a_private_page(
    hidden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anonymotion.attacks.outcome.LEAST_NULLS", 8)
    page = tmp_path / "attack.html"
    done = invoke(
        "attack",
        hidden / "clip.mp4",
        hidden / "out.mp4",
        "--dump",
        hidden / "dump",
        "--report",
        page,
        "--json",
        "-q",
        "--nulls",
        8,
    )
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["schema_version"] == 1
    assert document["seed_known"] is False
    assert {"attack", "ncc", "ssim", "ncc_range", "ssim_range", "nulls", "inside"} <= set(document["findings"][0])
    assert all(found["nulls"] == 8 for found in document["findings"])
    assert "not for release" in document["warning"]
    text = page.read_text()
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert "default-src 'none'" in text
    assert not re.search(r"<script|https?://|clip\.mp4|" + re.escape(str(hidden)), text)
    assert text.count("data:image/png;base64,") == 1 + len(document["findings"])
    assert "attacked:" in done.stderr


@pytest.mark.slow
def test_self_test_says_its_result_with_that_of_hide_and_leaves_nothing_else(hidden: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    done = invoke("hide", hidden / "clip.mp4", "-o", out, *HIDE, "--self-test", "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["frames"] == 5
    assert len(document["self_test"]["findings"]) > 10
    assert "attacked:" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        ([], 2, "--dump"),
        (["--masks", "masks", "--dump", "dump"], 2, "--dump"),
        (["--masks", "clip.mp4"], 1, "is not a folder"),
        (["--masks", "dump"], 1, "000000.png"),
        (["--dump", "masks"], 1, "000000.npz"),
        (["--dump", "dump", "--preset", "paper-debiased"], 1, "leave --preset"),
        (["--masks", "masks", "--nulls", "10"], 1, "50 or more"),
        (["--masks", "masks", "--frames", "0"], 1, "1..1000"),
        (["--masks", "masks", "--seed", "-1"], 1, "seed"),
        (["--masks", "masks", "--report", "x.pdf"], 1, ".html or .json"),
    ],
)
def test_what_cannot_be_attacked_is_one_line(
    hidden: Path, arguments: list[str], status: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(hidden)
    before = sorted(hidden.rglob("*"))
    done = invoke("attack", "clip.mp4", "out.mp4", "-q", *arguments)
    assert done.exit_code == status, done.output
    assert expected in done.output
    assert "Traceback" not in done.output
    assert sorted(hidden.rglob("*")) == before


def test_files_that_do_not_belong_together_are_refused(hidden: Path, tmp_path: Path) -> None:
    other = make_clip(tmp_path / "other.mp4", frames=4)
    large = make_clip(tmp_path / "large.mp4", frames=5, size=(128, 96))
    for original, shown, expected in (
        (other, hidden / "out.mp4", "4 frames"),
        (hidden / "clip.mp4", other, "4 frames"),
        (large, hidden / "out.mp4", "differ in size"),
        (other, other, "5 masks"),
    ):
        done = invoke("attack", original, shown, "--masks", hidden / "masks", "-q")
        assert done.exit_code == 1
        assert expected in done.stderr, done.stderr


def test_a_mask_that_is_no_picture_is_named(hidden: Path, tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    folder.mkdir()
    for index in range(5):
        (folder / f"{index:06d}.png").write_bytes(b"no picture")
    done = invoke("attack", hidden / "clip.mp4", hidden / "out.mp4", "--masks", folder, "-q")
    assert done.exit_code == 1
    assert "000000.png" in done.stderr


def inversion_score(done: Result) -> float:
    """What the one line of a finished run says."""
    assert done.exit_code == 0, done.output
    (line,) = (line for line in done.stderr.splitlines() if "measured inversion score" in line)
    return float(re.search(r"correlation of (-?[\d.]+)", line)[1])  # type: ignore[index]


def test_a_blend_says_its_inversion_score(hidden: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    done = invoke("hide", hidden / "clip.mp4", "-o", out, *HIDE, "--preset", "paper-debiased")
    assert inversion_score(done) > 0.95
    strict = invoke("hide", hidden / "clip.mp4", "-o", tmp_path / "strict.mp4", *HIDE)
    assert "inversion" not in strict.stderr


def test_preset_paper_says_its_inversion_score(hidden: Path, tmp_path: Path) -> None:
    """With DINOv1's architecture and random weights: eq. 5 is inverted whatever the maps are."""
    from anonymotion.networks import create
    from anonymotion.registry import backbone_entry

    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(create(backbone_entry("dino-vits8")).state_dict(), tmp_path / "random.pth")
    flags = ["-a", "hair", "--preset", "paper", "--backbone-weights", tmp_path / "random.pth", "--flow", "dis"]
    done = invoke("hide", hidden / "clip.mp4", "-o", tmp_path / "out.mp4", *flags, "--short-side", "32", "--quiet")
    assert inversion_score(done) > 0.95
