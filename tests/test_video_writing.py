"""Writing: the same pictures, times, shape and sound, and nothing else of the source."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from synthetic import AUDIO, make_clip, make_folder, number_in, packets_of, picture, psnr

from anonymotion.errors import OutputError, SettingsError
from anonymotion.video import Frame, VideoInfo, open_sink, open_source, probe

EXACT = [".mp4", ".mov", ".mkv", ".webm"]
MILLISECOND = Fraction(1, 1000)


def copy(source: Path, target: Path, **options: object) -> list[str]:
    """Write every frame of `source` unchanged to `target`; the notes of the sink."""
    with open_source(source) as reader, open_sink(target, reader.info, source=source, **options) as sink:
        for frame in reader:
            sink.write(frame.image, frame)
        assert options.get("force") or not target.exists()
        sink.commit()
        assert sink.frames_written == frame.index + 1
    assert [p for p in target.parent.iterdir() if "partial" in p.name] == []
    return sink.notes


def read(path: Path) -> tuple[VideoInfo, list[Frame]]:
    with open_source(path) as source:
        return source.info, list(source)


def times(frames: list[Frame]) -> list[Fraction]:
    return [f.pts * f.time_base for f in frames]


def assert_same_times(first: list[Frame], second: list[Frame]) -> None:
    assert len(first) == len(second)
    assert max(abs(a - b) for a, b in zip(times(first), times(second), strict=True)) <= MILLISECOND


@pytest.mark.parametrize("target", [*EXACT, ".avi"])
@pytest.mark.parametrize("source", [".mp4", ".mkv", ".avi", ".gif"])
def test_round_trip(tmp_path: Path, source: str, target: str) -> None:
    path = make_clip(tmp_path / f"in{source}", frames=14)
    copy(path, tmp_path / f"out{target}")
    info, before = read(path)
    written, after = read(tmp_path / f"out{target}")
    assert_same_times(before, after)
    assert [number_in(f.image) for f in after] == list(range(14))
    assert (written.width, written.height) == (info.width, info.height)
    if target != ".avi" or source != ".gif":
        quality = [psnr(a.image, b.image) for a, b in zip(before, after, strict=True)]
        # the 3-3-2 bit dither of the GIF is all fine texture, which no video codec holds well
        assert np.mean(quality) >= (36 if source == ".gif" else 40)


@pytest.mark.parametrize("target", EXACT)
def test_variable_times_and_last_duration(tmp_path: Path, target: str) -> None:
    moments = [0.2, 0.233, 0.3, 1.0, 1.001, 3.5]
    path = make_clip(tmp_path / "in.mp4", times=moments)
    copy(path, tmp_path / f"out{target}")
    assert_same_times(read(path)[1], read(tmp_path / f"out{target}")[1])


@pytest.mark.parametrize("target", [*EXACT, ".avi"])
@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(24000, 1001), Fraction(15), Fraction(60)])
def test_steady_rates(tmp_path: Path, rate: Fraction, target: str) -> None:
    path = make_clip(tmp_path / "in.mp4", rate=rate, frames=20, time_base=1 / rate)
    copy(path, tmp_path / f"out{target}")
    info, before = read(path)
    written, after = read(tmp_path / f"out{target}")
    assert_same_times(before, after)
    assert float(written.frame_rate or 0) == pytest.approx(float(info.frame_rate or 0), rel=1e-3)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(gaps=st.lists(st.integers(2, 3000), min_size=1, max_size=9), start=st.integers(0, 5000), data=st.data())
def test_any_times_survive(tmp_path: Path, gaps: list[int], start: int, data: st.DataObject) -> None:
    target = data.draw(st.sampled_from(EXACT))
    moments = [ms / 1000 for ms in itertools.accumulate([start, *gaps])]
    path = make_clip(tmp_path / "in.mp4", times=moments, size=(64, 48))
    copy(path, tmp_path / f"out{target}", force=True)
    assert_same_times(read(path)[1], read(tmp_path / f"out{target}")[1])


def test_avi_refuses_variable_times(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "in.mp4", times=[0, 0.04, 0.09, 0.31])
    with pytest.raises(OutputError, match="avi cannot keep the times"):
        copy(path, tmp_path / "out.avi")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4"]


def test_gif_rounds_times_without_drift(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "in.mp4", rate=Fraction(30), frames=40)
    notes = copy(path, tmp_path / "out.gif")
    before, after = read(path)[1], read(tmp_path / "out.gif")[1]
    assert max(abs(a - b) for a, b in zip(times(before), times(after), strict=True)) <= Fraction(5, 1000)
    assert any("lossy" in note for note in notes)


def test_gif_of_few_colors_is_exact(tmp_path: Path) -> None:
    flat = [np.full((32, 48, 3), (k * 20, 7, 200), np.uint8) for k in range(5)]
    Path(tmp_path / "f").mkdir()
    for k, image in enumerate(flat):
        Image.fromarray(image).save(tmp_path / "f" / f"{k}.png")
    copy(tmp_path / "f", tmp_path / "out.gif")
    after = read(tmp_path / "out.gif")[1]
    assert all((f.image == image).all() for f, image in zip(after, flat, strict=True))


@pytest.mark.parametrize("target", [*EXACT, ".avi"])
@pytest.mark.parametrize("size", [(97, 64), (96, 65), (33, 17)])
def test_odd_sizes_are_kept(tmp_path: Path, size: tuple[int, int], target: str) -> None:
    folder = make_folder(tmp_path / "f", size=size, frames=3)
    copy(folder, tmp_path / f"out{target}")
    info, frames = read(tmp_path / f"out{target}")
    assert (info.width, info.height) == size
    assert len(frames) == 3


@pytest.mark.parametrize("target", [".mp4", ".mov", ".mkv", ".avi"])
@pytest.mark.parametrize("aspect", [Fraction(4, 3), Fraction(8, 9), Fraction(128, 117)])
def test_pixel_shape_is_kept(tmp_path: Path, aspect: Fraction, target: str) -> None:
    path = make_clip(tmp_path / "in.mp4", aspect=aspect, frames=3)
    copy(path, tmp_path / f"out{target}")
    assert probe(tmp_path / f"out{target}").sample_aspect_ratio == aspect


def test_webm_refuses_pixels_that_are_not_square(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "in.mp4", aspect=Fraction(4, 3), frames=3)
    with pytest.raises(OutputError, match="not square"):
        open_sink(tmp_path / "out.webm", probe(path), source=path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4"]


@pytest.mark.parametrize("target", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("tags", [(1, 1, 1, 1), (5, 1, 5, 6), (1, 2, 1, 13), (9, 1, 9, 14)])
def test_color_tags_are_kept(tmp_path: Path, tags: tuple[int, int, int, int], target: str) -> None:
    path = make_clip(tmp_path / "in.mp4", color=tags, frames=3)
    copy(path, tmp_path / f"out{target}")
    info = probe(tmp_path / f"out{target}")
    assert (info.color_space, info.color_range, info.color_primaries, info.color_trc) == tags
    before, after = read(path)[1], read(tmp_path / f"out{target}")[1]
    assert psnr(before[0].image, after[0].image) >= 40


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("target", [".mp4", ".mkv"])
def test_output_is_upright_without_matrix(tmp_path: Path, rotation: int, target: str) -> None:
    path = make_clip(tmp_path / "in.mp4", rotation=rotation, frames=3)
    copy(path, tmp_path / f"out{target}")
    info, frames = read(tmp_path / f"out{target}")
    assert info.rotation_degrees == 0
    assert psnr(frames[0].image, read(path)[1][0].image) >= 38
    with av.open(str(tmp_path / f"out{target}")) as container:
        assert next(container.decode(video=0)).rotation == 0


# ---------------------------------------------------------------------- audio and metadata


@pytest.mark.parametrize(
    ("source", "target"),
    [(".mp4", ".mp4"), (".mp4", ".mov"), (".mp4", ".mkv"), (".mkv", ".mp4"), (".webm", ".webm")],
)
def test_audio_packets_are_untouched(tmp_path: Path, source: str, target: str) -> None:
    codec = AUDIO.get(source, "aac")
    path = make_clip(tmp_path / f"in{source}", audio=[codec, codec], frames=20, audio_seconds=1.3)
    copy(path, tmp_path / f"out{target}")
    before, after = (sorted(packets_of(p), key=lambda x: x[:2]) for p in (path, tmp_path / f"out{target}"))
    assert len(before) == len(after) > 20
    assert [(number, data) for number, _, data in before] == [(number, data) for number, _, data in after]
    assert max(abs(a[1] - b[1]) for a, b in zip(before, after, strict=True)) <= MILLISECOND
    assert len(probe(tmp_path / f"out{target}").audio) == 2


def test_audio_can_be_dropped(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "in.mp4", audio=["aac"])
    copy(path, tmp_path / "out.mp4", audio="drop")
    assert probe(tmp_path / "out.mp4").audio == ()


def test_audio_that_does_not_fit_is_refused_at_once(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "in.mp4", audio=["aac"])
    with pytest.raises(OutputError, match="--audio drop"):
        open_sink(tmp_path / "out.webm", probe(path), source=path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4"]
    copy(path, tmp_path / "out.webm", audio="drop")


@pytest.mark.parametrize("target", ["out.gif", "folder"])
def test_what_can_hold_no_audio_says_that_it_was_left_out(tmp_path: Path, target: str) -> None:
    path = make_clip(tmp_path / "in.mp4", audio=["aac"])
    with open_sink(tmp_path / target, probe(path), source=path) as sink:
        assert not sink.keeps_audio
        assert any("audio was left out" in note for note in sink.notes)
    with open_sink(tmp_path / "out.mp4", probe(path), source=path) as sink:
        assert sink.keeps_audio
        assert sink.notes == []


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_metadata_is_dropped(tmp_path: Path, suffix: str) -> None:
    secret = {"title": "Alice", "comment": "home of Alice", "location": "+48.1+011.5/", "artist": "Alice"}
    path = make_clip(tmp_path / f"in{suffix}", metadata=secret, subtitles=True, audio=["aac"], frames=4)
    copy(path, tmp_path / f"out{suffix}")
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        boring = {"major_brand", "minor_version", "compatible_brands"}
        kept = {k: v for k, v in container.metadata.items() if k.lower() not in boring}
        assert {k for k in kept if k.lower() != "encoder"} == set()
        assert not any(c.isdigit() for c in kept.get("ENCODER", kept.get("encoder", "")))
        assert [s.type for s in container.streams] == ["video", "audio"]
        assert container.streams.video[0].metadata.get("language", "und") == "und"
        assert "creation_time" not in container.streams.video[0].metadata
    data = (tmp_path / f"out{suffix}").read_bytes()
    for word in (b"Alice", b"48.1", b"hello", b"deu", str(tmp_path).encode()):
        assert word not in data


# ---------------------------------------------------------------------- pictures and choices


def test_folder_output(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "in.mp4", frames=3)
    copy(path, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["000000.png", "000001.png", "000002.png"]
    for before, after in zip(read(path)[1], read(tmp_path / "out")[1], strict=True):
        assert (before.image == after.image).all()


def test_folder_to_video_and_back(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "f", frames=4)
    notes = copy(folder, tmp_path / "out.mp4")
    assert any("yuv444p" in note for note in notes)  # the marked corners are fine in colour
    info, frames = read(tmp_path / "out.mp4")
    assert (info.color_space, info.color_range) == (1, 1)
    assert np.mean([psnr(f.image, picture(k)) for k, f in enumerate(frames)]) >= 40


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_still_to_still(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(picture(3)).save(tmp_path / "in.png")
    copy(tmp_path / "in.png", tmp_path / f"out{suffix}")
    assert psnr(read(tmp_path / f"out{suffix}")[1][0].image, picture(3)) >= (99 if suffix == ".png" else 38)


def test_video_to_still_is_refused(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "in.mp4")
    with pytest.raises(OutputError, match="single picture"):
        open_sink(tmp_path / "out.png", probe(path), source=path)


def test_unknown_suffix(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "in.mp4")
    with pytest.raises(OutputError, match=r"\.mp4 \.mov \.mkv \.avi \.webm \.gif"):
        open_sink(tmp_path / "out.xyz", probe(path), source=path)


def test_quality_is_checked_and_matters(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "in.mp4", frames=5)
    with pytest.raises(SettingsError, match=r"0 \(best\) to 51"):
        open_sink(tmp_path / "out.mp4", probe(path), source=path, quality=52)
    copy(path, tmp_path / "good.mp4", quality=5)
    copy(path, tmp_path / "bad.mp4", quality=40)
    assert (tmp_path / "bad.mp4").stat().st_size < (tmp_path / "good.mp4").stat().st_size / 2


def test_wrong_pictures_are_refused(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "in.mp4", frames=2)
    frames = read(path)[1]
    with open_sink(tmp_path / "out.mp4", probe(path), source=path) as sink:
        with pytest.raises(OutputError, match="shape"):
            sink.write(frames[0].image[:-1], frames[0])
        sink.write(frames[1].image, frames[1])
        with pytest.raises(OutputError, match="not after"):
            sink.write(frames[0].image, frames[0])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4"]
