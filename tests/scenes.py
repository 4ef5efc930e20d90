"""Rendered scenes with a thing in them that is no part of a person: a logo, a car plate, a screen.

Everything is drawn with Pillow over photographs without people from the built-in library.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from anonymotion.templates import TemplateLibrary

Box = tuple[int, int, int, int]

OVERSAMPLING = 3
SIZE_WH = (480, 320)


@cache
def background(name: str, size_wh: tuple[int, int] = SIZE_WH) -> Image.Image:
    """A photograph without people, scaled and cropped to `size_wh`."""
    picture = Image.fromarray(TemplateLibrary.load().pictures[name].read())
    scale = max(size_wh[0] / picture.width, size_wh[1] / picture.height)
    picture = picture.resize((math.ceil(picture.width * scale), math.ceil(picture.height * scale)))
    return picture.crop((0, 0, *size_wh))


def _canvas(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    canvas = Image.new("RGBA", (width * OVERSAMPLING, height * OVERSAMPLING))
    return canvas, ImageDraw.Draw(canvas)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size * OVERSAMPLING)


def logo(side: int = 90) -> tuple[Image.Image, Box]:
    """A blue disc with a ring and a five-pointed star."""
    canvas, draw = _canvas(side, side)
    middle = side * OVERSAMPLING / 2
    for radius, colour in ((1.0, (20, 60, 160)), (0.88, (240, 240, 245)), (0.80, (25, 70, 180))):
        reach = middle * radius
        draw.ellipse((middle - reach, middle - reach, middle + reach - 1, middle + reach - 1), fill=colour)
    corners = []
    for i in range(10):
        angle, reach = math.pi * i / 5 - math.pi / 2, middle * (0.68 if i % 2 == 0 else 0.28)
        corners.append((middle + reach * math.cos(angle), middle + reach * math.sin(angle)))
    draw.polygon(corners, fill=(255, 205, 40))
    return canvas, (0, 0, side, side)


def car(
    width: int = 220, text: str = "KA 482", colour: tuple[int, int, int] = (150, 30, 35)
) -> tuple[Image.Image, Box]:
    """The back of a car; the box is its plate."""
    height = round(width * 0.72)
    canvas, draw = _canvas(width, height)

    def part(x0: float, y0: float, x1: float, y1: float, fill: tuple[int, ...], radius: float = 0) -> None:
        corners = [v * s * OVERSAMPLING for v, s in zip((x0, y0, x1, y1), (width, height) * 2, strict=True)]
        draw.rounded_rectangle(corners, radius * width * OVERSAMPLING, fill)

    dark = tuple(c // 2 for c in colour)
    part(0.08, 0.82, 0.24, 1.0, (25, 25, 28), 0.02)
    part(0.76, 0.82, 0.92, 1.0, (25, 25, 28), 0.02)
    part(0.16, 0.0, 0.84, 0.6, colour, 0.12)
    part(0.22, 0.07, 0.78, 0.36, (45, 60, 75), 0.06)
    part(0.24, 0.09, 0.5, 0.2, (120, 145, 165), 0.04)
    part(0.02, 0.34, 0.98, 0.92, colour, 0.08)
    part(0.02, 0.74, 0.98, 0.9, dark, 0.04)
    for x in (0.05, 0.79):
        part(x, 0.42, x + 0.16, 0.54, (215, 40, 30), 0.02)
    plate = (0.30, 0.56, 0.70, 0.70)
    part(*plate, (20, 20, 20), 0.012)
    part(plate[0] + 0.008, plate[1] + 0.012, plate[2] - 0.008, plate[3] - 0.012, (240, 240, 232), 0.01)
    draw.text(
        (0.5 * width * OVERSAMPLING, 0.63 * height * OVERSAMPLING),
        text,
        fill=(15, 15, 20),
        font=_font(round(height * 0.11)),
        anchor="mm",
    )
    x0, y0, x1, y1 = (round(v * s) for v, s in zip(plate, (width, height) * 2, strict=True))
    return canvas, (x0, y0, x1, y1)


def screen(width: int = 180, seed: int = 0) -> tuple[Image.Image, Box]:
    """A computer monitor with windows and lines of text; the box is the lit part."""
    height = round(width * 0.78)
    canvas, draw = _canvas(width, height)
    random = np.random.default_rng(seed)
    unit = width * OVERSAMPLING / 100
    draw.rectangle((42 * unit, 60 * unit, 58 * unit, 74 * unit), fill=(60, 60, 64))
    draw.rectangle((28 * unit, 73 * unit, 72 * unit, 77 * unit), fill=(50, 50, 54))
    draw.rounded_rectangle((0, 0, 100 * unit, 63 * unit), 2 * unit, fill=(22, 22, 24))
    draw.rectangle((3 * unit, 3 * unit, 97 * unit, 59 * unit), fill=(70, 120, 190))
    for x, y, w, h in ((6, 7, 50, 42), (48, 16, 46, 38)):
        draw.rectangle((x * unit, y * unit, (x + w) * unit, (y + h) * unit), fill=(246, 246, 248))
        draw.rectangle((x * unit, y * unit, (x + w) * unit, (y + 4) * unit), fill=(205, 208, 215))
        for row in range(5, h - 3, 3):
            length = (w - 6) * random.uniform(0.35, 1)
            top = (y + row) * unit
            draw.rectangle(((x + 3) * unit, top, (x + 3 + length) * unit, top + 1.2 * unit), fill=(90, 92, 105))
    draw.rectangle((3 * unit, 56 * unit, 97 * unit, 59 * unit), fill=(35, 38, 48))
    return canvas, tuple(round(v * width / 100) for v in (3, 3, 97, 59))  # type: ignore[return-value]


def place(
    thing: tuple[Image.Image, Box], ground: Image.Image, x: int, y: int, *, light: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, Box]:
    """A thing on a ground with its top left corner at (x, y), grain and some blur: frame and box in the frame."""
    drawn, box = thing
    small = drawn.resize((drawn.width // OVERSAMPLING, drawn.height // OVERSAMPLING), Image.Resampling.LANCZOS)
    frame = ground.copy()
    frame.paste(small, (x, y), small)
    pixels = np.asarray(frame.filter(ImageFilter.GaussianBlur(0.5))).astype(np.float32) * light
    pixels += np.random.default_rng(seed).normal(0, 3, pixels.shape)
    return pixels.clip(0, 255).astype(np.uint8), (box[0] + x, box[1] + y, box[2] + x, box[3] + y)


def save(frame: np.ndarray, path: Path) -> Path:
    """Write a frame as PNG; the path."""
    Image.fromarray(frame).save(path)
    return path
