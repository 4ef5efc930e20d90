"""A file for av to write into.

This file does not name files or let them appear: `target` does.
"""

from __future__ import annotations

from pathlib import Path


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
