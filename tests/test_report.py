"""The audit report: what is in it, what is not, and that it appears with the video or not at all."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from synthetic import make_clip, make_folder
from tiny import TINY_SETTINGS, tiny_library

from anonymotion import pipeline
from anonymotion.backbone import Backbone
from anonymotion.chunks import HiddenChunk
from anonymotion.errors import AnonymotionError, OutputError, SettingsError
from anonymotion.pipeline import Hider
from anonymotion.presets import settings_for
from anonymotion.report import Report, digest
from anonymotion.report_page import _worth_drawing, page
from anonymotion.results import HideResult
from anonymotion.run import FileOptions, hide_video

Run = Callable[..., HideResult]


@pytest.fixture
def run(tiny: Backbone, tmp_path: Path) -> Run:
    library = tiny_library(tmp_path / "library")

    def hide(source: Path, output: Path, attributes: str = "hair,torso", **options: Any) -> HideResult:
        options = {**TINY_SETTINGS, "threshold": 0.01, **options}
        return hide_video(source, output, attributes, **options, library=library, network=tiny)

    return hide


class Page(HTMLParser):
    """Collects what is in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def report_of(run: Run, tmp_path: Path, suffix: str = ".json", **options: Any) -> Any:
    clip = make_clip(tmp_path / "my <b>secret clip.mp4", frames=9, audio=["aac"], metadata={"title": "Alice"})
    path = tmp_path / f"report{suffix}"
    files = FileOptions(report=path, **options)
    run(clip, tmp_path / "hidden.mp4", files=files)
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if suffix == ".json" else text


def test_what_it_says(run: Run, tmp_path: Path) -> None:
    report = report_of(run, tmp_path)
    assert report["schema_version"] == 1
    assert report["output"]["sha256"] == hashlib.sha256((tmp_path / "hidden.mp4").read_bytes()).hexdigest()
    assert report["output"]["name"] == "hidden.mp4"
    assert report["frames"] == 9
    assert report["flow"] == "dis"
    assert report["device"]["name"] == "cpu"
    assert report["backbone"]["weights_sha256"] == "tiny-14-0"
    assert report["settings"]["changed_from_preset"]["short_side"] == 56
    assert set(report["versions"]) >= {"anonymotion", "torch", "av"}
    assert any("voices identify" in note for note in report["notes"])
    assert report["disclaimer"] == "Best effort: review the output before publishing it."
    over_time = report["over_time"]
    assert over_time["time_seconds"] == [round(i / 25, 3) for i in range(9)]
    assert set(over_time["attribute_share"]) == {"hair", "torso"}
    assert len(over_time["hidden_share"]) == len(over_time["best_match"]["hair"]) == 9
    assert np.mean(over_time["hidden_share"]) == pytest.approx(report["coverage"]["hidden_share_mean"], abs=1e-3)


@pytest.mark.parametrize("suffix", [".json", ".html"])
def test_nothing_about_the_source_and_no_pictures_unless_asked_for(run: Run, tmp_path: Path, suffix: str) -> None:
    text = report_of(run, tmp_path, suffix)
    text = text if isinstance(text, str) else json.dumps(text)
    source = next(tmp_path.glob("my*.mp4"))
    for word in ("secret", "Alice", str(tmp_path), digest(source), "data:image"):
        assert word not in text


@pytest.mark.parametrize("suffix", [".json", ".html"])
def test_source_and_thumbnails_on_request(run: Run, tmp_path: Path, suffix: str) -> None:
    report = report_of(run, tmp_path, suffix, report_source=True, report_thumbnails=True)
    source = next(tmp_path.glob("my*.mp4"))
    text = report if isinstance(report, str) else json.dumps(report)
    assert digest(source) in text
    if suffix == ".json":
        assert report["source"]["name"] == source.name
        assert 1 <= len(report["thumbnails"]) <= 24
        assert all(picture.startswith("data:image/jpeg;base64,") for picture in report["thumbnails"].values())


