"""Reading: what arrives is upright, in the right colours and at the right times."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from synthetic import (
    CORNERS,
    corner_colors,
    make_clip,
    make_folder,
    number_in,
    picture,
    psnr,
)

from anonymotion.video import Frame, VideoInfo, open_source, probe

CONTAINERS = [".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif"]


def read(path: Path, **options: object) -> tuple[VideoInfo, list[Frame], list[str]]:
    with open_source(path, **options) as source:
        frames = list(source)
        return source.info, frames, source.notes


def test_importing_does_not_import_av() -> None:
    code = "import sys, anonymotion.video; sys.exit('av' in sys.modules or 'PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_every_container_is_read_whole_and_in_order(tmp_path: Path, suffix: str) -> None:
    info, frames, _ = read(make_clip(tmp_path / f"a clip with spaces é{suffix}"))
    assert [number_in(f.image) for f in frames] == list(range(12))
    assert [f.index for f in frames] == list(range(12))
    assert (info.width, info.height) == (96, 64)
    assert info.frame_rate == 25
    np.testing.assert_allclose([f.time_seconds for f in frames], np.arange(12) / 25, atol=1e-3)
    for frame in frames:
        assert frame.image.shape == (64, 96, 3)
        assert frame.image.dtype == np.uint8
        assert frame.image.flags.c_contiguous
        assert frame.image.flags.writeable


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotation_is_undone(tmp_path: Path, rotation: int, mirrored: bool) -> None:
    path = make_clip(tmp_path / "a.mp4", rotation=rotation, mirrored=mirrored, aspect=Fraction(4, 3), frames=2)
    info, frames, _ = read(path)
    expected = np.rot90(picture(0), rotation // 90)
    expected = expected[:, ::-1] if mirrored else expected
    assert corner_colors(frames[0].image) == corner_colors(np.ascontiguousarray(expected))
    assert psnr(frames[0].image, expected) > 33
    assert (info.height, info.width) == expected.shape[:2]
    assert info.sample_aspect_ratio == (Fraction(3, 4) if rotation in (90, 270) else Fraction(4, 3))
    if not mirrored:
        assert info.rotation_degrees == rotation


def test_the_corner_check_can_fail() -> None:
    assert corner_colors(picture(0)) != corner_colors(np.ascontiguousarray(np.rot90(picture(0))))
    assert set(corner_colors(picture(0)).values()) == {*CORNERS, "none"}


@pytest.mark.parametrize("color_range", [1, 2])
@pytest.mark.parametrize("matrix", [1, 5, 9])
def test_colors_follow_matrix_and_range(tmp_path: Path, matrix: int, color_range: int) -> None:
    flat = np.empty((64, 64, 3), np.uint8)
    flat[:] = (200, 60, 90)
    path = make_clip(tmp_path / "a.mp4", size=(64, 64), images=[flat] * 2, color=(matrix, color_range, 1, 1))
    info, frames, _ = read(path)
    assert (info.color_space, info.color_range) == (matrix, color_range)
    assert np.abs(frames[0].image.astype(int) - flat).max() <= 3


@pytest.mark.parametrize("pixel_format", ["gray", "yuv422p", "yuv444p", "yuvj420p"])
def test_pixel_formats(tmp_path: Path, pixel_format: str) -> None:
    codec = "libx264" if pixel_format != "gray" else "ffv1"
    _, frames, _ = read(make_clip(tmp_path / "a.mkv", codec=codec, pixel_format=pixel_format, options={}))
    assert [number_in(f.image) for f in frames] == list(range(12))


def test_variable_times_are_kept(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.5, 0.511, 2.0]
    _, frames, _ = read(make_clip(tmp_path / "a.mp4", times=times))
    np.testing.assert_allclose([f.time_seconds for f in frames], times, atol=1e-4)


def test_ntsc_rate_is_exact(tmp_path: Path) -> None:
    info, frames, _ = read(make_clip(tmp_path / "a.mp4", rate=Fraction(30000, 1001), frames=30))
    assert info.frame_rate == Fraction(30000, 1001)
    np.testing.assert_allclose([f.time_seconds for f in frames], np.arange(30) * 1001 / 30000, atol=1e-4)


def test_longer_audio_is_no_truncation(tmp_path: Path) -> None:
    info, frames, _ = read(make_clip(tmp_path / "a.mp4", audio=["aac", "aac"], audio_seconds=2))
    assert len(frames) == 12
    assert [a.codec for a in info.audio] == ["aac", "aac"]
    assert info.audio[0].sample_rate == 48000


def test_other_streams_are_noted(tmp_path: Path) -> None:
    _, frames, notes = read(make_clip(tmp_path / "a.mkv", subtitles=True))
    assert len(frames) == 12
    assert any("Subtitles" in note for note in notes)


def test_one_frame(tmp_path: Path) -> None:
    info, frames, _ = read(make_clip(tmp_path / "a.mp4", frames=1))
    assert (len(frames), info.frame_count) == (1, 1)


def test_probe_tells_what_open_source_tells(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", audio=["aac"])
    info = probe(path)
    assert info == read(path)[0]
    assert (info.frame_count, info.codec, info.bit_depth) == (12, "h264", 8)
    assert info.duration_seconds == pytest.approx(12 / 25)


def test_a_source_is_read_once(tmp_path: Path) -> None:
    with open_source(make_clip(tmp_path / "a.mp4")) as source:
        assert len(list(source)) == 12
        with pytest.raises(RuntimeError, match="once"):
            list(source)


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    """Only a handful of decoded pictures may be alive at a time, however many there are."""
    import gc
    import weakref

    alive: list[weakref.ref[Frame]] = []
    with open_source(make_clip(tmp_path / "a.mp4", frames=60)) as source:
        for frame in source:
            alive = [ref for ref in alive if ref() is not None] + [weakref.ref(frame)]
            assert len(alive) <= 2
    del frame
    gc.collect()
    assert all(ref() is None for ref in alive)


# ---------------------------------------------------------------------- pictures


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp"])
def test_folders_are_sorted_by_number(tmp_path: Path, suffix: str) -> None:
    folder = make_folder(tmp_path / "f", frames=12, suffix=suffix)
    info, frames, _ = read(folder, frame_rate=Fraction(10))
    assert [number_in(f.image) for f in frames] == list(range(12))
    assert [f.time_seconds for f in frames] == pytest.approx([k / 10 for k in range(12)])
    assert (info.frame_count, info.frame_rate, info.is_still) == (12, 10, False)


def test_folder_notes_what_it_ignored(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "f", frames=5)
    (folder / "notes.txt").write_text("hello")
    (folder / "3.png").unlink()
    _, frames, notes = read(folder)
    assert len(frames) == 4
    assert any("1 files" in note for note in notes)
    assert any("1 numbers are missing" in note for note in notes)


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_exif_orientation_is_undone(tmp_path: Path, orientation: int, turns: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture(0)).save(tmp_path / "a.jpg", exif=exif, quality=95)
    info, frames, _ = read(tmp_path / "a.jpg")
    expected = np.ascontiguousarray(np.rot90(picture(0), turns))
    assert info.is_still
    assert (info.height, info.width) == expected.shape[:2]
    assert corner_colors(frames[0].image) == corner_colors(expected)


def test_transparent_parts_do_not_come_back(tmp_path: Path) -> None:
    rgba = np.dstack([picture(0), np.full((64, 96), 255, np.uint8)])
    rgba[30:40, 60:80, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "a.png")
    _, frames, notes = read(tmp_path / "a.png")
    assert (frames[0].image[30:40, 60:80] == 255).all()
    assert any("alpha" in note for note in notes)


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "LA"])
def test_picture_modes(tmp_path: Path, mode: str) -> None:
    suffix = ".jpg" if mode == "CMYK" else ".png"
    Image.fromarray(picture(5)).convert(mode).save(tmp_path / f"a{suffix}")
    _, frames, _ = read(tmp_path / f"a{suffix}")
    assert number_in(frames[0].image) == 5
