"""From the prediction files of a run to its tables; nothing is trained or guessed here.

A number is only given where every fold and seed behind it is there, for the same networks in every row; what is missing
is said below the table.

Not here: metrics themselves (metrics), how a table looks (tables).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from anonymotion.errors import InputError
from anonymotion.research import metrics
from anonymotion.research.experiments import SOURCE, Column, Combine, MethodRow, Threat
from anonymotion.research.metrics import Outcomes, average, bootstrap, chance_level, strongest, trade_off
from anonymotion.research.networks import NETWORKS
from anonymotion.research.predict import Predictions, read_predictions
from anonymotion.research.probes import PROBES
from anonymotion.research.runs import Job, RunFolder, seeds_of
from anonymotion.research.tables import Cell, Heading, Row, Table


def network_label(name: str) -> str:
    """As the paper writes it, with frames x stride where it has them."""
    return NETWORKS[name].label if name in NETWORKS else PROBES[name].label


@dataclass(frozen=True)
class Found:
    """What is known of one column, threat and row: the networks that count, and how they become one number."""

    networks: dict[str, Outcomes]
    combine: Combine

    @property
    def counted(self) -> list[Outcomes]:
        """All of them for a mean, or the strongest one."""
        if self.combine == "strongest" and self.networks:
            return [self.networks[strongest(self.networks)]]
        return list(self.networks.values())

    def cell(self) -> Cell:
        """Top-1 with its interval; empty where there is nothing."""
        counted = self.counted
        if not counted:
            return Cell()
        found = bootstrap(counted, lambda weights: _mean(counted, weights))
        return Cell(found.value, found.low, found.high)


def _mean(outcomes: Sequence[Outcomes], weights: Sequence[np.ndarray | None]) -> float:
    return float(np.mean([average([one], weight) for one, weight in zip(outcomes, weights, strict=True)]))


class Summary:
    """The tables of a run."""

    def __init__(self, run: RunFolder) -> None:
        self.run, self.experiment = run, run.experiment
        self._cache: dict[tuple[str, str, Threat, str], Outcomes | None] = {}

    def outcomes(self, column: Column, network: str, threat: Threat, method: str) -> Outcomes | None:
        """All folds and seeds of one network, or None if any of them is missing.  Raises InputError for damage."""
        key = (column.name, network, threat, method)
        if key not in self._cache:
            self._cache[key] = self._read(column, network, threat, method)
        return self._cache[key]

    def _read(self, column: Column, network: str, threat: Threat, method: str) -> Outcomes | None:
        learned_on = SOURCE if threat == "static" else method
        seeds: list[list[Predictions]] = []
        for seed in seeds_of(self.experiment, network):
            folds = []
            for split in column.splits:
                path = self.run.predictions(Job(column.name, network, split, seed, learned_on, ()), method)
                if not path.exists():
                    return None
                folds.append(read_predictions(path))
                if list(folds[-1].clips) != self.run.tested(column, split):
                    raise InputError(f"{path} is not of all clips that {split} tests: delete it and run again")
            seeds.append(folds)
        first = seeds[0]
        return Outcomes(
            tuple(clip for fold in first for clip in fold.clips),
            tuple(group for fold in first for group in fold.groups),
            np.concatenate([fold.labels for fold in first]),
            np.stack([np.concatenate([fold.predicted for fold in folds]) for folds in seeds]),
        )

    def _complete(self, column: Column, threat: Threat) -> list[str]:
        """Networks that are there for every row of which any network is there."""
        rows = self.experiment.rows_of(column)
        there = {
            network: {row.name for row in rows if self.outcomes(column, network, threat, row.name) is not None}
            for network in column.networks
        }
        begun = set().union(*there.values())
        return [network for network, names in there.items() if names and names == begun]

    def found(self, column: Column, threat: Threat, row: MethodRow) -> Found:
        """What a row shows for a column; without networks where nothing is complete, or the row leaves it out."""
        combine = column.static if threat == "static" else column.adapted
        names = [name for name in row.only if name in column.networks] or self._complete(column, threat)
        if row.columns and column.name not in row.columns:
            names = []
        networks = {name: self.outcomes(column, name, threat, row.copy) for name in names}
        return Found({name: one for name, one in networks.items() if one is not None}, combine)

    def main(self) -> Table:
        """Table 2: each column under each threat, f with every privacy column, and ours against the best other."""
        experiment = self.experiment
        headings: list[Heading] = []
        columns: list[list[Cell]] = []
        ours = [row.ours for row in experiment.methods] + [False] * len(experiment.quoted)
        ranked = [row.name != SOURCE and not row.control for row in experiment.methods] + [True] * len(
            experiment.quoted
        )
        action = next((column for column in experiment.columns if column.is_action), None)
        for threat in experiment.threats:
            for column in experiment.columns:
                headings.append(Heading(f"{column.name}, {threat}", "higher" if column.is_action else "lower"))
                quoted = [_quoted(row.values.get(column.name)) for row in experiment.quoted]
                columns.append([self.found(column, threat, row).cell() for row in experiment.methods] + quoted)
            for column in experiment.columns:
                if action is not None and not column.is_action:
                    cells = self._trade_offs(action, column, threat)
                    headings.append(Heading(f"f, {column.name}, {threat}", "higher", 2, 1.0))
                    headings.append(Heading("Δ", "", 2, 1.0, signed=True))
                    columns += [cells, deltas(cells, ours, ranked)]
        speeds = [Cell(self.run.seconds_per_frame.get(row.copy)) for row in experiment.methods]
        if any(cell.value is not None for cell in speeds):
            headings.append(Heading("ms/frame", "", 0, 1000.0))
            columns.append(speeds + [Cell()] * len(experiment.quoted))
        labels = [row.label or row.name for row in experiment.methods]
        labels += [f"{row.label} (published)" for row in experiment.quoted]
        across = zip(*columns, strict=True)
        rows = [Row(label, cells, rank) for label, rank, cells in zip(labels, ranked, across, strict=True)]
        return Table(experiment.title, tuple(headings), tuple(rows), tuple(self._notes()))

    def _trade_offs(self, action: Column, privacy: Column, threat: Threat) -> list[Cell]:
        cells = []
        for row in self.experiment.methods:
            a, p = (self.found(column, threat, row).counted for column in (action, privacy))
            cells.append(self._trade_off(a, p) if a and p else Cell())
        for quoted in self.experiment.quoted:
            ends = [_quoted(quoted.values.get(column.name)).value for column in (action, privacy)]
            known = [end for end in ends if end is not None]
            cells.append(Cell(trade_off(known[0], known[1], self.experiment.weight) if len(known) == 2 else None))
        return cells

    def _trade_off(self, action: list[Outcomes], privacy: list[Outcomes]) -> Cell:
        def statistic(weights: Sequence[np.ndarray | None]) -> float:
            a, p = _mean(action, weights[: len(action)]), _mean(privacy, weights[len(action) :])
            return trade_off(a, p, self.experiment.weight)

        found = bootstrap([*action, *privacy], statistic)
        return Cell(found.value, found.low, found.high)

    def source(self) -> Table:
        """Table 1: every network on the clean clips; top-1, balanced accuracy, spread over the seeds."""
        headings = [Heading("top-1"), Heading("balanced"), Heading("spread over seeds"), Heading("seeds", "", 0, 1.0)]
        rows = []
        for column in self.experiment.columns:
            for network in column.networks:
                one = self.outcomes(column, network, "static", SOURCE)
                label = f"{column.name}: {network_label(network)}"
                if one is None:
                    rows.append(Row(label, (Cell(),) * len(headings), ranked=False))
                    continue
                top = bootstrap([one], partial(_mean, [one]))
                values = (Cell(one.balanced), Cell(one.spread), Cell(float(len(one.predicted))))
                rows.append(Row(label, (Cell(top.value, top.low, top.high), *values), ranked=False))
        return Table("Each network on the source", tuple(headings), tuple(rows))

    def breakdown(self) -> Table:
        """Every network behind the numbers of `main`: top-1 per method, threat and column."""
        headings, columns = [], []
        for threat in self.experiment.threats:
            for column in self.experiment.columns:
                for network in column.networks:
                    cells = [self._single(column, network, threat, row) for row in self.experiment.measured]
                    if any(cell.value is not None for cell in cells):
                        better = "higher" if column.is_action else "lower"
                        text = f"{column.name}, {threat}: {network_label(network)}"
                        headings.append(Heading(text, better))  # type: ignore[arg-type]
                        columns.append(cells)
        rows = [
            Row(row.label or row.name, tuple(cells[place] for cells in columns), row.name != SOURCE and not row.control)
            for place, row in enumerate(self.experiment.measured)
        ]
        return Table("Each network", tuple(headings), tuple(rows))

    def _single(self, column: Column, network: str, threat: Threat, row: MethodRow) -> Cell:
        in_it = not row.columns or column.name in row.columns
        one = self.outcomes(column, network, threat, row.name) if in_it else None
        return Cell(None if one is None else one.top1)

    def leakage(self) -> Table:
        """Privacy columns as (p - p0) / (1 - p0), p0 the share of the most frequent class among the tested clips."""
        headings, columns = [], []
        for threat in self.experiment.threats:
            for column in self.experiment.columns:
                if not column.is_action:
                    headings.append(Heading(f"{column.name}, {threat}", "lower", 2, 1.0))
                    columns.append([self._leak(self.found(column, threat, row)) for row in self.experiment.methods])
        rows = [
            Row(row.label or row.name, tuple(cells[place] for cells in columns), row.name != SOURCE and not row.control)
            for place, row in enumerate(self.experiment.methods)
        ]
        return Table("Leakage above chance", tuple(headings), tuple(rows))

    def _leak(self, found: Found) -> Cell:
        if not found.counted:
            return Cell()
        chance = chance_level(found.counted[0].labels)
        cell = found.cell()
        ends = [metrics.leakage(value, chance) for value in (cell.value, cell.low, cell.high) if value is not None]
        return Cell(*ends)

    def differences(self) -> Table:
        """The first row of ours less every other one: recognised, and f; intervals of the difference.

        Both are of the same videos, so that what makes a video easy for both is in neither interval: one without 0
        in it is a difference, also where the intervals of the two values overlap.
        """
        experiment = self.experiment
        ours = next((row for row in experiment.methods if row.ours), None)
        others = [row for row in experiment.methods if ours is not None and row is not ours]
        headings, columns = [], []
        action = [column for column in experiment.columns if column.is_action][:1]
        for threat in experiment.threats:
            for column in experiment.columns:
                headings.append(Heading(f"{column.name}, {threat}", signed=True))
                columns.append([self._difference(ours, row, threat, [column]) for row in others])
            for column in experiment.columns if action else ():
                if not column.is_action:
                    headings.append(Heading(f"f, {column.name}, {threat}", "", 2, 1.0, signed=True))
                    columns.append([self._difference(ours, row, threat, [*action, column]) for row in others])
        rows = [
            Row(row.label or row.name, tuple(cells[place] for cells in columns), ranked=False)
            for place, row in enumerate(others)
        ]
        title = f"{ours.label or ours.name}, less each other method" if ours else "Differences: no row is ours"
        return Table(title, tuple(headings), tuple(rows))

    def _difference(self, ours: MethodRow | None, other: MethodRow, threat: Threat, columns: Sequence[Column]) -> Cell:
        """Of one column, or of f of an action and a privacy column; empty where either has no number."""
        sides = [[self.found(column, threat, row).counted for column in columns] for row in (ours, other) if row]
        if len(sides) < 2 or not all(counted for side in sides for counted in side):
            return Cell()

        def statistic(weights: Sequence[np.ndarray | None]) -> float:
            rest = iter(weights)
            ends = []
            for side in sides:
                values = [_mean(counted, [next(rest) for _ in counted]) for counted in side]
                is_f = len(values) == 2
                ends.append(trade_off(values[0], values[1], self.experiment.weight) if is_f else values[0])
            return ends[0] - ends[1]

        found = bootstrap([one for side in sides for counted in side for one in counted], statistic)
        return Cell(found.value, found.low, found.high)

    TABLES: ClassVar[dict[str, Callable[[Summary], Table]]] = {
        "main": main,
        "differences": differences,
        "source": source,
        "networks": breakdown,
        "leakage": leakage,
    }

    def _notes(self) -> list[str]:
        notes = []
        for column in self.experiment.columns:
            seen = next(
                (one for network in column.networks if (one := self.outcomes(column, network, "static", SOURCE))), None
            )
            if seen is not None:
                chance = chance_level(seen.labels)
                notes.append(f"{column.name}: {len(seen.clips)} clips are tested, chance is {chance:.1%}")
            for threat in self.experiment.threats:
                used = self._complete(column, threat)
                left = [network for network in column.networks if network not in used]
                how = column.static if threat == "static" else column.adapted
                if used:
                    names = ", ".join(network_label(name) for name in used)
                    notes.append(f"{column.name}, {threat}: {how} of {names}")
                if left:
                    names = ", ".join(network_label(name) for name in left)
                    notes.append(f"{column.name}, {threat}: not finished for every row and left out: {names}")
        probes = [name for column in self.experiment.columns for name in column.networks if name in PROBES]
        seeds = ", ".join(map(str, self.experiment.seeds))
        notes.append(f"seeds {seeds}{'; probes have no randomness and were trained once' if probes else ''}")
        notes.append("brackets: 95 % bootstrap intervals over videos")
        return notes


def deltas(cells: Sequence[Cell], ours: Sequence[bool], ranked: Sequence[bool]) -> list[Cell]:
    """For each row of ours: its value less the best of the other ranked rows; empty for the rest."""
    others = [
        cell.value
        for cell, own, rank in zip(cells, ours, ranked, strict=True)
        if rank and not own and cell.value is not None
    ]
    return [
        Cell(cell.value - max(others)) if own and others and cell.value is not None else Cell()
        for cell, own in zip(cells, ours, strict=True)
    ]


def _quoted(percent: float | None) -> Cell:
    return Cell(None if percent is None else percent / 100)
