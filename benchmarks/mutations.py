"""Seeds and mutations for fuzz.py and its test: small files of every kind that is read, and ways to damage them.

Not here: what is done with them.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from synthetic import AUDIO, make_clip, picture

Mutation = Callable[[bytearray, random.Random], None]

EXTREMES = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFF0000, 0x00010000, 0x00004000)


def seeds(folder: Path) -> dict[str, bytes]:
    """Name (with suffix) and bytes of each seed; `folder` must exist."""
    made: dict[str, bytes] = {}
    kinds = {
        "plain.mp4": {},
        "faststart.mp4": {"container_options": {"movflags": "faststart"}, "rotation": 90, "subtitles": True},
        "fragmented.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}, "options": {"g": "3"}},
        "plain.mov": {"metadata": {"title": "x"}},
        "plain.mkv": {"subtitles": True},
        "lossless.mkv": {"codec": "ffv1", "options": {}},
        "plain.webm": {},
        "plain.avi": {},
        "plain.gif": {},
        "transport.ts": {"codec": "libx264"},
    }
    for name, options in kinds.items():
        suffix = Path(name).suffix
        sound = [] if suffix in (".gif", ".ts") else [AUDIO.get(suffix, "aac")]
        made[name] = make_clip(folder / name, frames=6, audio=sound, **options).read_bytes()  # type: ignore[arg-type]
    for suffix in (".png", ".jpg", ".bmp", ".webp", ".tif"):
        path = folder / f"picture{suffix}"
        Image.fromarray(picture(3)).save(path)
        made[path.name] = path.read_bytes()
    return made


def _place(data: bytearray, random: random.Random) -> int:
    """Half of the time near an end, where containers keep what they say about themselves."""
    if random.random() < 0.5:
        near = random.randrange(min(len(data), 600))
        return near if random.random() < 0.6 else len(data) - 1 - near
    return random.randrange(len(data))


def flip(data: bytearray, random: random.Random) -> None:
    """One byte becomes another."""
    data[_place(data, random)] = random.randrange(256)


def extreme(data: bytearray, random: random.Random) -> None:
    """Four bytes become a number at the end of its range."""
    at = _place(data, random)
    data[at : at + 4] = random.choice(EXTREMES).to_bytes(4, random.choice(("big", "little")))


def fill(data: bytearray, random: random.Random) -> None:
    """A stretch becomes zeros, ones or noise."""
    at, length = _place(data, random), random.choice((8, 64, 512))
    content = random.choice((bytes(length), b"\xff" * length, random.randbytes(length)))
    data[at : at + length] = content


def cut_out(data: bytearray, random: random.Random) -> None:
    """A stretch is missing."""
    at = _place(data, random)
    del data[at : at + random.choice((1, 3, 16, 300))]


def repeat(data: bytearray, random: random.Random) -> None:
    """A stretch is there twice, the second time somewhere else."""
    at, to = _place(data, random), _place(data, random)
    data[to:to] = data[at : at + random.choice((4, 40, 400))]


def truncate(data: bytearray, random: random.Random) -> None:
    """The end is missing."""
    del data[random.randrange(1, len(data)) :]


def append(data: bytearray, random: random.Random) -> None:
    """There is something behind the end."""
    data += random.choice((random.randbytes(200), bytes(data[:2000]), bytes(5000)))


MUTATIONS: tuple[Mutation, ...] = (flip, flip, flip, extreme, extreme, fill, cut_out, repeat, truncate, append)


def mutate(seed: bytes, random: random.Random) -> bytes:
    """One to six mutations of `seed`; never empty."""
    data = bytearray(seed)
    for _ in range(random.choice((1, 1, 2, 3, 6))):
        random.choice(MUTATIONS)(data, random)
        if len(data) < 16:
            data += bytes(16)
    return bytes(data)
