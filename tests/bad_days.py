"""Bad days, made to order: each entry of FAULTS makes one happen at a chosen moment of a run.

`inject(name, at, patch, target)` patches the package, in this process, so that the fault happens when frame or chunk
number `at` is worked on.  Used by the contract tests in process and by benchmarks/faults.py in real processes.

This file does not test anything.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch

from anonymotion import matcher, pipeline, target
from anonymotion.errors import InputError
from anonymotion.flow.estimators import DISFlow
from anonymotion.reuse import Reuse
from anonymotion.video import guarded, reader
from anonymotion.video.info import Frame


class Patch(Protocol):
    """pytest's monkeypatch, or anything else with its `setattr`."""

    def setattr(self, owner: Any, name: str, value: Any) -> None:
        """As the built-in."""
        ...


Injector = Callable[[int, Patch, Path], None]


def _on_call(owner: Any, name: str, at: int, patch: Patch, happen: Callable[[Any], Any]) -> None:
    """Call number `at` (from 0) of `owner.name` gives `happen(its result)`."""
    inner, calls = getattr(owner, name), [0]

    def wrapped(*arguments: Any, **options: Any) -> Any:
        result = inner(*arguments, **options)
        calls[0] += 1
        return happen(result) if calls[0] == at + 1 else result

    patch.setattr(owner, name, wrapped)


def _raise(error: BaseException) -> Callable[[Any], Any]:
    def happen(_: Any) -> Any:
        raise error

    return happen


def _out_of_memory(at: int, patch: Patch, _: Path) -> None:
    """From call number `at` on nothing is matched any more, in however few frames."""
    inner, calls = matcher.Matcher._find, [0]

    def limited(self: matcher.Matcher, frames: torch.Tensor, reuse: Reuse) -> matcher.Matched:
        calls[0] += 1
        if calls[0] > at:
            raise MemoryError
        return inner(self, frames, reuse)

    patch.setattr(matcher.Matcher, "_find", limited)


def _on_flow(at: int, patch: Patch, spoil: Callable[[torch.Tensor, int], torch.Tensor]) -> None:
    """Where flow number `at` (from 0) is estimated its chunk becomes `spoil(flows, its place in them)`."""
    inner, seen = DISFlow.over, [0]

    def wrapped(self: DISFlow, frames: torch.Tensor) -> torch.Tensor:
        flows = inner(self, frames)
        place, seen[0] = at - seen[0], seen[0] + len(flows)
        return spoil(flows, place) if 0 <= place < len(flows) else flows

    patch.setattr(DISFlow, "over", wrapped)


def _flow(value: float) -> Injector:
    def inject(at: int, patch: Patch, _: Path) -> None:
        def spoil(flows: torch.Tensor, place: int) -> torch.Tensor:
            flows[place, :, 3, 5] = value
            return flows

        _on_flow(at, patch, spoil)

    return inject


def _flow_shape(at: int, patch: Patch, _: Path) -> None:
    _on_flow(at, patch, lambda flows, _: flows[:, :, 1:])


def _mask(spoil: Callable[[torch.Tensor], Any]) -> Injector:
    return lambda at, patch, _: _on_call(pipeline.Hider, "_alpha", at, patch, spoil)


def _frame_gap(at: int, patch: Patch, _: Path) -> None:
    inner = reader.ContainerSource.__iter__

    def gapped(self: reader.ContainerSource) -> Iterator[Frame]:
        yield from (frame for frame in inner(self) if frame.index != at)

    patch.setattr(reader.ContainerSource, "__iter__", gapped)


def _disk_full(at: int, patch: Patch, _: Path) -> None:
    error = OSError(errno.ENOSPC, "No space left on device")
    inner, calls = guarded.GuardedFile.write, [0]

    def full(self: guarded.GuardedFile, data: bytes) -> int:
        calls[0] += 1
        if calls[0] > at:
            self.error = self.error or error
            return len(data)
        return inner(self, data)

    patch.setattr(guarded.GuardedFile, "write", full)


def _during(happen: Callable[[Path], None]) -> Injector:
    """`happen(output)` while chunk `at` is worked on."""

    def inject(at: int, patch: Patch, output: Path) -> None:
        def then(result: Any) -> Any:
            happen(output)
            return result

        _on_call(pipeline, "composite", at, patch, then)

    return inject


def _link_appears(output: Path) -> None:
    elsewhere = output.parent.parent / "elsewhere.txt"
    elsewhere.write_text("precious")
    output.symlink_to(elsewhere)


def _folder_replaced(output: Path) -> None:
    os.rename(output.parent, output.parent.with_name("moved"))
    output.parent.mkdir()


def _folder_removed(output: Path) -> None:
    shutil.rmtree(output.parent)


def _unwritable(at: int, patch: Patch, _: Path) -> None:
    """The folder may not be written to any more when the file is done; root may write everywhere, so: said so."""
    for name in ("link", "replace", "rename"):
        inner = getattr(os, name)

        def refused(*arguments: Any, inner: Any = inner, **options: Any) -> Any:
            # the trial at the start is let through: it links to a hidden name
            if "partial" in str(arguments[1]):
                return inner(*arguments, **options)
            raise PermissionError(errno.EACCES, "Permission denied")

        patch.setattr(target.os, name, refused)


def _send(number: int) -> Injector:
    return _during(lambda _: os.kill(os.getpid(), number))


def _interrupt_at_link(at: int, patch: Patch, _: Path) -> None:
    """Ctrl-C right after the file has got its name."""
    for name in ("link", "replace"):
        inner = getattr(os, name)

        def interrupted(source: Any, name: Any, inner: Any = inner, **options: Any) -> None:
            inner(source, name, **options)
            if str(name).endswith(".mp4") and "partial" not in str(name):
                raise KeyboardInterrupt

        patch.setattr(target.os, name, interrupted)


FAULTS: dict[str, Injector] = {
    "flow is NaN": _flow(float("nan")),
    "flow is infinite": _flow(float("inf")),
    "flow of another shape": _flow_shape,
    "mask missing": _mask(lambda alpha: None),
    "mask of another shape": _mask(lambda alpha: alpha[:, 1:]),
    "mask is NaN": _mask(lambda alpha: alpha * float("nan")),
    "mask of fewer frames": _mask(lambda alpha: alpha[:-1]),
    "frame gap": _frame_gap,
    "decoder error": lambda at, patch, _: _on_call(
        reader.ContainerSource, "_decode_packet", at, patch, _raise(InputError("the data of a frame are damaged"))
    ),
    "exception in a stage": lambda at, patch, _: _on_call(
        pipeline, "composite", at, patch, _raise(ZeroDivisionError("a defect"))
    ),
    "out of memory": _out_of_memory,
    "disk full": _disk_full,
    "a link appears at the target": _during(_link_appears),
    "a file appears at the target": _during(lambda output: output.write_text("precious") and None),
    "the folder is replaced": _during(_folder_replaced),
    "the folder is removed": _during(_folder_removed),
    "the folder becomes unwritable": _unwritable,
    "Ctrl-C as the file appears": _interrupt_at_link,
}
"""Faults after which a process can still clean up, by name."""

SIGNALS: dict[str, Injector] = {
    name: _send(getattr(signal, name)) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT") if hasattr(signal, name)
}
"""Polite kills; they need a process of their own."""


def inject(name: str, at: int, patch: Patch, output: Path) -> None:
    """Make the fault `name` happen at frame or chunk `at` of a run that writes `output`."""
    {**FAULTS, **SIGNALS}[name](at, patch, output)
