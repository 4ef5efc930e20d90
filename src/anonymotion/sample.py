"""A short clip to try things on: a virtual camera over a public-domain photograph of the library.

Not here: real footage; the package ships none.
"""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np

from anonymotion import video
from anonymotion.templates import TemplateLibrary

SAMPLE_PICTURE = "astronaut"
SAMPLE_SIZE_WH = (480, 360)
SAMPLE_FRAME_RATE = Fraction(25)


def make_sample(output: Path, *, frames: int = 50, force: bool = False) -> None:
    """Write a clip of `frames` frames at 25 per second in which the camera sways and zooms over a portrait."""
    picture = TemplateLibrary.load().pictures[SAMPLE_PICTURE].read()
    width, height = SAMPLE_SIZE_WH
    info = video.VideoInfo(
        width=width,
        height=height,
        frame_rate=SAMPLE_FRAME_RATE,
        time_base=1 / SAMPLE_FRAME_RATE,
        duration_seconds=float(frames / SAMPLE_FRAME_RATE),
        frame_count=frames,
        container="generated",
        codec="rawvideo",
        pixel_format="yuv420p",
    )
    with video.open_sink(output, info, source=None, force=force) as sink:
        for index in range(frames):
            image = _view(picture, index / max(frames - 1, 1))
            sink.write(image, video.Frame(index, image, index, info.time_base, 1))
        sink.commit()


def _view(picture: np.ndarray, phase: float) -> np.ndarray:
    """The camera's view at `phase` in 0..1: it sways by 6 % of the picture and zooms by 15 %."""
    import cv2

    width, height = SAMPLE_SIZE_WH
    side = min(picture.shape[1] / width, picture.shape[0] / height)
    scale = side * (0.80 - 0.15 * math.sin(math.pi * phase))
    centre_x = picture.shape[1] * (0.47 + 0.06 * math.sin(2 * math.pi * phase))
    centre_y = scale * height / 2 + 4 + 4 * math.cos(2 * math.pi * phase)  # the top of the head stays in view
    # rows of the map from output pixels to picture pixels
    matrix = np.array(
        [[scale, 0, centre_x - scale * width / 2], [0, scale, centre_y - scale * height / 2]], dtype=np.float64
    )
    flags = cv2.INTER_AREA | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(picture, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT))
