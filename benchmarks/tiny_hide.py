"""`anonymotion hide` with a tiny random network: `python benchmarks/tiny_hide.py INPUT -o OUTPUT [flags of hide]`.

Everything but the network and the library is the real command line, in a real process, but one run takes seconds: for
faults.py, fuzz.py and soak.py, which need many.  What is hidden means nothing.

Environment: ANONYMOTION_TEST_PACE: seconds to wait before each frame is written, so that a run can be hit in its
middle.  ANONYMOTION_TEST_FAULT: `NAME@NUMBER`, a fault of tests/faults.py at that frame or chunk.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from tiny import TINY, TINY_ENTRY, TINY_SETTINGS, tiny_backbone, tiny_library

from anonymotion import cli
from anonymotion.backbone import Backbone
from anonymotion.registry import BACKBONES
from anonymotion.templates import TemplateLibrary
from anonymotion.video import HiddenWriter

FLAGS = ["--attributes", "hair", "--threshold", "0.01", "--quiet"]
FLAGS += [word for name, value in TINY_SETTINGS.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def use_tiny_network(folder: Path) -> None:
    """Replace the default network and library of this process by those of the tests; pictures go to `folder`."""
    BACKBONES[TINY] = TINY_ENTRY
    network = tiny_backbone()
    library = tiny_library(folder)
    Backbone.load = staticmethod(lambda *_: network)  # type: ignore[assignment,method-assign]
    TemplateLibrary.load = staticmethod(lambda *_: library)  # type: ignore[assignment,method-assign]


def slow_down(seconds: float) -> None:
    """Wait before each frame is written."""
    write = HiddenWriter.write

    def paced(self: HiddenWriter, *arguments: Any) -> None:
        time.sleep(seconds)
        write(self, *arguments)

    HiddenWriter.write = paced  # type: ignore[method-assign]


def main() -> None:
    """Prepare this process, then hand over to the command line."""
    fault = os.environ.get("ANONYMOTION_TEST_FAULT")
    if fault:
        from faults import inject

        name, number = fault.split("@")
        output = Path(sys.argv[sys.argv.index("-o") + 1])
        inject(name, int(number), SimpleNamespace(setattr=setattr), output)
    slow_down(float(os.environ.get("ANONYMOTION_TEST_PACE", "0")))
    # pictures of the library are generated, and read at once: nothing of them stays
    with tempfile.TemporaryDirectory() as folder:
        use_tiny_network(Path(folder))
    sys.argv = ["anonymotion", "hide", *sys.argv[1:], *FLAGS]
    cli.main()


if __name__ == "__main__":
    main()
