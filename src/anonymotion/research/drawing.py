"""How the figures of the harness look, and how they are written: SVG and PNG, with the numbers beside them as CSV.

Colours are those of Okabe and Ito (2008), which people with any kind of colour blindness tell apart; each series has
also a hatch, a dash or a marker of its own, and maps get steadily lighter, so that nothing is lost in grey.

Not here: what is drawn (figures, pictures), where the numbers come from (summaries, motion).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from anonymotion.errors import MissingDependencyError, OutputError
from anonymotion.research.tables import Cell, Table, to_csv
from anonymotion.target import HiddenFile, reason

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#E69F00",
    "#CC79A7",
    "#56B4E9",
    "#000000",
)
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "++")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
DASHES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
MAP_COLOURS = "cividis"  # steadily lighter, for maps of saliency
STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "hatch.linewidth": 0.6,
    "svg.hashsalt": "anonymotion",  # the same numbers give the same file
}
PNG_DPI = 110
MOST_UPRIGHT, LABEL_LETTERS = 6, 16  # more labels than this are turned; a line of an upright one


@dataclass(frozen=True)
class Drawn:
    """A figure that is ready: its name (of the files), what is drawn, and the numbers behind it, if it has any."""

    name: str
    figure: Figure
    numbers: Table | None = None


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that many inches.  Raises MissingDependencyError without the extra `research`."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib is needed for figures: pip install 'anonymotion[research]'") from error
    return Figure(figsize=(width, height), layout="constrained")


@contextmanager
def styled() -> Iterator[None]:
    """Draw in our style inside, whatever the user's own is.  Raises MissingDependencyError."""
    try:
        from matplotlib import rc_context, rcdefaults, rcParams
    except ImportError as error:
        raise MissingDependencyError("matplotlib is needed for figures: pip install 'anonymotion[research]'") from error
    with rc_context():
        rcdefaults()
        rcParams.update(STYLE)  # type: ignore[arg-type]  # its keys are literals there
        yield


def outputs(folder: Path, name: str, *, with_numbers: bool) -> list[Path]:
    """The files that a figure of that name becomes."""
    return [folder / f"{name}.{suffix}" for suffix in ("svg", "png", *(["csv"] if with_numbers else []))]


def save(drawn: Sequence[Drawn], folder: Path, *, force: bool) -> list[Path]:
    """Write NAME.svg, NAME.png and NAME.csv of each figure: all of them or none.

    Raises OutputError if one of them is there and `force` is not set, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made ({reason(error)}): give another --output") from error
    with ExitStack() as stack:
        hidden: list[HiddenFile] = []
        for one in drawn:
            for path in outputs(folder, one.name, with_numbers=one.numbers is not None):
                if path.exists() and not force:
                    raise OutputError(f"{path} exists: give another --output, or --force to replace it")
                file = HiddenFile(path, force=force)
                stack.callback(file.discard)
                hidden.append(file)
                _write(one, path.suffix, file)
        _commit_all(hidden)
        return [file.path for file in hidden]


def _write(drawn: Drawn, suffix: str, file: HiddenFile) -> None:
    try:
        if suffix == ".csv":
            assert drawn.numbers is not None  # noqa: S101 - for mypy: `outputs` was told so
            file.partial.write_text(to_csv(drawn.numbers), encoding="utf-8")
            return
        # without dates: the same numbers give the same file
        metadata = {"Date": None} if suffix == ".svg" else {"Software": None}
        with styled():
            drawn.figure.savefig(file.partial, format=suffix[1:], dpi=PNG_DPI, metadata=metadata)
    except OSError as error:
        raise OutputError(f"{file.path} cannot be written ({reason(error)})") from error


def _commit_all(files: Sequence[HiddenFile]) -> None:
    done: list[HiddenFile] = []
    try:
        for file in files:
            file.commit()
            done.append(file)
    except BaseException:
        for file in done:
            file.retract()
        raise


def bars(
    axes: Axes,
    labels: Sequence[str],
    series: Mapping[str, Sequence[Cell]],
    *,
    factor: float = 100.0,
    references: Mapping[str, float] | None = None,
) -> None:
    """Grouped bars with intervals: per series one bar at each label; a cell without a value leaves a gap.

    references: series -> a value (unscaled) drawn as a dashed line in the colour of the series.
    """
    width = 0.8 / max(1, len(series))
    styles = zip(PALETTE, HATCHES, strict=False)
    for number, ((name, cells), (colour, hatch)) in enumerate(zip(series.items(), cycle(styles), strict=False)):
        there = [(place, cell) for place, cell in enumerate(cells) if cell.value is not None]
        x = [place - 0.4 + (number + 0.5) * width for place, _ in there]
        heights = [factor * cell.value for _, cell in there if cell.value is not None]
        axes.bar(x, heights, width * 0.92, color=colour, hatch=hatch, edgecolor="white", linewidth=0.4, label=name)
        ends = [
            (at, factor * cell.low, factor * cell.high)
            for at, (_, cell) in zip(x, there, strict=True)
            if cell.low is not None and cell.high is not None
        ]
        axes.vlines([e[0] for e in ends], [e[1] for e in ends], [e[2] for e in ends], color=BLACK, linewidth=1)
        if references and name in references:
            axes.axhline(factor * references[name], color=colour, linestyle=DASHES[1], linewidth=1)
    if len(labels) > MOST_UPRIGHT and max(map(len, labels)) > LABEL_LETTERS // 2:
        turned: dict[str, Any] = {"rotation": 35, "horizontalalignment": "right", "rotation_mode": "anchor"}
        axes.set_xticks(range(len(labels)), labels, **turned)
    else:
        axes.set_xticks(range(len(labels)), [fill(label, LABEL_LETTERS) for label in labels])
    axes.grid(axis="y", linewidth=0.4, color="0.85")


def lines(axes: Axes, x: np.ndarray, series: Mapping[str, np.ndarray], emphasised: Callable[[str], bool]) -> None:
    """Lines over x, (K,): per series (K,) values, apart by colour, dash and marker; those that matter most are wide."""
    # colour and dash repeat after 12 series, with another marker; black is kept for those that matter
    styles = islice(zip(cycle(PALETTE[:-1]), cycle(DASHES[1:]), cycle(MARKERS), strict=False), len(series))
    for (name, values), (colour, dash, marker) in zip(series.items(), styles, strict=True):
        wide = emphasised(name)
        axes.plot(
            x,
            values,
            color=BLACK if wide else colour,
            linestyle=DASHES[0] if wide else dash,
            marker=marker,
            markersize=4.5 if wide else 3.5,
            markevery=max(1, len(x) // 4),
            linewidth=2.6 if wide else 1.1,
            zorder=3 if wide else 2,
            label=name,
        )
    axes.grid(linewidth=0.4, color="0.85")


def picture(axes: Axes, image: np.ndarray, title: str = "", **options: Any) -> None:
    """A picture, (H, W, 3) uint8 or (H, W), without axes."""
    axes.imshow(image, interpolation="nearest", **options)
    axes.set_axis_off()
    if title:
        axes.set_title(title, fontsize=7, pad=2)
