"""Output that appears whole or not at all.

Everything is written beside the target under a hidden name, `.<name>.<random>.partial<suffix>`, readable
by the owner only, and renamed when it is complete and on the disk.

Not here: what is written; `video` and `exports` know that.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Self

from anonymotion.errors import OutputError

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


def hidden_name(path: Path) -> Path:
    """A new name beside `path` for what is being written."""
    # a part of the name says whose it is; all of it could make the hidden name too long for the file system
    return path.with_name(f".{path.stem[:40]}.{secrets.token_hex(4)}.partial{path.suffix}")


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


class GuardedFile:
    """A file for av to write into, which remembers its first error instead of raising it.

    av finishes a file even after an error and cannot pass on a second one, so what comes after the first
    is dropped here; whoever writes looks at `error`.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("r+b", buffering=0)
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write all of `data`."""
        view = memoryview(data)
        try:
            while view and self.error is None:
                view = view[self._file.write(view) :]
        except OSError as error:
            self.error = error
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of files."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As of files."""
        return self._file.tell()

    def close(self) -> None:
        """Close; allowed more than once."""
        try:
            self._file.close()
        except OSError as error:
            self.error = self.error or error


class HiddenFile:
    """A file that is written under a hidden name and renamed on `commit`.

    `partial` is the hidden path; it exists, empty and with mode 0600, from the start.
    """

    def __init__(self, path: Path, *, force: bool) -> None:
        self.path = path.absolute()
        self.partial = hidden_name(self.path)
        self._force = force
        self._committed = False
        try:
            descriptor = os.open(self.partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise OutputError(f"{path} cannot be written ({reason(error)})") from error
        os.close(descriptor)

    def finish(self) -> Path:
        """Flush the hidden file to the disk; its path.  Raises OutputError."""
        try:
            fsync_path(self.partial)
        except OSError as error:
            self.discard()
            raise OutputError(f"{self.path} cannot be written ({reason(error)})") from error
        return self.partial

    def commit(self) -> None:
        """Rename into place with the usual permissions.  Raises OutputError; then nothing is left."""
        try:
            os.chmod(self.partial, 0o666 & ~_our_umask())
            self._place()
            fsync_path(self.path.parent)
        except FileExistsError as error:
            self.discard()
            raise OutputError(
                f"{self.path} appeared while it was being made and was not overwritten: choose another output, "
                "or replace it with --force"
            ) from error
        except OSError as error:
            self.discard()
            raise OutputError(f"{self.path} cannot be written ({reason(error)})") from error
        self._committed = True

    def _place(self) -> None:
        if self._force:
            os.replace(self.partial, self.path)
            return
        try:
            os.link(self.partial, self.path)  # unlike rename, never overwrites
        except FileExistsError:
            raise
        except OSError:
            # a file system without hard links: the next best thing leaves a gap of microseconds
            if self.path.exists():
                raise FileExistsError(errno.EEXIST, "exists", str(self.path)) from None
            os.rename(self.partial, self.path)
            return
        os.unlink(self.partial)

    def discard(self) -> None:
        """Remove the hidden file, unless committed."""
        if not self._committed:
            self.partial.unlink(missing_ok=True)


class HiddenFolder:
    """A folder that is filled under a hidden name and renamed on `commit`; `partial` is the hidden path.

    `ours`: what the files of such a folder are called; with `force` an older folder of such files is replaced.
    `private`: readable by its owner only, also afterwards.  Leaving a `with` block without `commit` removes it.
    """

    def __init__(self, path: Path, ours: re.Pattern[str] = NUMBERED_PICTURES, *, force: bool, private: bool = False):
        # behind a link it is the folder itself that is replaced, not the link
        self.path = path.resolve() if path.is_dir() else path.absolute()
        self.partial = self.path.with_name(f".{self.path.name[:40]}.{secrets.token_hex(4)}.partial")
        self._ours, self._force = ours, force
        self._mask = 0o077 if private else _our_umask()
        self._committed = False
        try:
            if path.is_dir():
                check_folder(path, ours, force=force)
            elif path.exists():
                raise OutputError(f"{path} is a file: a folder is written here, choose another name")
            self.partial.mkdir(mode=0o700)
        except OSError as error:
            raise OutputError(f"{path} cannot be written ({reason(error)}): choose another place") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def finish(self) -> Path:
        """Flush every file to the disk; the hidden path.  Raises OutputError."""
        try:
            for file in self.partial.iterdir():
                os.chmod(file, 0o666 & ~self._mask)
                fsync_path(file)
        except OSError as error:
            self.discard()
            raise OutputError(f"{self.path} cannot be written ({reason(error)})") from error
        return self.partial

    def commit(self) -> None:
        """Rename into place.  Raises OutputError; then nothing is left and the old folder is whole."""
        old = self.path.with_name(f".{self.path.name[:40]}.{secrets.token_hex(4)}.old")
        moved = False
        try:
            self.finish()
            if self.path.is_dir():
                check_folder(self.path, self._ours, force=self._force)  # again: it may have been filled meanwhile
                os.rename(self.path, old)
                moved = True
            elif self.path.exists():
                raise FileExistsError(errno.EEXIST, "a file of that name exists")
            os.rename(self.partial, self.path)
            os.chmod(self.path, 0o777 & ~self._mask)
            fsync_path(self.path.parent)
        except OSError as error:
            if moved and not self.path.exists():
                os.rename(old, self.path)
            self.discard()
            raise OutputError(f"{self.path} cannot be written ({reason(error)})") from error
        except OutputError:
            self.discard()
            raise
        self._committed = True
        if moved:
            shutil.rmtree(old, ignore_errors=True)

    def discard(self) -> None:
        """Remove the hidden folder, unless committed."""
        if not self._committed:
            shutil.rmtree(self.partial, ignore_errors=True)

    def retract(self) -> None:
        """Remove the folder again after `commit`, because what belongs to it did not appear."""
        shutil.rmtree(self.path, ignore_errors=True)
