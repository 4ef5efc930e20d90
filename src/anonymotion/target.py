"""Output that appears whole or not at all.

Everything is written in the folder of the target, out of sight: a file without a name where the system has such
things, else under a hidden name (`leftovers`) that only the owner may read.  It gets its name when it is complete
and on the disk.  What is at the target must then be what was there at the start.

Not here: what is written; `video` and `exports` know that.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from anonymotion.errors import OutputError
from anonymotion.leftovers import claim, hidden_name, make_file, make_folder, open_parent, open_unnamed, remove, sweep

NUMBERED_PICTURES = re.compile(r"\d+\.png")


def check_target(path: Path, source: Path | None, *, force: bool) -> None:
    """Raise OutputError if `path` cannot become the output of `source`, before anything is decoded."""
    parent = path.absolute().parent
    if not parent.is_dir():
        raise OutputError(f"the folder {parent} does not exist: make it first, or choose another output")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"the folder {parent} may not be written to: choose another output")
    if source is not None and source.exists():
        if path.exists() and path.samefile(source):
            raise OutputError(f"{path} is the input itself: choose another output; the input is never changed")
        if path.is_dir() and path.resolve() in source.resolve().parents:
            raise OutputError(f"{path} is the folder that holds the input: choose another output")
    if path.is_dir():
        check_folder(path, NUMBERED_PICTURES, force=force)
    elif (path.exists() or path.is_symlink()) and not force:
        raise OutputError(f"{path} exists already: choose another output, or replace it with --force")


def check_folder(path: Path, ours: re.Pattern[str], *, force: bool) -> None:
    """Raise OutputError unless the folder is empty or, with `force`, holds only files named as `ours`."""
    entries = list(path.iterdir())
    if not entries:
        return
    if not force:
        raise OutputError(f"the folder {path} is not empty: choose another output, or replace it with --force")
    foreign = [entry.name for entry in entries if not ours.fullmatch(entry.name) or not entry.is_file()]
    if foreign:
        # force replaces an earlier result of ours; it must not delete somebody's other files
        raise OutputError(f"the folder {path} holds other files than an earlier result ({foreign[0]}): choose another")


def _our_umask() -> int:
    """The umask; read from the system where it says, because asking os.umask changes it for a moment."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("Umask:")).split()[1], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def fsync_path(path: Path) -> None:
    """Flush a file or a folder to the disk; a file system that cannot is no reason to fail."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EROFS, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def reason(error: BaseException) -> str:
    """Why the system or av could not write, in words for a user."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "the disk is full: free some space, or choose another output"
    return str(getattr(error, "strerror", None) or error)


Identity = tuple[int, ...]


def _stat_identity(found: os.stat_result) -> Identity:
    kind = stat.S_IFMT(found.st_mode)
    # the number of a file that was removed is soon given to another one, which is not as old
    age = (found.st_mtime_ns, found.st_size) if stat.S_ISREG(found.st_mode) else ()
    return found.st_dev, found.st_ino, kind, *age


def _identity(path: Path) -> Identity | None:
    """Which file, folder or link `path` names, not following it; None if there is none."""
    try:
        return _stat_identity(path.lstat())
    except FileNotFoundError:
        return None


def _appeared(path: Path) -> OutputError:
    return OutputError(
        f"{path} appeared while it was being made and was not overwritten: choose another output, "
        "or replace it with --force"
    )


def _check_unchanged(path: Path, before: Identity | None, folder: Identity, *, force: bool) -> None:
    """Raise OutputError if something else is at `path` than at the start, or its folder is another one."""
    if _stat_identity(path.parent.stat()) != folder:
        raise OutputError(f"the folder of {path} was replaced during the run: choose another output")
    now = _identity(path)
    if now is not None and now != before:
        if not force or before is None:
            raise _appeared(path)
        raise OutputError(f"{path} was replaced by something else during the run, which was left alone: run it again")


class Appearing(Protocol):
    """Something that appears on `commit`: a hidden file, a hidden folder, or what is written into one."""

    def finish(self) -> Path:
        """Complete it, flushed to the disk, still hidden."""
        ...

    def commit(self) -> None:
        """Let it appear.  Raises OutputError."""
        ...

    def retract(self) -> None:
        """Remove it again, and bring back what it replaced; harmless before `commit`, and more than once."""
        ...


