"""Bad inputs end in one clear sentence, and good ones are not taken for bad."""

from __future__ import annotations

import contextlib
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from synthetic import AUDIO, make_audio_only, make_clip, make_folder, picture, truncate

from anonymotion.errors import InputError, TruncatedInputError, UnsupportedInputError
from anonymotion.video import open_source

CONTAINERS = [".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif"]


def refuse(path: Path, kind: type[InputError] = InputError, **options: object) -> str:
    with pytest.raises(kind) as caught, open_source(path, **options) as source:
        list(source)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def test_missing(tmp_path: Path) -> None:
    assert "does not exist" in refuse(tmp_path / "none.mp4")


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.png", "a"])
def test_empty(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert "empty" in refuse(tmp_path / name)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.gif", "a.png", "a.txt"])
def test_text(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("this is not a video\n" * 50)
    refuse(tmp_path / name)


def test_playlist_is_not_followed(tmp_path: Path) -> None:
    make_clip(tmp_path / "real.ts", codec="libx264")
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:10", "#EXTINF:1,", "real.ts", "#EXT-X-ENDLIST"]
    (tmp_path / "a.mp4").write_text("\n".join(lines))
    refuse(tmp_path / "a.mp4")


def test_folder_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a.txt").write_text("x")
    assert "no pictures" in refuse(tmp_path / "f")


def test_device_file() -> None:
    assert "regular file" in refuse(Path(os.devnull))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_no_frames(tmp_path: Path, suffix: str) -> None:
    refuse(make_clip(tmp_path / f"a{suffix}", frames=0, audio=["aac"]))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_audio_only(tmp_path: Path, suffix: str) -> None:
    path = make_audio_only(tmp_path / f"a{suffix}") if suffix != ".webm" else tmp_path / "a.webm"
    if suffix == ".webm":
        make_audio_only(path)
    assert "only audio" in refuse(path)


def test_ten_bits(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mkv", codec="ffv1", pixel_format="yuv420p10le", options={})
    assert "10 bits" in refuse(path, UnsupportedInputError)


def test_sixteen_bit_pictures(tmp_path: Path) -> None:
    Image.fromarray(np.full((64, 64), 40000, np.uint16)).save(tmp_path / "a.png")
    refuse(tmp_path / "a.png", UnsupportedInputError)


def test_tiny_pictures(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1)).save(tmp_path / "a.png")
    assert "1x1" in refuse(tmp_path / "a.png", UnsupportedInputError)
    Image.new("RGB", (1, 1)).save(tmp_path / "b.gif")
    assert "1x1" in refuse(tmp_path / "b.gif", UnsupportedInputError)
    tiny = make_clip(tmp_path / "c.mkv", size=(12, 64), codec="ffv1", options={})
    assert "12x64" in refuse(tiny, UnsupportedInputError)


def test_odd_rotation(tmp_path: Path) -> None:
    assert "degrees" in refuse(make_clip(tmp_path / "a.mp4", rotation=30), UnsupportedInputError)


def test_pictures_of_two_sizes(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "f", frames=2)
    Image.fromarray(picture(0, 64, 48)).save(folder / "3.png")
    with pytest.raises(InputError, match="one size"), open_source(folder) as source:
        list(source)


# ---------------------------------------------------------------------- truncation


@pytest.mark.parametrize("fraction", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("suffix", CONTAINERS)
def test_cut_files(tmp_path: Path, suffix: str, fraction: float) -> None:
    audio = [] if suffix == ".gif" else [AUDIO.get(suffix, "aac")]
    whole = make_clip(tmp_path / f"a{suffix}", audio=audio, frames=25)
    refuse(truncate(whole, fraction), TruncatedInputError)


@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.9, 0.99])
def test_cut_faststart(tmp_path: Path, fraction: float) -> None:
    """The index is whole and promises every frame."""
    whole = make_clip(tmp_path / "a.mp4", container_options={"movflags": "faststart"}, audio=["aac"])
    refuse(truncate(whole, fraction), TruncatedInputError)


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".avi", ".gif"])
def test_cut_files_can_be_allowed(tmp_path: Path, suffix: str) -> None:
    cut = truncate(make_clip(tmp_path / f"a{suffix}", frames=25), 0.7)
    with open_source(cut, allow_truncated=True) as source:
        frames = list(source)
        assert 0 < len(frames) < 25
        assert any("cut short" in note for note in source.notes)


def test_cut_fragmented_mp4(tmp_path: Path) -> None:
    options = {"movflags": "frag_keyframe+empty_moov"}
    whole = make_clip(tmp_path / "a.mp4", container_options=options, options={"g": "3"}, frames=25)
    with open_source(whole) as source:
        assert len(list(source)) == 25
    refuse(truncate(whole, 0.7), TruncatedInputError)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_cut_picture_in_folder(tmp_path: Path, suffix: str) -> None:
    folder = make_folder(tmp_path / "f", suffix=suffix)
    truncate(folder / f"3{suffix}", 0.5, folder / f"3{suffix}")
    with pytest.raises(TruncatedInputError), open_source(folder) as source:
        list(source)
    with open_source(folder, allow_truncated=True) as source:
        assert [f.pts for f in source] == [0, 1, 3, 4]
        assert any("left out" in note for note in source.notes)


def test_edit_list_is_no_truncation(tmp_path: Path) -> None:
    """A trimmed copy keeps packets before its start; players skip them and so do we."""
    whole = make_clip(tmp_path / "a.mp4", frames=40, options={"g": "40", "bf": "2"})
    trimmed = tmp_path / "b.mp4"
    with av.open(str(whole)) as source, av.open(str(trimmed), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.size:
                shift = round(Fraction(1, 2) / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = copy
                target.mux(packet)
    with open_source(trimmed) as source_:
        frames = list(source_)
    assert 0 < len(frames) <= 40
    assert frames[0].time_seconds >= -0.5


def test_b_frames_are_no_truncation(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", frames=30, options={"bf": "4", "g": "30", "preset": "medium"})
    with open_source(path) as source:
        assert len(list(source)) == 30


def test_junk_behind_the_end_is_harmless(tmp_path: Path) -> None:
    for suffix in (".mp4", ".gif", ".avi", ".mkv"):
        path = make_clip(tmp_path / f"a{suffix}")
        with path.open("ab") as file:
            file.write(bytes(500))
        with open_source(path) as source:
            assert len(list(source)) == 12


def test_damage_in_the_middle(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mov", codec="png", pixel_format="rgb24", options={}, frames=6)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(400)
    path.write_bytes(data)
    with pytest.raises(InputError), open_source(path) as source:
        list(source)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".avi"])
def test_damage_never_loses_frames_in_silence(tmp_path: Path, suffix: str, seed: int) -> None:
    path = make_clip(tmp_path / f"a{suffix}", frames=30, size=(320, 240))
    data = bytearray(path.read_bytes())
    middle = int(len(data) * (0.3 + 0.1 * seed))
    data[middle : middle + 300] = np.random.default_rng(seed).bytes(300)
    path.write_bytes(data)
    with contextlib.suppress(InputError), open_source(path) as source:
        assert len(list(source)) == 30


def test_unreadable_folder_message(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert "permissions" in refuse(path)
