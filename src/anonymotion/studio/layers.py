"""The layers that lie over a frame on the page, as pictures with transparency.

Everything takes and gives numpy arrays of the frame's size: RGB or RGBA, uint8.

Not here: what is in a layer (seeing), pictures for files (overlays).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

_LINE = (255, 214, 0)


def heat(plane: NDArray[np.float32]) -> Picture:
    """A plane, (H, W) in [0, 1], as (H, W, 4): colours from blue (0) to red (1), the weak ones nearly transparent."""
    import cv2

    level = np.rint(plane.clip(0, 1) * 255).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(level, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    opacity = np.clip(20 + level.astype(np.int32) * 2, 0, 190).astype(np.uint8)
    return np.dstack((colours, opacity))


def outline(mask: NDArray[np.bool_]) -> Picture:
    """The border of a mask, (H, W), as (H, W, 4): a bright line in a dark one, seen on any ground."""
    import cv2

    canvas = np.zeros((*mask.shape, 4), np.uint8)
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    thin = max(1, round(min(mask.shape) / 240))
    for colour, width in (((0, 0, 0, 255), thin * 3), ((*_LINE, 255), thin)):
        cv2.drawContours(canvas, found, -1, colour, width)
    return canvas


def noise(field: Picture, alpha: NDArray[np.float32]) -> Picture:
    """What takes the place of pixels, (H, W, 3), where it does: (H, W, 4) with the weight (H, W) as opacity."""
    return np.dstack((field, np.rint(alpha.clip(0, 1) * 255).astype(np.uint8)))


def smaller(picture: NDArray[Any], longest: int) -> NDArray[Any]:
    """The picture scaled so that its longer side has at most `longest` pixels."""
    import cv2

    scale = longest / max(picture.shape[:2])
    if scale >= 1:
        return picture
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


def as_png(picture: Picture) -> bytes:
    """Lossless, quick rather than small: it goes no farther than this machine."""
    import cv2

    code = cv2.COLOR_RGBA2BGRA if picture.shape[2] == 4 else cv2.COLOR_RGB2BGR
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, code), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert done  # noqa: S101 - memory is all it needs
    return data.tobytes()


def as_jpeg(picture: Picture, quality: int = 82) -> bytes:
    """For thumbnails, and for frames while the scrubber moves."""
    import cv2

    done, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done  # noqa: S101 - memory is all it needs
    return data.tobytes()
