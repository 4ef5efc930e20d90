"""Faces and their 128 numbers by dlib's network, in an environment of its own: npz in, npz out.

In: `original_I` (h, w, 3) uint8 RGB, the picture that a face is looked for in, and `probe_I_J` (h, w, 3) uint8, other
pictures of that same place.  Out: `box_I` (4,) float64 as x0, y0, x1, y1, empty where no face is found;
`embedding_I` (128,) and `probe_I_J` (128,) float64, of the largest face's box in each.

The landmarks of a probe are looked for in the box of the original: the adversary knows where the face was.

Not here: whom an embedding belongs to (attacking/faces.py).
"""

from __future__ import annotations

import importlib.util
import io
import sys
from pathlib import Path

import dlib
import numpy as np

UPSAMPLINGS = (0, 1, 2)  # HOG finds faces from 80 pixels on; each step halves that


def models() -> Path:
    """The folder of the published files; the package itself needs setuptools that are no more, and is not imported."""
    spec = importlib.util.find_spec("face_recognition_models")
    assert spec is not None  # noqa: S101 - it is pinned in the environment
    assert spec.submodule_search_locations  # noqa: S101
    return Path(next(iter(spec.submodule_search_locations))) / "models"


def main() -> None:
    """Read pictures, write boxes and embeddings."""
    with np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False) as archive:
        pictures = {name: np.ascontiguousarray(archive[name]) for name in archive.files}
    detector = dlib.get_frontal_face_detector()
    landmarks = dlib.shape_predictor(str(models() / "shape_predictor_5_face_landmarks.dat"))
    network = dlib.face_recognition_model_v1(str(models() / "dlib_face_recognition_resnet_model_v1.dat"))
    found: dict[str, np.ndarray] = {}
    for name, picture in pictures.items():
        kind, _, number = name.partition("_")
        if kind != "original":
            continue
        boxes = next((list(hits) for n in UPSAMPLINGS if len(hits := detector(picture, n))), [])
        if not boxes:
            found[f"box_{number}"] = np.zeros(0)
            continue
        box = max(boxes, key=lambda face: face.area())
        found[f"box_{number}"] = np.array([box.left(), box.top(), box.right(), box.bottom()], np.float64)
        embed = {f"embedding_{number}": picture}
        embed.update({key: value for key, value in pictures.items() if key.startswith(f"probe_{number}_")})
        for key, image in embed.items():
            found[key] = np.array(network.compute_face_descriptor(image, landmarks(image, box)), np.float64)
    stream = io.BytesIO()
    np.savez(stream, **found)  # type: ignore[arg-type]  # no name is one of its own
    sys.stdout.buffer.write(stream.getvalue())


if __name__ == "__main__":
    main()
