"""Templates: an attribute, a picture, and a point or box in it (section 3.1 of the paper).

A library is a folder with a `library.toml` and pictures.  The built-in one has the paper's nine attributes; a user's
own (user_library) is joined to it.  No network is needed for any of it.

Not here: descriptors of templates (template_bank), thresholds (presets), changes of a user's library (user_library),
the file format of exchanged templates (template_exchange).
"""

from __future__ import annotations

import difflib
import hashlib
import io
import json
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from anonymotion.errors import TemplateError, UnknownAttributeError
from anonymotion.registry import ATTRIBUTE_NAME, ATTRIBUTES, GROUPS

if TYPE_CHECKING:
    from PIL import Image

BUILTIN_FOLDER = Path(__file__).parent / "library"
SCHEMA_VERSION = 1
PICTURE_KINDS = ("photograph", "rendered", "background", "own")


@dataclass(frozen=True)
class Picture:
    """A picture of a library, with its origin.

    kind: `photograph`, `rendered`, `background` (nobody in it; it serves the de-biasing mean) or `own` (a crop of
    a picture of the user's).  content: the bytes of the file where it is not on the disk yet.
    background_grid: so many patches to a side of a picture with nobody in it stand for what is not asked for.
    """

    background_grid: ClassVar[int] = 10

    id: str
    path: Path
    kind: str
    subject: str
    licence: str
    source: str
    sha256: str
    content: bytes | None = field(default=None, repr=False)

    def read(self) -> np.ndarray:
        """The picture as (H, W, 3) uint8 RGB.  Raises TemplateError if it is missing or damaged."""
        with self._opened() as image:
            return np.asarray(image.convert("RGB"))

    def size_hw(self) -> tuple[int, int]:
        """Its height and width, without decoding it.  Raises TemplateError as `read` does."""
        with self._opened() as image:
            return image.height, image.width

    @contextmanager
    def _opened(self) -> Iterator[Image.Image]:
        from PIL import Image, UnidentifiedImageError

        try:
            data = self.path.read_bytes() if self.content is None else self.content
            if hashlib.sha256(data).hexdigest() != self.sha256:
                raise TemplateError(
                    f"picture {self.path.name} of the library is not the one recorded: install it again"
                )
            with Image.open(io.BytesIO(data)) as image:
                yield image
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
    """Pictures and templates, in the order of their file.

    digest: of the content; descriptors are kept under it.  own: it is (a part of) a user's library.
    joined: the libraries that this one was joined from; empty for a library of one file.
    """

    folder: Path
    pictures: dict[str, Picture]
    templates: tuple[Template, ...]
    digest: str
    own: bool = False
    joined: tuple[TemplateLibrary, ...] = ()

    @classmethod
    def load(cls, folder: Path = BUILTIN_FOLDER) -> TemplateLibrary:
        """Read `folder`/library.toml.  Raises TemplateError if it is missing, damaged or inconsistent."""
        path = folder / "library.toml"
        try:
            data = path.read_bytes()
        except OSError as error:
            raise TemplateError(
                f"library {folder} cannot be read ({error.strerror}): expected a library.toml"
            ) from error
        return cls.parse(data, path)

    @classmethod
    def parse(cls, data: bytes, path: Path) -> TemplateLibrary:
        """The library that the bytes of a library.toml describe; `path` is where it is, or would be.

        Raises TemplateError if it is damaged or inconsistent.  Pictures are not opened.
        """
        try:
            content = tomllib.loads(data.decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
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
        return cls(path.parent, pictures, templates, hashlib.sha256(data).hexdigest())

    def join(self, own: TemplateLibrary) -> TemplateLibrary:
        """This library and a user's own as one: more attributes, and more exemplars of those that are here.

        The parts stay known, because the de-biasing mean, the background and the attributes that compete are
        this library's whatever a user adds.  The user's part is one library per picture, so that a picture's
        descriptors are computed once and not at every change.  Raises TemplateError for two different pictures
        of one id.
        """
        for name, picture in own.pictures.items():
            if name in self.pictures and self.pictures[name].sha256 != picture.sha256:
                raise TemplateError(
                    f"library {own.folder} has another picture of the id {name!r}, which is built in: rename it there"
                )
        parts = [self]
        for name, picture in own.pictures.items():
            templates = tuple(t for t in own.templates if t.picture == name)
            if templates:
                text = json.dumps([own.template_id(t) for t in templates])
                digest = hashlib.sha256(text.encode()).hexdigest()
                parts.append(TemplateLibrary(own.folder, {name: picture}, templates, digest, own=True))
        return TemplateLibrary(
            folder=self.folder,
            pictures={name: picture for part in parts for name, picture in part.pictures.items()},
            templates=tuple(template for part in parts for template in part.templates),
            digest=hashlib.sha256(" ".join(part.digest for part in parts).encode()).hexdigest(),
            joined=tuple(parts),
        )

    def only(self, templates: Iterable[Template]) -> TemplateLibrary:
        """A library of some of these templates and their pictures, for which descriptors are kept apart."""
        kept = tuple(dict.fromkeys(templates))
        pictures = {template.picture: self.pictures[template.picture] for template in kept}
        text = json.dumps([self.template_id(template) for template in kept])
        return TemplateLibrary(self.folder, pictures, kept, hashlib.sha256(text.encode()).hexdigest())

    @property
    def parts(self) -> tuple[TemplateLibrary, ...]:
        """The libraries that this one was joined from, the built-in one first; itself if it is of one file."""
        return self.joined or (self,)

    @property
    def own_templates(self) -> tuple[Template, ...]:
        """Those of the user's own."""
        return tuple(template for part in self.parts if part.own for template in part.templates)

    def template_id(self, template: Template) -> str:
        """64 hex digits of what a template is: attribute, picture (its bytes), place and sign."""
        content = [
            template.attribute,
            self.pictures[template.picture].sha256,
            template.point,
            template.box,
            template.negative,
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

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
                    f"{attribute} has no template in {which!r}: use all, first, or one of {', '.join(sorted(sources))}"
                )
        return found


def check_attribute_name(name: str) -> None:
    """Raise TemplateError unless an attribute may be called `name`."""
    if not ATTRIBUTE_NAME.fullmatch(name):
        raise TemplateError(
            f"attribute name {name[:60]!r} cannot be used: at most 40 of a-z, 0-9, _ and -, the first a letter or digit"
        )
    if name in GROUPS:
        raise TemplateError(f"{name!r} is the group of {', '.join(GROUPS[name])}: choose another name")


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
        except TemplateError as error:
            raise TemplateError(f"{path}: [[{table}]] number {number} is not usable: {error}") from error
    return result


def _picture(folder: Path, entry: dict[str, Any]) -> Picture:
    if entry["kind"] not in PICTURE_KINDS:
        raise ValueError(f"kind {entry['kind']!r} is none of {PICTURE_KINDS}")
    path = folder / entry["file"]
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"file {entry['file']!r} lies outside the library")
    kind, subject, licence, source, sha256 = (
        str(entry[key]) for key in ("kind", "subject", "licence", "source", "sha256")
    )
    return Picture(str(entry["id"]), path, kind, subject, licence, source, sha256)


def _template(_folder: Path, entry: dict[str, Any]) -> Template:
    point, box = entry.get("point"), entry.get("box")
    if point is not None:
        x, y = point
        point = (float(x), float(y))
    if box is not None:
        x0, y0, x1, y1 = box
        box = (float(x0), float(y0), float(x1), float(y1))
    attribute = str(entry["attribute"]).lower()
    check_attribute_name(attribute)
    return Template(
        attribute=attribute,
        picture=str(entry["picture"]),
        point=point,
        box=box,
        negative=bool(entry.get("negative", False)),
    )
