"""Does it hide everybody equally well?  Coverage and leakage by a label such as gender, with counts and intervals.

Coverage is the share of a person's pixels (the copy `person-mask`) that are not as in the source: 1 is everything, and
what is hidden on purpose is only a part of it, so that groups are compared with each other and not with 1.  Leakage is
read from the predictions of a run: how often the privacy label of a clip was recognised.

Groups are labels of the data set; none is guessed.  Not here: predictions (bench), metrics (metrics).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anonymotion.errors import DatasetError, SettingsError
from anonymotion.research.clips import read_clip
from anonymotion.research.controls import NEUTRAL
from anonymotion.research.datasets import Clip, Dataset, open_dataset
from anonymotion.research.experiments import Threat
from anonymotion.research.metrics import BOOTSTRAP_SAMPLES, CONFIDENCE, Outcomes
from anonymotion.research.summaries import Summary
from anonymotion.research.tables import Cell, Heading, Row, Table

PERSON_MASK = "person-mask"
# A pixel that differs by less may be the rounding of another decoder.
LEAST_CHANGE = 3


@dataclass(frozen=True)
class PerVideo:
    """A number of each of N clips, the group that a clip belongs to, and its video, which is what is drawn.

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


def fairness_sheet(
    summary: Summary, data: Path, copies: Path | None, label: str, method: str, clips: Sequence[str] = ()
) -> Table:
    """A row per value of `label`: counts, coverage and how much is recognised, each with its difference to the others.

    copies: folder with the copies of `method` and `person-mask`; None leaves coverage out.  clips: those that count;
    all that the run's privacy columns test if there are none.
    Raises DatasetError or SettingsError if the data set has no such label, or the run no such method.
    """
    dataset = open_dataset(summary.experiment.dataset, data)
    rows = [row for row in summary.experiment.measured if row.name == method]
    if not rows:
        known = ", ".join(row.name for row in summary.experiment.measured)
        raise SettingsError(f"method {method!r} is not in {summary.experiment.name}: use one of {known}")
    tables: dict[str, PerVideo] = {}
    left: list[str] = []
    if copies is not None:
        chosen = clips or _tested(summary)
        known_clips = [name for name in chosen if _group(dataset.clip(name), label)]
        copy, masks = (open_dataset(summary.experiment.dataset, copies / name) for name in (method, PERSON_MASK))
        shares = covered_shares(dataset, copy, masks, known_clips)
        tables["covered"] = _per_video(dataset, label, known_clips, shares)
        left += [name for name in chosen if name not in known_clips]
    for threat in summary.experiment.threats:
        for column in summary.experiment.columns:
            if not column.is_action:
                counted = summary.found(column, threat, rows[0]).counted
                if counted:
                    tables[f"{column.name}, {threat}"] = _recognised(dataset, label, counted)
    if not tables or not all(len(table.values) for table in tables.values()):
        raise SettingsError(f"no clip has a label {label!r}: {dataset.name} knows {', '.join(dataset.tasks)}")
    return _sheet(summary, tables, label, method, left)


def _tested(summary: Summary) -> list[str]:
    return list(
        dict.fromkeys(
            clip
            for column in summary.experiment.columns
            for split in column.splits
            for clip in summary.run.tested(column, split)
        )
    )


def _group(clip: Clip, label: str) -> str:
    return clip.action if label == "action" else clip.privacy.get(label, "")


def _per_video(dataset: Dataset, label: str, clips: Sequence[str], values: np.ndarray) -> PerVideo:
    found = [dataset.clip(name) for name in clips]
    return PerVideo(values, tuple(_group(clip, label) for clip in found), tuple(clip.group for clip in found))


def _recognised(dataset: Dataset, label: str, counted: Sequence[Outcomes]) -> PerVideo:
    """How often each clip's privacy label was recognised: mean over the networks that count and their seeds."""
    clips = counted[0].clips
    right = np.mean([outcomes.right.mean(axis=0) for outcomes in counted], axis=0)
    kept = [place for place, name in enumerate(clips) if _group(dataset.clip(name), label)]
    return _per_video(dataset, label, [clips[place] for place in kept], right[kept])


def _sheet(summary: Summary, tables: dict[str, PerVideo], label: str, method: str, left: Sequence[str]) -> Table:
    headings = [Heading("clips", "", 0, 1.0), Heading("videos", "", 0, 1.0)]
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
    notes = ["brackets: 95 % bootstrap intervals over videos; an interval of a difference that holds 0 shows none"]
    threats: tuple[Threat, ...] = summary.experiment.threats
    notes.append(f"recognised: the networks that count under {' and '.join(threats)}, as in the main table")
    if left:
        notes.append(f"{len(left)} clips without a label {label!r} are in no group")
    return Table(f"{method} by {label}", tuple(headings), tuple(rows), tuple(notes))
