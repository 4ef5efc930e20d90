"""Recall against excess while all thresholds are multiplied by one factor; from kept saliency, no new pass.

Not here: continuity over time (a swept mask is that of its frame alone), the measures (measures).
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from measuring.marks import Points
from measuring.masks import Runs
from measuring.regions import FrameRegions
from measuring.rows import OURS, Row, row_of
from measuring.tables import mean

SCALES = (0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9)
SWEPT = ("recall", "excess", "oval_excess", "outside")


class Sweep:
    """Collects rows for every scale; means and a plot at the end."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._rows: dict[tuple[str, float], list[Row]] = defaultdict(list)

    def add(
        self,
        clip: str,
        frame: int,
        saliency: Mapping[str, np.ndarray],
        regions: FrameRegions,
        points: Points | None,
        left_out: set[str],
    ) -> None:
        """Measure one frame at every scale; saliency is run -> (A, H, W)."""
        for name, planes in saliency.items():
            for scale in SCALES:
                mask = self._runs.at_scale(name, planes, scale)
                row = row_of((clip, frame, name, OURS), mask, regions, points, left_out, float("nan"))
                self._rows[name, scale].append(row)

    def write(self, folder: Path) -> None:
        """`sweep.csv` and `sweep.png` in `folder`."""
        from matplotlib.figure import Figure

        means = {
            key: {measure: mean(getattr(row, measure) for row in rows) for measure in SWEPT}
            for key, rows in self._rows.items()
        }
        with (folder / "sweep.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["attribute", "threshold_scale", *SWEPT])
            for (name, scale), found in means.items():
                writer.writerow([name, scale, *("" if value != value else f"{value:.5f}" for value in found.values())])
        figure = Figure(figsize=(13, 6), layout="constrained")
        for axis, measure in zip(figure.subplots(1, 2), ("excess", "oval_excess"), strict=True):
            for name in dict.fromkeys(name for name, _ in means):
                curve = [(scale, means[name, scale]) for scale in SCALES if (name, scale) in means]
                x = [100 * found[measure] for _, found in curve]
                y = [100 * found["recall"] for _, found in curve]
                if np.isfinite(x).any():
                    (line,) = axis.plot(x, y, marker=".", label=name)
                    now = means[name, 1.0]
                    axis.plot(100 * now[measure], 100 * now["recall"], "o", color=line.get_color(), markersize=9)
            axis.set(
                xlabel=f"{measure.replace('_', ' ')}, %", ylabel="recall, %", title="thresholds as set: large dots"
            )
            axis.grid(alpha=0.3)
            axis.legend()
        figure.savefig(folder / "sweep.png", dpi=110)
