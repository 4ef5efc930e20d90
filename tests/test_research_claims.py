"""Claims: sentences become numbers; what they compute, against hand-made weights and on the tiny network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny import TINY_SETTINGS, moving, nine_attributes, patchwork
from typer.testing import CliRunner

from anonymotion.backbone import Backbone
from anonymotion.cli import app
from anonymotion.errors import SettingsError
from anonymotion.presets import settings_for
from anonymotion.research.claims import CLAIMS, Question, soft_iou, source_pictures
from anonymotion.research.looks import OnePass
from anonymotion.research.pictures import figure_4, figure_6
from anonymotion.templates import TemplateLibrary

SETTINGS = {**TINY_SETTINGS, "layer": "2", "contrast": "0", "threshold": "0.6", "look_ahead": 1}
SOFT = {name: value for name, value in SETTINGS.items() if name in ("stride", "short_side", "layer")}


@pytest.fixture
def clips(tmp_path: Path) -> tuple[Path, ...]:
    folders = []
    for number in range(2):
        folder = tmp_path / f"clip{number}"
        folder.mkdir()
        ground = patchwork((120, 140), seed=9 + number)
        ground[20:84, 30:110] = patchwork((64, 80), seed=1)
        for place, image in enumerate(moving(ground, 5, (70, 84), (2, 1))):
            Image.fromarray(image).save(folder / f"{place}.png")
        folders.append(folder)
    return tuple(folders)


@pytest.fixture
def ask(
    clips: tuple[Path, ...], tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Question]:
    """Questions that the tiny network and nine templates of a generated picture answer."""
    network = OnePass("dinov2-vits14-embedded", tiny._network, tiny.patch_size, "tiny", torch.device("cpu"))
    library = nine_attributes(tmp_path / "nine")
    monkeypatch.setattr(OnePass, "load", lambda *_, **__: network)
    monkeypatch.setattr(Backbone, "load", lambda *_, **__: network)
    monkeypatch.setattr(TemplateLibrary, "load", lambda *_: library)
    return lambda **changes: Question(clips, 4, **{"device": "cpu", "settings": SETTINGS, **changes})


def test_soft_iou_is_the_share_of_what_both_weigh() -> None:
    one, other = torch.tensor([1.0, 0.5, 0.0]), torch.tensor([0.5, 0.5, 0.5])
    assert soft_iou(one, other) == pytest.approx(1.0 / 2.0)
    assert soft_iou(one > 0.7, torch.tensor([True, True, False])) == pytest.approx(0.5)
    assert soft_iou(torch.zeros(3), torch.zeros(3)) == 1


def test_pictures_that_show_every_attribute(library: TemplateLibrary) -> None:
    names = source_pictures(library, "torso,arm,leg,hair")
    assert len(names) >= 4
    for name in names:
        assert all(library.exemplars(attribute, name) for attribute in ("torso", "arm", "leg", "hair"))
    with pytest.raises(SettingsError, match="pictures show all of"):
        source_pictures(library, "person")


def test_overlap_is_a_share_of_the_rows_attribute(ask: Callable[..., Question]) -> None:
    (table,) = CLAIMS["overlap"].measure(ask())
    assert len(table.rows) == len(table.headings) == 9
    for place, row in enumerate(table.rows):
        values = [cell.value for cell in row.cells]
        if values[place] is not None:
            assert values[place] == 1  # an attribute lies in itself
            assert all(0 <= value <= 1 for value in values if value is not None)
    assert any(row.cells[place].value is not None for place, row in enumerate(table.rows))


def test_only_the_mean_dilutes(ask: Callable[..., Question]) -> None:
    # a blend has no thresholds and no masks: their settings are those of strict alone
    (table,) = CLAIMS["dilution"].measure(ask(attributes="hair,leg"))
    rows = {row.label: [cell.value for cell in row.cells] for row in table.rows}
    mean, strongest = rows["mean (eq. 1) of soft weights"], rows["max of soft weights"]
    assert mean[1] < mean[0]  # type: ignore[operator]
    assert mean[2] > 0.5  # type: ignore[operator]
    assert strongest[1] >= strongest[0]  # type: ignore[operator]
    assert strongest[2] == rows["noisy-or of soft weights"][2] == 0
    four, nine, weaker = rows["union of masks (strict)"]
    assert (four, nine, weaker) == (1, 1, 0)


def test_pictures_are_compared_with_all_and_with_each_other(
    small: TemplateLibrary, ask: Callable[..., Question], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TemplateLibrary, "load", lambda *_: small)
    strict, paper = CLAIMS["pictures"].measure(ask(attributes="hair"))
    for table in (strict, paper):
        assert [row.label for row in table.rows][1:] == ["one", "two"]
        everything, one, two = ([cell.value for cell in row.cells] for row in table.rows)
        assert everything[1] == 1  # with itself
        assert one[2] == pytest.approx(two[2])  # each has the other one alone beside it
        assert everything[2] == pytest.approx((one[1] + two[1]) / 2)  # type: ignore[operator]
    # more exemplars find more, and the first exemplar of all is that of the first picture
    assert all(row.cells[0].value <= strict.rows[0].cells[0].value for row in strict.rows)  # type: ignore[operator]
    assert paper.rows[1].cells[1].value == 1


def test_runtime_has_a_row_per_preset_and_says_what_was_left_out(ask: Callable[..., Question]) -> None:
    (table,) = CLAIMS["runtime"].measure(ask(settings=SOFT))
    assert [row.label for row in table.rows] == ["strict", "strict, each frame matched", "paper-debiased"]
    for row in table.rows:
        total, *stages = (cell.value for cell in row.cells)
        assert total is not None
        assert 0 < sum(stage for stage in stages if stage is not None) <= total
    assert any("paper was not timed" in note for note in table.notes)


def test_motion_and_codec_are_tables_of_endpoint_errors(ask: Callable[..., Question]) -> None:
    told: list[str] = []
    methods = ("strict", "iid", "blur-weak")
    question = ask(attributes="hair", methods=methods, qualities=(20, 30), clip_done=told.append)
    motion = CLAIMS["motion"].measure(question)
    assert [row.label for row in motion[0].rows] == ["no motion at all", "source", *methods]
    assert len(motion[0].headings) == 1
    codec = CLAIMS["codec"].measure(question)
    assert [row.label for row in codec[0].rows] == ["no motion at all", "source", "strict", "iid"]
    assert len(codec[0].headings) == 3
    assert codec[-2].title == "Bits per pixel"
    assert len(told) == 6  # each clip twice, and once for its masks


def test_masks_of_encoded_clips_are_held_against_those_of_the_clips_as_they_are(ask: Callable[..., Question]) -> None:
    table = CLAIMS["codec"].measure(ask(attributes="hair", methods=("strict",), qualities=(13, 51)))[-1]
    before, good, poor = ([cell.value for cell in row.cells] for row in table.rows)
    assert [row.label for row in table.rows] == ["before encoding", "H.264 crf 13", "H.264 crf 51"]
    assert before[1:] == [1, 1]  # with themselves
    assert 0 < before[0] < 1  # type: ignore[operator]
    assert good[1] > poor[1]  # type: ignore[operator]
    assert 0.5 < good[2] <= 1  # type: ignore[operator]


def test_a_clip_without_any_mask_is_alike_however_it_is_encoded(ask: Callable[..., Question]) -> None:
    settings = {**SETTINGS, "threshold": "1"}
    table = CLAIMS["codec"].measure(ask(attributes="hair", methods=("strict",), qualities=(30,), settings=settings))[-1]
    for row in table.rows:
        assert [cell.value for cell in row.cells] == [0, 1, None]


def test_questions_that_mean_nothing_are_refused(clips: tuple[Path, ...]) -> None:
    with pytest.raises(SettingsError, match="no clips"):
        Question(())
    with pytest.raises(SettingsError, match="--frames is 1"):
        Question(clips, 1)


def test_figures_4_and_6_show_every_attribute_and_method(ask: Callable[..., Question]) -> None:
    question = ask(attributes="hair", methods=("strict", "iid"))
    settings = settings_for("strict", **{**SETTINGS, "contrast": "0.02"})  # type: ignore[arg-type]
    images = [("one", patchwork((70, 84), seed=1)), ("two", patchwork((300, 200), seed=2))]
    drawn = figure_4(images, settings, question.network(), TemplateLibrary.load(), ["hair", "leg"])
    assert drawn.numbers is not None
    assert len(drawn.numbers.headings) == 9 + 2
    assert all(0 <= cell.value <= 1 for row in drawn.numbers.rows for cell in row.cells)  # type: ignore[operator]
    assert len(drawn.figure.axes) == 2 * 12 + 1
    clip = next(question.hidden())
    pictures = figure_6(clip, question.estimators()["dis"])
    titles = [axes.get_title() for axes in pictures.figure.axes]
    assert titles[:3] == ["source", "strict", "iid"]
    assert titles[6] == "error 0.00 px"


def test_the_command_says_what_it_does_not_know(clips: tuple[Path, ...], tmp_path: Path) -> None:
    def command(*words: object) -> str:
        result = CliRunner().invoke(app, ["bench", *map(str, words)])
        assert result.exit_code == 1
        return result.stderr

    assert "'truth' is not known" in command("claim", "truth", *clips)
    assert "--each is 0" in command("claim", "motion", *clips, "--each", 0)
    assert "--qualities" in command("claim", "motion", *clips, "--qualities", "good")
    assert "--format pdf" in command("claim", "motion", *clips, "--format", "pdf")
    (tmp_path / "x.md").write_text("")
    assert "--force" in command("claim", "motion", *clips, "-o", tmp_path / "x.md")


@pytest.mark.slow
def test_claims_and_figures_from_one_command_each(clips: tuple[Path, ...], tmp_path: Path) -> None:
    options = ["--frames", "3", "--short-side", "112", "--device", "cpu", "-q"]

    def command(*words: object) -> str:
        result = CliRunner().invoke(app, ["bench", *map(str, words), *options])
        assert result.exit_code == 0, result.stderr
        return result.stdout

    for claim in ("motion", "codec", "overlap", "runtime"):
        extra = ["--methods", "strict,iid"] if claim in ("motion", "codec") else []
        assert "|" in command("claim", claim, *clips, "--format", "markdown", *extra)
    command("claim", "pictures", *clips, "-o", tmp_path / "pictures.md", "--format", "markdown")
    assert (tmp_path / "pictures.md").read_text().count("| method |") == 2
    command("figure", "fig4", *clips, "-o", tmp_path / "figures")
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"fig4.svg", "fig4.png", "fig4.csv"}
