"""Hand-made marks: points that are hair or certainly not (points.toml), and what is left out by hand (coverage.toml).

Clips are named by the end of their path, as `clips/asl/book.mkv`.

Not here: how points are drawn for checking (`python benchmarks/draw_points.py`).
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class MarksError(ValueError):
    """A file of marks is not as it must be; the message says where."""


@dataclass(frozen=True)
class Points:
    """(x, y) pixels of one upright frame that are hair, and that are certainly not."""

    clip: str
    frame: int
    hair: list[list[int]]
    not_hair: list[list[int]]


@dataclass(frozen=True)
class Exclusion:
    """Frames `first` to `last` (both included) of a clip in which the instrument is wrong about some `measures`.

    measures: attributes (their recall), `outside`, `excess` (those of all attributes).
    """

    clip: str
    first: int
    last: int
    measures: tuple[str, ...]
    why: str


def is_clip(path: Path, name: str) -> bool:
    """Whether `name` is the end of the path, in whole parts."""
    parts = tuple(name.split("/"))
    return path.resolve().parts[-len(parts) :] == parts


def read_points(path: Path) -> list[Points]:
    """The `[[frame]]` entries.  Raises MarksError."""
    points = []
    for entry in _entries(path, "frame"):
        point = _made(Points, entry, path)
        for x_y in (*point.hair, *point.not_hair):
            if len(x_y) != 2 or not all(isinstance(value, int) and value >= 0 for value in x_y):
                raise MarksError(f"{path.name}: {point.clip} frame {point.frame}: {x_y} is not [x, y] in whole pixels")
        points.append(point)
    return points


def read_exclusions(path: Path) -> list[Exclusion]:
    """The `[[exclude]]` entries.  Raises MarksError."""
    found = []
    for entry in _entries(path, "exclude"):
        exclusion = _made(Exclusion, {**entry, "measures": tuple(entry.get("measures", ()))}, path)
        if not exclusion.why.strip() or not exclusion.measures or exclusion.first > exclusion.last:
            raise MarksError(f"{path.name}: {exclusion}: an exclusion needs measures, first <= last and a reason")
        found.append(exclusion)
    return found


def _entries(path: Path, table: str) -> list[dict[str, Any]]:
    try:
        entries = tomllib.loads(path.read_text()).get(table, [])
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise MarksError(f"{path} cannot be read: {error}") from error
    return list(entries)


def _made(kind: type[Any], entry: dict[str, Any], path: Path) -> Any:
    try:
        return kind(**entry)
    except TypeError as error:
        raise MarksError(f"{path.name}: entry {entry}: {error}") from error


def excluded(exclusions: list[Exclusion], clip: Path, frame: int) -> set[str]:
    """The measures that are left out in a frame."""
    return {
        measure
        for exclusion in exclusions
        if is_clip(clip, exclusion.clip) and exclusion.first <= frame <= exclusion.last
        for measure in exclusion.measures
    }
