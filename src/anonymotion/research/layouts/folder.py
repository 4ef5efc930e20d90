"""Any folder of videos or of folders of frames, with a CSV that says what they show.

`labels.csv`, or the only CSV of the folder, with a header: `file` and `action`; `person` becomes the privacy label
`identity`; `first` and `last` are a span of frames, from 0, one past the last; `split` is train, validation or test;
every other column is a privacy label of its own name.  An empty value is no label.

With a column `split` there is one split, `listed`, for every task.  Otherwise actions are tested on people, and
privacy labels on actions, that did not train: `person-fold-0` and on, `<label>-fold-0` and on.

Not here: pixels (clips), other data sets.
"""

from __future__ import annotations

import re
from pathlib import Path

from anonymotion.errors import DatasetError
from anonymotion.research.datasets import ACTION, Clip, Dataset, Split
from anonymotion.research.layouts.folds import FOLDS, held_out_folds
from anonymotion.research.layouts.tables import read_rows, whole_number

IDENTITY = "identity"
PARTS = ("train", "validation", "test")
_RESERVED = {"file", "action", "first", "last", "split", "line"}


def read(root: Path) -> Dataset:
    """The data set at `root`.  Raises DatasetError."""
    rows = read_rows(_list_of(root), ("file", "action"), hint="see the columns in the documentation")
    clips = tuple(_clip(row) for row in rows)
    labels = tuple(dict.fromkeys(label for clip in clips for label in clip.privacy))
    if "split" in rows[0]:
        splits = tuple(_listed(task, rows, clips) for task in (ACTION, *labels))
    else:
        splits = tuple(_folds(clips, labels))
    notes = () if splits else (f"no folds: at least {FOLDS} people and {FOLDS} actions, or a column split, are needed",)
    return Dataset("folder", root, clips, splits, notes)


def _list_of(root: Path) -> Path:
    found = sorted(path for path in root.glob("*.csv"))
    if len(found) > 1 and (root / "labels.csv") in found:
        return root / "labels.csv"
    if len(found) != 1:
        raise DatasetError(
            f"{root} holds {len(found)} CSV files: one is expected, or labels.csv (file, action, person)"
        )
    return found[0]


def _clip(row: dict[str, str]) -> Clip:
    path = Path(row["file"])
    if path.is_absolute() or ".." in path.parts:
        raise DatasetError(f"line {row['line']}: {path} does not lie in the folder of the list; move it there")
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", path.with_suffix("").as_posix().replace("/", "__"))
    first = whole_number(row, "first") if row.get("first") else 0
    last = whole_number(row, "last") if row.get("last") else None
    privacy = {IDENTITY if key == "person" else key: row[key] for key in row if key not in _RESERVED and row[key]}
    clip_id = name if not first and last is None else f"{name}.{first}-{'' if last is None else last}"
    return Clip(clip_id, path, first, last, row["action"], privacy, name)


def _listed(task: str, rows: list[dict[str, str]], clips: tuple[Clip, ...]) -> Split:
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for row, clip in zip(rows, clips, strict=True):
        if row["split"] not in parts:
            raise DatasetError(f"line {row['line']}: split {row['split']!r} is not one of {', '.join(PARTS)}")
        if task == ACTION or task in clip.privacy:
            parts[row["split"]].append(clip.id)
    return Split("listed", task, *(tuple(parts[part]) for part in PARTS))


def _folds(clips: tuple[Clip, ...], labels: tuple[str, ...]) -> list[Split]:
    splits: list[Split] = []
    people = [clip for clip in clips if IDENTITY in clip.privacy]
    if len({clip.privacy[IDENTITY] for clip in people}) >= FOLDS:
        splits += held_out_folds("person-fold", ACTION, people, lambda clip: clip.privacy[IDENTITY])
    for label in labels:
        labelled = [clip for clip in clips if label in clip.privacy]
        if len({clip.action for clip in labelled}) >= FOLDS:
            splits += held_out_folds(f"{label}-fold", label, labelled, lambda clip: clip.action)
    return splits
