"""Frames by number are those of a run from the first to the last, whatever the order they are asked for in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from synthetic import make_clip, make_folder, number_in, picture

from anonymotion import video
from anonymotion.errors import InputError
from anonymotion.video.seeking import InOrder, Seeking

ORDER = (5, 0, 39, 38, 12, 13, 20, 1, 39, 7)


def read(path: Path) -> list[video.Frame]:
    with video.open_source(path) as source:
        return list(source)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".mov"])
def test_seeking_gives_the_frames_of_a_run(tmp_path: Path, suffix: str) -> None:
    options = {"g": "8", "bf": "2", "preset": "ultrafast"} if suffix != ".webm" else None
    clip = make_clip(tmp_path / f"clip{suffix}", frames=40, options=options)
    expected = read(clip)
    with video.open_frames(clip) as frames:
        assert isinstance(frames, Seeking)
        assert frames.count == 40
        for number in ORDER:
            found = frames.frame(number)
            assert np.array_equal(found.image, expected[number].image), number
            assert (found.index, found.pts) == (number, expected[number].pts)
            assert frames.seconds(number) == (found.pts - expected[0].pts) * found.time_base


@pytest.mark.parametrize("suffix", [".avi", ".gif"])
def test_without_times_frames_come_in_order(tmp_path: Path, suffix: str) -> None:
    clip = make_clip(tmp_path / f"clip{suffix}", frames=12)
    expected = read(clip)
    with video.open_frames(clip) as frames:
        assert frames.count == 12
        for number in (3, 0, 11, 2):
            assert np.array_equal(frames.frame(number).image, expected[number].image)


def test_uneven_times_and_rotation(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", times=[0.0, 0.1, 0.15, 0.5, 0.52], rotation=90)
    with video.open_frames(clip) as frames:
        assert frames.frame(3).image.shape == (96, 64, 3)
        assert [float(frames.seconds(i)) for i in range(5)] == pytest.approx([0.0, 0.1, 0.15, 0.5, 0.52], abs=1e-4)
        assert [frames.number_at(s) for s in (0.0, 0.09, 0.1, 0.3, 0.51, 9.0)] == [0, 0, 1, 2, 3, 4]


def test_pictures_are_videos_of_their_own(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pictures", frames=5)
    with video.open_frames(folder) as frames:
        assert isinstance(frames, InOrder)
        assert frames.count == 5
        assert number_in(frames.frame(4).image) == 4
        assert np.array_equal(frames.frame(1).image, picture(1))
    with video.open_frames(folder / "3.png") as frames:
        assert frames.count == 1
        assert float(frames.seconds(0)) == 0


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_frame_that_is_not_there_is_an_error(tmp_path: Path, suffix: str) -> None:
    clip = make_clip(tmp_path / f"clip{suffix}", frames=3)
    with video.open_frames(clip) as frames, pytest.raises(InputError, match="no frame 3: the last one is 2"):
        frames.frame(3)


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"no video at all" * 100)
    with pytest.raises(InputError, match="not a video"):
        video.open_frames(path)
