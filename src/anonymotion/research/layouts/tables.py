"""Reading the text lists of data sets: every problem is named with the file, the line and what was expected.

Not here: what the columns of a list mean (the layout of its data set).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from anonymotion.errors import DatasetError


def read_text(path: Path, *, hint: str) -> str:
    """The text of a list.  Raises DatasetError; `hint` says where the file comes from."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is not there: {hint}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read ({error}): {hint}") from error


def read_rows(path: Path, columns: Sequence[str], *, hint: str) -> list[dict[str, str]]:
    """Rows of a CSV file with a header, stripped, each with its line number under `line`.

    columns: those that must be there and filled.  Raises DatasetError.
    """
    lines = read_text(path, hint=hint).splitlines()
    reader = csv.DictReader(lines)
    header = [name.strip() for name in reader.fieldnames or ()]
    missing = [name for name in columns if name not in header]
    if missing:
        raise DatasetError(f"{path} has no column {missing[0]!r} (its header is {','.join(header)[:120]}): {hint}")
    reader.fieldnames = header
    rows = []
    for number, row in enumerate(reader, 2):
        if None in row or None in row.values():
            raise DatasetError(f"{path}, line {number}: {len(header)} values were expected; correct the line")
        clean = {name: value.strip() for name, value in row.items()}
        empty = [name for name in columns if not clean[name]]
        if empty:
            raise DatasetError(f"{path}, line {number}: no {empty[0]} is given; correct the line")
        rows.append({**clean, "line": str(number)})
    if not rows:
        raise DatasetError(f"{path} holds a header and no row: {hint}")
    return rows


def whole_number(row: Mapping[str, str], column: str) -> int:
    """A column of `read_rows` as a whole number from 0.  Raises DatasetError."""
    try:
        value = int(row[column])
    except ValueError:
        value = -1
    if value < 0:
        raise DatasetError(f"line {row['line']}: {column} {row[column]!r} is not a whole number; correct the list")
    return value
