"""Pictures with at most 256 colours, for GIF.

This file does not dither: noise in still parts would flicker and swell the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from anonymotion.video.info import Image

if TYPE_CHECKING:
    from av.video.frame import VideoFrame


def paletted(image: Image) -> VideoFrame:
    """An (H, W, 3) uint8 RGB image as a pal8 frame; exact if it has no more than 256 colours."""
    from av import VideoFrame

    indices, colors = indexed(image)
    argb = np.zeros((256, 4), np.uint8)
    argb[:, 0] = 255
    argb[: len(colors), 1:] = colors
    return VideoFrame.from_ndarray((indices, argb), format="pal8")  # type: ignore[arg-type]


def indexed(image: Image) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Indices (H, W) uint8 and their colours (n, 3) uint8 RGB, n <= 256."""
    from PIL import Image as Pillow

    rgb = image.astype(np.uint32)
    packed = (rgb[:, :, 0] << 16) | (rgb[:, :, 1] << 8) | rgb[:, :, 2]
    values, inverse = np.unique(packed, return_inverse=True)
    if len(values) <= 256:
        colors = np.stack([values >> 16, (values >> 8) & 255, values & 255], axis=1).astype(np.uint8)
        return inverse.reshape(packed.shape).astype(np.uint8), colors
    reduced = Pillow.fromarray(np.ascontiguousarray(image)).quantize(256, dither=Pillow.Dither.NONE)
    colors = np.array(reduced.getpalette(), np.uint8).reshape(-1, 3)
    return np.array(reduced, dtype=np.uint8), colors
