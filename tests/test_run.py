"""A run from file to file: timing, audio, masks, the dump recomputed, and nothing left after a failure."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from synthetic import make_clip, make_folder, packets_of, picture, psnr
from tiny import TINY_SETTINGS, tiny_backbone, tiny_library

from anonymotion import memory, pipeline, video
from anonymotion.backbone import Backbone
from anonymotion.errors import AnonymotionError, FlowError, NothingMatchedError, OutputError, SettingsError
from anonymotion.results import HideResult, Progress
from anonymotion.run import FileOptions, hide_video, saliency_video
from anonymotion.target import HiddenFolder

Run = Callable[..., HideResult]


@pytest.fixture
def run(tiny: Backbone, tmp_path: Path) -> Run:
    """`hide_video` with the tiny network and a generated library; everything else as a user has it."""
    library = tiny_library(tmp_path / "library")

    def hide(source: Path, output: Path, attributes: str = "hair", **options: Any) -> HideResult:
        return hide_video(source, output, attributes, **{**TINY_SETTINGS, **options}, library=library, network=tiny)

    return hide


def test_thresholds_chosen_for_another_backbone_are_pointed_out(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", times=[0.0, 0.04])
    other = tiny_backbone(8, name="dino-vits8")
    settings = {"backbone": "dino-vits8", "layer": 2, "short_side": 32, "threshold": 0.01, "close_up": 0}
    library = tiny_library(tmp_path / "library")
    result = hide_video(clip, tmp_path / "hidden.mp4", "hair", library=library, network=other, **settings)
    assert any("embedded backbone" in note for note in result.notes)


def read(path: Path) -> list[video.Frame]:
    with video.open_source(path) as source:
        return list(source)


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def load_dump(folder: Path) -> list[dict[str, np.ndarray]]:
    return [dict(np.load(path)) for path in sorted(folder.glob("*.npz"))]


def test_variable_rate_and_audio_are_kept(run: Run, tmp_path: Path) -> None:
    steps = np.random.default_rng(3).choice([0.02, 0.04, 0.05, 0.1], size=40)
    times = [0.0, *np.cumsum(steps[:-1]).round(3).tolist()]
    assert times[-1] > 1.5
    clip = make_clip(tmp_path / "clip.mp4", times=times, audio=["aac"], audio_seconds=2.0)
    result = run(clip, tmp_path / "hidden.mp4", threshold=0.01)
    frames = read(tmp_path / "hidden.mp4")
    assert result.frames == len(frames) == len(times)
    assert result.audio == "copy"
    assert max(abs(frame.time_seconds - time) for frame, time in zip(frames, times, strict=True)) < 0.001
    assert packets_of(tmp_path / "hidden.mp4") == packets_of(clip)
    assert len(packets_of(clip)) > 50


def test_audio_can_be_dropped(run: Run, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", audio=["aac"])
    result = run(clip, tmp_path / "hidden.mp4", threshold=0.01, files=FileOptions(audio="drop"))
    assert packets_of(tmp_path / "hidden.mp4") == []
    assert result.audio == "drop"


@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30000, 1001)])
def test_progress_counts_every_frame(run: Run, tmp_path: Path, rate: Fraction) -> None:
    seen: list[Progress] = []
    clip = make_clip(tmp_path / "clip.mp4", frames=11, rate=rate)
    run(clip, tmp_path / "hidden.mp4", threshold=0.01, progress=seen.append)
    assert seen[-1] == Progress(11, 11, "hide")


def test_paper_debiased_dump_is_the_equations(run: Run, tmp_path: Path) -> None:
    """Recomputed with numpy alone, from what the dump says."""
    pictures = [np.roll(picture(1, 96, 64), 2 * i, axis=1) for i in range(6)]
    clip = make_clip(tmp_path / "clip.mp4", images=pictures)
    dump = tmp_path / "dump"
    result = run(clip, tmp_path / "o.mp4", "hair,torso", preset="paper-debiased", files=FileOptions(dump=dump))
    frames = load_dump(dump)
    assert len(frames) == result.frames == 6
    assert json.loads((dump / "attributes.json").read_text())["attributes"] == ["hair", "torso"]
    first = frames[0]["noise"].astype(np.float64)
    assert 255 * 0.225 - 1e-3 <= first.min() < first.max() <= 255 * 0.675 + 1e-3
    assert not frames[0]["flow"].any()
    y, x = np.mgrid[0:64, 0:96].astype(np.float32)
    assert max(np.abs(frame["flow"]).max() for frame in frames) > 1
    for frame in frames:
        assert frame["saliency"].shape == (2, 64, 96)
        np.testing.assert_allclose(frame["mask"], frame["saliency"].mean(axis=0), atol=1e-6)
        columns = np.rint(x + frame["flow"][0]).clip(0, 95).astype(int)
        rows = np.rint(y + frame["flow"][1]).clip(0, 63).astype(int)
        np.testing.assert_array_equal(frame["noise"], first[rows, columns].astype(np.float32))
        weight, image = frame["mask"][..., None].astype(np.float64), frame["image"].astype(np.float64)
        expected = image + weight * (frame["noise"].astype(np.float64) - image)
        assert np.abs(frame["output"] - expected).max() <= 0.5 + 1e-3
    assert any("soft blend" in reason for reason in result.not_for_release)
    assert any("clean frames" in reason for reason in result.not_for_release)


def test_strict_dump_and_masks(run: Run, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=6, size=(200, 160))
    files = FileOptions(dump=tmp_path / "dump", masks=tmp_path / "masks")
    settings = {"threshold": "0.3,torso=0.35", "dilation": 2.0, "feather": 2.0}
    run(clip, tmp_path / "hidden.mp4", "hair,torso", files=files, **settings)
    frames = load_dump(files.dump or tmp_path)
    written = json.loads((tmp_path / "dump" / "attributes.json").read_text())
    assert written["thresholds"] == {"hair": 0.3, "torso": 0.35}
    assert stat.S_IMODE((tmp_path / "dump").stat().st_mode) == 0o700
    box = np.ones((2 * 3 + 1, 2 * 3 + 1), bool)  # 2 % of 160 pixels is 3.2
    some = 0
    for index, frame in enumerate(frames):
        over = (frame["saliency"] >= np.array([0.3, 0.35], np.float32)[:, None, None]).any(axis=0)
        replaced = ndimage.binary_dilation(over, box)
        some += replaced.sum()
        assert (frame["mask"][replaced] == 1).all()
        np.testing.assert_array_equal(frame["output"][replaced], np.rint(frame["noise"][replaced]))
        untouched = frame["mask"] == 0
        np.testing.assert_array_equal(frame["output"][untouched], frame["image"][untouched])
        with Image.open(tmp_path / "masks" / f"{index:06d}.png") as picture_file:
            mask = np.asarray(picture_file)
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask == 255, frame["mask"] == 1)
    assert 0 < some < 6 * 200 * 160


def test_outside_the_mask_the_picture_stays(run: Run, tmp_path: Path) -> None:
    pictures = [np.roll(picture(1, 320, 192), i, axis=1) for i in range(8)]
    clip = make_clip(tmp_path / "clip.mp4", images=pictures, size=(320, 192), options={"crf": "12"})
    run(clip, tmp_path / "hidden.mp4", threshold=0.5, files=FileOptions(dump=tmp_path / "dump"))
    pairs = []
    for frame, dumped in zip(read(tmp_path / "hidden.mp4"), load_dump(tmp_path / "dump"), strict=True):
        outside = dumped["mask"] == 0
        assert outside.mean() > 0.1
        pairs.append((frame.image[outside], dumped["image"][outside]))
    assert psnr(*(np.concatenate(side) for side in zip(*pairs, strict=True))) >= 40


def test_nothing_matched_writes_nothing(run: Run, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=3)
    files = FileOptions(dump=tmp_path / "dump", masks=tmp_path / "masks")
    with pytest.raises(NothingMatchedError, match="--allow-empty") as caught:
        run(clip, tmp_path / "hidden.mp4", threshold=1.0, files=files)
    assert caught.value.exit_status == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "library"]


def test_allow_empty_writes_it_and_says_so(run: Run, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=3)
    result = run(clip, tmp_path / "hidden.mp4", threshold=1.0, files=FileOptions(allow_empty=True))
    assert len(read(tmp_path / "hidden.mp4")) == 3
    assert any("nothing matched" in reason for reason in result.not_for_release)
    assert result.coverage["frames_without_match"] == 3


@pytest.mark.parametrize("failure", [FlowError("no flow"), KeyboardInterrupt(), ZeroDivisionError()])
def test_a_failure_in_the_middle_leaves_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=9)
    monkeypatch.setattr(memory, "MAX_CHUNK_FRAMES", 2)
    calls = []
    composite = pipeline.composite

    def failing(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise failure
        return composite(*arguments)

    monkeypatch.setattr(pipeline, "composite", failing)
    files = FileOptions(dump=tmp_path / "dump", masks=tmp_path / "masks")
    with pytest.raises(type(failure)):
        run(clip, tmp_path / "hidden.mp4", threshold=0.01, files=files)
    assert len(calls) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "library"]


def test_full_disk_in_a_dump_leaves_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    clip = make_clip(tmp_path / "clip.mp4", frames=3)
    with pytest.raises(OutputError, match="the disk is full"):
        run(clip, tmp_path / "hidden.mp4", threshold=0.01, files=FileOptions(dump=tmp_path / "dump"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "library"]


def test_export_folders_are_not_overwritten(run: Run, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=3)
    masks = tmp_path / "masks"
    masks.mkdir()
    (masks / "mine.txt").write_text("keep")
    for force, reason in ((False, "not empty"), (True, "mine.txt")):
        with pytest.raises(OutputError, match=reason):
            run(clip, tmp_path / "hidden.mp4", threshold=0.01, files=FileOptions(masks=masks, force=force))
    assert (masks / "mine.txt").read_text() == "keep"
    (masks / "mine.txt").unlink()
    (masks / "000099.png").write_bytes(b"an earlier result")
    run(clip, tmp_path / "hidden.mp4", threshold=0.01, files=FileOptions(masks=masks, force=True))
    assert sorted(path.name for path in masks.iterdir()) == ["000000.png", "000001.png", "000002.png"]


def test_folder_gif_and_picture(run: Run, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "frames", frames=4)
    assert run(folder, tmp_path / "a.mp4", threshold=0.01).frames == 4
    assert read(tmp_path / "a.mp4")[1].time_seconds == pytest.approx(1 / 25, abs=1e-3)
    assert run(folder, tmp_path / "pictures", threshold=0.01).frames == 4
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == [f"{i:06d}.png" for i in range(4)]
    gif = make_clip(tmp_path / "clip.gif", frames=5)
    assert run(gif, tmp_path / "b.mp4", threshold=0.01).frames == 5
    Image.fromarray(picture(3)).save(tmp_path / "still.png")
    assert run(tmp_path / "still.png", tmp_path / "hidden.png", threshold=0.01).frames == 1
    assert size_of(tmp_path / "hidden.png") == (96, 64)


def test_result_names_what_was_used(run: Run, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "my secret clip.mp4", frames=2)
    result = run(clip, tmp_path / "hidden.mp4", threshold=0.01, seed=7, dilation=3.0)
    document = json.loads(json.dumps(result.as_json()))
    assert document["schema_version"] == 1
    assert document["backbone"] == {"name": "dinov2-vits14-embedded", "weights_sha256": "tiny-14-0", "engine": "torch"}
    assert document["flow"] == "dis"
    assert document["settings"]["changed_from_preset"]["dilation"] == 3.0
    assert "seed" in document["not_for_release"][0]
    assert "secret" not in json.dumps(document), "the source's name stays out of the result"


def test_two_runs_have_unrelated_noise(run: Run, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=2)
    noise = []
    for name in ("a", "b"):
        run(clip, tmp_path / f"{name}.mp4", threshold=0.01, files=FileOptions(dump=tmp_path / name))
        noise.append(load_dump(tmp_path / name)[0]["noise"].ravel())
    assert abs(np.corrcoef(noise)[0, 1]) < 0.05


def test_saliency_as_video_and_as_folder(tiny: Backbone, tmp_path: Path) -> None:
    library = tiny_library(tmp_path / "library")
    clip = make_clip(tmp_path / "clip.mp4", frames=3, audio=["aac"])
    options: dict[str, Any] = {**TINY_SETTINGS, "library": library, "network": tiny}
    result = saliency_video(clip, tmp_path / "heat.mp4", "hair,torso", **options)
    frames = read(tmp_path / "heat.mp4")
    assert result.frames == len(frames) == 3
    assert frames[0].image.shape[1] > 3 * 90
    saliency_video(clip, tmp_path / "heat", "hair,torso", **options)
    names = sorted(path.name for path in (tmp_path / "heat").iterdir())
    assert names == [f"{name}_{i:06d}.png" for name in ("hair", "torso") for i in range(3)]
    assert size_of(tmp_path / "heat" / names[0]) == (96, 64)


def test_outputs_must_be_different_places(run: Run, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=2)
    both = FileOptions(masks=tmp_path / "x", dump=tmp_path / "y" / ".." / "x")
    with pytest.raises(SettingsError, match="place of its own"):
        run(clip, tmp_path / "hidden.mp4", files=both)
    with pytest.raises(SettingsError, match="place of its own"):
        run(clip, tmp_path / "x", files=FileOptions(masks=tmp_path / "x"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "library"]


def test_no_video_appears_where_a_folder_cannot(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: HiddenFolder) -> None:
        raise OutputError("no")

    monkeypatch.setattr(HiddenFolder, "commit", refuse)
    clip = make_clip(tmp_path / "clip.mp4", frames=2)
    with pytest.raises(OutputError):
        run(clip, tmp_path / "hidden.mp4", threshold=0.01, files=FileOptions(masks=tmp_path / "masks"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "library"]


def test_the_input_is_never_replaced(run: Run, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "frames", frames=3)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(SettingsError, match="input"):
        run(folder, tmp_path / "out.mp4", threshold=0.01, files=FileOptions(masks=folder, force=True))
    with pytest.raises(AnonymotionError):
        run(folder, folder, threshold=0.01, files=FileOptions(force=True))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_one_output_inside_another_is_refused_before_anything_is_written(run: Run, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=2)
    (tmp_path / "out").mkdir()
    with pytest.raises(SettingsError, match="place of its own"):
        run(clip, tmp_path / "out", threshold=0.01, files=FileOptions(dump=tmp_path / "out" / "dump"))
    assert list((tmp_path / "out").iterdir()) == []


def test_masks_go_again_where_the_video_cannot_appear(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=2)

    def appears_meanwhile(*_: Any) -> Any:
        (tmp_path / "hidden.mp4").write_bytes(b"somebody else's")
        return composite(*_)

    composite = pipeline.composite
    monkeypatch.setattr(pipeline, "composite", appears_meanwhile)
    with pytest.raises(OutputError, match="appeared"):
        run(clip, tmp_path / "hidden.mp4", threshold=0.01, files=FileOptions(dump=tmp_path / "dump"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "hidden.mp4", "library"]
    assert (tmp_path / "hidden.mp4").read_bytes() == b"somebody else's"


def test_a_linked_folder_is_replaced_behind_its_link(run: Run, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=2)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    run(clip, tmp_path / "link", threshold=0.01)
    assert (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in (tmp_path / "real").iterdir()) == ["000000.png", "000001.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "library", "link", "real"]
