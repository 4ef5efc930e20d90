"""Does it hide everybody equally well?  Coverage and leakage by a label such as gender, with counts and intervals.

Coverage is the share of a person's pixels (the copy `person-mask`) that are not as in the source: 1 is everything, and
what is hidden on purpose is only a part of it, so that groups are compared with each other and not with 1.  Leakage is
read from the predictions of a run: how often the privacy label of a clip was recognised.  Recall of an attribute is
what `benchmarks/coverage.py` measured with an independent instrument.

Groups are labels of the data set, or of a file of the user's that goes by one of them; none is guessed.  Intervals draw
videos; with a file they draw what it goes by, because what is drawn is a person and not a clip of one.

Not here: predictions (bench), metrics (metrics), the instrument (benchmarks).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from anonymotion.errors import DatasetError, SettingsError
from anonymotion.research.clips import read_clip
from anonymotion.research.controls import NEUTRAL
from anonymotion.research.datasets import ACTION, Clip, Dataset, open_dataset
from anonymotion.research.experiments import Threat
from anonymotion.research.layouts.tables import read_rows
from anonymotion.research.metrics import BOOTSTRAP_SAMPLES, CONFIDENCE, Outcomes
from anonymotion.research.summaries import Summary
from anonymotion.research.tables import Cell, Heading, Row, Table

PERSON_MASK = "person-mask"
# A pixel that differs by less may be the rounding of another decoder.
LEAST_CHANGE = 3
OURS = "ours"  # in the column `mask` of benchmarks/coverage.py


@dataclass(frozen=True)
class Groups:
    """Which group a clip belongs to, and what a bootstrap draws.

    key: the label of the data set that decides the group, by way of `of`; None if `label` is the data set's own.
    """

    label: str
    key: str | None = None
    of: Mapping[str, str] = field(default_factory=dict)

    def group(self, clip: Clip) -> str:
        """Empty for a clip in no group."""
        return _value(clip, self.label) if self.key is None else self.of.get(_value(clip, self.key), "")

    def drawn(self, clip: Clip) -> str:
        """The video, or the person."""
        return clip.group if self.key is None else _value(clip, self.key)


def _value(clip: Clip, label: str) -> str:
    return clip.action if label == ACTION else clip.privacy.get(label, "")


def read_groups(path: Path, label: str, dataset: Dataset) -> Groups:
    """A CSV with a column `label` and one of the data set's labels, a row per value of that (`identity,gender`).

    Raises DatasetError for a file without such columns, and for values that occur twice or that no clip has.
    """
    hint = f"give a CSV with a label of {dataset.name} ({', '.join(dataset.tasks)}) and {label}"
    rows = read_rows(path, (label,), hint=hint)
    key = next((name for name in dataset.tasks if name in rows[0] and name != label), None)
    if key is None:
        raise DatasetError(f"{path} has no column that says whose {label} it is: {hint}")
    known = dataset.labels(key)
    groups: dict[str, str] = {}
    for row in rows:
        if row[key] in groups or row[key] not in known:
            wrong = "occurs twice" if row[key] in groups else f"is none of {', '.join(known)[:120]}"
            raise DatasetError(f"{path}, line {row['line']}: {key} {row[key]!r} {wrong}; correct the line")
        groups[row[key]] = row[label]
    return Groups(label, key, groups)


@dataclass(frozen=True)
class PerVideo:
    """A number of each of N clips, the group that a clip belongs to, and what is drawn: its video, or its person.

    values: (N,) float64 in [0, 1].
    """

    values: np.ndarray
    groups: tuple[str, ...]
    videos: tuple[str, ...]

    def by_group(self, group: str) -> tuple[Cell, Cell]:
        """Mean of a group, and its difference to the mean of all others, with 95 % bootstrap intervals over videos."""
        own = np.array([name == group for name in self.groups])
        names = sorted(set(self.videos))
        place = np.array([names.index(video) for video in self.videos])
        random = np.random.default_rng(0)
        means, differences = [], []
        for _ in range(BOOTSTRAP_SAMPLES):
            weights = np.bincount(random.integers(len(names), size=len(names)), minlength=len(names))[place]
            if weights[own].any():
                means.append(np.average(self.values[own], weights=weights[own]))
                if weights[~own].any():
                    differences.append(means[-1] - np.average(self.values[~own], weights=weights[~own]))
        mean = self.values[own].mean()
        difference = Cell() if own.all() else _cell(mean - self.values[~own].mean(), differences)
        return _cell(mean, means), difference


def _cell(value: float, draws: Sequence[float]) -> Cell:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Cell(float(value), float(low), float(high))


def covered_shares(source: Dataset, copy: Dataset, masks: Dataset, clips: Sequence[str]) -> np.ndarray:
    """Of each clip the share of the person's pixels that the copy shows otherwise than the source: (N,) float64.

    Raises DatasetError for a clip in which nobody was found.
    """
    shares = []
    for name in clips:
        frames, shown, person = (read_clip(one.clip(name), one.root) for one in (source, copy, masks))
        where = person[..., 0] >= NEUTRAL
        if not where.any():
            raise DatasetError(f"nobody was found in clip {name}: leave it out of the data set's list")
        changed = np.abs(frames.astype(np.int16) - shown).max(axis=3) >= LEAST_CHANGE
        shares.append(changed[where].mean())
    return np.array(shares)


def recalls(path: Path, dataset: Dataset, attributes: Sequence[str]) -> dict[str, dict[str, float]]:
    """Of each attribute its mean recall, in [0, 1], by id of the clips in which it was measured.

    path: `rows.csv` of `benchmarks/coverage.py`, which calls clips by folder and name; those of other data are skipped.
    Raises DatasetError for another file, and for attributes that no clip of the data set has a recall of.
    """
    hint = "give the rows.csv of benchmarks/coverage.py"
    clips = [clip for clip in dataset.clips if (clip.first, clip.last) == (0, None)]
    whole = {f"{(dataset.root / clip.path).resolve().parent.name}/{clip.path.stem}": clip.id for clip in clips}
    found: dict[str, dict[str, list[float]]] = {name: {} for name in attributes}
    for row in read_rows(path, ("clip", "frame", "attribute", "mask"), hint=hint):
        # an empty recall: the instrument was not sure of the attribute in this frame
        if row["mask"] == OURS and row["attribute"] in found and row["clip"] in whole and row.get("recall"):
            try:
                value = float(row["recall"])
            except ValueError as error:
                raise DatasetError(f"{path}, line {row['line']}: recall {row['recall']!r} is no number") from error
            found[row["attribute"]].setdefault(whole[row["clip"]], []).append(value)
    bare = [name for name, values in found.items() if not values]
    if bare:
        raise DatasetError(f"{path} has no recall of {', '.join(bare)} in a clip of {dataset.name}: {hint}")
    return {name: {clip: float(np.mean(of)) for clip, of in values.items()} for name, values in found.items()}


def fairness_sheet(
    summary: Summary,
    data: Path,
    copies: Path | None,
    label: str,
    method: str,
    *,
    groups: Path | None = None,
    coverage: Path | None = None,
    attributes: Sequence[str] = (),
) -> Table:
    """A row per value of `label`: counts, coverage and how much is recognised, each with its difference to the others.

    copies: folder with the copies of `method` and `person-mask`; None leaves coverage out.  groups: a file for
    `read_groups`; None if the data set has the label.  coverage: a file for `recalls` of `attributes`.
    The clips are those that the run's privacy columns test.
    Raises DatasetError or SettingsError if no clip has such a label, or the run no such method.
    """
    dataset = open_dataset(summary.experiment.dataset, data)
    by = Groups(label) if groups is None else read_groups(groups, label, dataset)
    rows = [row for row in summary.experiment.measured if row.name == method]
    if not rows:
        known = ", ".join(row.name for row in summary.experiment.measured)
        raise SettingsError(f"method {method!r} is not in {summary.experiment.name}: use one of {known}")
    measured: dict[str, dict[str, float]] = {}  # a column's name -> clip -> value
    tested = _tested(summary)
    if copies is not None:
        copy, masks = (open_dataset(summary.experiment.dataset, copies / name) for name in (method, PERSON_MASK))
        clips = [name for name in tested if by.group(dataset.clip(name))]
        shares = covered_shares(dataset, copy, masks, clips)
        measured["covered"] = dict(zip(clips, map(float, shares), strict=True))
    for threat in summary.experiment.threats:
        for column in summary.experiment.columns:
            if not column.is_action and (counted := summary.found(column, threat, rows[0]).counted):
                measured[f"{column.name}, {threat}"] = _recognised(counted)
    if coverage is not None:
        found = recalls(coverage, dataset, attributes)
        measured |= {f"recall of {name}": values for name, values in found.items()}
    tables = {name: _per_video(dataset, by, values) for name, values in measured.items()}
    if not tables or not all(len(table.values) for table in tables.values()):
        raise SettingsError(f"no clip has a label {label!r}: {dataset.name} knows {', '.join(dataset.tasks)}")
    return _sheet(summary, tables, by, method, sum(not by.group(dataset.clip(name)) for name in tested))


def _tested(summary: Summary) -> list[str]:
    return list(
        dict.fromkeys(
            clip
            for column in summary.experiment.columns
            for split in column.splits
            for clip in summary.run.tested(column, split)
        )
    )


def _per_video(dataset: Dataset, by: Groups, values: Mapping[str, float]) -> PerVideo:
    kept = [clip for name in values if by.group(clip := dataset.clip(name))]
    numbers = np.array([values[clip.id] for clip in kept])
    return PerVideo(numbers, tuple(by.group(clip) for clip in kept), tuple(by.drawn(clip) for clip in kept))


def _recognised(counted: Sequence[Outcomes]) -> dict[str, float]:
    """How often each clip's privacy label was recognised: mean over the networks that count and their seeds."""
    right = np.mean([outcomes.right.mean(axis=0) for outcomes in counted], axis=0)
    return dict(zip(counted[0].clips, map(float, right), strict=True))


