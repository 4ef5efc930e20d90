"""Single pictures and folders of numbered pictures, read and written with Pillow.

Pictures carry no time: frame k of a folder is shown at k / frame_rate seconds.

This file does not import av; GIFs, which do carry time, are read by `reader`.
"""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from anonymotion.errors import (
    InputError,
    OutputError,
    SettingsError,
    TruncatedInputError,
    UnsupportedInputError,
)
from anonymotion.target import HiddenFile, HiddenFolder, reason
from anonymotion.video.base import Sink, Source
from anonymotion.video.color import over_white
from anonymotion.video.info import Frame, Image, VideoInfo

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
"""What counts as a picture, in lower case."""

WRITTEN_PICTURES = (".png", ".jpg", ".jpeg")
"""The suffixes under which a single picture can be written."""

SMALLEST_SIDE = 16
_EXIF_ORIENTATION = 0x0112
_TURNS = {1: 0, 2: 0, 3: 180, 4: 180, 5: 90, 6: 270, 7: 270, 8: 90}


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key under which `2.png` comes before `10.png`."""
    return tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"(\d+)", name) if p)


class PictureSource(Source):
    """One picture, or the pictures of a folder in the order of their numbers; see `Source`.

    All pictures must have one size.  A picture that is cut raises TruncatedInputError, or is left out and
    noted with `allow_truncated`.
    """

    def __init__(self, path: Path, *, frame_rate: Fraction = Fraction(25), allow_truncated: bool = False) -> None:
        super().__init__()
        self.path = path
        self._allow_truncated = allow_truncated
        self._files = self._list(path) if path.is_dir() else [path]
        self._started = False
        if frame_rate <= 0:
            raise InputError(f"a frame rate of {frame_rate} was asked for: it must be above 0")
        first, rotation, codec = self._measure(self._files[0])
        self.info = VideoInfo(
            width=first[0],
            height=first[1],
            frame_rate=frame_rate,
            time_base=1 / frame_rate,
            duration_seconds=float(len(self._files) / frame_rate),
            frame_count=len(self._files),
            rotation_degrees=rotation,
            codec=codec,
            is_still=not path.is_dir(),
        )

    def _list(self, folder: Path) -> list[Path]:
        try:
            entries = [p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")]
        except OSError as error:
            raise InputError(f"{folder} cannot be read ({error.strerror}): check its permissions") from error
        files = [p for p in entries if p.suffix.lower() in PICTURE_SUFFIXES]
        if not files:
            raise InputError(f"{folder} holds no pictures: expected files named *{', *'.join(PICTURE_SUFFIXES)}")
        if len(files) < len(entries):
            self.note(f"{len(entries) - len(files)} files of the folder are no pictures and were ignored.")
        files.sort(key=lambda p: natural_key(p.name))
        self._note_gaps(files)
        return files

    def _note_gaps(self, files: list[Path]) -> None:
        numbers = [re.findall(r"\d+", p.stem) for p in files]
        if len(files) < 2 or not all(numbers):
            return
        last = sorted({int(found[-1]) for found in numbers})
        missing = last[-1] - last[0] + 1 - len(last)
        if missing:
            self.note(f"{missing} numbers are missing between the first and the last picture.")

    def _measure(self, file: Path) -> tuple[tuple[int, int], int, str]:
        """(width, height) upright, rotation in degrees and format of a picture, without decoding it."""
        from PIL import Image as Pillow

        with _reading(file), Pillow.open(file) as picture:
            self._refuse(file, picture)
            orientation = int(picture.getexif().get(_EXIF_ORIENTATION, 1))
            width, height = picture.size
            codec = (picture.format or "").lower()
        size = (height, width) if orientation in (5, 6, 7, 8) else (width, height)
        return size, _TURNS.get(orientation, 0), codec

    def _refuse(self, file: Path, picture: Picture) -> None:
        raw_modes = " ".join(str(tile[3]) for tile in getattr(picture, "tile", []))
        if picture.mode.startswith(("I", "F")) or "16" in raw_modes:
            raise UnsupportedInputError(
                f"{file} has more than 8 bits per channel; 8 are supported: convert it to 8 bits first"
            )
        if getattr(picture, "n_frames", 1) > 1:
            raise UnsupportedInputError(
                f"{file} holds {getattr(picture, 'n_frames', 1)} pictures; one is expected: convert it to "
                "mp4 or GIF first"
            )
        if min(picture.size) < SMALLEST_SIDE:
            raise UnsupportedInputError(
                f"{file} is {picture.width}x{picture.height} pixels; both sides must be at least {SMALLEST_SIDE}"
            )

    def _read(self, file: Path) -> Image:
        """The upright picture, (H, W, 3) uint8 RGB."""
        from PIL import Image as Pillow
        from PIL import ImageOps

        with _reading(file), Pillow.open(file) as picture:
            self._refuse(file, picture)
            upright = ImageOps.exif_transpose(picture)
            if "A" not in upright.getbands() and "transparency" not in upright.info:
                return np.array(upright.convert("RGB"), dtype=np.uint8)
            rgba = np.array(upright.convert("RGBA"), dtype=np.uint8)
        if bool((rgba[:, :, 3] < 255).any()):
            self.note("The alpha channel was dropped; transparent parts were laid over white.")
        return over_white(rgba)

    def __iter__(self) -> Iterator[Frame]:
        if self._started:
            raise RuntimeError("a Source can be iterated once: open it again")
        self._started = True
        index = 0
        for place, file in enumerate(self._files):
            try:
                image = self._read(file)
            except TruncatedInputError:
                if not self._allow_truncated:
                    raise
                self.note(f"{file.name} is cut and was left out.")
                continue
            size = (image.shape[1], image.shape[0])
            if size != (self.info.width, self.info.height):
                raise InputError(
                    f"{file} is {size[0]}x{size[1]} pixels and {self._files[0].name} is "
                    f"{self.info.width}x{self.info.height}: all pictures of a folder must have one size"
                )
            yield Frame(index, image, place, self.info.time_base, 1)
            index += 1
        if index == 0:
            raise InputError(f"{self.path} holds no picture that can be read")

    def close(self) -> None:
        """Nothing is held open between pictures."""


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Turn all that Pillow raises of a damaged picture into InputError; what it warns of is no news to a user."""
    from PIL import Image as Pillow

    # its readers take numbers from the file and use them, so that damage shows as almost any error
    damaged = (OSError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, struct.error)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (*damaged, RuntimeError, Pillow.DecompressionBombError) as error:
            raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> InputError:
    text = str(error)
    if any(word in text for word in ("truncated", "broken", "Truncated", "not enough", "unrecognized data")):
        return TruncatedInputError(f"{file} is cut: its picture data end early; copy it again or remove it")
    if "cannot identify" in text:
        text = "it is no picture of a known kind"
    return InputError(f"{file} cannot be read as a picture ({text}): replace or remove it")


