"""Templates: an attribute, a picture, and a point or box in it (section 3.1 of the paper).

A library is a folder with a `library.toml` and pictures.  The built-in one has the paper's nine attributes.
No network is needed for any of it.

Not here: descriptors of templates (template_bank), thresholds (presets), the file format of exchanged templates.
"""

from __future__ import annotations

import difflib
import hashlib
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from anonymotion.errors import TemplateError, UnknownAttributeError
from anonymotion.registry import ATTRIBUTES, GROUPS

BUILTIN_FOLDER = Path(__file__).parent / "library"
SCHEMA_VERSION = 1
PICTURE_KINDS = ("photograph", "rendered", "background")


@dataclass(frozen=True)
class Picture:
    """A picture of a library, with its origin.

    kind: `photograph`, `rendered` or `background` (nobody in it; it serves the de-biasing mean).
    """

    id: str
    path: Path
    kind: str
    subject: str
    licence: str
    source: str
    sha256: str

    def read(self) -> np.ndarray:
        """The picture as (H, W, 3) uint8 RGB.  Raises TemplateError if it is missing or damaged."""
        from PIL import Image, UnidentifiedImageError

        try:
            if hashlib.sha256(self.path.read_bytes()).hexdigest() != self.sha256:
                raise TemplateError(
                    f"picture {self.path.name} of the library is not the one recorded: install it again"
                )
            with Image.open(self.path) as image:
                return np.asarray(image.convert("RGB"))
        except (OSError, UnidentifiedImageError) as error:
            raise TemplateError(f"picture {self.path.name} of the library cannot be read: {error}") from error


@dataclass(frozen=True)
class Template:
    """One exemplar of an attribute.

    Exactly one of point, (x, y), and box, (x0, y0, x1, y1), in pixels of the picture.  A negative template
    shows what the attribute is not.
    """

    attribute: str
    picture: str
    point: tuple[float, float] | None = None
    box: tuple[float, float, float, float] | None = None
    negative: bool = False

    def __post_init__(self) -> None:
        if (self.point is None) == (self.box is None):
            raise TemplateError(f"a template of {self.attribute!r} needs either a point or a box")
        if self.box is not None and not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            raise TemplateError(f"the box {self.box} of {self.attribute!r} is empty: give x0 < x1 and y0 < y1")

    @property
    def centre(self) -> tuple[float, float]:
        """The point, or the middle of the box, (x, y) in pixels of the picture."""
        if self.point is not None:
            return self.point
        assert self.box is not None  # noqa: S101 - for mypy: checked above
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


