"""The marks of points.toml on their frames: `python benchmarks/draw_points.py --clips DIR -o sheet.png`.

Green is hair, red is not; each panel is the part of the frame around the marks.  The sheets show the input and are not
for release.

It does not judge the marks: a person does.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from measuring.findings import frames_of
from measuring.marks import Points, read_points
from PIL import Image

from anonymotion import overlays

PANEL = 300
COLOURS = {"hair": (0, 255, 80), "not_hair": (255, 40, 40)}


def panel(image: np.ndarray, points: Points) -> np.ndarray:
    """The frame around the marks, enlarged, with a ring around each marked pixel."""
    every = np.array([*points.hair, *points.not_hair])
    side = max(int(np.ptp(every, axis=0).max() * 1.3), 24)
    left, top = (every.min(axis=0) + every.max(axis=0)) // 2 - side // 2
    left, top = max(0, int(left)), max(0, int(top))
    crop = image[top : top + side, left : left + side]
    scale = PANEL / side
    drawn = cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    for kind, colour in COLOURS.items():
        for x, y in getattr(points, kind):
            centre = (round((x + 0.5 - left) * scale), round((y + 0.5 - top) * scale))
            cv2.circle(drawn, centre, 5, colour, 1, cv2.LINE_AA)
            cv2.circle(drawn, centre, 1, colour, -1)
    name = f"{Path(points.clip).stem[:24]} {points.frame}"
    return overlays.captioned(overlays.fit(drawn, PANEL, PANEL), name)


def main() -> None:
    """Write the sheets: 20 panels each, numbered if there are several."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True, help="the folder that the clips' names start from")
    parser.add_argument("--points", type=Path, default=Path(__file__).with_name("points.toml"))
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    panels = []
    for points in read_points(arguments.points):
        run = range(points.frame, points.frame + 1)
        panels += [panel(image, points) for image in frames_of(arguments.clips / points.clip, run)]
    for number, first in enumerate(range(0, len(panels), 20)):
        path = arguments.output
        path = path.with_stem(f"{path.stem}_{number}") if len(panels) > 20 else path
        Image.fromarray(overlays.sheet(panels[first : first + 20], columns=5)).save(path)


if __name__ == "__main__":
    main()
