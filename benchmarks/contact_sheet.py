"""Frames of several videos below each other: `python benchmarks/contact_sheet.py CLIP HIDDEN... -o sheet.png`.

Each video (or folder of pictures) is a row of evenly spaced frames: what a person looks at after a run.  It does not
judge anything, and the sheet shows the input: it is not for release.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from anonymotion import overlays, video


def main() -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--columns", type=int, default=6)
    parser.add_argument("--height", type=int, default=180, help="of a panel, in pixels")
    arguments = parser.parse_args()
    panels = []
    width = None
    for path in arguments.videos:
        with video.open_source(path) as source:
            frames = [frame.image for frame in source]
        width = width or round(arguments.height * frames[0].shape[1] / frames[0].shape[0])
        for index in np.linspace(0, len(frames) - 1, arguments.columns).round().astype(int):
            panel = overlays.fit(frames[index], width, arguments.height)
            panels.append(overlays.captioned(panel, f"{path.stem} {index}"))
    Image.fromarray(overlays.sheet(panels, arguments.columns)).save(arguments.output)


if __name__ == "__main__":
    main()
