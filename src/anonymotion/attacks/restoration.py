"""Picture restoration that needs no training: denoising, inpainting, deconvolution, and details from a dictionary.

Grey pictures are (h, w) float32 in 0..255.

Not here: which picture is restored (recovery).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from anonymotion.attacks.scores import Grey

if TYPE_CHECKING:
    from torch import Tensor

BLUR_SIGMA_AT_224 = 10.0
WIENER_NOISE = 3e-3
LUCY_STEPS = 30

_CELL_PIXELS = 8  # details of the dictionary per cell and side
_ENTRIES = 4_000


def _noise_sigma(picture: Grey) -> float:
    """Standard deviation of white noise, from the median of the finest diagonal differences (Donoho)."""
    detail = picture[:-1, :-1] - picture[1:, :-1] - picture[:-1, 1:] + picture[1:, 1:]
    return float(np.median(np.abs(detail)) / 0.6745 / 2)


def non_local_means(picture: Grey) -> Grey:
    """Non-local means (Buades et al. 2005) with the strength that the noise of the picture asks for."""
    import cv2

    clipped = np.clip(picture, 0, 255).round().astype(np.uint8)
    strength = max(3.0, 0.9 * _noise_sigma(picture))
    return np.asarray(cv2.fastNlMeansDenoising(clipped, None, strength, 7, 21), np.float32)


def total_variation(picture: Grey, steps: int = 60) -> Grey:
    """Total variation (Rudin, Osher & Fatemi) by Chambolle's projection (2004), weighted by the picture's noise."""
    weight = max(4.0, 1.2 * _noise_sigma(picture))
    x_dual: Grey = np.zeros_like(picture)
    y_dual: Grey = np.zeros_like(picture)
    for _ in range(steps):
        residue = _divergence(x_dual, y_dual) - picture / weight
        x_step, y_step = np.zeros_like(picture), np.zeros_like(picture)
        x_step[:, :-1] = residue[:, 1:] - residue[:, :-1]
        y_step[:-1] = residue[1:] - residue[:-1]
        shrink = np.float32(1) + np.float32(0.25) * np.hypot(x_step, y_step)
        x_dual, y_dual = (x_dual + 0.25 * x_step) / shrink, (y_dual + 0.25 * y_step) / shrink
    return np.asarray(picture - weight * _divergence(x_dual, y_dual), np.float32)


def _divergence(x: Grey, y: Grey) -> Grey:
    total = x + y
    total[:, 1:] -= x[:, :-1]
    total[1:] -= y[:-1]
    return total


def inpaint(picture: Grey, hole: NDArray[np.bool_]) -> Grey | None:
    """The hole filled from its border (Telea 2004); None if there is nothing around it."""
    import cv2

    if not hole.any() or (~hole).sum() < 64:
        return None
    known = np.clip(picture, 0, 255).round().astype(np.uint8)
    return np.asarray(cv2.inpaint(known, hole.astype(np.uint8), 5, cv2.INPAINT_TELEA), np.float32)


# ---------------------------------------------------------------------- deconvolution


def gaussian(kernel: int, short_side: int) -> Grey:
    """One side of the paper's separable Gaussian, (kernel,), with its sigma scaled from 224 to the short side."""
    sigma = BLUR_SIGMA_AT_224 * short_side / 224
    at = np.arange(kernel) - (kernel - 1) / 2
    weights = np.exp(-0.5 * (at / sigma) ** 2)
    return np.asarray(weights / weights.sum(), np.float32)


def blurred(picture: Grey, point: Grey) -> Grey:
    """The picture under the kernel `point` in both directions, mirrored at its edges."""
    import cv2

    return np.asarray(cv2.sepFilter2D(picture, cv2.CV_32F, point, point, borderType=cv2.BORDER_REFLECT_101), np.float32)


def wiener(picture: Grey, point: Grey) -> Grey:
    """Wiener's inverse with a constant ratio of noise to signal."""
    margin = len(point)
    padded = np.pad(picture, margin, mode="reflect")
    response = _response(point, padded.shape[0])[:, None] * _response(point, padded.shape[1])[None]
    mean = float(padded.mean())
    inverse = np.conj(response) / (np.abs(response) ** 2 + WIENER_NOISE)
    restored = np.fft.ifft2(np.fft.fft2(padded - mean) * inverse).real + mean
    return np.clip(restored[margin:-margin, margin:-margin], 0, 255).astype(np.float32)


