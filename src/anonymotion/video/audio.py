"""Copying audio packets unchanged, in step with the video.

The input is opened a second time and only its audio is read, one packet ahead, so memory does not grow.

This file does not decode or encode audio.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anonymotion.errors import InputError, OutputError
from anonymotion.video.digests import AudioDigest, digest_of
from anonymotion.video.encoders import Format
from anonymotion.video.reader import open_container

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet


class AudioCopy:
    """All audio streams of `source`, to be copied into `output`.

    Raises OutputError at once if the container cannot hold one of them.
    """

    def __init__(self, source: Path, output: OutputContainer, kind: Format, target: Path) -> None:
        self._source = source
        self._container = open_container(source)
        self._streams: dict[int, Any] = {}
        self.digests: dict[int, AudioDigest] = {}
        try:
            templates: list[Any] = list(self._container.streams.audio)
            for template in templates:
                check_container_holds(kind, template, target)
            for template in templates:
                self._streams[template.index] = output.add_stream_from_template(template)
                self.digests[template.index] = digest_of(template)
                self._drop_comments(template)
            self._skip_other_streams()
        except BaseException:
            self.close()
            raise
        self._packets = self._read(templates)
        self._next: Packet[Any] | None = next(self._packets, None)

    def _drop_comments(self, template: Any) -> None:
        """Vorbis keeps title, artist and the like among the headers of the sound itself."""
        context = self._streams[template.index].codec_context
        if template.codec_context is not None and template.codec_context.name == "vorbis":
            context.extradata = without_comments(bytes(template.codec_context.extradata or b""))

    def _skip_other_streams(self) -> None:
        """Spare reading the pictures a second time, where av can."""
        import av.stream

        discard = getattr(av.stream, "Discard", None)
        for stream in self._container.streams:
            if discard is not None and stream.index not in self._streams:
                stream.discard = discard["all"]

    def _read(self, streams: list[Any]) -> Iterator[Packet[Any]]:
        import av

        packets = self._container.demux(*streams) if streams else iter(())
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError) as error:
                raise InputError(f"the audio of {self._source} cannot be read: {error}") from error
            if packet is None:
                return
            # demux ends with one empty packet per stream; a cut packet is no audio any more
            if packet.size and not packet.is_corrupt:
                yield packet

    def until(self, seconds: Fraction | None) -> Iterator[Packet[Any]]:
        """The packets that are decoded no later than `seconds` (None: all the rest), ready to be muxed."""
        while self._next is not None:
            packet = self._next
            stamp = packet.dts if packet.dts is not None else packet.pts
            if seconds is not None and stamp is not None and stamp * packet.time_base > seconds:
                return
            self.digests[packet.stream.index].add(bytes(packet))
            packet.stream = self._streams[packet.stream.index]
            yield packet
            self._next = next(self._packets, None)

    def close(self) -> None:
        """Let go of the input; allowed more than once."""
        self._container.close()


def without_comments(headers: bytes) -> bytes:
    """The three headers of Vorbis, laced as in Matroska, with an empty comment header.  Raises OutputError."""
    sizes: list[int] = []
    at = 1
    while headers[:1] == b"\x02" and len(sizes) < 2 and at < len(headers):
        size = 0
        while at < len(headers) and headers[at] == 255:
            size, at = size + 255, at + 1
        sizes.append(size + (headers[at] if at < len(headers) else 0))
        at += 1
    first, second = (headers[at : at + sizes[0]], headers[at + sizes[0] :]) if len(sizes) == 2 else (b"", b"")
    setup = second[sizes[1] :] if len(sizes) == 2 else b""
    if not (first.startswith(b"\x01vorbis") and second.startswith(b"\x03vorbis") and setup.startswith(b"\x05vorbis")):
        raise OutputError("the Vorbis headers of the input cannot be read, and may hold names: use --audio drop")
    comment = b"\x03vorbis" + bytes(8) + b"\x01"  # no vendor, no comments
    return bytes([2, len(first), len(comment)]) + first + comment + setup


def check_container_holds(kind: Format, stream: Any, target: Path) -> None:
    """Raise OutputError unless a `kind` of container takes the codec of `stream`: tried in memory."""
    import av

    codec = stream.codec_context.name if stream.codec_context is not None else "an unknown codec"
    trial = av.open(io.BytesIO(), "w", format=kind.container)
    try:
        trial.add_stream_from_template(stream)
        trial.start_encoding()
    except (av.FFmpegError, ValueError) as error:
        raise OutputError(
            f"{target.suffix} cannot hold the audio of the input ({codec}): leave it out (--audio drop) or "
            "choose another suffix, such as .mkv"
        ) from error
    finally:
        trial.close()
