"""Reading video files and GIFs through PyAV: one `ContainerSource` per file.

The first frame is decoded when the file is opened, because rotation, depth and colour tags are only
certain then.  Everything after it streams.

This file does not read pictures or folders (`pictures`) and does not look into audio (`audio` copies it).
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anonymotion.errors import InputError, TruncatedInputError, UnsupportedInputError
from anonymotion.video.base import Source
from anonymotion.video.checks import Structure, check_readable_file, structure_of
from anonymotion.video.color import check_matrix, is_full_range, to_rgb
from anonymotion.video.info import AudioInfo, Frame, VideoInfo
from anonymotion.video.upright import Orientation, orientation_of_matrix

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

SMALLEST_SIDE = 16
"""Pixels; a picture with a shorter side is refused."""

# Only these demuxers and local files: a playlist named .mp4 must not make FFmpeg open other files or URLs.
_OPEN_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,mpegts,mpeg,flv,asf,ogg,mxf,nut,"
    "apng,yuv4mpegpipe,h264,hevc,m4v,mpegvideo,dv,ivf",
}
_HINT_ALLOW = "copy it again, or use what is there with --allow-truncated"


def open_container(path: Path) -> InputContainer:
    """The open av container of a local file.  Raises InputError."""
    import av

    try:
        return av.open(str(path.absolute()), "r", options=_OPEN_OPTIONS, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        structure = structure_of(path)
        if structure.cut:
            raise TruncatedInputError(
                f"{path} was cut short or is still being written: {structure.cut}; {_HINT_ALLOW}"
                if structure.kind != "mp4"
                else f"{path} was cut short or is still being written: {structure.cut}; copy it again"
            ) from error
        raise InputError(
            f"{path} is not a video that can be read ({_reason(error)}): expected mp4, mov, mkv, avi, webm, "
            "GIF, a picture or a folder of pictures"
        ) from error


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error).rstrip(".")


class ContainerSource(Source):
    """The frames of a video file or GIF, upright, in presentation order; see `Source`.

    Raises InputError, TruncatedInputError or UnsupportedInputError when opened and while iterated.
    """

    def __init__(self, path: Path, *, allow_truncated: bool = False) -> None:
        super().__init__()
        check_readable_file(path)
        self.path = path
        self._allow_truncated = allow_truncated
        self._structure: Structure = structure_of(path)
        self._container: InputContainer | None = open_container(path)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        from av.video.reformatter import VideoReformatter

        assert self._container is not None  # noqa: S101 - for the type checker
        self._stream = self._choose_stream(self._container)
        self._stream.thread_type = "AUTO"
        self._reformatter = VideoReformatter()
        self._packets = 0
        self._bad_packets = 0
        self._decode_errors = 0
        self._last_pts: int | None = None
        self._last_duration: int | None = None
        self._widest_gap = 0
        self._narrowest_gap: int | None = None
        self._started = False
        if self._structure.cut and self._structure.kind != "avi":
            self._truncated(self._structure.cut)
        self._check_format(self._stream.codec_context.format)
        # How many packets the index of an mp4 holds; edit lists are already applied to it.
        entries = getattr(self._stream, "index_entries", None)
        self._indexed = len(entries) if entries is not None and self._structure.kind == "mp4" else 0
        self._decoded = self._decode(self._container)
        first = next(self._decoded, None)
        if first is None:
            raise InputError(f"{self.path} holds no picture at all: expected at least one video frame")
        self._first: VideoFrame | None = first
        self._orientation = self._orientation_of(first)
        self.info = self._describe(self._container, first)

    def _choose_stream(self, container: InputContainer) -> VideoStream:
        covers = [s for s in container.streams.video if s.disposition.value & 0x400]  # attached pictures
        videos = [s for s in container.streams.video if s not in covers and s.codec_context is not None]
        if not videos:
            kind = "only audio" if container.streams.audio else "no video stream"
            raise InputError(f"{self.path} holds {kind}: expected a file with moving pictures")
        if len(videos) > 1:
            rest = ", ".join(str(s.index) for s in videos[1:])
            self.note(f"The file has {len(videos)} video streams; only the first was used, not stream {rest}.")
        if covers:
            self.note("The cover picture was dropped.")
        return videos[0]

    def _check_format(self, pixel_format: Any) -> None:
        """Refuse depths and sizes that are out of bounds; `pixel_format` may still be unknown (None)."""
        if pixel_format is None:
            return
        depth = max((component.bits for component in pixel_format.components), default=8)
        if depth > 8:
            raise UnsupportedInputError(
                f"{self.path} has {depth} bits per channel ({pixel_format.name}); 8 are supported: convert it "
                "first, for example with ffmpeg -i IN -pix_fmt yuv420p OUT"
            )
        if 0 < min(pixel_format.width, pixel_format.height) < SMALLEST_SIDE:
            raise UnsupportedInputError(
                f"{self.path} is {pixel_format.width}x{pixel_format.height} pixels; both sides must be at "
                f"least {SMALLEST_SIDE}"
            )

    def _orientation_of(self, frame: VideoFrame) -> Orientation:
        matrix: Any = frame.side_data.get("DISPLAYMATRIX")
        return Orientation() if matrix is None else orientation_of_matrix(bytes(matrix), str(self.path))

    def _describe(self, container: InputContainer, frame: VideoFrame) -> VideoInfo:
        stream, swap = self._stream, self._orientation.swaps_sides
        self._check_format(frame.format)
        check_matrix(frame.format.name, frame.colorspace)
        if frame.interlaced_frame:
            self.note("The video is interlaced; its frames were used as they are, without deinterlacing.")
        if container.streams.subtitles:
            self.note("Subtitles were dropped.")
        time_base = stream.time_base
        if time_base is None or time_base <= 0:
            raise InputError(f"{self.path} has no time base, so its frames cannot be placed in time")
        aspect = stream.sample_aspect_ratio or Fraction(1)
        aspect = aspect if aspect > 0 else Fraction(1)
        return VideoInfo(
            width=frame.height if swap else frame.width,
            height=frame.width if swap else frame.height,
            frame_rate=stream.average_rate or stream.guessed_rate or None,
            time_base=time_base,
            duration_seconds=self._promised_seconds(container),
            frame_count=self._promised_frames() or None,
            sample_aspect_ratio=1 / aspect if swap else aspect,
            rotation_degrees=90 * self._orientation.quarter_turns,
            bit_depth=max(component.bits for component in frame.format.components),
            pixel_format=frame.format.name,
            color_space=frame.colorspace,
            color_range=2 if is_full_range(frame.format.name, frame.color_range) else frame.color_range,
            color_primaries=frame.color_primaries,
            color_trc=frame.color_trc,
            audio=tuple(_describe_audio(s) for s in container.streams.audio),
            container=container.format.name,
            codec=stream.codec_context.name,
        )

    def _promised_frames(self) -> int:
        if self._indexed:
            entries = self._stream.index_entries
            return sum(not entry.is_discard for entry in entries)
        return self._stream.frames or self._structure.frames or 0

    def _promised_seconds(self, container: InputContainer) -> float | None:
        stream = self._stream
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        tagged = _parse_clock(stream.metadata.get("DURATION", ""))
        if tagged is not None:
            return tagged
        return None if container.duration is None else container.duration / 1_000_000

    # ------------------------------------------------------------------ decoding

    def __iter__(self) -> Iterator[Frame]:
        if self._started:
            raise RuntimeError("a Source can be iterated once: open it again")
        self._started = True
        index = 0
        while True:
            decoded, self._first = self._first or next(self._decoded, None), None
            if decoded is None:
                break
            yield self._finish(decoded, index)
            index += 1
        self._check_complete(index)

    def _decode(self, container: InputContainer) -> Iterator[VideoFrame]:
        """Decoded frames in presentation order; counts packets and errors on the way."""
        import av

        packets = container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError) as error:
                self._truncated(f"reading stopped with: {_reason(error)}")
                packet = None
            if packet is None:
                break
            if packet.size == 0:
                # AVI repeats a picture by an empty chunk; passed on, it would end the decoding
                self._packets += packet.dts is not None
                continue
            self._packets += 1
            if packet.is_corrupt:
                self._bad_packets += 1
                self._truncated(f"the data of frame {self._packets - 1} are incomplete")
                continue
            yield from self._decode_packet(packet)
        yield from self._decode_packet(None)

    def _decode_packet(self, packet: Packet[Any] | None) -> list[VideoFrame]:
        import av

        try:
            frames = self._stream.codec_context.decode(packet)
        except EOFError:
            return []
        except (av.FFmpegError, OSError, ValueError) as error:
            self._decode_errors += 1
            if self._allow_truncated:
                return []
            raise InputError(
                f"{self.path} is damaged: the data of frame {self._packets - 1} cannot be decoded "
                f"({_reason(error)}); {_HINT_ALLOW}"
            ) from error
        return [frame for frame in frames if not self._is_damaged(frame)]

    def _is_damaged(self, frame: VideoFrame) -> bool:
        if not frame.is_corrupt:
            return False
        self._decode_errors += 1
        if self._allow_truncated:
            return True
        raise InputError(
            f"{self.path} is damaged: a frame near number {self._packets - 1} was decoded with errors; {_HINT_ALLOW}"
        )

    def _finish(self, decoded: VideoFrame, index: int) -> Frame:
        swap = self._orientation.swaps_sides
        size = (decoded.height, decoded.width) if swap else (decoded.width, decoded.height)
        if size != (self.info.width, self.info.height):
            raise InputError(
                f"{self.path} changes its size at frame {index} from {self.info.width}x{self.info.height} to "
                f"{size[0]}x{size[1]}: cut it into parts of one size first"
            )
        image, transparent = self._to_rgb(decoded)
        if transparent:
            self.note("The alpha channel was dropped; transparent parts were laid over white.")
        duration = getattr(decoded, "duration", None) or None
        pts = self._pts_of(decoded, index)
        if self._last_pts is not None:
            gap = pts - self._last_pts
            self._widest_gap = max(self._widest_gap, gap)
            self._narrowest_gap = min(self._narrowest_gap or gap, gap)
        self._last_pts, self._last_duration = pts, duration
        return Frame(index, self._orientation.apply(image), pts, self.info.time_base, duration)

    def _to_rgb(self, decoded: VideoFrame) -> tuple[Any, bool]:
        import av

        try:
            return to_rgb(decoded, self._reformatter)
        except (av.FFmpegError, ValueError) as error:
            raise UnsupportedInputError(
                f"{self.path} stores its pictures as {decoded.format.name}, which cannot be converted to RGB "
                f"({_reason(error)}): convert it to yuv420p first"
            ) from error

    def _pts_of(self, decoded: VideoFrame, index: int) -> int:
        """The frame's time; where the container gives none (AVI), one frame after the previous one."""
        pts = decoded.pts
        if pts is None:
            self.note("Some frames carry no time; they were placed one frame after the one before.")
            pts = 0 if self._last_pts is None else self._last_pts + self._frame_ticks(index)
        if self._last_pts is not None and pts <= self._last_pts:
            time = float(pts * self.info.time_base)
            before = float(self._last_pts * self.info.time_base)
            raise InputError(
                f"{self.path} goes back in time: frame {index} is at {time:.3f} s, the one before at "
                f"{before:.3f} s; times must rise: remux it first, for example with ffmpeg -i IN OUT"
            )
        return pts

    def _frame_ticks(self, index: int) -> int:
        if self.info.frame_rate is None:
            raise InputError(f"{self.path} gives no time for frame {index} and no frame rate either: convert it first")
        return max(1, round(1 / (self.info.frame_rate * self.info.time_base)))

    # ------------------------------------------------------------------ the end

    def _truncated(self, what: str) -> None:
        if not self._allow_truncated:
            raise TruncatedInputError(f"{self.path} was cut short: {what}; {_HINT_ALLOW}")
        self.note(f"The input was cut short ({what}); what is there was used.")

    def _check_complete(self, frames: int) -> None:
        if self._decode_errors:
            self.note(f"{self._decode_errors} damaged frames were left out.")
        promised, got = self._indexed, self._packets
        if self._structure.kind == "avi":
            promised = self._stream.frames
            # headers of some recorders are off by a frame or two although nothing is missing
            slack = 0 if self._structure.cut else max(2, promised // 50)
            if self._structure.cut and not promised:
                self._truncated(self._structure.cut)
            got += slack
        elif self._structure.kind == "gif":
            promised, got = self._structure.frames or 0, frames
        if got < promised:
            self._truncated(f"{promised} frames were promised and {self._packets} are there")
        if self._structure.kind == "matroska":
            self._check_time()

    def _check_time(self) -> None:
        """Matroska promises no frames but a duration: damage in the middle silently ends the reading."""
        promised = self.info.duration_seconds
        stated = "DURATION" in self._stream.metadata or not self.info.audio
        if promised is None or not stated or self._last_pts is None:
            return
        step = float(self.info.time_base)
        got = step * (self._last_pts + max(self._last_duration or 0, self._widest_gap))
        # With uneven times the last picture may well be held longer than any before it.
        even = self._widest_gap <= 3 * max(1, self._narrowest_gap or 1)
        slack = 0.25 if even else 1.0 + promised / 10
        if got + slack < promised:
            self._truncated(f"{promised:.2f} s were promised and {got:.2f} s are there")

    def close(self) -> None:
        """Let go of the file; allowed more than once."""
        if self._container is not None:
            self._container.close()
            self._container = None


def _describe_audio(stream: Any) -> AudioInfo:
    context = stream.codec_context
    if context is None:
        return AudioInfo(stream.index, "unknown", 0, 0)
    return AudioInfo(stream.index, context.name, context.channels, context.sample_rate)


def _parse_clock(text: str) -> float | None:
    """Seconds of Matroska's DURATION tag, HH:MM:SS.fraction; None if it is not one."""
    parts = text.split(":")
    try:
        hours, minutes, seconds = (float(part) for part in parts)
    except ValueError:
        return None
    return hours * 3600 + minutes * 60 + seconds
