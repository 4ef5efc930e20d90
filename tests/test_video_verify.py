"""A written file is decoded again before it appears, and what is wrong with it keeps it from appearing."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from synthetic import make_clip, picture

from anonymotion.errors import OutputError
from anonymotion.video import Frame, HiddenWriter, Sink, VideoInfo, open_sink, open_source, verify
from anonymotion.video.writer import ContainerSink

SIZE_WH = (96, 64)
INFO = VideoInfo(*SIZE_WH, frame_rate=Fraction(25), time_base=Fraction(1, 25), pixel_format="yuv420p")
TARGETS = ["out.mp4", "out.mov", "out.mkv", "out.webm", "out.avi", "out.gif", "out"]


def a_frame(index: int) -> Frame:
    return Frame(index, picture(index, *SIZE_WH), index, INFO.time_base, 1)


def a_mask() -> np.ndarray:
    mask = np.zeros((SIZE_WH[1], SIZE_WH[0]), np.float32)
    mask[16:56, 24:72] = 1
    return mask


def hidden(frame: Frame, mask: np.ndarray, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(57, 172, frame.image.shape, dtype=np.uint8)
    return np.where(mask[..., None] == 1, noise, frame.image)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(writer: HiddenWriter, count: int = 6) -> None:
    for index in range(count):
        frame, mask = a_frame(index), a_mask()
        writer.write(hidden(frame, mask), frame, mask)


@pytest.mark.parametrize("target", TARGETS)
def test_what_was_hidden_passes(tmp_path: Path, target: str) -> None:
    with open_sink(tmp_path / target, INFO, source=None) as sink:
        writer = HiddenWriter(sink, INFO, must_differ=True)
        write(writer)
        writer.verify()
        sink.commit()
    assert names(tmp_path) == [target]


@pytest.mark.parametrize("target", TARGETS)
def test_a_clean_picture_in_the_file_keeps_it_from_appearing(
    tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a defect of a sink would do: picture 3 of 6 is written as the source shows it."""
    with open_sink(tmp_path / target, INFO, source=None) as sink:
        whole = sink.write
        monkeypatch.setattr(
            sink, "write", lambda image, frame: whole(frame.image if frame.index == 3 else image, frame)
        )
        writer = HiddenWriter(sink, INFO, must_differ=True)
        write(writer)
        with pytest.raises(OutputError, match="picture 3 still shows the source"):
            writer.verify()
        assert names(tmp_path) == []
    assert names(tmp_path) == []


@pytest.mark.parametrize("quality", [13, 28, 35])
def test_coarse_encoding_is_told_from_a_clean_picture(tmp_path: Path, quality: int) -> None:
    with open_sink(tmp_path / "out.mp4", INFO, source=None, quality=quality) as sink:
        writer = HiddenWriter(sink, INFO, must_differ=True)
        write(writer)
        writer.verify()


def test_a_blend_is_compared_with_what_was_written(tmp_path: Path) -> None:
    with open_sink(tmp_path / "out.mp4", INFO, source=None) as sink:
        writer = HiddenWriter(sink, INFO, must_differ=False)
        for index in range(4):
            frame = a_frame(index)
            mask = np.full((SIZE_WH[1], SIZE_WH[0]), 0.3, np.float32)
            mixed = 0.7 * frame.image + 0.3 * hidden(frame, np.ones_like(mask))
            writer.write(np.rint(mixed).astype(np.uint8), frame, mask)
        writer.verify()


def test_frames_without_a_mask_pixel_pass(tmp_path: Path) -> None:
    with open_sink(tmp_path / "out.mp4", INFO, source=None) as sink:
        writer = HiddenWriter(sink, INFO, must_differ=True)
        for index in range(3):
            writer.write(a_frame(index).image, a_frame(index), np.zeros((SIZE_WH[1], SIZE_WH[0]), np.float32))
        writer.verify()


def test_masked_pixels_that_were_not_changed_are_refused_at_once(tmp_path: Path) -> None:
    with open_sink(tmp_path / "out.mp4", INFO, source=None) as sink:
        writer = HiddenWriter(sink, INFO, must_differ=True)
        with pytest.raises(OutputError, match="not hidden inside its mask"):
            writer.write(a_frame(0).image, a_frame(0), a_mask())


BAD_MASKS: dict[str, Any] = {
    "missing": None,
    "one row short": np.ones((SIZE_WH[1] - 1, SIZE_WH[0]), np.float32),
    "float64": np.ones((SIZE_WH[1], SIZE_WH[0])),
    "bool": np.ones((SIZE_WH[1], SIZE_WH[0]), bool),
    "NaN": np.full((SIZE_WH[1], SIZE_WH[0]), np.nan, np.float32),
    "above 1": np.full((SIZE_WH[1], SIZE_WH[0]), 1.5, np.float32),
    "below 0": np.full((SIZE_WH[1], SIZE_WH[0]), -0.1, np.float32),
}