def _sheet(summary: Summary, tables: Mapping[str, PerVideo], by: Groups, method: str, left: int) -> Table:
    drawn = "videos" if by.key is None else by.key
    headings = [Heading("clips", "", 0, 1.0), Heading(drawn, "", 0, 1.0)]
    for name in tables:
        headings += [Heading(name), Heading("less the others", "", 1, 100.0, signed=True)]
    groups = sorted({group for table in tables.values() for group in table.groups})
    first = next(iter(tables.values()))
    rows = []
    for group in groups:
        videos = [video for video, own in zip(first.videos, first.groups, strict=True) if own == group]
        cells = [Cell(float(len(videos))), Cell(float(len(set(videos))))]
        for table in tables.values():
            cells += table.by_group(group) if group in table.groups else (Cell(), Cell())
        rows.append(Row(group, tuple(cells), ranked=False))
    over = "videos" if by.key is None else f"values of {by.key}"
    notes = [f"brackets: 95 % bootstrap intervals over {over}; an interval of a difference that holds 0 shows none"]
    threats: tuple[Threat, ...] = summary.experiment.threats
    notes.append(f"recognised: the networks that count under {' and '.join(threats)}, as in the main table")
    fewer = [f"{name} {len(table.values)}" for name, table in tables.items() if len(table.values) < len(first.values)]
    if fewer:
        notes.append(f"clips of columns that have fewer: {', '.join(fewer)}")
    if left:
        notes.append(f"{left} clips without a label {by.label!r} are in no group")
    return Table(f"{method} by {by.label}", tuple(headings), tuple(rows), tuple(notes))
