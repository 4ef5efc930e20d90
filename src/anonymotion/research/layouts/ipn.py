"""IPN Hand: 200 videos of 50 people; 13 gestures and what is none (D0X), each a span of a video; gender per video.

    annotations/Annot_TrainList.txt, Annot_TestList.txt   rows video,label,id,t_start,t_end,frames; frames from 1
    annotations/metadata.csv                              a row per video, with its sex
    frames/<video>/<video>_000001.jpg  or  videos/<video>.avi

The lists may also lie in the root itself.  Gestures are clips of the task `action`; whole videos, without an action,
those of `gender`, which is scored once per video.

    paper    the official parts, people disjoint, without D0X: 13 classes.  Of the training people every eighth of each
             gender validates.
    release  the same with D0X, as the published code: 14 classes; nothing validates.

Not here: pixels (clips), other data sets.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from anonymotion.errors import DatasetError
from anonymotion.research.datasets import ACTION, Clip, Dataset, Split
from anonymotion.research.layouts.tables import read_text

GENDER = "gender"
NO_GESTURE = "D0X"
VIDEOS = 200
_HINT = "it is one of the annotations of IPN Hand"
_EVERY = 8


def read(root: Path) -> Dataset:
    """The data set at `root`.  Raises DatasetError."""
    lists = root / "annotations" if (root / "annotations").is_dir() else root
    gender = _genders(lists / "metadata.csv")
    parts = {part: _segments(lists / f"Annot_{name}List.txt") for part, name in (("train", "Train"), ("test", "Test"))}
    gestures: dict[str, list[Clip]] = {}
    whole: dict[str, list[Clip]] = {}
    for part, segments in parts.items():
        names = dict.fromkeys(video for video, *_ in segments)
        unknown = [video for video in names if video not in gender]
        if unknown:
            raise DatasetError(f"{lists / 'metadata.csv'} has no row of {unknown[0]}: {_HINT}")
        labels = {video: {GENDER: gender[video]} for video in names}
        whole[part] = [
            Clip(_safe(video), _path(root, video), 0, None, "", labels[video], _safe(video)) for video in names
        ]
        gestures[part] = [
            Clip(
                f"{_safe(video)}_{start:06d}",
                _path(root, video),
                start - 1,
                end,
                label,
                labels[video],
                _safe(video),
            )
            for video, label, start, end in segments
        ]
    validating = _validating(whole["train"])
    splits = (
        _split("paper", ACTION, {part: _without_d0x(clips) for part, clips in gestures.items()}, validating),
        _split("paper", GENDER, whole, validating),
        _split("release", ACTION, gestures, set()),
        _split("release", GENDER, whole, set()),
    )
    count = sum(map(len, whole.values()))
    notes = () if count == VIDEOS else (f"{count} videos; the published set has {VIDEOS}",)
    clips = (*gestures["train"], *gestures["test"], *whole["train"], *whole["test"])
    return Dataset("ipn", root, clips, splits, notes)


def _segments(path: Path) -> list[tuple[str, str, int, int]]:
    """(video, label, first and last frame from 1) of a list, with or without a header."""
    found = []
    for number, row in enumerate(csv.reader(read_text(path, hint=_HINT).splitlines()), 1):
        if not row or (number == 1 and row[0].strip().lower() == "video"):
            continue
        try:
            video, label, _, start, end = (value.strip() for value in row[:5])
            span = int(start), int(end)
        except ValueError as error:
            raise DatasetError(f"{path}, line {number}: video,label,id,t_start,t_end,frames was expected") from error
        if span[1] < span[0] or span[0] < 1:
            raise DatasetError(f"{path}, line {number}: frames {span[0]} to {span[1]} are no span; correct the list")
        found.append((video, label, *span))
    if not found:
        raise DatasetError(f"{path} names no clip: {_HINT}")
    return found


def _genders(path: Path) -> dict[str, str]:
    """Video -> gender, from the first column and the one that is called sex or gender."""
    rows = [row for row in csv.reader(read_text(path, hint=_HINT).splitlines()) if any(row)]
    header = [name.strip().lower() for name in rows[0]] if rows else []
    column = next((header.index(name) for name in ("sex", "gender") if name in header), None)
    if column is None:
        raise DatasetError(f"{path} has no column Sex or Gender (its header is {','.join(header)[:120]}): {_HINT}")
    short = [row for row in rows[1:] if len(row) <= column or not row[column].strip()]
    if short:
        raise DatasetError(f"{path} gives no gender for {short[0][0]}; correct the list")
    return {row[0].strip(): row[column].strip() for row in rows[1:]}


def _path(root: Path, video: str) -> Path:
    frames = Path("frames") / video
    if (root / frames).is_dir() or not (root / "videos").is_dir():
        return frames
    found = sorted(path.name for path in (root / "videos").glob(f"{video}.*"))
    return Path("videos") / (found[0] if found else f"{video}.avi")


def _safe(video: str) -> str:
    """`1CM1_1_R_#217` -> `1CM1_1_R_n217`."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", video.replace("#", "n"))


def _person(clip: Clip) -> str:
    """What the names of all videos of one person begin with: they end in their number."""
    return clip.group.rpartition("_n")[0] or clip.group


def _validating(videos: list[Clip]) -> set[str]:
    """The videos (groups) of every eighth person of each gender, of those that train."""
    people = sorted({(clip.privacy[GENDER], _person(clip)) for clip in videos})
    chosen = set()
    for gender in {gender for gender, _ in people}:
        names = [name for value, name in people if value == gender]
        chosen |= set(names[_EVERY - 1 :: _EVERY] or names[-1:] if len(names) > 1 else ())
    return {clip.group for clip in videos if _person(clip) in chosen}


def _without_d0x(clips: list[Clip]) -> list[Clip]:
    return [clip for clip in clips if clip.action != NO_GESTURE]


def _split(name: str, task: str, parts: dict[str, list[Clip]], validating: set[str]) -> Split:
    return Split(
        name,
        task,
        train=tuple(clip.id for clip in parts["train"] if clip.group not in validating),
        validation=tuple(clip.id for clip in parts["train"] if clip.group in validating),
        test=tuple(clip.id for clip in parts["test"]),
    )