@pytest.mark.parametrize("kind", BAD_MASKS)
def test_no_picture_without_its_mask(tmp_path: Path, kind: str) -> None:
    with open_sink(tmp_path / "out.mp4", INFO, source=None) as sink:
        writer = HiddenWriter(sink, INFO, must_differ=True)
        with pytest.raises(OutputError, match="mask"):
            writer.write(hidden(a_frame(0), a_mask()), a_frame(0), BAD_MASKS[kind])
        assert sink.frames_written == 0


def test_a_lost_frame_is_noticed(tmp_path: Path) -> None:
    with open_sink(tmp_path / "out.mp4", INFO, source=None) as sink:
        writer = HiddenWriter(sink, INFO, must_differ=True)
        write(writer, 2)
        with pytest.raises(OutputError, match="frame 3 came where frame 2 was due"):
            writer.write(hidden(a_frame(3), a_mask()), a_frame(3), a_mask())


def spoil_count(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sink.write
    monkeypatch.setattr(sink, "write", lambda image, frame: frame.index == 2 or whole(image, frame))


def spoil_times(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sink.write

    def late(image: np.ndarray, frame: Frame) -> None:
        whole(image, Frame(frame.index, frame.image, frame.pts + (frame.index > 3), frame.time_base, 1))

    monkeypatch.setattr(sink, "write", late)


def spoil_pictures(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sink.write
    monkeypatch.setattr(sink, "write", lambda image, frame: whole(image * (frame.index != 4), frame))


def spoil_tags(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(sink, ContainerSink)
    assert sink._container is not None
    sink._container.metadata["title"] = "Alice"


def spoil_streams(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(sink, ContainerSink)
    assert sink._container is not None
    sink._container.add_mux_stream("mov_text")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (spoil_count, "picture|pictures were written"),
        (spoil_times, r"picture 4 is at 0\.2000 s"),
        (spoil_pictures, "picture 4"),
        (spoil_tags, "the tag title"),
        (spoil_streams, "streams"),
    ],
)
def test_a_file_that_is_not_as_meant_does_not_appear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Sink, pytest.MonkeyPatch], None], expected: str
) -> None:
    with open_sink(tmp_path / "out.mp4", INFO, source=None) as sink:
        spoil(sink, monkeypatch)
        writer = HiddenWriter(sink, INFO, must_differ=True)
        write(writer)
        with pytest.raises(OutputError, match=expected):
            writer.verify()
        with pytest.raises(OutputError):
            sink.commit()
    assert names(tmp_path) == []


def test_audio_that_was_lost_on_the_way_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = make_clip(tmp_path / "in.mp4", audio=["aac"])
    for lose in (False, True):
        with open_source(clip) as source, open_sink(tmp_path / "out.mkv", source.info, source=clip) as sink:
            writer = HiddenWriter(sink, source.info, must_differ=True)
            if lose:
                assert isinstance(sink, ContainerSink)
                container = sink._container
                assert container is not None
                seen: list[av.Packet] = []

                class Lossy:
                    def __getattr__(self, name: str, inner: Any = container) -> Any:
                        return getattr(inner, name)

                    def mux_one(self, packet: av.Packet, inner: Any = container, seen: list[Any] = seen) -> None:
                        seen.append(packet)
                        if len(seen) != 3:
                            inner.mux_one(packet)

                monkeypatch.setattr(sink, "_container", Lossy())
            for frame in source:
                writer.write(hidden(frame, a_mask()), frame, a_mask())
            if lose:
                with pytest.raises(OutputError, match="audio stream 0"):
                    writer.verify()
            else:
                writer.verify()
    assert names(tmp_path) == ["in.mp4"]


def test_memory_of_long_videos_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "BUDGET", 2000)
    with open_sink(tmp_path / "out.mp4", INFO, source=None) as sink:
        writer = HiddenWriter(sink, INFO, must_differ=True)
        write(writer, 60)
        kept = [len(sample) // 6 for sample in writer._samples]
        assert sum(kept) <= 2000
        assert min(kept) >= verify.LEAST_SAMPLES_PER_FRAME
        writer.verify()


def test_places_are_inside_the_mask_and_differ_from_run_to_run() -> None:
    mask = np.zeros(10_000, np.float32)
    mask[5000:5040] = 1
    mask[6000:6100] = 0.5
    random = np.random.default_rng()
    found = verify._places(mask, 256, random)
    assert sorted(found) == list(range(5000, 5040))
    assert len(verify._places(mask, 16, random)) == 16
    soft = np.where(mask == 1, 0, mask)
    assert set(verify._places(soft, 256, random)) == set(range(6000, 6100))
    assert len(verify._places(np.zeros(100, np.float32), 256, random)) == 0
