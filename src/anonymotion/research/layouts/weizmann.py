"""Weizmann "Actions as Space-Time Shapes": 9 people x 10 actions, one clip each, named by `labels.csv`.

One clip per cell, so identity must be learned from other actions than it is tested on, and action from other people
(`folds`); or both from the beginning of each clip, and tested on its end.

Not here: pixels (clips), other data sets.
"""

from __future__ import annotations

from pathlib import Path

from anonymotion.errors import DatasetError
from anonymotion.research.datasets import ACTION, Clip, Dataset, Split
from anonymotion.research.layouts.folds import FOLDS, held_out_folds
from anonymotion.research.layouts.tables import read_rows, whole_number

IDENTITY = "identity"
COLUMNS = ("file", "person", "action", "frames")
# Shares of a clip's length: what lies between two windows is used by neither.
WINDOWS = {"early": (0.0, 0.45), "middle": (0.5, 0.65), "late": (0.7, 1.0)}


def read(root: Path) -> Dataset:
    """The data set at `root`.  Raises DatasetError if `labels.csv` is missing or not what is expected."""
    rows = read_rows(root / "labels.csv", COLUMNS, hint="it comes with the clips")
    whole: list[Clip] = []
    windows: list[Clip] = []
    for row in rows:
        name, frames = f"{row['person']}_{row['action']}", whole_number(row, "frames")
        path, action, privacy = Path(row["file"]), row["action"], {IDENTITY: row["person"]}
        whole.append(Clip(name, path, 0, None, action, privacy, name))
        windows.extend(
            Clip(f"{name}.{window}", path, round(start * frames), round(stop * frames), action, privacy, name)
            for window, (start, stop) in WINDOWS.items()
        )
    people, actions = ({row[column] for row in rows} for column in ("person", "action"))
    if min(len(people), len(actions)) < FOLDS:
        raise DatasetError(f"{root / 'labels.csv'} names {len(people)} people and {len(actions)} actions: 3 are needed")
    splits = (
        *held_out_folds("person-fold", ACTION, whole, lambda clip: clip.privacy[IDENTITY]),
        *held_out_folds("identity-fold", IDENTITY, whole, lambda clip: clip.action),
        *(_time_windows(task, windows) for task in (ACTION, IDENTITY)),
    )
    return Dataset("weizmann", root, (*whole, *windows), splits)


def _time_windows(task: str, windows: list[Clip]) -> Split:
    ids = {window: tuple(c.id for c in windows if c.id.endswith(f".{window}")) for window in WINDOWS}
    return Split("time-windows", task, ids["early"], ids["middle"], ids["late"])
