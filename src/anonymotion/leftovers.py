"""Hidden names for what is being written, and the removal of what a killed run left under them.

A hidden file or folder is `.<name>.anonymotion-<8 hex digits>.partial<suffix>`, and its writer holds a lock on it for
as long as it lives: the system lets go of the lock however the writer ends, so what can be locked was left over.
Where the system has files without a name, those are used instead, and nothing is left over at all.

Not here: what is written, and when it appears (target).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

try:
    import fcntl

    HAS_LOCKS = True
except ImportError:  # Windows: nothing is locked there, and so nothing is swept
    HAS_LOCKS = False

HIDDEN = re.compile(r"\..*\.anonymotion-[0-9a-f]{8}\.partial(\.\w+)?", re.DOTALL)


def hidden_name(path: Path) -> Path:
    """A new name beside `path` for what is being written."""
    # a part of the name says whose it is; all of it could make the hidden name too long for the file system
    suffix = path.suffix if re.fullmatch(r"\.\w{1,8}", path.suffix) else ""
    return path.with_name(f".{path.stem[:40]}.anonymotion-{secrets.token_hex(4)}.partial{suffix}")


def open_unnamed(path: Path) -> int | None:
    """A new file without a name on the file system of `path`, mode 0600; None where there is no such thing."""
    flag = getattr(os, "O_TMPFILE", None)
    if flag is None or not Path("/proc/self/fd").is_dir():
        return None
    unsupported = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT, errno.EXDEV, errno.EPERM)
    # tried out at once, because hours later is too late to learn that such a file cannot get a name here
    try:
        trial = os.open(path.parent, flag | os.O_RDWR, 0o600)
        try:
            name = hidden_name(path)
            os.link(f"/proc/self/fd/{trial}", name, src_dir_fd=trial, follow_symlinks=True)
            os.unlink(name)
        finally:
            os.close(trial)
        return os.open(path.parent, flag | os.O_RDWR, 0o600)
    except OSError as error:
        if error.errno in unsupported:
            return None
        raise


def make_file(name: Path) -> int:
    """Make a file of mode 0600 and open it; see `claim`."""
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)


def make_folder(name: Path) -> int:
    """Make a folder of mode 0700 and open it, where folders can be opened (-1 elsewhere); see `claim`."""
    name.mkdir(mode=0o700)
    return os.open(name, os.O_RDONLY) if hasattr(os, "O_DIRECTORY") else -1


def claim(path: Path, make: Callable[[Path], int]) -> tuple[Path, int]:
    """Make something hidden beside `path` and lock it: its name and an open descriptor.

    make: makes it under the name given and opens it.  Closing the descriptor gives the claim up.
    """
    while True:
        name = hidden_name(path)
        try:
            descriptor = make(name)
        except FileNotFoundError:
            if not path.parent.is_dir():
                raise
            continue  # swept between making and opening
        if not HAS_LOCKS or descriptor < 0:
            return name, descriptor
        with contextlib.suppress(OSError):  # a file system without locks: then nobody can sweep it either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_at(descriptor, name):
            return name, descriptor
        os.close(descriptor)  # swept before it was locked


def open_parent(path: Path, stack: contextlib.ExitStack) -> int | None:
    """A descriptor of the folder of `path`, by which it is found also after it was moved; None without such things.

    It is closed by `stack`.
    """
    if not hasattr(os, "O_DIRECTORY"):
        return None
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    stack.callback(os.close, descriptor)
    return descriptor


def remove(hidden: Path, parent: int | None) -> None:
    """Remove a hidden file or folder of ours, if it is there, wherever its folder is now; see `open_parent`."""
    name: Path | str = hidden if parent is None else hidden.name
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):  # what systems say of a folder
        shutil.rmtree(name, ignore_errors=True, dir_fd=parent)


def sweep(folder: Path) -> None:
    """Remove what killed runs of this user left in `folder`; what a living process writes is locked and stays."""
    if not HAS_LOCKS:
        return
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if HIDDEN.fullmatch(entry.name):
                # what cannot be removed is no reason to fail
                with contextlib.suppress(OSError):
                    _remove_if_abandoned(Path(entry.path))


def _remove_if_abandoned(path: Path) -> None:
    found = path.lstat()
    if found.st_uid != os.geteuid() or not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_at(descriptor, path):
            return
        if stat.S_ISREG(found.st_mode):
            path.unlink()
        else:
            with os.scandir(path) as entries:
                flat = all(entry.is_file(follow_symlinks=False) for entry in entries)
            if flat:  # as all of ours are
                shutil.rmtree(path)
    finally:
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether `path` still names what is open."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
