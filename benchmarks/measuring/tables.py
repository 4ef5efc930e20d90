"""Means of rows, and Markdown tables of them against goals.

Not here: how a row comes about (rows, measures), pictures (sheets).
"""

from __future__ import annotations

import csv
import math
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from measuring.measures import MISSED_BELOW
from measuring.rows import COLUMNS, Row

# Measures of a summary with their headings; goals name them.  `at least` is a floor, all others are ceilings.
HEADINGS = {
    "recall": "recall",
    "worst_frame": "worst frame",
    "worst_clip": "worst clip",
    "missed": "missed frames",
    "outside": "outside",
    "excess": "excess of the person",
    "oval_excess": "excess of the oval",
    "flicker": "flicker",
}
FLOORS = ("recall", "worst_frame", "worst_clip")

Goals = dict[str, dict[str, float]]


def read_goals(path: Path) -> Goals:
    """attribute -> measure -> bound.  Raises ValueError for a measure that no table has."""
    goals: Goals = tomllib.loads(path.read_text())
    for attribute, bounds in goals.items():
        unknown = set(bounds) - set(HEADINGS)
        if unknown:
            raise ValueError(f"{path.name}: {attribute} names {', '.join(sorted(unknown))}: use {', '.join(HEADINGS)}")
    return goals


def mean(values: Iterable[float]) -> float:
    """Mean of what was measured; NaN if nothing was."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Means over the rows of one attribute and mask: frames count the same, for `worst_clip` within each clip."""
    recalls = [row.recall for row in rows if not math.isnan(row.recall)]
    clips: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if not math.isnan(row.recall):
            clips[row.clip].append(row.recall)
    worst = min(clips, key=lambda clip: mean(clips[clip]), default="")
    return {
        "frames": len(recalls),
        "clips": len(clips),
        "recall": mean(recalls),
        "worst_frame": min(recalls, default=math.nan),
        "worst_clip": mean(clips[worst]) if worst else math.nan,
        "worst_clip_name": worst,
        "missed": mean([float(value < MISSED_BELOW) for value in recalls]),
        "missed_frames": sum(value < MISSED_BELOW for value in recalls),
        "outside": mean(row.outside for row in rows),
        "excess": mean(row.excess for row in rows),
        "oval_excess": mean(row.oval_excess for row in rows),
        "flicker": 1 - mean(row.steadiness for row in rows),
        "masked": mean(row.masked for row in rows),
    }


def grouped(rows: Iterable[Row], key: Callable[[Row], tuple[str, ...]]) -> dict[tuple[str, ...], list[Row]]:
    """Rows by key, in order of first appearance."""
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return groups


def failed(found: Mapping[str, Any], bounds: Mapping[str, float]) -> list[str]:
    """Measures that do not reach their goal; what was not measured does not."""
    return [
        name for name, bound in bounds.items() if not (found[name] >= bound if name in FLOORS else found[name] <= bound)
    ]


def verdict(found: Mapping[str, Any], bounds: Mapping[str, float]) -> str:
    """The text of the goal column."""
    if not bounds:
        return "no goal"
    wrong = failed(found, bounds)
    signs = {name: ">=" if name in FLOORS else "<=" for name in bounds}
    missed = "; ".join(f"{HEADINGS[name]} {signs[name]} {100 * bounds[name]:g} %" for name in wrong)
    return f"fail: {missed}" if wrong else "pass"


def percent(value: float, digits: int = 1) -> str:
    """A share in percent, `-` where not measured."""
    return "-" if math.isnan(value) else f"{100 * value:.{digits}f}"


def table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *rows]) + "\n"


def overall(rows: Sequence[Row], goals: Goals) -> str:
    """One line per attribute and mask, in percent, against the goals."""
    lines = []
    for (attribute, mask), members in grouped(rows, lambda row: (row.attribute, row.mask)).items():
        found = summary(members)
        cells = [percent(found[name]) for name in HEADINGS]
        cells[2] = f"{cells[2]} {found['worst_clip_name']}".strip()
        cells[3] = f"{found['missed_frames']} of {found['frames']}"
        goal = verdict(found, goals.get(attribute, {})) if mask == "ours" else ""
        lines.append([attribute, mask, str(found["clips"]), *cells, goal])
    return table(["attribute", "mask", "clips", *HEADINGS.values(), "goal"], lines)


def per_clip(rows: Sequence[Row], attribute: str) -> str:
    """One line per clip for our masks of one attribute, in percent."""
    lines = []
    for (clip,), members in grouped([r for r in rows if r.attribute == attribute], lambda row: (row.clip,)).items():
        found = summary([row for row in members if row.mask == "ours"])
        names = ("recall", "worst_frame", "missed", "outside", "excess", "oval_excess", "flicker", "masked")
        lines.append([clip, str(found["frames"]), *(percent(found[name]) for name in names)])
    heads = ["clip", "frames", "recall", "worst frame", "missed frames", "outside", "excess", "oval excess", "flicker"]
    return table([*heads, "masked share"], lines)


def counts(measured: Mapping[str, int], reasons: Mapping[str, Counter[str]], by_hand: Counter[tuple[str, str]]) -> str:
    """What was measured and what was left out, with the reasons."""
    total: Counter[str] = sum(reasons.values(), Counter())
    lines = [[reason, str(number)] for reason, number in sorted(total.items())]
    clips: dict[tuple[str, int], list[str]] = defaultdict(list)
    for (clip, measure), number in sorted(by_hand.items()):
        clips[clip, number].append(measure)
    hand = "; ".join(f"{clip}: {', '.join(names)} in {number}" for (clip, number), names in clips.items()) or "none"
    text = f"{sum(measured.values())} frames of {len(measured)} clips were measured.\n\n"
    text += table(["not measured, or left out for confidence", "findings"], lines)
    return f"{text}\nLeft out by hand (`benchmarks/coverage.toml`), in so many frames: {hand}.\n"


def write_csv(rows: Iterable[Row], path: Path) -> None:
    """One line per row; empty where not measured."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for row in rows:
            writer.writerow([_cell(getattr(row, name)) for name in COLUMNS])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.5f}"
    return str(value)
