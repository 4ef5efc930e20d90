"""Copies of data sets that `obfuscate` wrote: every video a folder of PNG pictures, and an index of clips and splits.

    copy.json                    what it is a copy of, how it was made, its clips and splits
    frames/<video>/000000.png    every frame of every video, lossless

Not here: how a copy is made (obfuscate), whether it is whole (checks).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from anonymotion.errors import DatasetError
from anonymotion.research.datasets import Clip, Dataset, Split

INDEX = "copy.json"
FRAMES = "frames"
SCHEMA_VERSION = 1


def is_copy(root: Path) -> bool:
    """Whether `root` holds the index of a copy."""
    return (root / INDEX).is_file()


def folder_of(dataset: Dataset, video: Path) -> Path:
    """Where the frames of a video are in a copy, relative to it: its own path, without the suffix of a file."""
    is_folder = (dataset.root / video).is_dir()
    return Path(FRAMES) / (video if is_folder else video.with_suffix(""))


def describe(dataset: Dataset) -> dict[str, Any]:
    """Clips and splits as plain values, with the paths of a copy.  Raises DatasetError if two would share a folder."""
    folders = {video: folder_of(dataset, video) for video in dataset.videos}
    if len(set(folders.values())) != len(folders):
        raise DatasetError(f"{dataset.name} has videos that differ only in their suffix: rename one of them")
    clips = [{**asdict(c), "path": folders[c.path].as_posix(), "privacy": dict(c.privacy)} for c in dataset.clips]
    return {"dataset": dataset.name, "clips": clips, "splits": [asdict(split) for split in dataset.splits]}


def read_index(root: Path) -> dict[str, Any]:
    """The index of a copy.  Raises DatasetError."""
    try:
        document = json.loads((root / INDEX).read_text(encoding="utf-8"))
        if document["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema version {document['schema_version']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{root / INDEX} cannot be read ({error}): make the copy again") from error
    index: dict[str, Any] = document
    return index


def read(root: Path, name: str) -> Dataset:
    """The copy at `root` as a data set; its notes name the videos that could not be copied.

    Raises DatasetError if it is one of another data set than `name`, or not finished.
    """
    index = read_index(root)
    if index["dataset"] != name:
        raise DatasetError(f"{root} is a copy of {index['dataset']}, not of {name}: give that name")
    if not index["finished"]:
        raise DatasetError(f"{root} is not finished: run the command that makes it again, it goes on where it stopped")
    clips = tuple(Clip(**{**entry, "path": Path(entry["path"])}) for entry in index["clips"])
    parts = ("train", "validation", "test")
    splits = tuple(Split(**{**entry, **{p: tuple(entry[p]) for p in parts}}) for entry in index["splits"])
    notes = tuple(f"{video} could not be copied: {why}" for video, why in index["failed"].items())
    return Dataset(name, root, clips, splits, notes)
