"""Pictures of the scikit-image package in which there is nobody: name -> (H, W, 3) uint8 RGB, as npz.

Each of them was looked at: coins show heads and are left out.  Runs in its own environment (instruments.py); standard
input is not used.

Not here: the pan over them (measuring/controls.py).
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import skimage
from PIL import Image

FILES = (
    "brick.png",
    "cell.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "microaneurysms.png",
    "moon.png",
    "motorcycle_left.png",
    "page.png",
    "retina.jpg",
    "rocket.jpg",
    "text.png",
)
LONGEST = 720


def main() -> None:
    """Write the npz to standard output."""
    folder = Path(skimage.__file__).parent / "data"
    pictures = {}
    for file in FILES:
        picture = Image.open(folder / file).convert("RGB")
        picture.thumbnail((LONGEST, LONGEST))
        pictures[Path(file).stem] = np.asarray(picture)
    stream = io.BytesIO()
    np.savez(stream, **pictures)  # type: ignore[arg-type]  # no name is one of its own
    with os.fdopen(os.dup(1), "wb") as output:
        output.write(stream.getvalue())


if __name__ == "__main__":
    main()
