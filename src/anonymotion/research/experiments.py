"""An experiment as a file: which networks are trained on what, tested on what, and what the table shows.

    [[method]]   a row: a copy of the data set (`source` is the data set itself)
    [[column]]   a task with its splits and networks; `copies` says which copies it looks at
    [[quoted]]   a row of somebody else's published numbers, marked as such

Not here: running it (runs), the numbers (metrics), how a table looks (tables).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from anonymotion.errors import SettingsError
from anonymotion.research.networks import NETWORKS
from anonymotion.research.probes import PROBES
from anonymotion.research.train import TrainSettings

Threat = Literal["static", "adapted"]
Combine = Literal["mean", "strongest"]
THREATS: tuple[Threat, ...] = get_args(Threat)
SOURCE = "source"

Row = TypeVar("Row")


@dataclass(frozen=True)
class MethodRow:
    """A row of the table.

    name: of the copy.  label: in the table; the name if empty.  ours: whether the delta is computed for it.
    of, only: a row that shows another one again with these networks alone (the paper's "Ours †").
    columns: those that it is in; all if empty.  control: whether it is left out of best and second best.
    """

    name: str
    label: str = ""
    ours: bool = False
    of: str = ""
    only: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    control: bool = False

    @property
    def copy(self) -> str:
        """The method whose copies and predictions this row shows."""
        return self.of or self.name


@dataclass(frozen=True)
class Column:
    """What is recognised, by whom.

    task: `action` or a privacy label.  splits: names; their tested clips must not overlap.  networks: names of
        `NETWORKS` and `PROBES`.
    copies: which copy of a method is looked at, e.g. "{method}-background"; {method} is its name.
    static, adapted: how the networks become one number.
    """

    name: str
    task: str
    splits: tuple[str, ...]
    networks: tuple[str, ...]
    copies: str = "{method}"
    static: Combine = "mean"
    adapted: Combine = "strongest"

    @property
    def is_action(self) -> bool:
        """Whether more is better."""
        return self.task == "action"


@dataclass(frozen=True)
class Quoted:
    """A published row: column name -> percent."""

    label: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class InputSize:
    """What networks are shown instead of their own frames x stride @ crop; 0 leaves it.

    flip: whether training mirrors half of the clips; not where left and right are classes.
    """

    frames: int = 0
    stride: int = 0
    crop: int = 0
    flip: bool = True


@dataclass(frozen=True)
class Experiment:
    """One table.

    needs, takes: sentences for `bench list`.  seeds: of weights, order and augmentation.  weight: lambda of f.
    threats: `static` networks learn from clean clips, `adapted` ones from each method's own output.
    privacy_frames: over how many frames of a clip the outputs of an image network are averaged.
    pretrained: `hub`, `none`, or a folder with <network>.safetensors, .pth or .pyth.
    """

    name: str
    title: str
    dataset: str
    needs: str
    takes: str
    methods: tuple[MethodRow, ...]
    columns: tuple[Column, ...]
    quoted: tuple[Quoted, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    weight: float = 0.5
    threats: tuple[Threat, ...] = THREATS
    privacy_frames: int = 32
    pretrained: str = "none"
    training: TrainSettings = TrainSettings()
    input: InputSize = InputSize()

    def __post_init__(self) -> None:
        names = [method.name for method in self.methods]
        columns = [column.name for column in self.columns]
        self._unique("methods", names)
        self._unique("columns", columns)
        if not names or names[0] != SOURCE:
            self._fail(f"the first method is {names[0] if names else 'missing'}: expected {SOURCE!r}")
        for method in self.methods:
            self._known("method", [method.of] if method.of else [], names)
            self._known("column", method.columns, columns)
            self._known("network", method.only, [name for column in self.columns for name in column.networks])
        for column in self.columns:
            self._known("network", column.networks, [*NETWORKS, *PROBES])
            if not column.splits or not column.networks:
                self._fail(f"column {column.name!r} has no splits or no networks")
            if not {column.static, column.adapted} <= set(get_args(Combine)):
                self._fail(f"column {column.name!r} combines by {column.static!r} and {column.adapted!r}")
        for row in self.quoted:
            self._known("column", row.values, columns)
        if len(self.seeds) < 1 or len(set(self.seeds)) != len(self.seeds) or not 0 <= self.weight <= 1:
            self._fail("expected different seeds and a weight in [0, 1]")
        if not set(self.threats) <= set(THREATS) or not self.threats:
            self._fail(f"threats are {', '.join(self.threats)}: expected some of {', '.join(THREATS)}")

    def _fail(self, reason: str) -> None:
        raise SettingsError(f"experiment {self.name}: {reason}")

    def _unique(self, what: str, names: Sequence[str]) -> None:
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            self._fail(f"two {what} are called {twice[0]!r}")

    def _known(self, what: str, names: Any, known: Sequence[str]) -> None:
        for name in names:
            if name not in known:
                self._fail(f"{what} {name!r} is not known: use one of {', '.join(dict.fromkeys(known))}")

    @property
    def measured(self) -> tuple[MethodRow, ...]:
        """The methods that are trained and tested on: not those that show another one again."""
        return tuple(method for method in self.methods if not method.of)

    def column(self, name: str) -> Column:
        """The column of that name, which must be there."""
        return next(column for column in self.columns if column.name == name)

    def rows_of(self, column: Column) -> tuple[MethodRow, ...]:
        """The measured methods that have this column."""
        return tuple(method for method in self.measured if not method.columns or column.name in method.columns)

    def as_json(self) -> dict[str, Any]:
        """All that decides results, as plain values; labels and sentences too, so that a table can be made of it."""
        return asdict(self)


def load_experiment(path: Path, changes: Sequence[str] = ()) -> Experiment:
    """The experiment in a TOML file, with `table.key=value` or `key=value` changed (values as in TOML).

    Raises SettingsError naming the file and the key.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"experiment {path} cannot be read ({error.strerror}): `bench list` names those there are"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"experiment {path} is no TOML: {error}") from error
    for change in changes:
        _change(document, change)
    return parse_experiment({"name": path.stem, **document})


