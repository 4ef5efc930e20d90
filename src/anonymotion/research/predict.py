"""Predictions as a file: the first loop writes them, the second (tables) reads nothing else.

One CSV per trained network and per set of clips that it was shown: clip, group, label, then one column of scores per
class.  Written whole or not at all.

Not here: which file belongs to which cell of a table (runs), what is computed from it (metrics).
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anonymotion.errors import InputError, OutputError

_FIXED = ["clip", "group", "label"]


@dataclass(frozen=True)
class Predictions:
    """Scores of one network for the clips of one split.

    clips, groups: N names each.  labels: (N,) integers, indices into `classes`.  scores: (N, classes) float64, higher
    is more likely (log probabilities for what is trained here).
    """

    clips: tuple[str, ...]
    groups: tuple[str, ...]
    labels: np.ndarray
    scores: np.ndarray
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        count = len(self.clips)
        expected = (count, len(self.classes))
        if self.scores.shape != expected or self.labels.shape != (count,) or len(self.groups) != count:
            raise ValueError(f"scores {self.scores.shape}, labels {self.labels.shape}: expected {expected}, ({count},)")
        if not np.isfinite(self.scores).all():
            raise ValueError("scores are not finite: the network diverged; lower its learning rate")

    @property
    def predicted(self) -> np.ndarray:
        """(N,) integers: the class of the highest score, the first of equals."""
        found: np.ndarray = self.scores.argmax(axis=1)
        return found


def write_predictions(predictions: Predictions, path: Path) -> None:
    """Write the CSV, under its name only when it is whole.  Raises OutputError."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow([*_FIXED, *predictions.classes])
            rows = zip(predictions.clips, predictions.groups, predictions.labels, predictions.scores, strict=True)
            for clip, group, label, scores in rows:
                writer.writerow([clip, group, predictions.classes[label], *(f"{score:.6g}" for score in scores)])
        os.replace(partial, path)
    except OSError as error:
        raise OutputError(f"predictions cannot be written to {path} ({error.strerror})") from error


def read_predictions(path: Path) -> Predictions:
    """What `write_predictions` wrote.  Raises InputError naming the file if it is anything else."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            header, *rows = csv.reader(stream)
        if header[:3] != _FIXED or not rows:
            raise ValueError("no predictions in it")
        classes = tuple(header[3:])
        return Predictions(
            tuple(row[0] for row in rows),
            tuple(row[1] for row in rows),
            np.array([classes.index(row[2]) for row in rows]),
            np.array([[float(score) for score in row[3:]] for row in rows]),
            classes,
        )
    except (OSError, ValueError, IndexError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is no file of predictions ({reason}): delete it and run the experiment again") from (
            error
        )
