"""Pictures that explain: heat maps of saliency, flow colours, contact sheets (Figures 3, 4 and 6 of the paper).

Everything takes and gives (H, W, 3) uint8 RGB numpy arrays.

Not here: anything that decides a pixel of the output; plots with axes (research).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CAPTION_HEIGHT = 22


def heat_map(image: np.ndarray, plane: np.ndarray, opacity: float = 0.6) -> np.ndarray:
    """`plane`, (H, W) in [0, 1], as colours (blue 0, red 1) over a grey `image`, (H, W, 3) uint8."""
    import cv2

    colours = cv2.cvtColor(
        cv2.applyColorMap((plane.clip(0, 1) * 255).astype(np.uint8), cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB
    )
    grey = image.mean(axis=2, keepdims=True).repeat(3, axis=2)
    mixed: np.ndarray = (grey * (1 - opacity) + colours * opacity).round().astype(np.uint8)
    return mixed


def flow_colours(flow: np.ndarray, max_px: float) -> np.ndarray:
    """`flow`, (2, H, W) float32 pixels as (dx, dy), in Middlebury's colours: (H, W, 3) uint8.

    Direction is hue (right red, down yellow, left cyan, up violet), length is saturation: white at 0, full at
    `max_px` (> 0) and beyond.  Pictures that are to be compared need the same `max_px`.
    """
    import torch
    from torchvision.utils import flow_to_image

    length = np.hypot(*flow)
    clipped = flow * np.minimum(1, max_px / np.maximum(length, 1e-9))
    # torchvision takes the longest vector for full colour, so one of length max_px is put in a row of its own.
    longest = np.zeros((2, 1, flow.shape[2]), np.float32)
    longest[0] = max_px
    whole = torch.from_numpy(np.concatenate((clipped.astype(np.float32), longest), axis=1))
    coloured: np.ndarray = flow_to_image(whole)[:, :-1].permute(1, 2, 0).numpy()
    return np.ascontiguousarray(coloured)


def fit(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """`image` scaled to fit into (width, height) with its aspect ratio kept, on a dark ground."""
    import cv2

    scale = min(width / image.shape[1], height / image.shape[0])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    canvas = np.full((height, width, 3), 24, np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = small
    return canvas


def captioned(image: np.ndarray, text: str) -> np.ndarray:
    """`image` with a line of text above it."""
    from PIL import Image, ImageDraw, ImageFont

    canvas = Image.new("RGB", (image.shape[1], image.shape[0] + CAPTION_HEIGHT), (24, 24, 24))
    canvas.paste(Image.fromarray(image), (0, CAPTION_HEIGHT))
    font = ImageFont.load_default(size=13)
    ImageDraw.Draw(canvas).text((5, 3), text, fill=(235, 235, 235), font=font)
    return np.asarray(canvas)


def crosses(image: np.ndarray, points: Sequence[tuple[float, float]]) -> np.ndarray:
    """`image` with a marked cross at each (x, y)."""
    from PIL import Image, ImageDraw

    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    arm = max(6, min(image.shape[:2]) // 30)
    for x, y in points:
        for colour, width in (((0, 0, 0), 5), ((255, 220, 0), 2)):
            draw.line((x - arm, y, x + arm, y), fill=colour, width=width)
            draw.line((x, y - arm, x, y + arm), fill=colour, width=width)
    return np.asarray(canvas)


def boxes(image: np.ndarray, places: Sequence[tuple[float, float, float, float]]) -> np.ndarray:
    """`image` with a frame around each (x0, y0, x1, y1)."""
    from PIL import Image, ImageDraw

    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    for x0, y0, x1, y1 in places:
        for colour, width in (((0, 0, 0), 5), ((255, 220, 0), 2)):
            draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=colour, width=width)
    return np.asarray(canvas)


def outline(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`image`, (H, W, 3) uint8, with the border of `mask`, (H, W) bool, drawn in it."""
    import cv2

    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    canvas = image.copy()
    for colour, width in (((0, 0, 0), 4), ((255, 220, 0), 2)):
        cv2.drawContours(canvas, found, -1, colour, width)
    return canvas


def sheet(panels: Sequence[np.ndarray], columns: int, gap: int = 4) -> np.ndarray:
    """Panels of one size in rows of `columns`, on a dark ground; sides are even, as video encoders want them."""
    height, width = panels[0].shape[:2]
    rows = -(-len(panels) // columns)
    shape = (rows * (height + gap) + gap, columns * (width + gap) + gap)
    canvas = np.full((shape[0] + shape[0] % 2, shape[1] + shape[1] % 2, 3), 24, np.uint8)
    for number, panel in enumerate(panels):
        top = gap + (number // columns) * (height + gap)
        left = gap + (number % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = panel
    return canvas


def saliency_mosaic(
    image: np.ndarray, planes: np.ndarray, names: Sequence[str], panel_wh: tuple[int, int]
) -> np.ndarray:
    """The frame beside the heat map of each attribute: planes (A, H, W) in [0, 1], in the order of `names`."""
    panels = [captioned(fit(image, *panel_wh), "input")]
    for name, plane in zip(names, planes, strict=True):
        panels.append(captioned(fit(heat_map(image, plane), *panel_wh), f"{name}  max {plane.max():.2f}"))
    return sheet(panels, columns=min(len(panels), 5))
