"""Stages of a run that overlap: each works in a thread of its own, a step ahead of the one that uses what it makes.

    decode ──► flow, match, mask ──► noise, composite ──► encode
    thread     thread                thread               the caller

A stage is an iterator, and `ahead` is put between two of them: it changes when things are worked out, never what, nor
in which order.  So a run has the same result as without it, an exception comes out where the item that it stands for
would have, and at most `LENGTH` items wait between two stages.  All of what is heavy here (OpenVINO, torch, OpenCV,
FFmpeg) lets go of Python's lock while it computes.

Not here: what the stages do (pipeline, video), which of them overlap (pipeline, run).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")

LENGTH = 1
"""Items that wait between two stages; in a chunk there may be more than a hundred MB."""


class _Belt(Iterator[Item], Generic[Item]):
    """Items on their way from one thread to another, at most `length` of them."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._stopped = False  # the taker wants no more
        self._ended = False  # the maker has no more
        self._error: BaseException | None = None

    def put(self, item: Item) -> bool:
        """Wait for room and lay `item` down; False if nobody wants it any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or len(self._items) < self._length)
            if not self._stopped:
                self._items.append(item)
                self._changed.notify_all()
            return not self._stopped

    def end(self, error: BaseException | None) -> None:
        """No item comes any more; error: why, if it is not that there are none."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    @property
    def ended(self) -> bool:
        """Whether the maker is done with all that it used."""
        return self._ended

    def wait_for_end(self) -> None:
        """Until the maker is done."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended)

    def stop(self) -> None:
        """No item is wanted any more."""
        with self._changed:
            self._stopped = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Item:
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._ended)
            if self._items:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration


@contextmanager
def ahead(items: Generator[Item, None, None], name: str, length: int = LENGTH) -> Iterator[Iterator[Item]]:
    """The same items, worked out in a thread called `name` while those before them are used; at most `length` wait.

    When the block is left, however it is, `items` is closed and the thread has ended: what it used can be closed too.
    An exception of `items`, KeyboardInterrupt included, is raised where the next item is asked for; one that comes
    after the block wanted no more items is not raised, as it would not have happened without the thread.
    """
    belt: _Belt[Item] = _Belt(length)
    # a daemon: if a library hangs for ever, the interpreter can still be left
    thread = threading.Thread(target=_make, args=(items, belt), name=name, daemon=True)
    try:
        thread.start()
        yield belt
    finally:
        _end(thread, belt)


def _make(items: Generator[Item, None, None], belt: _Belt[Item]) -> None:
    """Everything that a thread of `ahead` does."""
    error: BaseException | None = None
    try:
        with closing(items):
            for item in items:
                if not belt.put(item):
                    break
    except BaseException as caught:  # noqa: BLE001 - whatever it is, it belongs to the one who asks for the next item
        error = caught
    belt.end(error)


def _end(thread: threading.Thread, belt: _Belt[Item]) -> None:
    """Stop `thread` and wait for it, through any further Ctrl-C: closing a file that it still reads would crash."""
    interruption: BaseException | None = None
    # not `join` and `is_alive`: before Python 3.13 an interrupted join takes a thread that works on for a dead one
    while thread.ident is not None and not belt.ended:
        try:
            belt.stop()
            belt.wait_for_end()
        except BaseException as caught:  # noqa: BLE001 - raised below
            interruption = caught
    if interruption is not None:
        raise interruption
    if thread.ident is not None:
        thread.join()
