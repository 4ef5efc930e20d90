"""The methods of the table, and what one clip hidden by one method gave.

Not here: how it is computed (attacks.py), what is made of it (tables, training, faces).
"""

from __future__ import annotations

import pickle
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from anonymotion.attacks.examine import Examination
from anonymotion.attacks.inverter import Pair

STAGES = {"before": "before encoding", "after": "after H.264"}


@dataclass(frozen=True)
class Entry:
    """A row of the table: a preset with changed settings, on the weights of `strict` or of the `blend`."""

    preset: str
    settings: dict[str, Any] = field(default_factory=dict)
    weights: str = "strict"
    seed_is_known: bool = False


METHODS = {
    "strict": Entry("strict"),
    # the published code starts every clip with the same seed
    "paper-debiased": Entry("paper-debiased", weights="blend", seed_is_known=True),
    "paper-debiased, iid": Entry("paper-debiased", {"noise": "iid"}, weights="blend", seed_is_known=True),
    "blur-weak": Entry("strict", {"method": "blur-weak"}),
    "blur-strong": Entry("strict", {"method": "blur-strong"}),
    "pixelate-4": Entry("strict", {"method": "pixelate-4"}),
    "pixelate-16": Entry("strict", {"method": "pixelate-16"}),
    "person-mean": Entry("strict", {"method": "person-mean"}),
}


@dataclass
class Cell:
    """One clip hidden by one method.

    stages: `before` and `after` encoding.  seen: what an inverting network sees, (4, h, w) uint8, of the real output
    and then of every output by chance.  pairs: to train on, the real one first.  truth, core: of the reference frame.
    uncovered: see Scene.uncovered_share.  colour: the reference frame, (h, w, 3) uint8, of the original and as each
    stage shows it.
    """

    clip: str
    method: str
    stages: dict[str, Examination]
    seen: dict[str, list[np.ndarray]]
    pairs: dict[str, list[Pair]]
    truth: np.ndarray
    core: np.ndarray
    uncovered: float
    colour: dict[str, np.ndarray]


def path_of(folder: Path, clip: str, method: str) -> Path:
    """Where a cell is kept."""
    return folder / f"{clip}.{method.replace(', ', '-')}.cell"


def save(cell: Cell, folder: Path) -> None:
    """Keep a cell, whole or not at all."""
    path = path_of(folder, cell.clip, cell.method)
    partial = path.with_suffix(".partial")
    partial.write_bytes(zlib.compress(pickle.dumps(cell), 1))
    partial.rename(path)


def load(folder: Path, clip: str, method: str) -> Cell:
    """A cell that was kept."""
    found = pickle.loads(zlib.decompress(path_of(folder, clip, method).read_bytes()))  # noqa: S301 - our own file
    assert isinstance(found, Cell)  # noqa: S101 - written by `save`
    return found
