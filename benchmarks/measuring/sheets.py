"""Sheets of the frames in which a mask is worst: to be looked at, never to be released (they show the input).

Not here: what is measured (rows).
"""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from anonymotion import overlays
from measuring.marks import Points
from measuring.rows import Row

PANEL_WH = (400, 300)
REGION, PERSON, MASK = (0, 255, 80), (255, 255, 255), (255, 40, 40)


def outlined(image: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Draw the outline of a bool mask of any size onto `image`."""
    whole = cv2.resize(mask.astype(np.uint8), (image.shape[1], image.shape[0]), interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(whole, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, contours, -1, colour, 1)


def panel(
    image: np.ndarray, mask: np.ndarray, region: np.ndarray | None, person: np.ndarray | None, points: Points | None
) -> np.ndarray:
    """The frame with the mask tinted and outlined red, the sure region green, the person white, points as dots."""
    height, width = image.shape[:2]
    scale = min(PANEL_WH[0] / width, PANEL_WH[1] / height)
    size = (round(width * scale), round(height * scale))
    drawn = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    inside = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    drawn[inside] = (0.65 * drawn[inside] + 0.35 * np.array(MASK)).astype(np.uint8)
    for shape, colour in ((person, PERSON), (mask, MASK), (region, REGION)):
        if shape is not None:
            outlined(drawn, shape, colour)
    for kind, colour in (("hair", REGION), ("not_hair", (255, 220, 0))) if points else ():
        for x, y in getattr(points, kind):
            cv2.circle(drawn, (round((x + 0.5) * scale), round((y + 0.5) * scale)), 3, colour, -1)
    return overlays.fit(drawn, *PANEL_WH)


class WorstFrames:
    """Keeps, per attribute, the panels of the frames with the lowest recall and the highest excess."""

    def __init__(self, kept: int = 12) -> None:
        self._kept = kept
        self._panels: dict[tuple[str, str], list[tuple[float, str, np.ndarray]]] = {}

    def offer(
        self,
        row: Row,
        image: np.ndarray,
        mask: np.ndarray,
        region: np.ndarray | None,
        person: np.ndarray | None,
        points: Points | None,
    ) -> None:
        """Take a frame if it is among the worst so far."""
        scores = {"recall": 1 - row.recall, "excess": row.excess}
        scores["outside"] = row.outside if row.attribute == "person" else math.nan
        drawn = None
        for measure, score in scores.items():
            panels = self._panels.setdefault((row.attribute, measure), [])
            if not score > 0 or (len(panels) == self._kept and score <= panels[-1][0]):
                continue
            drawn = panel(image, mask, region, person, points) if drawn is None else drawn
            value = getattr(row, measure)
            text = f"{row.clip} {row.frame}: {measure} {100 * value:.1f} %"
            panels.append((score, text, overlays.captioned(drawn, text)))
            panels.sort(key=lambda item: -item[0])
            del panels[self._kept :]

    def write(self, folder: Path) -> None:
        """`worst_ATTRIBUTE_MEASURE.png` in `folder`."""
        for (attribute, measure), panels in self._panels.items():
            if panels:
                sheet = overlays.sheet([drawn for _, _, drawn in panels], columns=4)
                Image.fromarray(sheet).save(folder / f"worst_{attribute}_{measure}.png")
