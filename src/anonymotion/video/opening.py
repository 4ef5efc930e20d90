"""Choosing what reads or writes a path: the three functions that the rest of the package calls.

This file does not read or write by itself.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Literal

from anonymotion.errors import SettingsError
from anonymotion.video.base import Sink, Source
from anonymotion.video.info import VideoInfo

AudioChoice = Literal["copy", "drop"]


def open_source(path: str | Path, *, frame_rate: Fraction = Fraction(25), allow_truncated: bool = False) -> Source:
    """Open a video, a GIF, a picture or a folder of numbered pictures.

    `frame_rate` (pictures per second) is used for pictures only.  With `allow_truncated`, a file that was
    cut or is damaged is read as far as it goes, and `Source.notes` says so.  Raises InputError and its
    children; the message says what to do.
    """
    from anonymotion.video.checks import check_readable_file
    from anonymotion.video.pictures import PICTURE_SUFFIXES, PictureSource
    from anonymotion.video.reader import ContainerSource

    path = Path(path)
    if path.is_dir():
        return PictureSource(path, frame_rate=frame_rate, allow_truncated=allow_truncated)
    check_readable_file(path)
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return PictureSource(path, frame_rate=frame_rate, allow_truncated=allow_truncated)
    return ContainerSource(path, allow_truncated=allow_truncated)


def probe(path: str | Path) -> VideoInfo:
    """What `path` promises, after decoding one frame; a cut file is described as far as it can be.

    Raises InputError and its children.
    """
    with open_source(path, allow_truncated=True) as source:
        return source.info


def open_sink(
    path: str | Path,
    info: VideoInfo,
    *,
    source: str | Path | None,
    audio: AudioChoice = "copy",
    quality: int | None = None,
    force: bool = False,
) -> Sink:
    """Open the output for a video described by `info`; the suffix of `path` says which kind.

    No suffix, or an existing folder, means a folder of PNG pictures.  `source` is the input file, whose
    audio is copied unless `audio` is "drop" or the kind cannot hold any (then `notes` says so); None means
    that there is no audio.  `quality`: see
    `encoders`; None means the default.  `force` allows overwriting.  Raises OutputError and
    SettingsError before anything is written; the source is never overwritten.
    """
    from anonymotion.target import check_target
    from anonymotion.video.encoders import format_of
    from anonymotion.video.pictures import WRITTEN_PICTURES, FolderSink, PictureSink
    from anonymotion.video.writer import ContainerSink

    path = Path(path)
    source = None if source is None else Path(source)
    if audio not in ("copy", "drop"):
        raise SettingsError(f"audio {audio!r}: expected 'copy' or 'drop'")
    as_folder = path.is_dir() or not path.suffix
    as_picture = not as_folder and path.suffix.lower() in WRITTEN_PICTURES
    kind = None if as_folder or as_picture else format_of(path)
    check_target(path, source, force=force)
    wanted = audio == "copy" and bool(info.audio) and source is not None
    copies = wanted and kind is not None and kind.holds_audio
    sink: Sink
    if kind is not None:
        sink = ContainerSink(path, info, kind, audio_source=source if copies else None, quality=quality, force=force)
    elif as_folder:
        sink = FolderSink(path, info, force=force)
    else:
        sink = PictureSink(path, info, quality=quality, force=force)
    sink.keeps_audio = copies
    if wanted and not copies:
        sink.note(f"The audio was left out: {'pictures' if kind is None else path.suffix} cannot hold any.")
    return sink