def test_the_page_is_whole_escaped_and_asks_nobody(run: Run, tmp_path: Path) -> None:
    text = report_of(run, tmp_path, ".html", report_source=True, report_thumbnails=True)
    parsed = Page(text)
    assert parsed.count("script") == 0
    assert parsed.count("b") == 0, "a name became markup"
    assert "my <b>secret clip.mp4" in parsed.text
    assert parsed.count("svg") == 1
    assert parsed.count("polyline") == 3
    assert parsed.count("img") >= 1
    for _, attributes in parsed.tags:
        for name in ("src", "href", "onload", "action"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert not re.search(r"https?://|@import|url\(", text)
    assert "Best effort" in parsed.text
    assert "no claim of legal anonymity" in " ".join(parsed.text.split())


def test_names_in_notes_are_left_out(run: Run, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "alice at home", frames=4)
    (folder / "3.png").rename(folder / "alice3.png")
    (folder / "alice3.png").write_bytes((folder / "alice3.png").read_bytes()[:-400])
    files = FileOptions(report=tmp_path / "report.json", allow_truncated=True)
    result = run(folder, tmp_path / "hidden.mp4", files=files)
    assert any("alice3.png" in note for note in result.notes)
    text = (tmp_path / "report.json").read_text()
    assert "alice" not in text
    assert "a picture is cut and was left out" in text


def test_it_appears_with_the_video_or_not_at_all(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=4)
    (tmp_path / "out").mkdir()
    report, output = tmp_path / "out" / "report.html", tmp_path / "out" / "hidden.mp4"
    composite = pipeline.composite

    def meanwhile(*arguments: Any) -> Any:
        output.write_text("somebody else's")
        return composite(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "composite", meanwhile)
        with pytest.raises(OutputError, match="appeared"):
            run(clip, output, files=FileOptions(report=report))
    assert [path.name for path in report.parent.iterdir()] == ["hidden.mp4"]
    output.unlink()
    with monkeypatch.context() as patch:
        patch.setattr("anonymotion.report.page", lambda _: "\ud800")  # cannot be encoded
        with pytest.raises((AnonymotionError, UnicodeEncodeError)):
            run(clip, output, files=FileOptions(report=report))
    assert list(report.parent.iterdir()) == []


def test_a_report_is_not_overwritten_and_has_a_place_of_its_own(run: Run, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=4)
    report = tmp_path / "report.html"
    report.write_text("an earlier one")
    with pytest.raises(OutputError, match="--force"):
        run(clip, tmp_path / "hidden.mp4", files=FileOptions(report=report))
    with pytest.raises(SettingsError, match=r"\.html or \.json"):
        run(clip, tmp_path / "hidden.mp4", files=FileOptions(report=tmp_path / "report.pdf"))
    with pytest.raises(SettingsError, match="place of its own"):
        run(clip, report, files=FileOptions(report=report))
    assert report.read_text() == "an earlier one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "library", "report.html"]


def test_the_digest_of_a_folder_is_that_of_its_list(tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        (tmp_path / name).write_text(name)
    lines = "".join(f"{hashlib.sha256(n.encode()).hexdigest()}  {n}\n" for n in ("a.png", "b.png"))
    assert digest(tmp_path) == hashlib.sha256(lines.encode()).hexdigest()


# ---------------------------------------------------------------------- which frames to review


def a_chunk(masks: list[np.ndarray], peaks: list[float], flow_x: float = 0.0) -> HiddenChunk:
    """One attribute; `peaks` are its largest saliencies; flow to the previous frame is `flow_x` everywhere."""
    count, (height, width) = len(masks), masks[0].shape
    alpha = torch.from_numpy(np.stack(masks)).float()
    saliency = torch.where(alpha > 0, torch.tensor(peaks)[:, None, None], torch.zeros(()))
    for t in range(count):
        saliency[t, 0, 0] = peaks[t]
    flow = torch.zeros(count, 2, height, width)
    flow[:, 0] = flow_x
    frames = torch.zeros(count, height, width, 3, dtype=torch.uint8)
    return HiddenChunk(
        frames, frames, saliency[:, None], alpha, flow, torch.zeros(frames.shape), torch.ones(len(frames)).bool()
    )


def reviewed(tmp_path: Path, *chunks: HiddenChunk, **changes: Any) -> dict[int, list[str]]:
    hider = cast(
        Hider, SimpleNamespace(attributes=("hair",), settings=settings_for("strict", threshold=0.5, **changes))
    )
    with Report(tmp_path / "r.json", tmp_path / "in.mp4", hider, force=False, thumbnails=False) as report:
        for chunk in chunks:
            report.write(chunk)
        return report._reviewed()


def square(left: int, size: int = 30) -> np.ndarray:
    mask = np.zeros((60, 120), np.float32)
    mask[10 : 10 + size, left : left + size] = 1
    return mask


def test_steady_masks_raise_no_doubt(tmp_path: Path) -> None:
    assert reviewed(tmp_path, a_chunk([square(40)] * 6, [0.9] * 6)) == {}


def test_a_mask_that_moves_with_the_flow_raises_no_doubt(tmp_path: Path) -> None:
    masks = [square(10 + 20 * t) for t in range(4)]
    assert reviewed(tmp_path, a_chunk(masks[:2], [0.9] * 2, -20.0), a_chunk(masks[2:], [0.9] * 2, -20.0)) == {}
    found = reviewed(tmp_path, a_chunk(masks, [0.9] * 4, 0.0))
    assert sorted(found) == [1, 2, 3]
    assert "matching and motion disagree" in found[1][0]


def test_a_mask_that_shrinks_suddenly_is_reviewed_across_chunks(tmp_path: Path) -> None:
    found = reviewed(tmp_path, a_chunk([square(40)] * 3, [0.9] * 3), a_chunk([square(40, 15)] * 2, [0.9] * 2))
    assert list(found) == [3]
    assert "shrank to 25%" in found[3][0]


def test_frames_in_which_nothing_was_found_are_reviewed(tmp_path: Path) -> None:
    found = reviewed(tmp_path, a_chunk([square(40), 0 * square(40), square(40)], [0.9, 0.2, 0.9]))
    assert list(found) == [1]
    assert any("nothing was found" in reason for reason in found[1])
    assert any("but in 2 of 3 frames" in reason for reason in found[1])


def test_frames_hidden_only_because_of_their_neighbours_are_reviewed(tmp_path: Path) -> None:
    found = reviewed(tmp_path, a_chunk([square(40)] * 4, [0.9, 0.2, 0.3, 0.9]))
    assert list(found) == [1, 2]
    assert found[1] == [
        "nothing was found here: only what was found in frames around it is hidden",
        "hair was not found here, but in 2 of 4 frames",
    ]


def test_narrow_decisions_are_reviewed(tmp_path: Path) -> None:
    found = reviewed(tmp_path, a_chunk([square(40)] * 3, [0.9, 0.52, 0.9]))
    assert found == {1: ["hair was only just found: 0.52, threshold 0.50"]}


def test_a_blend_is_not_held_to_thresholds(tmp_path: Path) -> None:
    assert reviewed(tmp_path, a_chunk([square(40), square(40, 5)], [0.5, 0.1]), composite="blend") == {}


def test_no_drop_out_is_lost_in_the_plot_of_a_long_video() -> None:
    values = [0.5] * 100_000
    values[77_777] = 0.0
    chosen = _worth_drawing(values)
    assert 77_777 in chosen
    assert len(chosen) <= 400


def test_a_page_of_one_frame(run: Run, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)).save(tmp_path / "in.png")
    run(tmp_path / "in.png", tmp_path / "hidden.png", files=FileOptions(report=tmp_path / "r.json"))
    report = json.loads((tmp_path / "r.json").read_text())
    assert Page(page(report)).count("svg") == 1
    assert report["output"]["sha256"] == hashlib.sha256((tmp_path / "hidden.png").read_bytes()).hexdigest()
