"""Small clips for tests, made by PyAV: nothing binary is stored in the repository.

Every picture is a moving gradient with mild texture, four corners of different colours (so that a wrong
rotation shows) and its number written in blocks (so that a lost or repeated frame shows).

This file does not test anything.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

BLOCK = 8
BITS = 6
CORNERS = {"top left": (230, 40, 40), "top right": (40, 200, 40), "bottom left": (40, 60, 220)}
CODECS = {".webm": "libvpx-vp9", ".gif": "gif", ".avi": "mpeg4"}
AUDIO = {".webm": "libopus", ".avi": "libmp3lame"}


@functools.lru_cache(maxsize=8)
def _texture(width: int, height: int) -> NDArray[np.float32]:
    coarse = np.random.default_rng(7).normal(0, 10, (height // 4 + 2, width // 4 + 2))
    fine = np.kron(coarse, np.ones((4, 4)))[:height, :width]
    for axis in (0, 1):  # a small blur, so that the texture is that of a photograph
        fine = (np.roll(fine, 1, axis) + 2 * fine + np.roll(fine, -1, axis)) / 4
    return fine.astype(np.float32)


def picture(number: int, width: int = 96, height: int = 64) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 RGB; `number` 0 to 63 can be read back with `number_in`."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    texture = np.roll(_texture(width, height), number, 1)
    shade = 110 + 50 * np.sin((x + 3 * number) / 17) + 30 * np.cos(y / 13) + texture
    image = np.stack([shade, shade * 0.8 + 20, 200 - shade * 0.6], axis=2).clip(0, 255).astype(np.uint8)
    edge = min(BLOCK * 2, height // 4, width // 4)
    image[:edge, :edge] = CORNERS["top left"]
    image[:edge, -edge:] = CORNERS["top right"]
    image[-edge:, :edge] = CORNERS["bottom left"]
    if height >= 48 and width >= BLOCK * (BITS + 1):
        for bit in range(BITS):
            left, top = BLOCK // 2 + bit * BLOCK, height // 2 - BLOCK // 2
            image[top : top + BLOCK, left : left + BLOCK] = 235 if number >> bit & 1 else 20
    return image


def number_in(image: NDArray[np.uint8]) -> int:
    """The number that `picture` wrote, also after lossy coding; for upright pictures of its size."""
    top = image.shape[0] // 2 - BLOCK // 2
    cells = [image[top + 2 : top + 6, BLOCK // 2 + b * BLOCK + 2 :][:, :4].mean() > 128 for b in range(BITS)]
    return sum(int(on) << bit for bit, on in enumerate(cells))


def corner_colors(image: NDArray[np.uint8]) -> dict[str, str]:
    """Which of the three marked colours is nearest in each corner of `image`."""
    spots = {
        "top left": image[2:6, 2:6],
        "top right": image[2:6, -6:-2],
        "bottom left": image[-6:-2, 2:6],
        "bottom right": image[-6:-2, -6:-2],
    }
    found = {}
    for place, spot in spots.items():
        mean = spot.reshape(-1, 3).mean(axis=0)
        gaps = {name: float(np.abs(mean - np.array(color)).max()) for name, color in CORNERS.items()}
        best = min(gaps, key=lambda name: gaps[name])
        found[place] = best if gaps[best] < 40 else "none"
    return found


def make_clip(
    path: Path,
    *,
    size: tuple[int, int] = (96, 64),
    frames: int = 12,
    times: Sequence[float] | None = None,
    rate: Fraction = Fraction(25),
    time_base: Fraction | None = None,
    codec: str | None = None,
    pixel_format: str | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    rotation: int = 0,
    mirrored: bool = False,
    aspect: Fraction | None = None,
    color: tuple[int, int, int, int] | None = None,
    audio: Sequence[str] = (),
    audio_seconds: float | None = None,
    metadata: dict[str, str] | None = None,
    subtitles: bool = False,
    images: Sequence[NDArray[np.uint8]] | None = None,
) -> Path:
    """Write a clip to `path` and return it.

    `size` is (width, height) as stored; `times` (seconds) overrides `rate`; `color` is (matrix, range,
    primaries, transfer) in H.273 numbers; `rotation` (degrees counter-clockwise) goes into the display
    matrix; `audio` names one codec per audio stream; `images` replaces the pictures.
    """
    suffix = path.suffix.lower()
    if times is not None:
        frames = len(times)
    if images is not None:
        frames = len(images)
    codec = codec or CODECS.get(suffix, "libx264")
    pixel_format = pixel_format or ("bgr8" if codec == "gif" else "yuv420p")
    if time_base is None:
        time_base = Fraction(1, 100) if suffix == ".gif" else Fraction(1, 90000)
        if suffix == ".avi":
            time_base = 1 / rate
    with av.open(str(path), "w", container_options=container_options or {}) as output:
        output.metadata.update(metadata or {})
        stream = output.add_stream(codec, rate=rate, options=dict(options or _fast(codec)))
        stream.width, stream.height, stream.pix_fmt = *size, pixel_format
        context = stream.codec_context
        context.time_base = time_base
        if metadata:
            stream.metadata.update({"language": "deu", "handler_name": "camera of Alice"})
        if aspect is not None:
            context.sample_aspect_ratio = aspect
        if color is not None:
            context.colorspace, context.color_range, context.color_primaries, context.color_trc = color
        if rotation or mirrored:
            stream.set_display_rotation(rotation, hflip=mirrored)
        sounds = [_add_audio(output, name) for name in audio]
        texts = output.add_mux_stream("mov_text" if suffix in (".mp4", ".mov") else "subrip") if subtitles else None
        if frames:
            output.start_encoding()
        for index in range(frames):
            image = images[index] if images is not None else picture(index, *size)
            frame = _frame(image, pixel_format, color)
            seconds = times[index] if times is not None else float(index / rate)
            frame.pts, frame.time_base = round(seconds / float(time_base)), time_base
            output.mux(stream.encode(frame))
        if frames:
            output.mux(stream.encode(None))
        length = audio_seconds if audio_seconds is not None else max(frames, 5) / float(rate)
        for sound in sounds:
            _write_tone(output, sound, length)
        if texts is not None:
            packet = av.Packet(b"\0\5hello" if suffix in (".mp4", ".mov") else b"hello")
            packet.stream, packet.time_base = texts, Fraction(1, 1000)
            packet.pts = packet.dts = 0
            packet.duration = 100
            output.mux(packet)
    return path


def _fast(codec: str) -> dict[str, str]:
    if codec == "libx264":
        return {"preset": "ultrafast", "crf": "8", "bf": "2"}
    if codec == "libvpx-vp9":
        return {"deadline": "realtime", "cpu-used": "8", "crf": "10", "b": "0"}
    if codec == "mpeg4":
        return {"flags": "+qscale", "global_quality": "236"}
    return {}


def _frame(image: NDArray[np.uint8], pixel_format: str, color: tuple[int, int, int, int] | None) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    if color is None or not pixel_format.startswith("yuv"):
        return frame.reformat(format=pixel_format)
    space = {1: 1, 9: 9}.get(color[0], 5)
    return frame.reformat(format=pixel_format, dst_colorspace=space, dst_color_range=color[1] or 1)


def _add_audio(output: av.container.OutputContainer, codec: str) -> av.AudioStream:
    stream = output.add_stream(codec, rate=48000)
    assert isinstance(stream, av.AudioStream)
    stream.layout = "mono"
    return stream


def _write_tone(output: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    rate, step = 48000, 1024
    context = stream.codec_context
    context.open(strict=False)
    step = context.frame_size or step
    for start in range(0, max(step, int(seconds * rate)), step):
        tone = (8000 * np.sin(np.arange(start, start + step) * 0.05)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        for converted in _resampled(frame, context):
            output.mux(stream.encode(converted))
    output.mux(stream.encode(None))


def _resampled(frame: av.AudioFrame, context: av.AudioCodecContext) -> list[av.AudioFrame]:
    return av.AudioResampler(format=context.format, layout="mono", rate=48000).resample(frame)


def make_audio_only(path: Path) -> Path:
    """A file with a tone and no picture."""
    with av.open(str(path), "w") as output:
        _write_tone(output, _add_audio(output, AUDIO.get(path.suffix, "aac")), 0.5)
    return path


def make_folder(path: Path, *, frames: int = 5, size: tuple[int, int] = (96, 64), suffix: str = ".png") -> Path:
    """A folder of numbered pictures, `1.png` and on (not padded, so that sorting matters)."""
    from PIL import Image

    path.mkdir()
    for index in range(frames):
        Image.fromarray(picture(index, *size)).save(path / f"{index + 1}{suffix}")
    return path


def truncate(path: Path, fraction: float, target: Path | None = None) -> Path:
    """The first `fraction` of the bytes of `path`, written to `target` (default: beside it); its path."""
    target = target or path.with_name(f"cut_{path.name}")
    data = path.read_bytes()
    target.write_bytes(data[: max(1, int(len(data) * fraction))])
    return target


def packets_of(path: Path, kind: str = "audio") -> list[tuple[int, Fraction, bytes]]:
    """(stream number among its kind, time in seconds, bytes) of every packet of a kind, in file order."""
    with av.open(str(path)) as container:
        streams = list(getattr(container.streams, kind))
        order = {stream.index: place for place, stream in enumerate(streams)}
        return [
            (order[p.stream.index], p.pts * p.time_base, bytes(p))
            for p in (container.demux(*streams) if streams else ())
            if p.size and p.pts is not None
        ]


def psnr(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Peak signal to noise ratio in dB over all channels; 99 for equal pictures."""
    error = float(np.mean((first.astype(np.float32) - second.astype(np.float32)) ** 2))
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))
