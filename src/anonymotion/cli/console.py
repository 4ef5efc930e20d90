"""What the command line prints, and how a run that fails ends.

Standard output carries results only (one JSON document with `--json`); progress, notes and errors go to
standard error.  Exit status: 0 done, 1 a known error in one line, 2 usage, 3 nothing matched, 130 interrupted.

Not here: what is run (commands), which flags there are (options).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

import typer

from anonymotion.device import is_out_of_memory
from anonymotion.errors import AnonymotionError, OutputError

if TYPE_CHECKING:
    from anonymotion.results import HideResult, Progress, ProgressCallback


class Interrupted(BaseException):
    """Somebody wants the run to end.

    Not KeyboardInterrupt: where that passes through an import, the interpreter ends itself by SIGINT even though
    it was caught, and the exit status is lost.
    """


@contextmanager
def reported(as_json: bool, kept: str = "nothing was written") -> Iterator[Callable[[], None]]:
    """Turn errors into one line and an exit status; make a polite kill behave like Ctrl-C, so that files go.

    kept: what an interrupt leaves.
    Yields what is to be called when the output is there: an interrupt that comes later comes too late.
    """

    asked = False

    def interrupt(*_: object) -> None:
        nonlocal asked
        asked = True
        raise Interrupted

    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
    polite = [getattr(signal, name) for name in names if hasattr(signal, name)]
    previous = {number: signal.signal(number, interrupt) for number in polite}

    def completed() -> None:
        for number in polite:
            signal.signal(number, signal.SIG_IGN)

    try:
        yield completed
    except (SystemExit, typer.Exit):
        raise
    except BaseException as error:  # also what a library in Rust raises when it panics
        # a library that was being imported may have made it an error of its own
        if asked or isinstance(error, Interrupted | KeyboardInterrupt):
            _fail(f"interrupted; {kept}", "Interrupted", 130, as_json)
        if isinstance(error, AnonymotionError):
            _fail(" ".join(str(error).split()), type(error).__name__, error.exit_status, as_json)
        if is_out_of_memory(error):
            _fail("no memory is left; nothing was written: use a smaller --short-side", "OutOfMemory", 1, as_json)
        if os.environ.get("ANONYMOTION_DEBUG"):
            raise
        message = " ".join(f"unexpected {type(error).__name__}: {error}".split())
        message += " (a defect of ours; nothing was written; ANONYMOTION_DEBUG=1 shows where)"
        _fail(message, "Unexpected", 1, as_json)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _fail(message: str, kind: str, status: int, as_json: bool) -> None:
    if as_json:
        print_json({"schema_version": 1, "error": {"type": kind, "message": message, "exit_status": status}})
    tell(f"error: {message}")
    raise typer.Exit(status)


def print_json(document: dict[str, Any]) -> None:
    """The one document that `--json` puts on standard output, in ASCII, so that no encoding can refuse it."""
    show(json.dumps(document, indent=2))


def means_of(result: HideResult) -> str:
    """What hid, in a few words: the networks of our method, or a comparison method and where its mask came from."""
    method, mask = result.settings["method"], result.mask["source"]
    if method == "noise":
        return f"{'no matching' if mask == 'regions' else result.backbone['name']} and {result.flow}"
    if mask == "templates":
        mask = f"templates, {result.backbone['name']}"
    return str(method) if mask == "whole frame" else f"{method} (mask: {mask})"


def what_of(result: HideResult) -> str:
    """What was hidden, in a few words."""
    policy, names = result.policy, list(result.attributes)
    regions = ["the given shapes"] * bool(policy.get("include")) + ["own masks"] * bool(policy.get("own_masks"))
    return ", ".join([*names, *regions]) or "the whole frame"


def show(line: str) -> None:
    """A result, on standard output.  Raises OutputError if it cannot be written there, e.g. on a full disk."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(
            line.encode(sys.stdout.encoding or "utf-8", "backslashreplace").decode(sys.stdout.encoding) + "\n"
        )
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _silence(sys.stdout)
        raise OutputError(
            f"the result cannot be printed ({error.strerror}); files named in the command, if any, are complete"
        ) from error


def _silence(stream: TextIO) -> None:
    """Point a stream that cannot be written to nowhere, or the interpreter's last flush would fail as well."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def progress_bar(wanted: bool) -> Iterator[ProgressCallback | None]:
    """A bar on standard error with frames, frames per second and remaining time."""
    if not wanted or sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames  {task.fields[speed]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("loading", total=None, speed="")

        def show_progress(progress: Progress) -> None:
            speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
            bar.update(
                task,
                completed=progress.done,
                total=progress.total,
                description=progress.stage,
                speed=f"{speed:.1f}/s" if speed else "",
            )

        yield show_progress


def tell(line: str, *, warning: bool = False) -> None:
    """A line for a person, on standard error; where nobody can read it, that is no reason to fail."""
    if sys.stderr is None:
        return
    text = f"anonymotion: {'warning: ' if warning else ''}{line}\n"
    try:
        encoding = sys.stderr.encoding or "utf-8"
        sys.stderr.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stderr.flush()
    except OSError:
        _silence(sys.stderr)
