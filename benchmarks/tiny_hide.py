"""`anonymotion hide` with a tiny random network: `python benchmarks/tiny_hide.py INPUT -o OUTPUT [flags of hide]`.

Everything but the network and the library is the real command line, in a real process, but one run takes seconds: for
faults.py, fuzz.py and soak.py, which need many.  What is hidden means nothing.

Environment: ANONYMOTION_TEST_PACE: seconds to wait before each frame is written, so that a run can be hit in its
middle.  ANONYMOTION_TEST_FAULT: `NAME@NUMBER`, a fault of tests/bad_days.py at that frame or chunk.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from bad_days import inject
from tiny import TINY, TINY_ENTRY, TINY_SETTINGS, tiny_backbone, tiny_library

from anonymotion import cli, run  # noqa: F401 - run: what the commands load late is loaded once, for all forks
from anonymotion.backbone import Backbone
from anonymotion.registry import BACKBONES
from anonymotion.templates import Picture, TemplateLibrary
from anonymotion.video import HiddenWriter

FLAGS = ["--attributes", "hair", "--threshold", "0.01", "--quiet"]
FLAGS += [word for name, value in TINY_SETTINGS.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def use_tiny_network(folder: Path) -> None:
    """Replace the default network and library of this process by those of the tests; pictures go to `folder`."""
    BACKBONES[TINY] = TINY_ENTRY
    network = tiny_backbone()
    library = tiny_library(folder)
    images = {name: picture.read() for name, picture in library.pictures.items()}
    Picture.read = lambda self: images[self.id]  # type: ignore[method-assign]
    Backbone.load = staticmethod(lambda *_: network)  # type: ignore[assignment,method-assign]
    TemplateLibrary.load = staticmethod(lambda *_: library)  # type: ignore[assignment,method-assign]


def slow_down(seconds: float) -> None:
    """Wait before each frame is written."""
    write = HiddenWriter.write

    def paced(self: HiddenWriter, *arguments: Any) -> None:
        time.sleep(seconds)
        write(self, *arguments)

    HiddenWriter.write = paced  # type: ignore[method-assign, assignment]


def prepare() -> None:
    """Make this process one that uses the tiny network, and that can be forked."""
    # Threads do not survive a fork: a child whose parent had started torch's would wait for them for ever.
    torch.set_num_threads(1)
    # pictures of the library are generated and read at once; their files go again
    with tempfile.TemporaryDirectory() as folder:
        use_tiny_network(Path(folder))


def hide(arguments: list[str], *, fault: str = "", pace: float = 0.0) -> None:
    """Hand over to the command line; ends with SystemExit, as it does.  See above for `fault` and `pace`."""
    if fault:
        name, number = fault.split("@")
        inject(name, int(number), SimpleNamespace(setattr=setattr), Path(arguments[arguments.index("-o") + 1]))
    if pace:
        slow_down(pace)
    # flags first: a name that begins with a dash is given behind "--"
    sys.argv = ["anonymotion", "hide", *FLAGS, *arguments]
    cli.main()


def fork(arguments: list[str], log: Path, *, fault: str = "", pace: float = 0.0) -> int:
    """`hide` in a new process, whose standard output and error go to `log`; its number.

    Starting Python and torch anew for each of thousands of runs would take hours.
    """
    child = os.fork()
    if child:
        return child
    status = 99
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        faulthandler.enable(descriptor)  # says where it was if it has to be aborted
        hide(arguments, fault=fault, pace=pace)
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stderr.flush()
        os._exit(status)


def wait(child: int, seconds: float) -> int | None:
    """The exit status of a process, negative for a signal; None if it had to be killed after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGABRT)
    time.sleep(0.5)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


if __name__ == "__main__":
    prepare()
    hide(
        sys.argv[1:],
        fault=os.environ.get("ANONYMOTION_TEST_FAULT", ""),
        pace=float(os.environ.get("ANONYMOTION_TEST_PACE", "0")),
    )
