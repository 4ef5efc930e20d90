"""Figures 5, 7 and 8 of the paper, from the predictions of a run and nothing else.

    fig5   each attribute hidden by itself: rows named `strict@hair`, beside the subset that is used
    fig7   f over lambda (eq. 6) for every method
    fig8   noise that is moved, that of eq. 4, and new noise in each frame, under the same mask

Each threat is a panel, and so is each privacy column of fig7.  Every figure comes with its numbers as a table.

Not here: figures that are made of clips (pictures), how bars and lines look (drawing).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from anonymotion.errors import SettingsError
from anonymotion.research.drawing import Drawn, bars, lines, new_figure, styled
from anonymotion.research.experiments import SOURCE, Column, MethodRow, Threat
from anonymotion.research.metrics import chance_level, trade_off
from anonymotion.research.summaries import Summary
from anonymotion.research.tables import Cell, Heading, Row, Table

OF_ATTRIBUTES = "@"  # between a method and the attributes that it hides, in the name of a copy
NOISES_OF_ROWS = ("strict", "first-frame", "iid")
STEPS = 101
PRINTED = (0.0, 0.25, 0.5, 0.75, 1.0)


def figure_5(summary: Summary) -> Drawn:
    """Action and privacy with one attribute hidden at a time, and with the subset that is used.

    Raises SettingsError for a run without rows of single attributes.
    """
    rows = [row for row in summary.experiment.measured if OF_ATTRIBUTES in row.name and not row.control]
    if not rows:
        raise SettingsError(
            f"run {summary.experiment.name} has no method of a single attribute (strict@hair): run "
            "experiments/weizmann_fig5.toml"
        )
    rows += [row for row in summary.experiment.measured if row.ours and row not in rows]
    return _bar_figure(summary, "fig5", "One attribute hidden at a time", rows)


def figure_8(summary: Summary) -> Drawn:
    """Action and privacy under one mask with three noises.  Raises SettingsError for a run with fewer than two."""
    rows = [row for row in summary.experiment.measured if row.name in NOISES_OF_ROWS]
    if len(rows) < 2:
        raise SettingsError(
            f"run {summary.experiment.name} has {len(rows)} of the methods {', '.join(NOISES_OF_ROWS)}: at least 2 are "
            "compared; run experiments/weizmann_fig8.toml"
        )
    rows.sort(key=lambda row: NOISES_OF_ROWS.index(row.name))
    return _bar_figure(summary, "fig8", "Noise that moves with the scene, and noise that does not", rows)


def _bar_figure(summary: Summary, name: str, title: str, rows: Sequence[MethodRow]) -> Drawn:
    """One panel per threat: bars of all columns for each row; dashed what the source gives, in the table chance too."""
    source = summary.experiment.measured[0]
    threats = [threat for threat in summary.experiment.threats if _any(summary, threat, rows)]
    if not threats:
        raise SettingsError(f"no method of {name} is finished in {summary.run.path}: go on with `bench run`")
    columns = summary.experiment.columns
    with styled():
        figure = new_figure(max(5.5, 0.62 * len(rows) + 1.5), 2.9 * len(threats))
        for axes, threat in zip(figure.subplots(len(threats), 1, squeeze=False)[:, 0], threats, strict=True):
            series = {column.name: [summary.found(column, threat, row).cell() for row in rows] for column in columns}
            known = {column.name: summary.found(column, threat, source).cell().value for column in columns}
            references = {name: value for name, value in known.items() if value is not None}
            bars(axes, [_label(row) for row in rows], series, references=references)
            axes.set_ylim(0, 108)
            axes.set_ylabel("top-1 accuracy, %")
            axes.set_title(f"{threat} (dashed: on the source)", fontsize=9)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(columns), frameon=False, fontsize=8)
        figure.suptitle(title)
    return Drawn(name, figure, _table(summary, title, (source, *rows), threats))


def _any(summary: Summary, threat: Threat, rows: Sequence[MethodRow]) -> bool:
    return any(summary.found(c, threat, row).counted for c in summary.experiment.columns for row in rows)


def _label(row: MethodRow) -> str:
    base, _, attributes = row.name.partition(OF_ATTRIBUTES)
    return row.label or (attributes.replace("+", ", ") if attributes else base)


def _table(summary: Summary, title: str, rows: Sequence[MethodRow], threats: Sequence[Threat]) -> Table:
    headings, columns = [], []
    for threat in threats:
        for column in summary.experiment.columns:
            headings.append(Heading(f"{column.name}, {threat}", "higher" if column.is_action else "lower"))
            columns.append([summary.found(column, threat, row).cell() for row in rows])
    made = [
        Row(_label(row), tuple(cells[place] for cells in columns), row.name != SOURCE) for place, row in enumerate(rows)
    ]
    return Table(title, tuple(headings), tuple(made), (*_chances(summary), "brackets: 95 % bootstrap over videos"))


def _chances(summary: Summary) -> list[str]:
    found = []
    for column in summary.experiment.columns:
        counted = summary.found(column, "static", summary.experiment.measured[0]).counted
        if counted:
            found.append(f"{column.name}: chance is {chance_level(counted[0].labels):.1%}")
    return found


def figure_7(summary: Summary) -> Drawn:
    """f over lambda for all methods but controls, a panel per privacy column and threat, and where ours leads.

    Raises SettingsError if the run has no column of actions, or no method that is finished in two columns.
    """
    action = next((column for column in summary.experiment.columns if column.is_action), None)
    privacy = [column for column in summary.experiment.columns if not column.is_action]
    if action is None or not privacy:
        raise SettingsError(f"run {summary.experiment.name} has no action or no privacy column: fig7 needs both")
    panels = [
        (threat, column, points)
        for threat in summary.experiment.threats
        for column in privacy
        if len(points := _points(summary, action, column, threat)) > 1
    ]
    if not panels:
        raise SettingsError(f"no two methods are finished in {summary.run.path}: go on with `bench run`")
    ours = {row.label or row.name for row in summary.experiment.methods if row.ours}
    weights = np.linspace(0, 1, STEPS)
    with styled():
        figure = new_figure(min(10.0, 1.5 + 3.2 * len(panels)), 4.2)
        grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for axes, (threat, column, points) in zip(grid, panels, strict=True):
            curves = {name: curve(*point, weights) for name, point in points.items()}
            lines(axes, weights, curves, lambda name: name in ours)
            axes.set_xlabel("λ (0: action alone, 1: privacy alone)", fontsize=8)
            axes.set_title(f"{column.name}\n{threat}", fontsize=8)
            axes.set_ylim(0, 1.02)
        grid[0].set_ylabel("f = (1 - λ) action + λ (1 - privacy)")
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=7)
    return Drawn("fig7", figure, _table_7(panels, ours, weights))


Panel = tuple[Threat, Column, dict[str, tuple[float, float]]]


def _points(summary: Summary, action: Column, privacy: Column, threat: Threat) -> dict[str, tuple[float, float]]:
    """Label -> (a, p) of the methods that have both; published rows count too."""
    points = {}
    for row in summary.experiment.methods:
        a, p = (summary.found(column, threat, row).cell().value for column in (action, privacy))
        if a is not None and p is not None and not row.control:
            points[row.label or row.name] = (a, p)
    for quoted in summary.experiment.quoted:
        if {action.name, privacy.name} <= set(quoted.values):
            ends = (quoted.values[action.name] / 100, quoted.values[privacy.name] / 100)
            points[f"{quoted.label} (published)"] = ends
    return points


def curve(action: float, privacy: float, weights: np.ndarray) -> np.ndarray:
    """f_lambda (eq. 6) at each of `weights`, (K,) in [0, 1], of two shares in [0, 1]: (K,) float64."""
    return np.array([trade_off(action, privacy, float(weight)) for weight in weights])


def lead(points: dict[str, tuple[float, float]], ours: set[str], weights: np.ndarray, source: str = SOURCE) -> float:
    """Share of `weights` at which one of `ours` has a higher f than every other method, the source left out."""
    others = [curve(*point, weights) for name, point in points.items() if name not in ours and name != source]
    own = [curve(*point, weights) for name, point in points.items() if name in ours]
    if not others or not own:
        return float("nan")
    return float((np.max(own, axis=0) > np.max(others, axis=0)).mean())


def _table_7(panels: Sequence[Panel], ours: set[str], weights: np.ndarray) -> Table:
    headings, values = [], []
    names = list(dict.fromkeys(name for _, _, points in panels for name in points))
    at: Callable[[dict[str, tuple[float, float]], str, float], Cell] = lambda points, name, weight: Cell(  # noqa: E731
        trade_off(*points[name], weight) if name in points else None
    )
    notes = []
    for threat, column, points in panels:
        for weight in PRINTED:
            headings.append(Heading(f"{column.name}, {threat}, λ={weight:g}", "higher", 2, 1.0))
            values.append([at(points, name, weight) for name in names])
        share = lead(points, ours, weights)
        notes.append(f"{column.name}, {threat}: ours is ahead of every other method at {share:.0%} of λ in 0..1")
    rows = tuple(Row(name, tuple(cells[place] for cells in values), name != SOURCE) for place, name in enumerate(names))
    return Table("f over λ", tuple(headings), rows, (*notes, "f is linear in λ: its mean over [0, 1] is f at 0.5"))


RUN_FIGURES: dict[str, Callable[[Summary], Drawn]] = {"fig5": figure_5, "fig7": figure_7, "fig8": figure_8}
