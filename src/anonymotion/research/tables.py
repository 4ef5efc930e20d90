"""A table in four shapes: terminal, CSV, Markdown, LaTeX; best and second best of each column are marked.

Not here: what the numbers are (summaries).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower", ""]
ABSENT = "–"
_RANKS = 2


@dataclass(frozen=True)
class Cell:
    """value and the ends of its interval, in the unit of the column; all None where there is no number."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Heading:
    """A column: which direction is better, digits behind the point, a factor (100 for percent), whether signed."""

    text: str
    better: Better = ""
    digits: int = 1
    factor: float = 100.0
    signed: bool = False


@dataclass(frozen=True)
class Row:
    """A line of the table; `ranked` rows compete for best and second best."""

    label: str
    cells: tuple[Cell, ...]
    ranked: bool = True


@dataclass(frozen=True)
class Table:
    """Headings, rows of as many cells, and sentences below."""

    title: str
    headings: tuple[Heading, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.headings):
                raise ValueError(f"row {row.label!r} has {len(row.cells)} cells for {len(self.headings)} columns")

    def rank(self, column: int, row: Row) -> int | None:
        """0 for best, 1 for second best of a column as it is printed, otherwise None; equals share a rank."""
        heading, value = self.headings[column], row.cells[column].value
        if not heading.better or value is None or not row.ranked:
            return None
        printed = {_number(heading, r.cells[column].value) for r in self.rows if r.ranked}
        order = sorted((float(text) for text in printed if text != ABSENT), reverse=heading.better == "higher")
        place = order.index(float(_number(heading, value)))
        return place if place < _RANKS else None


def _number(heading: Heading, value: float | None) -> str:
    if value is None:
        return ABSENT
    scaled = round(value * heading.factor, heading.digits) + 0.0  # + 0.0: no minus before a zero
    return f"{scaled:{'+' if heading.signed else ''}.{heading.digits}f}"


def _with_interval(heading: Heading, cell: Cell) -> str:
    text = _number(heading, cell.value)
    if cell.low is None or cell.high is None:
        return text
    return f"{text} [{_number(heading, cell.low)}, {_number(heading, cell.high)}]"


def _title(heading: Heading) -> str:
    return {"higher": "↑ ", "lower": "↓ ", "": ""}[heading.better] + heading.text


def to_csv(table: Table) -> str:
    """One line per row; each column as value, low and high, in its printed unit with all digits."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = [name for h in table.headings for name in (h.text, f"{h.text} low", f"{h.text} high")]
    writer.writerow(["method", *names])
    for row in table.rows:
        values = [
            "" if value is None else f"{value * heading.factor:.6g}"
            for heading, cell in zip(table.headings, row.cells, strict=True)
            for value in (cell.value, cell.low, cell.high)
        ]
        writer.writerow([row.label, *values])
    return stream.getvalue()


def to_markdown(table: Table) -> str:
    """Best in bold, second best underlined, intervals in brackets."""
    lines = [f"**{table.title}**", ""] if table.title else []
    lines.append("| " + " | ".join(["method", *map(_title, table.headings)]) + " |")
    lines.append("|---" * (len(table.headings) + 1) + "|")
    for row in table.rows:
        cells = [_marked(table, row, column, ("**{}**", "<u>{}</u>"), str) for column in range(len(table.headings))]
        lines.append("| " + " | ".join([row.label, *cells]) + " |")
    lines += ["", *(f"- {note}" for note in table.notes)] if table.notes else []
    return "\n".join(lines) + "\n"


def _marked(table: Table, row: Row, column: int, marks: tuple[str, str], escape: Callable[[str], str]) -> str:
    heading, cell = table.headings[column], row.cells[column]
    number = _number(heading, cell.value)
    rest = escape(_with_interval(heading, cell)[len(number) :])
    rank = table.rank(column, row)
    return (escape(number) if rank is None else marks[rank].format(escape(number))) + rest


def to_latex(table: Table) -> str:
    """A `tabular` in the paper's shape: value, best and second best marked; intervals as small print."""
    lines = [f"% {table.title}", f"\\begin{{tabular}}{{l{'r' * len(table.headings)}}}", "\\toprule"]
    arrows = {"higher": "$\\uparrow$", "lower": "$\\downarrow$", "": ""}
    titles = [arrows[heading.better] + _escaped(heading.text) for heading in table.headings]
    lines += [" & ".join(["Method", *titles]) + " \\\\", "\\midrule"]
    for row in table.rows:
        cells = []
        for column, heading in enumerate(table.headings):
            number = _number(heading, row.cells[column].value)
            rank = table.rank(column, row)
            text = number if rank is None else ("\\textbf{{{}}}", "\\underline{{{}}}")[rank].format(number)
            interval = _with_interval(heading, row.cells[column])[len(number) :].strip()
            cells.append(text.replace(ABSENT, "--") + (f" {{\\tiny {interval}}}" if interval else ""))
        lines.append(" & ".join([_escaped(row.label), *cells]) + " \\\\")
    lines += ["\\bottomrule", "\\end{tabular}", *(f"% {note}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    for letter, replacement in (
        ("\\", "\\textbackslash "),
        ("†", "$\\dagger$"),
        ("Δ", "$\\Delta$"),
        ("×", "$\\times$"),
    ):
        text = text.replace(letter, replacement)
    for letter in "&%#_":
        text = text.replace(letter, f"\\{letter}")
    return text


def to_text(table: Table, width: int = 160) -> str:
    """For a terminal: plain text in a frame; best with *, second best with +."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as Frame

    frame = Frame(title=table.title, box=box.SIMPLE, title_justify="left")
    frame.add_column("method")
    for heading in table.headings:
        frame.add_column(_title(heading), justify="right")
    for row in table.rows:
        cells = [_marked(table, row, column, ("{}*", "{}+"), str) for column in range(len(table.headings))]
        frame.add_row(row.label, *cells)
    stream = io.StringIO()
    console = Console(file=stream, width=width, color_system=None, highlight=False, markup=False)
    console.print(frame)
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    return "\n".join([*lines, *table.notes]).strip("\n") + "\n"


FORMATS: dict[str, Callable[[Table], str]] = {
    "text": to_text,
    "csv": to_csv,
    "markdown": to_markdown,
    "latex": to_latex,
}
