"""A user's own templates: a folder beside the built-in library, and every change of it.

A change appears whole or not at all: new pictures first, then library.toml in one rename, then what is no longer
used goes.  Two changes at once wait for each other.  The pictures are private: folder 0700, files 0600.

Not here: what is cut out of a picture (template_crop), exchanged files (template_exchange), descriptors.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anonymotion import descriptor_cache
from anonymotion.errors import TemplateError
from anonymotion.target import fsync_path, reason
from anonymotion.template_crop import Crop, as_png
from anonymotion.templates import SCHEMA_VERSION, Picture, Template, TemplateLibrary, check_attribute_name

FOLDER_VARIABLE = "ANONYMOTION_LIBRARY"
PRIVATE = "private: not for redistribution"
SOURCE = "a crop of a picture of one's own"
LONGEST_TEXT = 500
LOCK_SECONDS = 10.0

_OUR_PICTURES = re.compile(r"[0-9a-f]{16}\.png")
_UNFINISHED = re.compile(r"\..+\.partial")


def load_library(folder: Path | None = None) -> TemplateLibrary:
    """The built-in templates and the user's own together.

    folder: of the user's own; by default $ANONYMOTION_LIBRARY, or a folder in the platform's data folder, which may
    be absent.  Raises TemplateError if it is damaged, or was named and is not there.
    """
    return UserLibrary.at(folder).joined()


@dataclass(frozen=True)
class Change:
    """What a change did: templates that are new or gone, by short id; how many were there already; the library now."""

    templates: dict[str, Template]
    skipped: int
    library: TemplateLibrary


def short_id(library: TemplateLibrary, template: Template) -> str:
    """How a template is called on the command line: 8 hex digits of its content."""
    return library.template_id(template)[:8]


@dataclass(frozen=True)
class UserLibrary:
    """The folder of a user's own templates; `named` if the user chose it, and so expects it to be there."""

    folder: Path
    named: bool

    @classmethod
    def at(cls, folder: Path | None = None) -> UserLibrary:
        """The library in `folder`, or in the default one.  Nothing is created."""
        chosen = folder or (Path(os.environ[FOLDER_VARIABLE]) if os.environ.get(FOLDER_VARIABLE) else None)
        if chosen is not None:
            return cls(chosen.expanduser(), named=True)
        from platformdirs import user_data_path

        return cls(user_data_path("anonymotion", appauthor=False) / "library", named=False)

    def read(self) -> TemplateLibrary | None:
        """The own templates, or None if there are none yet.  Raises TemplateError if they are damaged."""
        try:
            (self.folder / "library.toml").stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise TemplateError(f"library {self.folder} cannot be read ({error.strerror}): check it") from error
        except ValueError as error:
            raise TemplateError(f"library {str(self.folder)[:80]!r} is not a usable path ({error})") from error
        return TemplateLibrary.load(self.folder)

    def joined(self) -> TemplateLibrary:
        """The built-in templates and these.  Raises TemplateError if a named library is not there."""
        return self._joined(TemplateLibrary.load())

    def _joined(self, built_in: TemplateLibrary) -> TemplateLibrary:
        own = self.read()
        if own is None and self.named:
            raise TemplateError(
                f"library {self.folder} holds no templates: name another, or add one with `anonymotion template add`"
            )
        return _with_own(built_in, own)

    def add(
        self, crop: Crop, attribute: str, *, negative: bool = False, subject: str = "", licence: str = ""
    ) -> Change:
        """Keep `crop` and the mark in it as a template of `attribute`.  Raises TemplateError; then nothing changed."""
        data = as_png(crop.image)
        digest = hashlib.sha256(data).hexdigest()
        name = digest[:16]
        path = self.folder / "pictures" / f"{name}.png"
        picture = Picture(name, path, "own", subject, licence or PRIVATE, SOURCE, digest, data)
        template = Template(attribute.strip().lower(), name, crop.mark.point, crop.mark.box, negative)
        incoming = TemplateLibrary(self.folder, {name: picture}, (template,), digest)
        change = self.take(incoming)
        if not change.templates:
            raise TemplateError(
                f"this very template of {template.attribute!r} is in the library already: "
                f"{short_id(incoming, template)}"
            )
        return change

    def take(self, incoming: TemplateLibrary) -> Change:
        """Add all templates of `incoming` that are not here yet; its pictures have their content with them.

        Raises TemplateError, and then nothing has changed: for a name, text, or sign that cannot be, or a folder
        that cannot be written.
        """
        for template in incoming.templates:
            check_attribute_name(template.attribute)
        for picture in incoming.pictures.values():
            check_texts(picture)
        built_in = TemplateLibrary.load()
        self._check(incoming, self.read(), built_in)
        with self._changing():
            own = self.read()
            known = {own.template_id(t) for t in own.templates} if own else set()
            named = {incoming.template_id(t): t for t in incoming.templates}
            new = tuple(t for name, t in named.items() if name not in known)
            self._check(incoming, own, built_in)
            pictures = {**(own.pictures if own else {})}
            for name in dict.fromkeys(t.picture for t in new):
                place = self.folder / "pictures" / f"{name}.png"
                pictures.setdefault(name, replace(incoming.pictures[name], path=place))
            templates = (*(own.templates if own else ()), *new)
            if new:
                self._write(own, pictures, templates, built_in)
            added = {short_id(incoming, t): t for t in new}
            return Change(added, len(incoming.templates) - len(new), _with_own(built_in, self.read()))

    def _check(self, incoming: TemplateLibrary, own: TemplateLibrary | None, built_in: TemplateLibrary) -> None:
        """Raise TemplateError if `incoming` contradicts what is here."""
        joined = _with_own(built_in, own)
        present = {(t.attribute, t.picture, t.point, t.box): t.negative for t in own.templates} if own else {}
        positive = {*joined.attributes, *(t.attribute for t in incoming.templates if not t.negative)}
        for name, picture in incoming.pictures.items():
            if name in joined.pictures and joined.pictures[name].sha256 != picture.sha256:
                raise TemplateError(f"the library has another picture of the id {name!r}: remove its templates first")
        for template in incoming.templates:
            place = (template.attribute, template.picture, template.point, template.box)
            if present.get(place, template.negative) != template.negative:
                raise TemplateError(
                    f"the same place is a {'positive' if template.negative else 'negative'} template of "
                    f"{template.attribute!r} already: remove that one first"
                )
            present[place] = template.negative
            if template.attribute not in positive:
                raise TemplateError(
                    f"{template.attribute!r} has no template yet that a negative one could take away from: add one "
                    f"without --negative first, or use some of {', '.join(joined.attributes)}"
                )

    def remove(self, ids: Sequence[str] = (), attribute: str | None = None) -> Change:
        """Remove templates by their short ids, or all own ones of an attribute, and pictures no longer used.

        What the last positive template of an own attribute leaves behind, its negatives, goes with it.  Raises
        TemplateError, and then nothing has changed, if one of them is built in or unknown.
        """
        built_in = TemplateLibrary.load()
        self._chosen(self._joined(built_in), ids, attribute)
        with self._changing():
            own, joined = self.read(), self._joined(built_in)
            chosen = self._chosen(joined, ids, attribute)
            assert own is not None  # noqa: S101 - for mypy: something was chosen from it
            left = [t for t in own.templates if t not in chosen]
            positive = {*built_in.attributes, *(t.attribute for t in left if not t.negative)}
            left = [t for t in left if t.attribute in positive]
            used = {t.picture for t in left}
            self._write(own, {name: p for name, p in own.pictures.items() if name in used}, left, built_in)
            gone = {short_id(own, t): t for t in own.templates if t not in left}
            return Change(gone, 0, _with_own(built_in, self.read()))

    def _chosen(self, joined: TemplateLibrary, ids: Sequence[str], attribute: str | None) -> set[Template]:
        if bool(ids) == bool(attribute):
            raise TemplateError(
                "say what to remove: either ids (`anonymotion template show` lists them) or --attribute"
            )
        own = {t: p for p in joined.parts[1:] for t in p.templates}
        if attribute:
            name = attribute.strip().lower()
            chosen = {t for t in own if t.attribute == name}
            if not chosen:
                built_in = name in joined.parts[0].attributes
                why = "its templates are built in and stay" if built_in else joined.unknown(name)
                raise TemplateError(f"there is no template of your own of {name!r}: {why}")
            return chosen
        chosen = set()
        for wanted in ids:
            found = {t for t in own if short_id(joined, t) == wanted.strip().lower()}
            if not found:
                built_in = any(short_id(joined, t) == wanted.strip().lower() for t in joined.parts[0].templates)
                why = "is built in and stays" if built_in else "is not in the library"
                raise TemplateError(f"template {wanted[:40]!r} {why}: `anonymotion template show` lists the ids")
            chosen |= found
        return chosen

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Only one process changes the folder at a time.  Raises TemplateError after LOCK_SECONDS of waiting."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            (self.folder / "pictures").mkdir(exist_ok=True, mode=0o700)
            lock = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise TemplateError(f"library {self.folder} cannot be written ({reason(error)}): use --library") from error
        try:
            _wait_for(lock, self.folder)
            yield
        finally:
            os.close(lock)

    def _write(
        self,
        before: TemplateLibrary | None,
        pictures: Mapping[str, Picture],
        templates: Sequence[Template],
        built_in: TemplateLibrary,
    ) -> None:
        """Replace the content of the folder; an empty library has no file.  Raises TemplateError."""
        path = self.folder / "library.toml"
        data = library_text(self.folder, pictures.values(), templates).encode()
        after = TemplateLibrary.parse(data, path) if templates else None
        fresh: list[Path] = []
        try:
            for picture in pictures.values():
                if picture.content is not None and not picture.path.exists():
                    fresh.append(picture.path)
                    _write_file(picture.path, picture.content)
            if after is None:
                path.unlink()
            else:
                _write_file(path, data)
        except BaseException as error:
            if after is None or not path.exists() or path.read_bytes() != data:  # else it is done, and they are used
                for file in fresh:
                    file.unlink(missing_ok=True)
            if not isinstance(error, OSError):
                raise
            raise TemplateError(f"library {self.folder} cannot be written ({reason(error)})") from error
        self._sweep({picture.path.name for picture in pictures.values()})
        kept = {part.digest for part in _with_own(built_in, after).parts}
        for part in _with_own(built_in, before).parts[1:]:
            if part.digest not in kept:
                descriptor_cache.forget(part.digest)

    def _sweep(self, used: set[str]) -> None:
        """Delete our pictures that no template needs, and what a killed process left; other files stay."""
        for file in [*(self.folder / "pictures").iterdir(), *self.folder.iterdir()]:
            ours = _OUR_PICTURES.fullmatch(file.name) and file.name not in used and file.parent.name == "pictures"
            if ours or _UNFINISHED.fullmatch(file.name):
                with suppress(OSError):  # it is swept again at the next change
                    file.unlink()