def _response(point: Grey, length: int) -> NDArray[np.complex128]:
    line = np.zeros(length)
    line[: len(point)] = point
    return np.asarray(np.fft.fft(np.roll(line, -(len(point) // 2))), np.complex128)


def richardson_lucy(picture: Grey, point: Grey) -> Grey:
    """Richardson and Lucy's iteration for a known kernel."""
    seen = np.asarray(np.maximum(picture, 1.0), np.float32)
    estimate, mirrored = seen.copy(), point[::-1].copy()
    for _ in range(LUCY_STEPS):
        ratio = np.asarray(seen / np.maximum(blurred(estimate, point), 1e-3), np.float32)
        estimate = np.asarray(estimate * blurred(ratio, mirrored), np.float32)
    return np.clip(estimate, 0, 255).astype(np.float32)


# ---------------------------------------------------------------------- dictionary


def from_dictionary(picture: Grey, cell: float, origin_xy: tuple[int, int]) -> Grey:
    """A mosaic of `cell` pixels with the details of the pictures of the library whose mosaics are most like it.

    The grid starts at pixel (0, 0) of the frame, of which `origin_xy` is the crop's first pixel.  Each cell is looked
    up with the eight around it, after their mean and contrast are taken off.
    """
    import cv2
    import torch

    height, width = picture.shape
    x_cells, y_cells = (_centres(length, cell, first) for length, first in zip((width, height), origin_xy, strict=True))
    side = max(1, round(cell))
    mean = cv2.blur(picture, (side, side))
    cells = mean[np.ix_(y_cells.clip(0, height - 1).astype(int), x_cells.clip(0, width - 1).astype(int))]
    around, level, contrast = _neighbourhoods(np.pad(cells, 1, mode="edge"))
    keys, details = _dictionary()
    nearest = torch.cdist(torch.from_numpy(around), keys).argmin(1).numpy()
    found = details[nearest] * contrast[:, None, None] + level[:, None, None]
    rows, columns = cells.shape
    mosaic = found.reshape(rows, columns, _CELL_PIXELS, _CELL_PIXELS).transpose(0, 2, 1, 3)
    mosaic = mosaic.reshape(rows * _CELL_PIXELS, columns * _CELL_PIXELS).astype(np.float32)
    x = ((np.arange(width) + 0.5 - (x_cells[0] + 0.5 - cell / 2)) / cell * _CELL_PIXELS - 0.5).astype(np.float32)
    y = ((np.arange(height) + 0.5 - (y_cells[0] + 0.5 - cell / 2)) / cell * _CELL_PIXELS - 0.5).astype(np.float32)
    at_x, at_y = np.meshgrid(x, y)
    return np.asarray(cv2.remap(mosaic, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _centres(length: int, cell: float, first: int) -> NDArray[np.float64]:
    """Centres, pixel indices of the crop, of the cells of the frame's grid that meet it."""
    numbers = np.arange(int(first / cell), int((first + length - 1) / cell) + 1)
    return np.asarray((numbers + 0.5) * cell - 0.5 - first, np.float64)


def _neighbourhoods(cells: Grey) -> tuple[Grey, Grey, Grey]:
    """Of each inner cell the 3x3 around it, (n, 9), at mean 0 and deviation 1; the means; the deviations."""
    windows = np.lib.stride_tricks.sliding_window_view(cells, (3, 3)).reshape(-1, 9).astype(np.float32)
    level, contrast = windows.mean(1), np.maximum(windows.std(1), 1.0)
    return (windows - level[:, None]) / contrast[:, None], level, contrast


@cache
def _dictionary() -> tuple[Tensor, Grey]:
    """Neighbourhoods of cells of the library's pictures, (n, 9), and the details of the inner ones, (n, 8, 8)."""
    import cv2
    import torch

    from anonymotion.templates import TemplateLibrary

    keys, details = [], []
    for picture in TemplateLibrary.load().pictures.values():
        image = cv2.cvtColor(picture.read(), cv2.COLOR_RGB2GRAY)
        for rows in (24, 48):
            columns = max(3, round(rows * image.shape[1] / image.shape[0]))
            size = (columns * _CELL_PIXELS, rows * _CELL_PIXELS)
            fine = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)
            cells = fine.reshape(rows, _CELL_PIXELS, columns, _CELL_PIXELS)
            around, level, contrast = _neighbourhoods(cells.mean(axis=(1, 3)))
            inner = cells[1:-1, :, 1:-1].transpose(0, 2, 1, 3).reshape(-1, _CELL_PIXELS, _CELL_PIXELS)
            keys.append(around)
            details.append((inner - level[:, None, None]) / contrast[:, None, None])
    joined_keys, joined_details = np.concatenate(keys), np.concatenate(details)
    chosen = np.random.default_rng(0).permutation(len(joined_keys))[:_ENTRIES]
    return torch.from_numpy(joined_keys[chosen]), joined_details[chosen].astype(np.float32)
