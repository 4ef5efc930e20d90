"""Writing video files and GIFs through PyAV: one `ContainerSink` per file.

Every time stamp is the source's own; nothing else of the source is carried over but its audio packets,
its colour tags and the shape of its pixels.

This file does not choose the encoder (`encoders`), name files (`target`) or write pictures (`pictures`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anonymotion.errors import OutputError
from anonymotion.target import HiddenFile, reason
from anonymotion.video.audio import AudioCopy
from anonymotion.video.base import Sink
from anonymotion.video.color import ColorTags, from_rgb, tags_to_write
from anonymotion.video.encoders import Format, check_pixel_shape, checked_quality, choose_pixel_format, encoder_options
from anonymotion.video.guarded import GuardedFile
from anonymotion.video.info import Frame, Image, VideoInfo
from anonymotion.video.palette import paletted
from anonymotion.video.pictures import check_image, check_not_empty

if TYPE_CHECKING:
    from av.bitstream import BitStreamFilterContext
    from av.container import OutputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_BITEXACT = 0x400  # AVFMT_FLAG_BITEXACT: no encoder names, versions or dates in the file
_SEI = 6  # the type of H.264 units that hold remarks: nothing in them is needed to decode
_MILLISECOND = Fraction(1, 1000)
_DEFAULT_RATE = Fraction(25)


class ContainerSink(Sink):
    """A video file or GIF that appears on `commit`; see `Sink`.

    `info` describes the source; `audio_source` is the file whose audio is copied, or None.  Raises
    OutputError when it is opened if the target cannot be made or cannot hold the audio.
    """

    def __init__(
        self,
        path: Path,
        info: VideoInfo,
        kind: Format,
        *,
        audio_source: Path | None,
        quality: int | None,
        force: bool,
    ) -> None:
        super().__init__()
        self.path = path
        self._info = info
        self._kind = kind
        self.container = kind.container
        self.starts_at_zero = kind.container in ("avi", "gif")
        if kind.container == "gif":
            self.time_tolerance = Fraction(1, 200)  # its times are whole hundredths
        check_pixel_shape(kind, info, path)
        self._quality = checked_quality(kind, quality)
        # avi has no room for colour tags: what nobody states is BT.601 limited on both sides
        self._tags = ColorTags() if kind.container == "avi" else tags_to_write(info)
        self._durations: dict[int, int] = {}
        self._last_tick: int | None = None
        self._first_time: Fraction | None = None
        self._audio: AudioCopy | None = None
        self._container: OutputContainer | None = None
        self._file: GuardedFile | None = None
        self._filter: BitStreamFilterContext | None = None
        self._target = HiddenFile(path, force=force)
        try:
            with self._explained():
                self._open(audio_source)
        except BaseException:
            self.discard()
            raise

    def _open(self, audio_source: Path | None) -> None:
        import av
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()
        # opened here and not by av: the file keeps its mode, and errors keep their number
        self._file = GuardedFile(self._target.partial)
        # no shifting of all times to make a first audio packet's negative time (AAC priming) positive
        options = {"avoid_negative_ts": "disabled"}
        self._container = av.open(self._file, "w", format=self._kind.container, container_options=options)
        self._container.flags |= _BITEXACT
        self._stream = self._add_video(self._container)
        if audio_source is not None:
            self._audio = AudioCopy(audio_source, self._container, self._kind, self.path)
            self.audio = list(self._audio.digests.values())

    def _add_video(self, container: OutputContainer) -> VideoStream:
        info, tags = self._info, self._tags
        rate = info.frame_rate or _DEFAULT_RATE
        stream: VideoStream = container.add_stream(self._kind.encoder, rate=rate)  # type: ignore[assignment]
        context = stream.codec_context
        context.thread_type = "AUTO"  # av's default cuts each picture into slices, which costs quality
        context.width, context.height = info.width, info.height
        context.time_base = self._time_base(rate)
        if info.sample_aspect_ratio != 1 or self._kind.container != "gif":
            context.sample_aspect_ratio = info.sample_aspect_ratio
        if self._kind.encoder != "gif":
            context.color_range, context.colorspace = tags.range, tags.space
            context.color_primaries, context.color_trc = tags.primaries, tags.trc
        return stream

    def _time_base(self, rate: Fraction) -> Fraction:
        if self._kind.container == "avi":
            # avi knows frame numbers only, and MPEG-4 no denominator above 65535
            return 1 / rate.limit_denominator(1001) if rate.numerator > 65535 else 1 / rate
        return Fraction(1, 100) if self._kind.container == "gif" else self._info.time_base

    # ------------------------------------------------------------------ writing

    def write(self, image: Image, frame: Frame) -> None:
        """See `Sink.write`."""
        check_image(image, self._info)
        with self._explained():
            if not self.frames_written:
                self._choose_encoding(image)
            tick = self._tick_of(frame)
            picture = self._to_frame(image)
            picture.pts, picture.time_base = tick, self._stream.codec_context.time_base
            self._last_tick = tick
            if frame.duration:
                ticks = frame.duration * frame.time_base / self._stream.codec_context.time_base
                self._durations[tick] = max(1, round(ticks))
            self._mux(picture)
        self.frames_written += 1

    def _choose_encoding(self, first: Image) -> None:
        pixel_format, sentence = choose_pixel_format(self._kind, self._info, self._tags, first, self._reformatter)
        if sentence:
            self.note(sentence)
        self._pixel_format = pixel_format
        context = self._stream.codec_context
        context.pix_fmt = pixel_format
        context.options = encoder_options(self._kind, self._quality, pixel_format == "yuv444p")

    def _to_frame(self, image: Image) -> VideoFrame:
        if self._pixel_format == "pal8":
            return paletted(image)
        return from_rgb(image, self._pixel_format, self._tags, self._reformatter)

    def _tick_of(self, frame: Frame) -> int:
        """The frame's time in units of the encoder, as exactly as the container allows."""
        time = frame.pts * frame.time_base
        if self._first_time is None:
            self._first_time = time
            if time and self.starts_at_zero:
                self._check_start(time)
        if self.starts_at_zero:
            time -= self._first_time
        step = self._stream.codec_context.time_base
        exact = time / step
        tick = round(exact)
        if self._kind.container == "avi" and abs(exact - tick) * step > _MILLISECOND:
            raise OutputError(
                f"{self.path}: avi cannot keep the times of this input (frame {self.frames_written} is at "
                f"{float(time):.3f} s, off its steady frame rate): choose .mp4 or .mkv"
            )
        if self._last_tick is not None and tick <= self._last_tick:
            raise OutputError(
                f"frame {self.frames_written} is at {float(time):.4f} s, not after the one before in the steps "
                f"of {self._kind.container} ({float(step):.4f} s): choose .mp4"
            )
        return tick

    def _check_start(self, time: Fraction) -> None:
        """The container cannot store when the first picture appears: harmless alone, not beside audio."""
        name = self._kind.container
        if self._audio is not None:
            raise OutputError(
                f"{self.path}: {name} cannot keep that the picture starts at {float(time):.3f} s, so the sound "
                "would be out of step: choose .mp4 or .mkv"
            )
        self.note(f"{name} starts at 0; the first picture of the input is at {float(time):.3f} s.")

    def _without_user_data(self, packets: Iterable[Packet[Any]]) -> Iterator[Packet[Any]]:
        """H.264 packets without what x264 says about itself and its settings; it hands each on at once."""
        import av

        for packet in packets:
            if self._kind.encoder != "libx264":
                yield packet
                continue
            if self._filter is None:  # not before the encoder has written its headers
                self._filter = av.BitStreamFilterContext(f"filter_units=remove_types={_SEI}", self._stream)
            for cleaned in self._filter.filter(packet):
                cleaned.stream = self._stream
                yield cleaned

    def _mux(self, picture: VideoFrame | None) -> None:
        assert self._container is not None  # noqa: S101 - for the type checker
        for packet in self._without_user_data(self._stream.encode(picture)):
            duration = self._durations.pop(packet.pts, None) if packet.pts is not None else None
            if duration is not None:
                packet.duration = duration
            stamp = packet.dts if packet.dts is not None else packet.pts
            if self._audio is not None and stamp is not None:
                for sound in self._audio.until(stamp * packet.time_base):
                    self._container.mux_one(sound)
            self._container.mux_one(packet)
        self._raise_file_error()

    # ------------------------------------------------------------------ the end

    def finish(self) -> Path:
        """See `Sink.finish`."""
        if self._container is None:
            return self._target.partial
        check_not_empty(self)
        try:
            with self._explained():
                self._mux(None)
                if self._audio is not None:
                    for sound in self._audio.until(None):
                        self._container.mux_one(sound)
                self._close_container()
                self._close_file()
                self._raise_file_error()
        except BaseException:
            self.discard()
            raise
        return self._target.finish()

    def commit(self) -> None:
        """See `Sink.commit`."""
        self.finish()
        self._target.commit()

    def retract(self) -> None:
        """See `Sink.retract`."""
        self._target.retract()

    def _close_container(self) -> None:
        container, self._container = self._container, None
        if self._audio is not None:
            self._audio.close()
        if container is not None:
            container.close()

    def discard(self) -> None:
        """See `Sink.discard`."""
        import av

        try:
            # the file is removed anyway, and the first error is the one to tell
            with contextlib.suppress(av.FFmpegError, OSError, ValueError):
                self._close_container()
        finally:
            self._close_file()
            self._target.discard()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()

    def _raise_file_error(self) -> None:
        if self._file is not None and self._file.error is not None:
            raise self._file.error

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what av and the system raise while writing into OutputError."""
        import av

        try:
            yield
        except OutputError:
            raise
        except (av.FFmpegError, OSError, ValueError) as error:
            raise OutputError(f"{self.path} cannot be written: {reason(error)}") from error
