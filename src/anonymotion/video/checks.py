"""Whether a file can be read at all, and whether it was cut: told from its structure, without av.

Each container says in its own way how long it is: MP4 boxes, EBML elements, RIFF chunks and GIF blocks
all carry their sizes, so a cut file is recognised before a frame is decoded.

This file does not count frames: what was promised and what arrived is compared in `reader`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from anonymotion.errors import InputError

_MATTERING_BOXES = (b"moov", b"mdat", b"moof")


@dataclass(frozen=True)
class Structure:
    """What a file's own structure says.

    `kind`: "mp4", "matroska", "avi", "gif" or "" if it is none of them.  `cut`: what shows that bytes are
    missing at the end, or None.  `open_ended`: the container does not state its size, so a cut cannot be
    seen.  `frames`: pictures counted on the way (GIF only), else None.
    """

    kind: str = ""
    cut: str | None = None
    open_ended: bool = False
    frames: int | None = None


def check_readable_file(path: Path) -> None:
    """Raise InputError unless `path` is a regular file that is not empty and may be read."""
    if not path.exists():
        raise InputError(f"{path} does not exist: check the spelling of the path")
    if not path.is_file():
        raise InputError(f"{path} is neither a regular file nor a folder: give a video file")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    if empty:
        raise InputError(f"{path} is empty (0 bytes): copy or download it again")


def structure_of(path: Path) -> Structure:
    """Walk the top level of `path`; memory and time do not depend on its length, except for a GIF."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        file.seek(0)
        if head[:6] in (b"GIF87a", b"GIF89a"):
            return _walk_gif(file)
        if head[:4] == b"\x1a\x45\xdf\xa3":
            return _walk_matroska(file, size)
        if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            return _walk_avi(file, size)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp"):
            return _walk_mp4(file, size)
    return Structure()


def _missing(part: str, count: int) -> str:
    return f"{count} bytes of its {part} are missing at the end"


def _walk_mp4(file: BinaryIO, size: int) -> Structure:
    position, seen = 0, set()
    fragmented = False
    while position + 8 <= size:
        file.seek(position)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        elif length == 0:
            length = size - position  # "to the end of the file"
        if length < 8 or not all(32 <= byte < 127 or byte == 0xA9 for byte in kind):
            break  # junk behind the last box: players ignore it, and so do we
        seen.add(kind)
        fragmented |= kind == b"moof"
        if position + length > size and kind in _MATTERING_BOXES:
            what = "index" if kind == b"moov" else "picture data"
            return Structure("mp4", _missing(what, position + length - size))
        position += length
    if b"moov" not in seen:
        return Structure("mp4", "its index (the moov box) is missing")
    return Structure("mp4", open_ended=fragmented)


def _read_vint(file: BinaryIO, keep_marker: bool) -> int | None:
    """An EBML number; None if it is `unknown` (all ones), cut or malformed."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    extra = 8 - first[0].bit_length()
    value = first[0] if keep_marker else first[0] & ((1 << (7 - extra)) - 1)
    rest = file.read(extra)
    if len(rest) < extra:
        return None
    value = (value << (8 * extra)) | int.from_bytes(rest, "big")
    return None if not keep_marker and value == (1 << (7 * (extra + 1))) - 1 else value


def _walk_matroska(file: BinaryIO, size: int) -> Structure:
    while file.tell() < size:
        kind = _read_vint(file, keep_marker=True)
        length = _read_vint(file, keep_marker=False)
        if kind is None:
            break
        if length is None:
            return Structure("matroska", open_ended=True)
        end = file.tell() + length
        if end > size:
            return Structure("matroska", _missing("segment", end - size))
        if kind == 0x18538067:  # Segment: all the rest
            return Structure("matroska")
        file.seek(end)
    return Structure("matroska", "it ends before its segment begins")


def _walk_avi(file: BinaryIO, size: int) -> Structure:
    position = 0
    while position + 12 <= size:
        file.seek(position)
        head = file.read(12)
        if head[:4] != b"RIFF":
            break
        length = 8 + int.from_bytes(head[4:8], "little")
        # some writers count the 8 bytes of the header twice, so a few bytes do not prove a cut
        if position + length > size + 16:
            return Structure("avi", _missing("chunks", position + length - size))
        position += length + length % 2
    return Structure("avi")


def _walk_gif(file: BinaryIO) -> Structure:
    cut = Structure("gif", "its closing byte is missing")
    head = file.read(13)
    if len(head) < 13:
        return cut
    _skip_color_table(file, head[10])
    frames = 0
    size = os.fstat(file.fileno()).st_size
    while file.tell() < size:
        kind = file.read(1)
        if kind == b"\x3b":
            return Structure("gif", frames=frames)
        if kind == b"\x21":
            file.read(1)
        elif kind == b"\x2c":
            descriptor = file.read(9)
            if len(descriptor) < 9:
                return cut
            _skip_color_table(file, descriptor[8])
            file.read(1)
            frames += 1
        elif kind != b"\x00":  # stray zero bytes between blocks are harmless
            return Structure("gif", "its blocks end in bytes that are no GIF", frames=frames)
        if kind in (b"\x21", b"\x2c"):
            _skip_sub_blocks(file)
    return Structure("gif", cut.cut, frames=frames)


def _skip_color_table(file: BinaryIO, flags: int) -> None:
    if flags & 0x80:
        file.seek(3 << ((flags & 7) + 1), 1)


def _skip_sub_blocks(file: BinaryIO) -> None:
    while (length := file.read(1)) and length[0]:
        file.seek(length[0], 1)