def _with_own(built_in: TemplateLibrary, own: TemplateLibrary | None) -> TemplateLibrary:
    return built_in if own is None else built_in.join(own)


def library_text(folder: Path, pictures: Iterable[Picture], templates: Iterable[Template]) -> str:
    """The library.toml in `folder` of these pictures and templates."""
    import tomli_w

    content: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "picture": [], "template": []}
    for picture in pictures:
        texts = {key: getattr(picture, key) for key in ("kind", "subject", "licence", "source", "sha256")}
        file = picture.path.relative_to(folder).as_posix()
        content["picture"].append({"id": picture.id, "file": file, **texts})
    for template in templates:
        entry: dict[str, Any] = {"attribute": template.attribute, "picture": template.picture}
        place = template.point or template.box
        assert place is not None  # noqa: S101 - for mypy: Template checks it
        entry["box" if template.point is None else "point"] = list(place)
        content["template"].append({**entry, **({"negative": True} if template.negative else {})})
    return tomli_w.dumps(content)


def check_texts(picture: Picture) -> None:
    """Raise TemplateError unless subject, licence and source are texts that a file can hold."""
    for what in ("subject", "licence", "source"):
        text = getattr(picture, what)
        if len(text) > LONGEST_TEXT:
            raise TemplateError(f"the {what} has {len(text)} characters: at most {LONGEST_TEXT} are kept")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise TemplateError(f"the {what} is not valid text: use Unicode characters") from error


def _write_file(path: Path, data: bytes) -> None:
    """Write `path` in one step, on the disk when it appears, readable by the owner alone."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
        fsync_path(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _wait_for(lock: int, folder: Path) -> None:
    """Wait until nobody else holds the lock; it goes with its process.  Without fcntl nobody is waited for."""
    try:
        import fcntl
    except ImportError:
        return
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise TemplateError(f"library {folder} cannot be locked ({reason(error)}): use --library") from error
            if time.monotonic() > deadline:
                raise TemplateError(
                    f"library {folder} is being changed by another process since {LOCK_SECONDS:g} s: try again later"
                ) from error
        time.sleep(0.02)