def commit_all(parts: Sequence[Appearing]) -> None:
    """Let all `parts` of one result appear, the last one last, or none of them.  Raises OutputError."""
    for part in parts:
        part.finish()  # slow: it flushes to the disk; what follows takes milliseconds
    with contextlib.ExitStack() as unless_complete:
        for part in parts:
            unless_complete.callback(part.retract)
            part.commit()
        unless_complete.pop_all()


class HiddenFile:
    """A file that is written out of sight and appears under its name on `commit`.

    `partial` is where it can be written and read until then; it exists, empty, from the start.  Where the system
    can (Linux, most file systems) it has no name at all: `partial` leads to its descriptor, and a kill leaves
    nothing.  Elsewhere it is a hidden file with mode 0600, which the next run in the same folder removes.
    `private`: readable by its owner only, also afterwards.
    """

    def __init__(self, path: Path, *, force: bool, private: bool = False) -> None:
        self.path = path.absolute()
        self._mode = 0o600 if private else 0o666 & ~_our_umask()
        self._force = force
        self._committed = self._discarded = False
        self._kept: Path | None = None
        self._descriptors = contextlib.ExitStack()
        try:
            sweep(self.path.parent)
            self._before = _identity(self.path)
            self._folder = _stat_identity(self.path.parent.stat())
            self._parent = open_parent(self.path, self._descriptors)
            unnamed = open_unnamed(self.path)
            self._named = unnamed is None
            if unnamed is not None:
                self.partial, descriptor = Path(f"/proc/self/fd/{unnamed}"), unnamed
            else:
                self.partial, descriptor = claim(self.path, make_file)
            self._descriptors.callback(os.close, descriptor)
            self._ours = os.fstat(descriptor)
        except OSError as error:
            self._descriptors.close()
            raise OutputError(f"{path} cannot be written ({reason(error)})") from error

    def finish(self) -> Path:
        """Flush the hidden file to the disk; its path.  Raises OutputError."""
        try:
            fsync_path(self.partial)
        except OSError as error:
            self.discard()
            raise OutputError(f"{self.path} cannot be written ({reason(error)})") from error
        return self.partial

    def commit(self) -> None:
        """Let it appear with the usual permissions.  Raises OutputError; then nothing is left."""
        try:
            _check_unchanged(self.path, self._before, self._folder, force=self._force)
            os.chmod(self.partial, self._mode)
            self._place()
            fsync_path(self.path.parent)
        except FileExistsError as error:
            self.retract()
            raise _appeared(self.path) from error
        except OSError as error:
            self.retract()
            raise OutputError(f"{self.path} cannot be written ({reason(error)})") from error
        except BaseException:  # an interrupt may come right after the file has appeared
            self.retract()
            raise
        self._committed = True

    def _place(self) -> None:
        if not self._named:
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                if _stat_identity(os.fstat(folder)) != self._folder:
                    raise OutputError(f"the folder of {self.path} was replaced during the run: nothing was written")
                self._link_unnamed(folder)
            finally:
                os.close(folder)
        elif self._force:
            self._keep_old()
            os.replace(self.partial, self.path)
        else:
            self._rename_named()

    def _link_unnamed(self, folder: int) -> None:
        # a descriptor of a folder makes os.link follow the link in /proc to the file itself
        options: dict[str, Any] = {"src_dir_fd": folder, "dst_dir_fd": folder, "follow_symlinks": True}
        if self._before is None or not self._force:
            os.link(self.partial, self.path.name, **options)
            return
        self._keep_old()
        hidden = hidden_name(self.path).name
        os.link(self.partial, hidden, **options)
        try:
            os.replace(hidden, self.path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            os.unlink(hidden, dir_fd=folder)
            raise

    def _rename_named(self) -> None:
        try:
            os.link(self.partial, self.path)  # unlike rename, never overwrites
        except FileExistsError:
            raise
        except OSError:
            # a file system without hard links: the next best thing leaves a gap of microseconds
            if os.path.lexists(self.path):
                raise FileExistsError(errno.EEXIST, "exists", str(self.path)) from None
            os.rename(self.partial, self.path)
            return
        os.unlink(self.partial)

    def _keep_old(self) -> None:
        """Keep what is about to be replaced until everything that belongs to the run has appeared."""
        kept = hidden_name(self.path)
        with contextlib.suppress(OSError):  # no hard links, or nothing there: then there is no way back
            os.link(self.path, kept, follow_symlinks=False)
            self._kept = kept

    def discard(self) -> None:
        """Remove the hidden file, unless committed; allowed more than once."""
        if self._discarded:
            return
        self._discarded = True
        if not self._committed and self._named:
            remove(self.partial, self._parent)
        if self._kept is not None:
            remove(self._kept, self._parent)
        self._descriptors.close()

    def retract(self) -> None:
        """Remove the file also from its own name, where it got that far; what it replaced comes back."""
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(self._ours, self.path.lstat()):
                if self._kept is not None:
                    os.replace(self._kept, self.path)
                    self._kept = None
                else:
                    self.path.unlink()
        self._committed = False
        self.discard()


@contextlib.contextmanager
def whole_file(path: Path, *, force: bool, private: bool = False) -> Iterator[Path]:
    """Where to write a file that appears as `path` at the end of the block, and after an error not at all.

    Raises OutputError, also for an OSError of the block: nothing but the writing belongs into it.
    """
    hidden = HiddenFile(path, force=force, private=private)
    try:
        yield hidden.partial
        hidden.commit()
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({reason(error)})") from error
    finally:
        hidden.discard()


class HiddenFolder:
    """A folder that is filled under a hidden name and renamed on `commit`; `partial` is the hidden path.

    `ours`: what the files of such a folder are called; with `force` an older folder of such files is replaced.
    `private`: readable by its owner only, also afterwards.  Leaving a `with` block without `commit` removes it.
    Until `commit` nobody but its owner may look into it; what a kill leaves, the next run beside it removes.
    """

    def __init__(self, path: Path, ours: re.Pattern[str] = NUMBERED_PICTURES, *, force: bool, private: bool = False):
        # behind a link it is the folder itself that is replaced, not the link
        self.path = path.resolve() if path.is_dir() else path.absolute()
        self._ours, self._force = ours, force
        self._mask = 0o077 if private else _our_umask()
        self._committed = self._finished = self._discarded = False
        self._old: Path | None = None
        self._descriptors = contextlib.ExitStack()
        try:
            if path.is_dir():
                check_folder(path, ours, force=force)
            elif os.path.lexists(path):
                raise OutputError(f"{path} is a file: a folder is written here, choose another name")
            sweep(self.path.parent)
            self._before = _identity(self.path)
            self._folder = _stat_identity(self.path.parent.stat())
            self._parent = open_parent(self.path, self._descriptors)
            self.partial, descriptor = claim(self.path, make_folder)
            if descriptor >= 0:
                self._descriptors.callback(os.close, descriptor)
            self._identity = _identity(self.partial)
        except OSError as error:
            self._descriptors.close()
            raise OutputError(f"{path} cannot be written ({reason(error)}): choose another place") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def finish(self) -> Path:
        """Flush every file to the disk; the hidden path.  Raises OutputError."""
        try:
            for file in () if self._finished else self.partial.iterdir():
                os.chmod(file, 0o666 & ~self._mask)
                fsync_path(file)
        except OSError as error:
            self.discard()
            raise OutputError(f"{self.path} cannot be written ({reason(error)})") from error
        self._finished = True
        return self.partial

    def commit(self) -> None:
        """Rename into place.  Raises OutputError; then nothing is left and the old folder is whole."""
        try:
            self.finish()
            _check_unchanged(self.path, self._before, self._folder, force=True)
            if self._before is not None and self.path.is_dir():
                check_folder(self.path, self._ours, force=self._force)  # again: it may have been filled meanwhile
                old = hidden_name(self.path)
                os.rename(self.path, old)
                self._old = old
            os.rename(self.partial, self.path)
            os.chmod(self.path, 0o777 & ~self._mask)
            fsync_path(self.path.parent)
        except OSError as error:
            self.retract()
            raise OutputError(f"{self.path} cannot be written ({reason(error)})") from error
        except BaseException:  # OutputError, or an interrupt between two of these steps
            self.retract()
            raise
        self._committed = True

    def discard(self) -> None:
        """Remove the hidden folder, unless committed, and what it replaced, if it is; allowed more than once."""
        if self._discarded:
            return
        self._discarded = True
        if not self._committed:
            remove(self.partial, self._parent)
        elif self._old is not None:
            remove(self._old, self._parent)
        self._descriptors.close()

    def retract(self) -> None:
        """Remove the folder again after `commit`, because what belongs to it did not appear; the old one comes back."""
        if _identity(self.path) == self._identity:
            shutil.rmtree(self.path, ignore_errors=True)
        self._committed = False
        if self._old is not None and not os.path.lexists(self.path):
            os.rename(self._old, self.path)
            self._old = None
        self.discard()
