"""Weizmann "Actions as Space-Time Shapes": 9 people x 10 actions, one clip each, named by `labels.csv`.

One clip per cell, so identity must be learned from other actions than it is tested on, and action from other people;
or both from the beginning of a clip and tested on its end.  Folds take every third name of the sorted list, so that
similar actions (run, skip, walk; wave1, wave2) fall into different folds.

Not here: pixels (clips), other data sets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from anonymotion.errors import DatasetError
from anonymotion.research.datasets import ACTION, Clip, Dataset, Split
from anonymotion.research.layouts.tables import read_rows, whole_number

FOLDS = 3
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
        path = Path(row["file"])
        privacy = {"identity": row["person"]}
        whole.append(Clip(name, path, 0, None, row["action"], privacy, name))
        windows.extend(
            Clip(f"{name}.{window}", path, round(start * frames), round(stop * frames), row["action"], privacy, name)
            for window, (start, stop) in WINDOWS.items()
        )
    if len(whole) < FOLDS**2:
        raise DatasetError(f"{root / 'labels.csv'} names {len(whole)} clips: too few to make {FOLDS} folds of")
    splits = [
        *_folds("person-fold", ACTION, whole, lambda clip: clip.privacy["identity"]),
        *_folds("identity-fold", "identity", whole, lambda clip: clip.action),
        *(_time_windows(task, windows) for task in (ACTION, "identity")),
    ]
    return Dataset("weizmann", root, (*whole, *windows), tuple(splits))


def _folds(name: str, task: str, clips: list[Clip], held_out: Callable[[Clip], str]) -> Iterable[Split]:
    """Every third value of `held_out` tests; the next value after the first of those validates, the others train."""
    values = sorted({held_out(clip) for clip in clips})
    for fold in range(FOLDS):
        test = set(values[fold::FOLDS])
        validation = {values[(fold + 1) % FOLDS]}
        parts: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
        for clip in clips:
            value = held_out(clip)
            parts["test" if value in test else "validation" if value in validation else "train"].append(clip.id)
        yield Split(f"{name}-{fold}", task, *(tuple(parts[part]) for part in ("train", "validation", "test")))


def _time_windows(task: str, windows: list[Clip]) -> Split:
    ids = {window: tuple(c.id for c in windows if c.id.endswith(f".{window}")) for window in WINDOWS}
    return Split("time-windows", task, ids["early"], ids["middle"], ids["late"])
