"""Which picture a video shows at a time."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import make_clip, make_folder, number_in

from anonymotion import video
from anonymotion.errors import InputError, SettingsError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("3.2", Fraction(16, 5)),
        ("00:03.2", Fraction(16, 5)),
        ("1:02:03.5", Fraction(7447, 2)),
        ("90", 90),
        ("90:00", 5400),
        (" 7 ", 7),
    ],
)
def test_times(text: str, seconds: Fraction) -> None:
    assert video.parse_time(text) == seconds


@pytest.mark.parametrize(
    "text", ["", ":", "-1", "1:60", "1:60:00", "1:2:3:4", "nan", "inf", "1e3", "1,5", "٣", "3s", "0:", "1" * 30]
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(SettingsError, match=r"00:03\.2"):
        video.parse_time(text)


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_a_written_time_is_read_back(hours: int, minutes: int, seconds: int, thousandths: int) -> None:
    text = f"{hours}:{minutes:02}:{seconds:02}.{thousandths:03}"
    assert video.parse_time(text) == 3600 * hours + 60 * minutes + seconds + Fraction(thousandths, 1000)


@pytest.mark.parametrize(
    ("seconds", "number"), [("0", 0), ("0.039", 0), ("0.04", 1), ("0.2", 5), ("0.2399", 5), ("0.399", 9)]
)
def test_the_frame_shown_is_the_last_that_has_begun(tmp_path: Path, seconds: str, number: int) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=10)
    assert number_in(video.image_at(clip, Fraction(seconds))) == number


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi", "clip.gif"])
def test_a_time_beyond_the_end_names_the_duration(tmp_path: Path, name: str) -> None:
    clip = make_clip(tmp_path / name, frames=10)
    with pytest.raises(InputError, match=r"0\.4\d* s long, so it shows nothing at 0\.500 s"):
        video.image_at(clip, Fraction(1, 2))
    assert video.image_at(clip).shape == (64, 96, 3)


def test_pictures_have_the_times_of_their_frame_rate(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "frames", frames=5)
    assert number_in(video.image_at(folder, Fraction(3, 10), frame_rate=Fraction(10))) == 3
    still = folder / "3.png"
    assert number_in(video.image_at(still)) == 2
    with pytest.raises(InputError, match="long"):
        video.image_at(still, Fraction(9))


def test_times_count_from_the_first_frame_and_may_be_uneven(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", times=[2.0, 2.1, 2.5, 2.6])
    assert [number_in(video.image_at(clip, Fraction(t))) for t in ("0", "0.1", "0.49", "0.5", "0.62")] == [
        0,
        1,
        1,
        2,
        3,
    ]


def test_a_rotated_video_is_marked_as_a_viewer_shows_it(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=2, rotation=90)
    assert video.image_at(clip).shape == (96, 64, 3)
