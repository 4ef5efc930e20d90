"""The videos and pictures of a studio: those of the folder that was named, and uploads.

A clip has an id that this module gives; no path ever comes from the page.  What lies in the folder but leads out of it
(a link) is not there for the page.

Not here: what is done with frames (seeing), runs (jobs).
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from anonymotion import video
from anonymotion.errors import AnonymotionError, InputError, UnsupportedInputError

SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".gif", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".ogv")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
MOST_FILES = 500
DEEPEST = 4
FRAMES_IN_MEMORY = 16
FREE_BYTES = 1 << 30


class TooLargeError(InputError):
    """An upload is larger than allowed, or than there is room for."""


@dataclass
class Clip:
    """One video or picture; `name` is what people call it: its path within the folder, or that of the upload."""

    id: str
    name: str
    path: Path
    uploaded: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    _access: video.FrameAccess | None = field(default=None, repr=False)
    _frames: OrderedDict[int, video.Frame] = field(default_factory=OrderedDict, repr=False)

    @property
    def is_picture(self) -> bool:
        """Whether it is a single picture."""
        return self.path.suffix.lower() in PICTURES

    def access(self) -> video.FrameAccess:
        """Its frames by number; to be used under `lock`.  Raises InputError."""
        if self._access is None:
            self._access = video.open_frames(self.path)
        return self._access

    def frame(self, number: int) -> video.Frame:
        """Frame `number`; the last few are kept in memory.  Raises InputError."""
        with self.lock:
            if number not in self._frames:
                self._frames[number] = self.access().frame(number)
            self._frames.move_to_end(number)
            while len(self._frames) > FRAMES_IN_MEMORY:
                self._frames.popitem(last=False)
            return self._frames[number]

    def close(self) -> None:
        """Let go of the file and of its frames."""
        with self.lock:
            self._frames.clear()
            if self._access is not None:
                self._access.close()
                self._access = None


class Clips:
    """All clips of a session.

    root: a file or folder that the user named, or None.  uploads: the folder for uploads, which is private.
    limit: bytes that one upload may have.  Raises InputError if `root` is neither.
    """

    def __init__(self, root: Path | None, uploads: Path, limit: int) -> None:
        self.root, self._uploads, self.limit = root, uploads, limit
        self._known: dict[Path, Clip] = {}
        self._lock = threading.Lock()
        uploads.mkdir(mode=0o700, exist_ok=True)
        if root is not None and not root.exists():
            raise InputError(f"{root} does not exist: give a video, or a folder of videos")

    def all(self) -> list[Clip]:
        """Uploads first, then the folder in the order of names; looks again, so that new files appear."""
        with self._lock:
            present = dict(self._listed())
            for path, clip in list(self._known.items()):
                if not clip.uploaded and path not in present:
                    clip.close()
                    del self._known[path]
            for path, name in present.items():
                if path not in self._known:
                    self._known[path] = Clip(secrets.token_hex(6), name, path)
            return sorted(self._known.values(), key=lambda clip: (not clip.uploaded, clip.name.lower()))

    def get(self, clip_id: str) -> Clip | None:
        """The clip of that id; None if there is none, or no longer."""
        known = next((clip for clip in self._known.values() if clip.id == clip_id), None)
        known = known or next((clip for clip in self.all() if clip.id == clip_id), None)
        # it may have become a link since
        return known if known is not None and (known.uploaded or self._is_inside(known.path)) else None

    def _listed(self) -> list[tuple[Path, str]]:
        if self.root is None:
            return []
        if not self.root.is_dir():
            return [(self.root, self.root.name)]
        found: list[tuple[Path, str]] = []
        for folder, folders, files in os.walk(self.root):
            here = Path(folder)
            depth = len(here.relative_to(self.root).parts)
            folders[:] = sorted(n for n in folders if not n.startswith(".")) if depth < DEEPEST else []
            for name in sorted(files):
                path = here / name
                if not name.startswith(".") and path.suffix.lower() in SUFFIXES + PICTURES and self._is_inside(path):
                    found.append((path, path.relative_to(self.root).as_posix()))
                    if len(found) == MOST_FILES:
                        return found
        return found

    def _is_inside(self, path: Path) -> bool:
        """Whether a file really lies in the folder, behind any links."""
        if self.root is None or not self.root.is_dir():
            return path == self.root
        try:
            return path.resolve(strict=True).is_relative_to(self.root.resolve(strict=True)) and path.is_file()
        except OSError:
            return False

    async def upload(self, name: str, length: int | None, data: AsyncIterator[bytes]) -> Clip:
        """Take a file from the page.

        name: what its owner calls it, of which only the last part and the suffix count; length: bytes as announced.
        Raises UnsupportedInputError for another kind of file, TooLargeError, InputError if it cannot be read; then
        nothing of it is kept.
        """
        shown = _plain_name(name)
        suffix = Path(shown).suffix.lower()
        if suffix not in SUFFIXES + PICTURES:
            raise UnsupportedInputError(
                f"{shown!r} is not of a kind that is taken here: upload a video ({' '.join(SUFFIXES)}) or a picture"
            )
        self._check_size(shown, length or 0)
        clip_id = secrets.token_hex(6)
        path = self._uploads / f"{clip_id}{suffix}"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                async for part in data:
                    self._check_size(shown, stream.tell() + len(part))
                    stream.write(part)
            clip = Clip(clip_id, shown, path, uploaded=True)
            await asyncio.to_thread(_probe, clip)  # reads through the file: others are answered meanwhile
        except BaseException as error:
            path.unlink(missing_ok=True)
            if isinstance(error, AnonymotionError) and path.name in str(error):
                # our name for it means nothing to whoever sent it
                raise type(error)(str(error).replace(str(path), shown).replace(path.name, shown)) from error
            raise
        with self._lock:
            self._known[path] = clip
        return clip

    def _check_size(self, name: str, size: int) -> None:
        if size > self.limit:
            raise TooLargeError(
                f"{name} is larger than {self.limit / 1e6:.0f} MB: start the studio on its folder instead, or with a "
                "higher --upload-limit"
            )
        if shutil.disk_usage(self._uploads).free - size < FREE_BYTES:
            raise TooLargeError(f"there is no room on the disk for {name}: start the studio on its folder instead")

    def remove(self, clip: Clip) -> None:
        """Forget an upload and delete it."""
        with self._lock:
            self._known.pop(clip.path, None)
        clip.close()
        clip.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of every file."""
        for clip in self._known.values():
            clip.close()


def _probe(clip: Clip) -> None:
    """Raise InputError unless its first frame can be decoded."""
    with clip.lock:
        clip.access().frame(0)


def _plain_name(name: str) -> str:
    """The last part of a name, without anything but letters, digits and a few signs, and not too long."""
    last = re.split(r"[/\\]", name)[-1]
    plain = "".join(letter if letter.isalnum() or letter in " ._-()" else "_" for letter in last).strip(" .")
    stem, dot, suffix = plain.rpartition(".")
    return f"{stem[:80]}{dot}{suffix[:8]}" if dot else plain[:80]
