"""What one studio holds while it is open: a private folder, clips, the policy that is being made, own templates.

The folder (0700, in the system's folder for temporary files) has uploads, descriptors of frames, templates and results
in it; it goes when the studio closes.  What a killed studio left is removed by the next one: a living one holds a lock.

The policy is one for all windows.  Each change of it has a number, so that of two windows that change it at once the
second one learns of the first.

Not here: routes (app), runs (jobs), maps (seeing).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from anonymotion import descriptor_cache
from anonymotion.errors import AnonymotionError, OutputError, SettingsError, TemplateError
from anonymotion.policy import Policy
from anonymotion.studio.clips import Clips
from anonymotion.template_crop import Crop
from anonymotion.templates import Template, TemplateLibrary
from anonymotion.user_library import Change, UserLibrary, short_id

PREFIX = "anonymotion-studio-"
GIGABYTE = 1 << 30


@dataclass(frozen=True)
class Options:
    """How a studio was started.

    root: a video, a folder of videos, or None.  library: the folder of the user's own templates, None for the usual
    one.  output: where results are written and stay; None: in the session's folder, and they go with it.
    device: as of `Hider`.  upload_limit, cache_limit: bytes of one upload, and of all descriptors of frames.
    """

    root: Path | None = None
    library: Path | None = None
    output: Path | None = None
    device: str = "auto"
    upload_limit: int = 4 * GIGABYTE
    cache_limit: int = 8 * GIGABYTE


class StaleError(AnonymotionError):
    """The policy was changed by somebody else meanwhile."""


class Session:
    """Everything that is kept while a studio is open; a context manager that leaves nothing of it.

    Raises InputError, TemplateError or OutputError if what was named cannot be used.
    """

    def __init__(self, options: Options) -> None:
        _sweep(Path(tempfile.gettempdir()), UserLibrary.at(options.library))
        self.options = options
        kept = UserLibrary.at(options.library)
        if options.output is not None and not options.output.is_dir():
            raise OutputError(f"{options.output} is not a folder: --output names the folder that results go to")
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))  # 0700
        self._lock_file = _locked(self.folder)
        try:
            self.clips = Clips(options.root, self.folder / "uploads", options.upload_limit)
            self.templates = OwnTemplates(self.folder / "library", kept)
        except BaseException:
            self.close()
            raise
        self._policy, self._revision = Policy(), 0
        self._lock = threading.Lock()

    @property
    def policy(self) -> tuple[Policy, int]:
        """The policy as it is now, and the number of its last change."""
        with self._lock:
            return self._policy, self._revision

    def change_policy(self, policy: Policy, seen: int) -> int:
        """Put another policy in its place; its number.

        seen: the number of the change that the new one was made from.  Raises StaleError if there was another one.
        """
        if policy.masks is not None:
            raise SettingsError("masks: the studio reads no folder of masks: use `anonymotion hide --policy` for those")
        with self._lock:
            if seen != self._revision:
                raise StaleError("the choices were changed in another window meanwhile: they are shown now")
            self._policy, self._revision = policy, self._revision + 1
            return self._revision

    def close(self) -> None:
        """Remove the session's folder and everything in it; allowed more than once."""
        if hasattr(self, "clips"):
            self.clips.close()
        _remove(self.folder, UserLibrary.at(self.options.library))
        if self._lock_file >= 0:
            os.close(self._lock_file)
            self._lock_file = -1

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class OwnTemplates:
    """Templates of the session, which begin as a copy of the user's own; what is to be kept goes there as well.

    So that trying something leaves nothing of a video behind, and a run sees one library.
    """

    def __init__(self, folder: Path, kept: UserLibrary) -> None:
        self._session, self._kept = UserLibrary(folder, named=False), kept
        own = kept.read()
        if own is not None:
            with_content = {n: replace(p, content=p.path.read_bytes()) for n, p in own.pictures.items()}
            self._session.take(replace(own, pictures=with_content))
        self.library = self._session.joined()

    @property
    def folder(self) -> Path:
        """Of the session's library."""
        return self._session.folder

    @property
    def kept_ids(self) -> set[str]:
        """Short ids of those that stay when the studio closes."""
        own = self._kept.read()
        return set() if own is None else {short_id(own, template) for template in own.templates}

    def add(self, crop: Crop, attribute: str, *, negative: bool, keep: bool) -> tuple[str, Template]:
        """Add a template, also to the user's own library if it is to be kept; its short id.  Raises TemplateError."""
        change = self._session.add(crop, attribute, negative=negative)
        self.library = change.library
        ((name, template),) = change.templates.items()
        if keep:
            try:
                self._kept.add(crop, attribute, negative=negative)
            except TemplateError:
                if name not in self.kept_ids:
                    self.library = self._session.remove([name]).library
                    raise
        return name, template

    def remove(self, ids: Sequence[str]) -> Change:
        """Remove templates, also from the user's own library.  Raises TemplateError."""
        change = self._session.remove(ids)
        self.library = change.library
        kept = [name for name in change.templates if name in self.kept_ids]
        if kept:
            self._kept.remove(kept)
        return change


def _locked(folder: Path) -> int:
    """An open descriptor that holds the lock of a session's folder; -1 where there are no locks."""
    try:
        import fcntl
    except ImportError:
        return -1
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def _sweep(place: Path, kept: UserLibrary) -> None:
    """Remove folders of this user's studios that were killed."""
    try:
        import fcntl
    except ImportError:  # nothing is locked there, so nothing can be told from a living one
        return
    for path in place.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # what cannot be removed is no reason to fail
            found = path.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                continue
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path, kept)
            finally:
                os.close(descriptor)


def _remove(folder: Path, kept: UserLibrary) -> None:
    """Remove a session's folder, and what the descriptor cache holds of templates that go with it."""
    with contextlib.suppress(AnonymotionError):  # a library that was half written has no descriptors
        stay = _digests(kept)
        for digest in _digests(UserLibrary(folder / "library", named=False)) - stay:
            descriptor_cache.forget(digest)
    shutil.rmtree(folder, ignore_errors=True)


def _digests(library: UserLibrary) -> set[str]:
    own = library.read()
    return set() if own is None else {part.digest for part in TemplateLibrary.load().join(own).parts[1:]}