class _HiddenSink(Sink):
    """What both sinks of pictures do with their hidden target."""

    _target: HiddenFile | HiddenFolder

    def finish(self) -> Path:
        """See `Sink.finish`."""
        return self._target.finish()

    def commit(self) -> None:
        """See `Sink.commit`."""
        check_not_empty(self)
        self._target.commit()

    def retract(self) -> None:
        """See `Sink.retract`."""
        self._target.retract()

    def discard(self) -> None:
        """See `Sink.discard`."""
        self._target.discard()


class FolderSink(_HiddenSink):
    """Numbered PNG pictures, `000000.png` and on, in a folder that appears on `commit`; see `Sink`."""

    def __init__(self, path: Path, info: VideoInfo, *, force: bool) -> None:
        super().__init__()
        self.path = path
        self._info = info
        self._target = HiddenFolder(path, force=force)
        if not info.is_still and info.container != "pictures":
            self.note("A folder of pictures keeps no times; the frame rate must be given when it is read.")

    def write(self, image: Image, frame: Frame) -> None:
        """Write one PNG; see `Sink.write`."""
        check_image(image, self._info)
        file = self._target.partial / f"{self.frames_written:06d}.png"
        with _explained(self.path):
            _save(image, file, "PNG", compress_level=3)
        self.frames_written += 1


class PictureSink(_HiddenSink):
    """A single picture, PNG or JPEG by its suffix; see `Sink`."""

    def __init__(self, path: Path, info: VideoInfo, *, quality: int | None, force: bool) -> None:
        super().__init__()
        if not info.is_still:
            raise OutputError(
                f"{path} is a single picture and the input is a video: give a video suffix such as .mp4, or a "
                "path without suffix for a folder of pictures"
            )
        if quality is not None and not 1 <= quality <= 100:
            raise SettingsError(f"quality {quality} for a picture: expected 1 (smallest file) to 100 (best)")
        self.path = path
        self._info = info
        self._quality = 97 if quality is None else quality
        self._target = HiddenFile(path, force=force)

    def write(self, image: Image, frame: Frame) -> None:
        """Write the picture; a second one is refused.  See `Sink.write`."""
        check_image(image, self._info)
        if self.frames_written:
            raise OutputError(f"{self.path} can hold one picture and a second one came: give a folder instead")
        with _explained(self.path):
            if self.path.suffix.lower() == ".png":
                _save(image, self._target.partial, "PNG")
            else:
                _save(image, self._target.partial, "JPEG", quality=self._quality, subsampling=0)
        if self.path.suffix.lower() != ".png":
            self.note("JPEG is lossy; use .png to keep every pixel.")
        self.frames_written += 1


def read_back(path: Path) -> Iterator[Image]:
    """The pictures that a sink wrote to `path`, a file or a folder, in their order.  Raises InputError."""
    from PIL import Image as Pillow

    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        with _reading(file), Pillow.open(file) as picture:
            image = np.array(picture.convert("RGB"), dtype=np.uint8)
        yield image


def check_image(image: Image, info: VideoInfo) -> None:
    """Raise OutputError unless `image` is (H, W, 3) uint8 of the announced size."""
    expected = (info.height, info.width, 3)
    if image.shape != expected or image.dtype != np.uint8:
        raise OutputError(f"a picture of shape {image.shape} {image.dtype} came; expected {expected} uint8")


def check_not_empty(sink: Sink) -> None:
    """Raise OutputError, leaving nothing, if not one picture was written."""
    if not sink.frames_written:
        sink.discard()
        raise OutputError(f"no picture was written to {sink.path}, so it was not made")


def _save(image: Image, path: Path, kind: str, **options: int) -> None:
    from PIL import Image as Pillow

    with path.open("wb") as file:
        Pillow.fromarray(np.ascontiguousarray(image)).save(file, kind, **options)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn errors of the system into OutputError about `path`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {reason(error)}") from error