@dataclass(frozen=True)
class TemplateLibrary:
    """Pictures and templates, in the order of their file."""

    folder: Path
    pictures: dict[str, Picture]
    templates: tuple[Template, ...]
    digest: str

    @classmethod
    def load(cls, folder: Path = BUILTIN_FOLDER) -> TemplateLibrary:
        """Read `folder`/library.toml.  Raises TemplateError if it is missing, damaged or inconsistent."""
        path = folder / "library.toml"
        try:
            data = path.read_bytes()
            content = tomllib.loads(data.decode())
        except OSError as error:
            raise TemplateError(
                f"library {folder} cannot be read ({error.strerror}): expected a library.toml"
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise TemplateError(
                f"{path} is not valid TOML ({error}): restore it or install the package again"
            ) from error
        version = content.get("schema_version")
        if version != SCHEMA_VERSION:
            raise TemplateError(f"{path} has schema_version {version!r}; this release reads {SCHEMA_VERSION}: upgrade")
        found = _parse(path, content, "picture", _picture)
        pictures = {picture.id: picture for picture in found}
        if len(pictures) < len(found):
            raise TemplateError(f"{path} has two pictures of one id: give each its own")
        templates = tuple(_parse(path, content, "template", _template))
        for template in templates:
            if template.picture not in pictures:
                raise TemplateError(
                    f"{path} has a template of {template.attribute!r} in no picture: {template.picture!r}"
                )
        return cls(folder, pictures, templates, hashlib.sha256(data).hexdigest())

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """The attributes that have a positive template: the paper's nine first, then others in file order."""
        present = dict.fromkeys(template.attribute for template in self.templates if not template.negative)
        return tuple(
            sorted(present, key=lambda name: ATTRIBUTES.index(name) if name in ATTRIBUTES else len(ATTRIBUTES))
        )

    def expand(self, names: Iterable[str]) -> tuple[str, ...]:
        """Attribute and group names -> attributes, groups expanded, duplicates removed, first mention first.

        Raises UnknownAttributeError, which names the known ones and the nearest.
        """
        expanded: dict[str, None] = {}
        for name in (word.strip().lower() for word in names):
            for attribute in GROUPS.get(name, (name,)):
                if attribute not in self.attributes:
                    raise UnknownAttributeError(self.unknown(name))
                expanded[attribute] = None
        if not expanded:
            raise UnknownAttributeError(f"no attribute was named: use some of {', '.join((*self.attributes, *GROUPS))}")
        return tuple(expanded)

    def check_names(self, names: Iterable[str]) -> None:
        """Raise UnknownAttributeError if a name is neither in this library nor one of the standard ones."""
        for name in names:
            if name not in {*self.attributes, *ATTRIBUTES, *GROUPS}:
                raise UnknownAttributeError(self.unknown(name))

    def unknown(self, name: str) -> str:
        """What to say of a name that is not here: the known ones, and the nearest."""
        known = (*self.attributes, *GROUPS)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        return f"attribute {name!r} is not in the library{hint}: use some of {', '.join(known)}"

    def exemplars(self, attribute: str, which: str = "all") -> tuple[Template, ...]:
        """The positive templates of an attribute, the best one first.

        which: `all`, `first`, or the id of a picture: those of that picture and of crops of it (`hopper` has
        `hopper_face`).  Raises TemplateError if there are none.
        """
        found = tuple(t for t in self.templates if t.attribute == attribute and not t.negative)
        if which == "first":
            found = found[:1]
        elif which != "all":
            sources = {t.picture for t in found}
            found = tuple(t for t in found if t.picture == which or t.picture.startswith(f"{which}_"))
            if not found:
                raise TemplateError(
                    f"{attribute} has no template in {which!r}: use one of {', '.join(sorted(sources))}"
                )
        return found


def _parse(path: Path, content: dict[str, Any], table: str, build: Any) -> list[Any]:
    """Build each entry of a table of the library file; name the entry that is wrong."""
    entries = content.get(table, [])
    if not isinstance(entries, list) or not entries:
        raise TemplateError(f"{path} has no [[{table}]]: restore it or install the package again")
    result = []
    for number, entry in enumerate(entries, start=1):
        try:
            result.append(build(path.parent, entry))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise TemplateError(f"{path}: [[{table}]] number {number} is not usable ({error!r})") from error
    return result


def _picture(folder: Path, entry: dict[str, Any]) -> Picture:
    if entry["kind"] not in PICTURE_KINDS:
        raise ValueError(f"kind {entry['kind']!r} is none of {PICTURE_KINDS}")
    path = folder / entry["file"]
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"file {entry['file']!r} lies outside the library")
    texts = {key: str(entry[key]) for key in ("kind", "subject", "licence", "source", "sha256")}
    return Picture(id=str(entry["id"]), path=path, **texts)


def _template(_folder: Path, entry: dict[str, Any]) -> Template:
    point, box = entry.get("point"), entry.get("box")
    if point is not None:
        x, y = point
        point = (float(x), float(y))
    if box is not None:
        x0, y0, x1, y1 = box
        box = (float(x0), float(y0), float(x1), float(y1))
    return Template(
        attribute=str(entry["attribute"]).lower(),
        picture=str(entry["picture"]),
        point=point,
        box=box,
        negative=bool(entry.get("negative", False)),
    )
