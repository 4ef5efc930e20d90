"""An input that says everything about its owner; an output that says nothing.

Every place of the input holds the word SECRET, and is shown to hold it before it is shown to be gone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from synthetic import picture
from tiny import TINY_SETTINGS, tiny_library

from anonymotion.backbone import Backbone
from anonymotion.errors import OutputError
from anonymotion.results import HideResult
from anonymotion.run import FileOptions, hide_video
from anonymotion.video.audio import without_comments

SECRET = "Zanzibar"  # noqa: S105 - in no codec's tables
TAGS = {
    "title": f"{SECRET} title",
    "comment": f"{SECRET} comment",
    "artist": f"{SECRET} artist",
    "location": "+48.1234+011.5678/",
    "creation_time": "2021-03-04T05:06:07Z",
    "encoder": f"/home/{SECRET}/camera",
    "com.apple.quicktime.location.ISO6709": "+48.1234+011.5678/",
    "com.apple.quicktime.model": f"{SECRET} phone",
}
Run = Callable[..., HideResult]


@pytest.fixture
def run(tiny: Backbone, tmp_path: Path) -> Run:
    library = tiny_library(tmp_path / "library")

    def hide(source: Path, output: Path, **options: Any) -> HideResult:
        options = {**TINY_SETTINGS, "threshold": 0.01, **options}
        return hide_video(source, output, "hair", **options, library=library, network=tiny)

    return hide


def jpeg(exif: bool = True) -> bytes:
    """A small picture with EXIF (place, camera, time, embedded thumbnail)."""
    image, data = Image.fromarray(picture(5)), BytesIO()
    tags = Image.Exif()
    tags[0x010F], tags[0x013B], tags[0x0132] = f"{SECRET} maker", f"{SECRET} artist", "2021:03:04 05:06:07"
    tags.get_ifd(0x8825).update({1: "N", 2: (48.0, 7.0, 24.2), 3: "E", 4: (11.0, 34.0, 4.1)})
    tags.get_ifd(0x8769).update({0x9286: f"{SECRET} remark".encode()})
    image.save(data, "JPEG", exif=tags if exif else b"", comment=f"{SECRET} comment".encode())
    return data.getvalue()


def telling_clip(path: Path, audio: str = "aac") -> Path:
    """A clip with every kind of remark that its container can hold."""
    matroska = path.suffix == ".mkv"
    # Apple's tags and a cover exclude each other: one kind each for mov and mp4
    options = {"movflags": "use_metadata_tags"} if path.suffix == ".mov" else {}
    with av.open(str(path), "w", container_options=options) as output:
        output.metadata.update(TAGS)
        output.set_chapters(
            [{"id": 1, "start": 0, "end": 100, "time_base": Fraction(1, 1000), "metadata": {"title": f"{SECRET} home"}}]
        )
        stream = output.add_stream("libx264", rate=25, options={"crf": "10", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.metadata.update({"timecode": "01:02:03:04", "handler_name": f"{SECRET} camera", "language": "deu"})
        experimental = {"strict": "experimental"} if audio == "vorbis" else {}
        sound = output.add_stream(audio, rate=48000, options=experimental)
        assert isinstance(sound, av.AudioStream)
        sound.layout = "stereo"
        sound.metadata.update({"title": f"{SECRET} voice", "language": "deu", "handler_name": f"{SECRET} microphone"})
        texts = output.add_mux_stream("subrip" if matroska else "mov_text")
        cover = None
        if matroska:
            output.add_attachment(f"{SECRET}.txt", "text/plain", f"{SECRET} attachment".encode())
            output.add_attachment("cover.jpg", "image/jpeg", jpeg())
        elif path.suffix == ".mp4":
            cover = output.add_mux_stream("mjpeg", width=96, height=64)
            cover.disposition = av.stream.Disposition.attached_pic
        output.start_encoding()
        if cover is not None:
            packet = av.Packet(jpeg())
            packet.stream, packet.pts, packet.dts, packet.time_base = cover, 0, 0, Fraction(1, 25)
            output.mux_one(packet)
        for index in range(8):
            frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24").reformat(format="yuv420p")
            frame.pts = index
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        for index in range(12):
            tone = np.zeros((2, 1024), np.float32)
            heard = av.AudioFrame.from_ndarray(tone, format="fltp", layout="stereo")
            heard.sample_rate, heard.pts = 48000, 1024 * index
            output.mux(sound.encode(heard))
        output.mux(sound.encode(None))
        words = f"{SECRET} said".encode()
        packet = av.Packet(words if matroska else len(words).to_bytes(2, "big") + words)
        packet.stream, packet.pts, packet.dts, packet.duration = texts, 0, 0, 100
        packet.time_base = Fraction(1, 1000)
        output.mux_one(packet)
    return path


def found_in(path: Path) -> set[str]:
    """What av finds in a container besides pictures and sound."""
    found: set[str] = set()
    with av.open(str(path)) as container:
        kinds = [stream.type for stream in container.streams]
        found |= {kind for kind in kinds if kind not in ("video", "audio")}
        found |= {"cover"} if kinds.count("video") > 1 else set()
        found |= {"chapters"} if container.chapters() else set()
        for tags in (container.metadata, *(stream.metadata for stream in container.streams)):
            telling = {key.lower() for key, value in tags.items() if SECRET in value}
            found |= telling | ({key.lower() for key in tags} & {"creation_time", "timecode"})
    return found


EXPECTED = {
    ".mp4": {"subtitle", "data", "cover", "chapters", "title", "comment", "artist", "handler_name", "timecode"},
    ".mov": {"subtitle", "data", "chapters", "title", "comment", "com.apple.quicktime.model", "timecode"},
    ".mkv": {"subtitle", "attachment", "cover", "chapters", "title", "comment", "creation_time", "timecode"},
}


@pytest.mark.parametrize("target", [".mp4", ".mov", ".mkv", ".gif", "folder"])
@pytest.mark.parametrize("suffix", EXPECTED)
def test_nothing_of_a_telling_clip_is_in_the_output(run: Run, tmp_path: Path, suffix: str, target: str) -> None:
    clip = telling_clip(tmp_path / f"{SECRET} at home{suffix}")
    before = found_in(clip)
    assert before >= EXPECTED[suffix], "the fixture does not hold what it should"
    assert clip.read_bytes().count(SECRET.encode()) > 5
    output = tmp_path / ("hidden" + (target if target != "folder" else ""))
    run(clip, output)
    for file in sorted(output.iterdir()) if output.is_dir() else [output]:
        assert_silent(file)
    if output.is_file():
        assert found_in(output) == set()


def assert_silent(file: Path) -> None:
    data = file.read_bytes()
    words = (SECRET, "48.1234", "2021", "deu", "x264", "/home", str(file.parent))
    for word in words:
        if len(word) > 4 or file.suffix != ".png":  # short words turn up in noise by chance
            assert word.encode() not in data, word
            assert word.encode("utf-16-le") not in data or len(word) < 5, word


def test_vorbis_keeps_its_sound_and_loses_its_comments(run: Run, tmp_path: Path) -> None:
    clip = telling_clip(tmp_path / "in.mkv", audio="vorbis")
    with av.open(str(clip)) as container:
        headers = bytes(container.streams.audio[0].codec_context.extradata or b"")
    told = with_comment(headers, f"ARTIST={SECRET}")
    assert SECRET.encode() in told
    assert SECRET.encode() not in without_comments(told)
    assert without_comments(told) == without_comments(headers)
    run(clip, tmp_path / "hidden.mkv")
    with av.open(str(tmp_path / "hidden.mkv")) as container:
        frames = list(container.decode(audio=0))
    assert sum(frame.samples for frame in frames) > 8000
    with pytest.raises(OutputError, match="--audio drop"):
        without_comments(headers[:40])


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi", ".webm"])
def test_the_encoder_of_the_video_does_not_name_itself(run: Run, tmp_path: Path, suffix: str) -> None:
    """Copied sound may well name its own: its packets are copied as they are."""
    clip = telling_clip(tmp_path / "in.mp4")
    run(clip, tmp_path / f"hidden{suffix}", files=FileOptions(audio="drop"))
    data = (tmp_path / f"hidden{suffix}").read_bytes()
    for name in (b"x264", b"Lavc", b"libvpx"):
        assert name not in data, name


def with_comment(headers: bytes, comment: str) -> bytes:
    """Vorbis headers whose second one holds `comment`."""
    first_size = headers[1]
    second_size, at = headers[2], 3
    first = headers[at : at + first_size]
    setup = headers[at + first_size + second_size :]
    text = comment.encode()
    second = b"\x03vorbis" + bytes(4) + (1).to_bytes(4, "little") + len(text).to_bytes(4, "little") + text + b"\x01"
    return bytes([2, len(first), len(second)]) + first + second + setup


@pytest.mark.parametrize("target", ["hidden.png", "hidden.jpg"])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_pictures_lose_theirs(run: Run, tmp_path: Path, suffix: str, target: str) -> None:
    source = tmp_path / f"{SECRET}{suffix}"
    if suffix == ".jpg":
        source.write_bytes(jpeg())
    else:
        text = PngInfo()
        text.add_itxt("Author", f"{SECRET} author")
        exif = Image.Exif()
        exif[0x013B] = f"{SECRET} artist"
        Image.fromarray(picture(5)).save(source, pnginfo=text, exif=exif)
    assert SECRET.encode() in source.read_bytes()
    run(source, tmp_path / target)
    assert SECRET.encode() not in (tmp_path / target).read_bytes()
    with Image.open(tmp_path / target) as written:
        assert not written.getexif()
        assert set(written.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi"}


# exiftool's groups of what a file says by itself: its form, not its owner
FORM = {"SourceFile", "ExifTool", "System", "File", "Composite"}
NOTHING_SAID = ("0000:00:00 00:00:00", "und", "Unknown (32767)")


def exiftool() -> str:
    found = shutil.which("exiftool")
    if found is None:
        if os.environ.get("REQUIRE_EXIFTOOL") == "1":
            pytest.fail("REQUIRE_EXIFTOOL=1, and exiftool is not installed (Debian: libimage-exiftool-perl)")
        pytest.skip("exiftool is not installed (Debian: libimage-exiftool-perl)")
    return found


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".jpg"])
def test_exiftool_finds_nothing(run: Run, tmp_path: Path, suffix: str) -> None:
    program = exiftool()
    source = tmp_path / f"{SECRET}{suffix}"
    if suffix == ".jpg":
        source.write_bytes(jpeg())
    else:
        telling_clip(source)
    output = tmp_path / f"hidden{suffix}"
    run(source, output)

    def scan(path: Path) -> dict[str, Any]:
        done = subprocess.run([program, "-j", "-G", "-a", "-ee", path], capture_output=True, text=True, check=True)
        return dict(json.loads(done.stdout)[0])

    telling = [key for key, value in scan(source).items() if SECRET in str(value) and key.split(":")[0] not in FORM]
    assert len(telling) >= 2, "exiftool does not see what is in the input"
    said = {key: value for key, value in scan(output).items() if key.split(":")[0] not in FORM}
    for key, value in said.items():
        assert SECRET not in str(value), key
        assert not any(word in key for word in ("GPS", "Location", "Title", "Artist", "Comment", "Author")), key
        assert not (("Date" in key or "Language" in key) and str(value) not in NOTHING_SAID), key
        assert not any(word in key for word in ("TimeCode", "Chapter", "Thumbnail", "Software")), key
    assert "Encoder" not in str(said) or "Lavf" in str(said)


def test_kept_audio_is_named_as_what_identifies(run: Run, tmp_path: Path) -> None:
    clip = telling_clip(tmp_path / "in.mp4")
    kept = run(clip, tmp_path / "kept.mp4")
    assert any("voices identify people" in note for note in kept.notes)
    dropped = run(clip, tmp_path / "dropped.mp4", files=FileOptions(audio="drop"))
    assert not any("voices" in note for note in dropped.notes)
