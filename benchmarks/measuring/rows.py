"""One row of numbers per clip, frame, attribute and mask; groups of faces.

Not here: the numbers themselves (measures), their means (tables).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from anonymotion.registry import GROUPS
from measuring import measures
from measuring.marks import Points
from measuring.regions import FrameRegions

OURS, WHOLE = "ours", "whole person"


@dataclass(frozen=True)
class Row:
    """Numbers of one mask in one frame; NaN where not measured.

    recall: share of the sure region (of the hair points, for hair).  outside: masked share outside the grown person.
    excess: masked share of the rest of the person; of the not-hair points, for hair.  oval_excess: for parts of a face,
    masked share of the rest of the oval.  steadiness: IoU with the mask before, carried along the flow.
    masked: share of the frame.
    """

    clip: str
    frame: int
    attribute: str
    mask: str
    recall: float = math.nan
    outside: float = math.nan
    excess: float = math.nan
    oval_excess: float = math.nan
    steadiness: float = math.nan
    masked: float = math.nan


COLUMNS = tuple(item.name for item in fields(Row))
MEASURES = COLUMNS[4:]


def row_of(
    names: tuple[str, int, str, str],
    mask: np.ndarray,
    regions: FrameRegions,
    points: Points | None,
    left_out: set[str],
    steadiness: float,
) -> Row:
    """Measure one mask; `names` are clip, frame, attribute and kind of mask."""
    attribute = names[2]
    nan = math.nan
    if attribute == "hair":
        recall = measures.points_covered(mask, points.hair) if points else nan
        excess = measures.points_covered(mask, points.not_hair) if points else nan
    else:
        recall = measures.recall(mask, regions.sure.get(attribute))
        allowed = regions.allowed.get(attribute)
        excess = nan if allowed is None else measures.excess(mask, regions.person, allowed)
        excess = nan if "excess" in left_out else excess
    oval_excess = nan
    if attribute in GROUPS["face"] and attribute in regions.sure:
        oval_excess = measures.share(mask, regions.oval & ~regions.parts_allowed[attribute])
    outside = nan if regions.person is None else measures.outside(mask, regions.person_wide)
    return Row(
        *names,
        recall=nan if attribute in left_out else recall,
        outside=nan if "outside" in left_out else outside,
        excess=excess,
        oval_excess=oval_excess,
        steadiness=steadiness,
        masked=float(mask.mean()),
    )


@dataclass(frozen=True)
class FaceRow:
    """One sure face: who it is within its clip, the tone of its cheeks, a crop for the gender reading, its recall."""

    clip: str
    frame: int
    person: int
    tone_angle: float
    recall: dict[str, float]
    crop: np.ndarray


class People:
    """Numbers the people of a clip: a face belongs to who was nearest, if within a face's width."""

    def __init__(self) -> None:
        self._last: list[np.ndarray] = []

    def number(self, box: np.ndarray) -> int:
        """The number of the person whose box (x0, y0, x1, y1) this is."""
        centre, width = (box[:2] + box[2:]) / 2, float(box[2] - box[0])
        distances = [float(np.linalg.norm(centre - (last[:2] + last[2:]) / 2)) for last in self._last]
        if distances and min(distances) < 1.5 * width:
            nearest = int(np.argmin(distances))
            self._last[nearest] = box
            return nearest
        self._last.append(box)
        return len(self._last) - 1


def face_rows(
    clip: str,
    frame: int,
    image: np.ndarray,
    regions: FrameRegions,
    masks: Mapping[str, np.ndarray],
    people: People,
) -> list[FaceRow]:
    """A row for each sure face of the frame whose cheeks can be seen."""
    found = []
    for face in regions.faces:
        person = people.number(face.box)
        if face.cheek_lab is not None:
            recall = {
                name: measures.recall(mask, face.oval) for name, mask in masks.items() if name in ("face", "person")
            }
            crop = face_crop(image, face.box)
            found.append(FaceRow(clip, frame, person, measures.tone_angle(face.cheek_lab), recall, crop))
    return found


def face_crop(image: np.ndarray, box: np.ndarray, side: int = 160) -> np.ndarray:
    """The face with some room around it, (side, side, 3) uint8; black beyond the frame."""
    import cv2

    centre, half = (box[:2] + box[2:]) / 2, 0.6 * float(max(box[2:] - box[:2]))
    scale = side / (2 * half)
    matrix = np.array([[scale, 0, side / 2 - centre[0] * scale], [0, scale, side / 2 - centre[1] * scale]])
    crop: np.ndarray = cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR)
    return crop


def marked(points: Sequence[Points], frame: int) -> Points | None:
    """The marks of a frame among those of its clip."""
    return next((point for point in points if point.frame == frame), None)
