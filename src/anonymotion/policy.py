"""A policy: everything that decides what is hidden and what is not, in one checked value or one TOML file.

A frame's mask is

    ((matched attributes | include | own masks) minus what matches `keep` minus exclude) within the spans

so that what must stay visible wins over all else, and outside the spans a frame is left as it is.  An attribute that
is kept leaves the groups that were asked for (`person` without `hand`); one that was asked for by its own name and is
kept as well is a contradiction, and an error.  A file says what the flags do not say: a flag replaces its entry.

    schema_version = 1
    attributes = ["face", "hair"]        # keep, spans, preset, masks likewise
    [settings]                           # any field of `Settings`
    threshold = "hair=0.3"
    [[include]]                          # or [[exclude]]
    rectangle = [0, 0, 20, 10]           # or polygon = [[x, y], [x, y], [x, y]]
    unit = "percent"                     # or "pixels"
    span = "00:10-00:20"

Not here: what it does to a mask (editing), the geometry (shapes), fields of Settings (presets).
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from anonymotion.errors import AnonymotionError, SettingsError, UnknownAttributeError
from anonymotion.presets import Settings, settings_for
from anonymotion.registry import GROUPS
from anonymotion.shapes import UNITS, Shape, Span
from anonymotion.templates import TemplateLibrary

POLICY_SCHEMA_VERSION = 1
LARGEST_FILE = 1 << 20

Part = TypeVar("Part")


@dataclass(frozen=True)
class Policy:
    """What is hidden, what stays visible, where and when; every part may be left out.

    attributes: names of attributes and groups, also one text with commas; None where masks or include shapes are all.
    preset, settings: as of `settings_for`.  keep: names whose pixels must stay visible.  include, exclude: shapes that
    are always hidden, or never; their text form is taken too.  spans: when anything is hidden at all; none: always.
    masks: a folder of one's own masks.  file: where it came from.  from_arguments: the parts that arguments or flags
    have set or replaced.

    Raises SettingsError if a part is not what it should be.
    """

    attributes: tuple[str, ...] | None = None
    preset: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    keep: tuple[str, ...] = ()
    include: tuple[Shape, ...] = ()
    exclude: tuple[Shape, ...] = ()
    spans: tuple[Span, ...] = ()
    masks: Path | None = None
    file: Path | None = None
    from_arguments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.attributes is not None:
            object.__setattr__(self, "attributes", names_of("attributes", self.attributes))
        object.__setattr__(self, "keep", names_of("keep", self.keep))
        for name in ("include", "exclude"):
            object.__setattr__(self, name, _parts(name, getattr(self, name), Shape, Shape.parse))
        object.__setattr__(self, "spans", _parts("spans", self.spans, Span, Span.parse))
        if self.masks is not None:
            object.__setattr__(self, "masks", Path(self.masks))
        if self.preset is not None or self.settings:
            self.effective_settings()

    def effective_settings(self) -> Settings:
        """The preset with the settings of this policy.  Raises SettingsError."""
        try:
            return settings_for(self.preset or "strict", **self.settings)
        except SettingsError as error:
            raise self._error("settings", error) from error

    @classmethod
    def load(cls, path: str | Path) -> Policy:
        """Read a policy file; a folder of masks is relative to it.

        Raises SettingsError, naming file and key, if it cannot be read or anything in it is not understood: a part
        that is passed over could be the one that hides.
        """
        path = Path(path)
        content = _content(path)
        known = {item.name for item in fields(cls)} - {"file", "from_arguments"}
        _check_keys(path, "", content, known | {"schema_version"})
        values: dict[str, Any] = {}
        for name in ("attributes", "keep", "spans"):
            if name in content:
                values[name] = _texts(path, name, content[name])
        for name in ("preset", "masks"):
            if name in content:
                values[name] = _of_type(path, name, content[name], str)
        if "masks" in values:
            values["masks"] = path.parent / values["masks"]
        values["settings"] = _of_type(path, "settings", content.get("settings", {}), dict)
        for name in ("include", "exclude"):
            entries = _of_type(path, name, content.get(name, []), list)
            values[name] = tuple(_shape(path, f"{name} {number}", entry) for number, entry in enumerate(entries, 1))
        try:
            return cls(**values, file=path)
        except SettingsError as error:
            raise error if str(error).startswith(f"{path}:") else SettingsError(f"{path}: {error}") from error

    def as_toml(self) -> str:
        """The text of a file that `load` reads as this policy; a folder of masks is named as it is."""
        import tomli_w

        plain = (int, float, str, bool)
        parts: dict[str, Any] = {"schema_version": POLICY_SCHEMA_VERSION}
        for name in ("attributes", "keep"):
            if getattr(self, name):
                parts[name] = list(getattr(self, name))
        if self.spans:
            parts["spans"] = [str(span) for span in self.spans]
        if self.preset is not None:
            parts["preset"] = self.preset
        if self.masks is not None:
            parts["masks"] = str(self.masks)
        if self.settings:
            parts["settings"] = {n: v if isinstance(v, plain) else str(v) for n, v in self.settings.items()}
        for name in ("include", "exclude"):
            if getattr(self, name):
                parts[name] = [_table(shape) for shape in getattr(self, name)]
        return tomli_w.dumps(parts)

    def overridden(self, **parts: Any) -> Policy:
        """With other parts instead of these; None and empty ones change nothing, and settings replace one by one."""
        settings = {name: value for name, value in (parts.pop("settings", None) or {}).items() if value is not None}
        given = {name: value for name, value in parts.items() if value is not None and (value or name == "attributes")}
        origins = dict.fromkeys((*self.from_arguments, *given, *(f"settings.{name}" for name in settings)))
        return replace(self, **given, settings={**self.settings, **settings}, from_arguments=tuple(origins))

    @property
    def marks_regions(self) -> bool:
        """Whether something is hidden that needs no matching: shapes or own masks."""
        return bool(self.include) or self.masks is not None

    @property
    def edits(self) -> bool:
        """Whether masks are changed after matching."""
        return bool(self.keep or self.exclude or self.spans) or self.marks_regions

    @property
    def stated(self) -> bool:
        """Whether it is more than the arguments of a run without a policy."""
        return self.edits or self.file is not None

    @property
    def needs_times(self) -> bool:
        """Whether it matters when a frame is shown."""
        return bool(self.spans) or any(shape.span is not None for shape in (*self.include, *self.exclude))

    def kept(self, library: TemplateLibrary) -> tuple[str, ...]:
        """The attributes to keep visible.  Raises UnknownAttributeError."""
        return self._expanded("keep", self.keep, library) if self.keep else ()

    def asked(self, library: TemplateLibrary) -> tuple[str, ...] | None:
        """The attributes to hide, less those that are kept; None where none were named.

        Raises UnknownAttributeError, or SettingsError if an attribute is both asked for by its own name and kept.
        """
        if self.attributes is None:
            return None
        asked, kept = self._expanded("attributes", self.attributes, library), set(self.kept(library))
        named = [name for name in self.attributes if name in kept]
        left = tuple(name for name in asked if name not in kept)
        if named or not left:
            both = ", ".join(named or asked)
            raise self._error("keep", f"{both} was asked for and is to be kept visible: name it in one place only")
        return left

    def _expanded(self, key: str, names: Sequence[str], library: TemplateLibrary) -> tuple[str, ...]:
        try:
            return library.expand(names)
        except UnknownAttributeError as error:
            raise self._error(key, error, UnknownAttributeError) from error

    def _error(self, key: str, what: object, kind: type[AnonymotionError] = SettingsError) -> AnonymotionError:
        """An error that names the file, unless the part was replaced by an argument."""
        replaced = key in self.from_arguments or (
            key == "settings" and any("settings." in n for n in self.from_arguments)
        )
        return kind(str(what) if self.file is None or replaced else f"{self.file}: {key}: {what}")

    def as_json(self) -> dict[str, Any]:
        """The parts with plain values; of file and masks only whether they were there, and no path."""
        return {
            "file": None if self.file is None else self.file.name,
            "from_arguments": list(self.from_arguments),
            "keep": list(self.keep),
            "include": [str(shape) for shape in self.include],
            "exclude": [str(shape) for shape in self.exclude],
            "spans": [str(span) for span in self.spans],
            "own_masks": self.masks is not None,
        }

    def explain(self, library: TemplateLibrary | None = None) -> list[str]:
        """What it does, in sentences.  With a library names are checked as well; raises as `asked` does."""
        if library is not None:
            self.asked(library)
            self.kept(library)
            try:
                library.check_names(self.effective_settings().names_per_attribute())
            except UnknownAttributeError as error:
                raise self._error("settings", error, UnknownAttributeError) from error
        return [*self._hiding(), *self._sparing(), *self._changes()]

    def _hiding(self) -> list[str]:
        method = self.effective_settings().method
        sentences = []
        if self.attributes is not None:
            sentences.append(
                f"Hides {_listed([_with_members(name) for name in self.attributes])} where they are found."
            )
        elif not self.marks_regions:
            who = "needs attributes on the command line" if method == "noise" else f"covers what method {method} covers"
            sentences.append(f"Names no attributes, masks or shapes to hide: it {who}.")
        sentences += [f"Hides {shape.sentence()}." for shape in self.include]
        if self.masks is not None:
            sentences.append(f"Hides what the masks in {self.masks} mark, one picture per frame, from grey level 128.")
        return sentences

    def _sparing(self) -> list[str]:
        sentences = []
        if self.keep:
            names, threshold = _listed([_with_members(name) for name in self.keep]), self.effective_settings().threshold
            members = dict.fromkeys(member for name in self.keep for member in GROUPS.get(name, (name,)))
            limits = ", ".join(f"{member} {threshold[member]}" for member in members)
            sentences.append(
                f"Keeps {names} visible: where it matches (thresholds: {limits}), nothing is hidden, whatever else "
                "matches there."
            )
        sentences += [f"Leaves {shape.sentence()} visible, whatever matches there." for shape in self.exclude]
        if self.spans:
            times = _listed([span.sentence() for span in self.spans])
            sentences.append(f"Hides only {times}; frames outside are left as they are, with everybody in them.")
        return sentences

    def _changes(self) -> list[str]:
        settings = self.effective_settings()
        preset = settings_for(settings.preset).as_json()
        changed = [
            f"Sets {name} to {value} (preset {settings.preset}: {preset[name]})."
            for name, value in settings.as_json().items()
            if value != preset[name]
        ]
        return [f"Uses preset {settings.preset}.", *changed]


def names_of(key: str, names: Sequence[str] | str) -> tuple[str, ...]:
    """Names from a list, or from one text with commas.  Raises SettingsError for anything else."""
    words = names.split(",") if isinstance(names, str) else names
    if not isinstance(words, Iterable) or not all(isinstance(word, str) for word in words):
        raise SettingsError(f"{key} {names!r} is not a list of names: use e.g. face,hair")
    return tuple(word.strip().lower() for word in words)


def _parts(key: str, values: Any, kind: type[Part], parse: Callable[[str], Part]) -> tuple[Part, ...]:
    """Shapes or spans, of which some may be texts.  Raises SettingsError."""
    values = (values,) if isinstance(values, (str, kind)) else tuple(values)
    found = []
    for number, value in enumerate(values, 1):
        try:
            found.append(parse(value) if isinstance(value, str) else value)
        except SettingsError as error:
            raise SettingsError(f"{key} {number}: {error}") from error
        if not isinstance(found[-1], kind):
            raise SettingsError(f"{key} {number}: {value!r} is no {kind.__name__}: give one, or its text form")
    return tuple(found)


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def _with_members(name: str) -> str:
    return f"{name} ({', '.join(GROUPS[name])})" if name in GROUPS else name


def _content(path: Path) -> dict[str, Any]:
    """The parsed file.  Raises SettingsError if it is not TOML, or not of a version that is known."""
    try:
        with path.open("rb") as opened:
            data = opened.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"policy {str(path)[:80]} cannot be read ({getattr(error, 'strerror', None) or error}): give a TOML file"
        ) from error
    if len(data) > LARGEST_FILE:
        raise SettingsError(f"policy {path} is larger than {LARGEST_FILE} bytes: give a policy file")
    try:
        content = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError(f"{path}: is not valid TOML ({error}): correct it there") from error
    version = content.get("schema_version")
    if type(version) is not int or version != POLICY_SCHEMA_VERSION:
        newer = type(version) is int and version > POLICY_SCHEMA_VERSION
        raise SettingsError(
            f"{path}: schema_version: {version!r} was given, and this release reads {POLICY_SCHEMA_VERSION}: "
            + ("upgrade anonymotion" if newer else f"write schema_version = {POLICY_SCHEMA_VERSION}")
        )
    return content


def _check_keys(path: Path, where: str, entry: Mapping[str, Any], known: set[str]) -> None:
    for key in entry:
        if key not in known:
            near = difflib.get_close_matches(key, sorted(known), n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise SettingsError(
                f"{path}: {where}{key[:60]}: is not known{hint}: use some of {', '.join(sorted(known))}"
            )


def _of_type(path: Path, key: str, value: Any, kind: type) -> Any:
    names: dict[type, str] = {str: "a text", list: "a list of tables", dict: "a table"}
    if not isinstance(value, kind):
        raise SettingsError(f"{path}: {key}: {str(value)[:60]!r} was given: expected {names[kind]}")
    return value


def _texts(path: Path, key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(word, str) and word.strip() for word in value):
        raise SettingsError(f'{path}: {key}: {str(value)[:60]!r} was given: expected a list of texts, as ["a", "b"]')
    return tuple(value)


def _shape(path: Path, where: str, entry: Any) -> Shape:
    """A shape from a table of the file.  Raises SettingsError."""
    if not isinstance(entry, dict):
        raise SettingsError(f"{path}: {where}: {str(entry)[:60]!r} was given: expected a table, as [[include]]")
    _check_keys(path, f"{where}: ", entry, {"rectangle", "polygon", "unit", "span"})
    if ("rectangle" in entry) == ("polygon" in entry):
        raise SettingsError(f"{path}: {where}: expected either rectangle = [x0, y0, x1, y1] or polygon = [[x, y], ...]")
    try:
        unit, span = entry.get("unit", UNITS[0]), entry.get("span")
        when = None if span is None else Span.parse(_of_type(path, f"{where}: span", span, str))
        if "rectangle" in entry:
            x0, y0, x1, y1 = _numbers(entry["rectangle"], 4)
            return Shape.rectangle(x0, y0, x1, y1, unit, when)
        points = [_numbers(point, 2) for point in entry["polygon"]]
        return Shape(tuple((x, y) for x, y in points), unit, when)
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"{path}: {where}: {error}: expected rectangle = [x0, y0, x1, y1] or polygon = [[x, y], [x, y], [x, y]]"
        ) from error
    except SettingsError as error:
        raise error if str(error).startswith(f"{path}:") else SettingsError(f"{path}: {where}: {error}") from error


def _table(shape: Shape) -> dict[str, Any]:
    """The table of a file that `_shape` reads as this shape."""
    place: dict[str, Any] = {"polygon": [list(point) for point in shape.points]}
    if shape.corners is not None:
        place = {"rectangle": list(shape.corners)}
    return {**place, "unit": shape.unit, **({} if shape.span is None else {"span": str(shape.span)})}


def _numbers(values: Any, count: int) -> list[float]:
    if not isinstance(values, list) or len(values) != count or any(type(v) not in (int, float) for v in values):
        raise ValueError(f"{str(values)[:60]} is not a list of {count} numbers")
    return [float(value) for value in values]
