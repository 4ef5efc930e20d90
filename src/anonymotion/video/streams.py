"""What a written container may hold: one video stream, the audio that was copied, and nothing else.

Not here: pictures (verify), how audio is copied (audio).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from anonymotion.errors import OutputError
from anonymotion.video.base import Sink
from anonymotion.video.digests import digest_of
from anonymotion.video.info import VideoInfo
from anonymotion.video.reader import open_container

if TYPE_CHECKING:
    from av.container import InputContainer

# What muxers write by themselves, the same in every file; values of other keys, or other values, come from outside.
_CONTAINER_TAGS = {"major_brand", "minor_version", "compatible_brands"}
_STREAM_TAGS = {
    "language": {"und"},
    "handler_name": {"VideoHandler", "SoundHandler"},
    "vendor_id": {"FFMP", "[0][0][0][0]"},
}


def check_streams(path: Path, sink: Sink, info: VideoInfo) -> None:
    """Raise OutputError unless the container at `path` holds what `sink` meant to write, and nothing about anybody."""
    with open_container(path) as container:
        kinds = [stream.type for stream in container.streams]
        expected = ["video", *("audio" for _ in sink.audio)]
        if kinds != expected:
            raise _failed(sink, f"it holds the streams {kinds} instead of {expected}")
        _check_tags(container, sink)
        _check_shape(container, sink, info)
        if sink.audio:
            _check_audio(container, sink)


def _check_tags(container: InputContainer, sink: Sink) -> None:
    for key, value in container.metadata.items():
        if key not in _CONTAINER_TAGS and (key.lower(), value) != ("encoder", "Lavf"):
            raise _failed(sink, f"it holds the tag {key}")
    for stream in container.streams:
        for key, value in stream.metadata.items():
            if value not in _STREAM_TAGS.get(key, ()) and key != "DURATION":
                raise _failed(sink, f"a stream of it holds the tag {key}")
    if container.chapters():
        raise _failed(sink, "it holds chapters")


def _check_shape(container: InputContainer, sink: Sink, info: VideoInfo) -> None:
    stream = container.streams.video[0]
    size, shape = (stream.width, stream.height), stream.sample_aspect_ratio or 1
    if size != (info.width, info.height):
        raise _failed(sink, f"it is {size[0]}x{size[1]} pixels instead of {info.width}x{info.height}")
    if shape != info.sample_aspect_ratio:
        raise _failed(sink, f"its pixels are {shape} instead of {info.sample_aspect_ratio}")


def _check_audio(container: InputContainer, sink: Sink) -> None:
    streams: list[Any] = list(container.streams.audio)
    arrived = {stream.index: digest_of(stream) for stream in streams}
    for packet in container.demux(*streams):
        if packet.size:
            arrived[packet.stream.index].add(bytes(packet))
    for number, (copied, found) in enumerate(zip(sink.audio, arrived.values(), strict=True)):
        if not copied.same_as(found):
            raise _failed(
                sink,
                f"its audio stream {number} ({copied.packets} packets) is not what was copied ({found.packets}); "
                "try .mkv, or --audio drop",
            )


def _failed(sink: Sink, what: str) -> OutputError:
    return OutputError(f"{sink.path} failed its check after writing, so it was not made: {what}")