def parse_experiment(document: Mapping[str, Any]) -> Experiment:
    """The experiment of plain values, as `as_json` gives them or a file has them.  Raises SettingsError."""
    values = dict(document)
    for singular, plural in (("method", "methods"), ("column", "columns"), ("quoted", "quoted")):
        values[plural] = values.pop(singular, values.get(plural, ()))
    name = str(values.get("name", "unnamed"))
    built = {
        "methods": tuple(_row(MethodRow, entry, name) for entry in values["methods"]),
        "columns": tuple(_row(Column, entry, name) for entry in values["columns"]),
        "quoted": tuple(_row(Quoted, entry, name) for entry in values["quoted"]),
        "training": _row(TrainSettings, values.get("training", {}), name),
        "input": _row(InputSize, values.get("input", {}), name),
    }
    return _row(Experiment, values | built, name)


_PLAIN: dict[str, Any] = {"str": str, "int": int, "float": (int, float), "bool": bool}


def _row(kind: type[Row], entry: Any, name: str) -> Row:
    """A dataclass of a TOML table; unknown, missing or ill-typed keys are named."""
    if not isinstance(entry, Mapping):
        raise SettingsError(f"experiment {name}: expected a table for {kind.__name__}, got {entry!r}")
    known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]  # every caller gives a dataclass
    unknown = sorted(set(entry) - set(known))
    if unknown:
        raise SettingsError(f"experiment {name}: {unknown[0]!r} is not known here: use {', '.join(known)}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    for key, value in values.items():
        expected = _PLAIN.get(str(known[key].type))
        if expected is not None and (not isinstance(value, expected) or (expected is int and isinstance(value, bool))):
            raise SettingsError(f"experiment {name}: {key} is {value!r}, expected {known[key].type}")
    try:
        return kind(**values)
    except TypeError as error:
        raise SettingsError(f"experiment {name}: {error}") from error


def _change(document: dict[str, Any], change: str) -> None:
    key, separator, text = change.partition("=")
    *tables, last = key.strip().split(".")
    if not separator or not last:
        raise SettingsError(f"change {change!r}: expected table.key=value, e.g. training.max_epochs=5")
    try:
        value = tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    for table in tables:
        document = document.setdefault(table, {})
        if not isinstance(document, dict):
            raise SettingsError(f"change {change!r}: {table} is not a table")
    document[last] = value
