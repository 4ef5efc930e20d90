"""What mediapipe is sure of in a frame, as pixel regions for each attribute.

Three kinds of pixels, per attribute: `sure` belong to it for certain (recall is measured there), `allowed` may belong
to it (the sure region grown, and places where the instrument is unsure), and the rest of the person certainly does
not (excess is measured there).  Regions are smaller than the part, never larger.

Not here: how findings come about (findings, instrument_scripts/), what is measured with regions (measures).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from anonymotion.registry import ATTRIBUTES, GROUPS

# What a finding needs to be believed; what needs to be left out is counted.  Agreement: with the mirrored picture.
FACE_AGREEMENT = 0.8
HAND_SCORE = 0.8
HAND_AGREEMENT = 0.6
VISIBILITY = 0.8
MAYBE_VISIBLE = 0.1
SHIFT = 0.12  # of the body's size, between a pose point and that of the mirrored picture
MIN_PIXELS = 24  # a smaller region says little about a mask whose grid is coarser

OVAL = [
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
]
# Pairs are seen from the front in one and from the side in the other: the foreshortened one is left out.
PARTS: dict[str, list[list[int]]] = {
    "eyes": [
        [33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246],
        [263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466],
    ],
    "cheek": [[116, 117, 118, 101, 36, 205, 187, 123], [345, 346, 347, 330, 266, 425, 411, 352]],
    "lips": [[61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185]],
    "forehead": [[103, 67, 109, 10, 338, 297, 332, 293, 334, 296, 336, 9, 107, 66, 105, 63]],
}
FORESHORTENED = 0.4
FOREHEAD_COLOUR = 22.0  # largest CIELAB distance from the cheeks' median: hair over the forehead is not forehead

ARMS = ((11, 13, 15), (12, 14, 16))
LEGS = ((23, 25, 27), (24, 26, 28))
STRIP = 0.07  # half width of a limb's strip, of its length; an arm's own half width is about 0.15
TORSO = (11, 12, 24, 23)
TORSO_SHRUNK = 0.8
FINER = 4  # polygons are drawn on a grid this much finer
GROWN = 0.05  # of the person's height: the tolerance of excess and outside


@dataclass(frozen=True)
class Face:
    """A sure face: its oval, (H, W) bool; its box (x0, y0, x1, y1); median CIELAB of its cheeks, None if too small."""

    oval: np.ndarray
    box: np.ndarray
    cheek_lab: np.ndarray | None


@dataclass
class FrameRegions:
    """Regions of one frame, (H, W) bool.

    sure: attribute -> region, only where measured.  allowed: attribute -> region that may belong to it; of a part of
    the face `parts_allowed` is the same within the oval.  person: certainly people, or None.  person_seen: what the
    instrument takes for people.  person_wide: everything that may be one, grown.  oval: union of the sure faces.
    reasons: what was left out, counted.
    """

    sure: dict[str, np.ndarray]
    allowed: dict[str, np.ndarray]
    person: np.ndarray | None
    person_seen: np.ndarray
    person_wide: np.ndarray
    oval: np.ndarray
    parts_allowed: dict[str, np.ndarray]
    faces: list[Face] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)


def polygon(points: np.ndarray, size_hw: tuple[int, int], shrunk: float = 1.0) -> np.ndarray:
    """Pixels of which more than half lies in a polygon of (n, 2) continuous points, (H, W) bool.

    The polygon is first shrunk about its centroid.

    Pixel i spans [i, i + 1): a square from 1 to 3 covers pixels 1 and 2.
    """
    centre = points.mean(axis=0)
    outline = (points - centre) * shrunk + centre
    low = np.maximum(np.floor(outline.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(outline.max(axis=0)).astype(int), (size_hw[1], size_hw[0]))
    result = np.zeros(size_hw, bool)
    if (high > low).all():
        width, height = high - low
        canvas = np.zeros((height * FINER, width * FINER), np.uint8)
        scaled = np.round((outline - low) * FINER - 0.5).astype(np.int32)
        cv2.fillPoly(canvas, [scaled], 255)
        share = cv2.resize(canvas, (int(width), int(height)), interpolation=cv2.INTER_AREA)
        result[low[1] : high[1], low[0] : high[0]] = share > 127
    return result


def strip(start: np.ndarray, end: np.ndarray, half: float, size_hw: tuple[int, int]) -> np.ndarray:
    """Pixels within `half` of the middle line of a limb, with square ends, (H, W) bool."""
    along = (end - start) / max(float(np.linalg.norm(end - start)), 1e-6)
    across = np.array([-along[1], along[0]], np.float32) * half
    return polygon(np.stack([start + across, end + across, end - across, start - across]), size_hw)


def disc(centre: np.ndarray, radius: float, size_hw: tuple[int, int]) -> np.ndarray:
    """Pixels within `radius` of a point, (H, W) bool."""
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]] + 0.5
    inside: np.ndarray = (columns - centre[0]) ** 2 + (rows - centre[1]) ** 2 <= radius**2
    return inside


def grow(mask: np.ndarray, radius: float) -> np.ndarray:
    """A bool mask grown by `radius` pixels in a disc."""
    if radius < 1 or not mask.any():
        return mask
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    near: np.ndarray = distance <= radius
    return near


def bits(packed: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Rows of packed bits -> (n, H, W) bool; one row -> (H, W)."""
    count = size_hw[0] * size_hw[1]
    return np.unpackbits(packed, axis=-1, count=count).reshape(*packed.shape[:-1], *size_hw).astype(bool)


def area(points: np.ndarray) -> float:
    """Area of a polygon in square pixels."""
    return float(cv2.contourArea(points.astype(np.float32)))


class FrameReader:
    """Turns the findings of one frame into `FrameRegions`."""

    def __init__(self, image: np.ndarray, found: Mapping[str, np.ndarray]) -> None:
        self.image, self.found = image, found
        self.size: tuple[int, int] = (image.shape[0], image.shape[1])
        self.reasons: Counter[str] = Counter()
        self.sure: dict[str, list[np.ndarray]] = {name: [] for name in (*ATTRIBUTES, "face", "person")}
        self.maybe: dict[str, list[np.ndarray]] = {name: [] for name in (*ATTRIBUTES, "face")}
        self.lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        self.faces: list[Face] = []
        self.hand_cover = np.zeros(self.size, bool)
        self.oval_height = 0.0

    def read(self) -> FrameRegions:
        """All regions of the frame."""
        people = bits(self.found["pose_person"], self.size)
        selfie, wide_selfie = (bits(self.found[f"selfie_{name}"], self.size) for name in ("sure", "maybe"))
        seen = self._union(list(people))
        person, height = self._person(seen, selfie, wide_selfie)
        # the selfie network also answers to chairs and screens: only near somebody
        wide_selfie &= grow(seen | selfie, 0.1 * height)
        self._hands(person)
        self._faces()
        for index in range(len(self.found["pose_points"])):
            self._body(index, people[index])
        grown = GROWN * height
        union = {name: self._union(regions) for name, regions in self.sure.items()}
        allowed = {name: grow(union[name], grown) | self._union(self.maybe[name]) for name in (*ATTRIBUTES, "face")}
        parts = {
            name: grow(union[name], GROWN * self.oval_height) | self._union(self.maybe[name]) for name in GROUPS["face"]
        }
        oval = self._union(self.sure["face"])
        everything = seen | wide_selfie | oval | self.hand_cover
        for places in self.maybe.values():
            everything |= self._union(places)
        if person is not None:
            union["person"] = person
        regions = FrameRegions(
            sure={name: region for name, region in union.items() if region.sum() >= MIN_PIXELS},
            allowed=allowed,
            person=person,
            person_seen=seen | selfie,
            person_wide=grow(everything, max(grown, 0.03 * min(self.size))),
            oval=oval,
            parts_allowed=parts,
            faces=self.faces,
            reasons=self.reasons,
        )
        for name, region in union.items():
            if 0 < region.sum() < MIN_PIXELS:
                self.reasons[f"{name}: too small"] += 1
        return regions

    def _union(self, regions: Sequence[np.ndarray]) -> np.ndarray:
        union = np.zeros(self.size, bool)
        for region in regions:
            union |= region
        return union

    def _person(self, seen: np.ndarray, selfie: np.ndarray, maybe: np.ndarray) -> tuple[np.ndarray | None, float]:
        """Certain pixels of people, and their height: poses' segmentation, where the selfie network does not object.

        Where that network sees nobody at all (people far away) the poses decide alone.
        """
        if not seen.any():
            if not selfie.any():
                return None, float(self.size[0])
            self.reasons["person: no pose"] += 1
            return None, float(np.ptp(np.nonzero(selfie)[0]) + 1)
        height = float(np.ptp(np.nonzero(seen)[0]) + 1)
        common = seen & maybe
        return (common if common.sum() > 0.7 * seen.sum() else seen), height

    def _hands(self, person: np.ndarray | None) -> None:
        for points, score, agreement in zip(
            self.found["hand_points"], self.found["hand_score"], self.found["hand_agreement"], strict=True
        ):
            hull = polygon(cv2.convexHull(points)[:, 0], self.size)
            # palm and fingers, not what lies between spread fingers
            hand = self._skeleton(points) & hull
            wide = grow(hull, 0.3 * np.sqrt(max(hull.sum(), 1)))
            off_person = person is not None and not (grow(person, 6) & hull).any()
            if score < HAND_SCORE or agreement < HAND_AGREEMENT or off_person:
                self.reasons["hand: unsure"] += 1
            else:
                self.sure["hand"].append(hand)
            self.maybe["hand"].append(wide)
            self.maybe["arm"].append(wide)
            self.hand_cover |= grow(hull, 0.15 * np.sqrt(max(hull.sum(), 1)))

    def _skeleton(self, points: np.ndarray) -> np.ndarray:
        """Palm polygon and a strip along each finger, thinner than the finger."""
        palm = points[[0, 1, 5, 9, 13, 17]]
        width = float(np.linalg.norm(points[5] - points[17]))
        result = polygon(palm, self.size, 0.95)
        for first in (1, 5, 9, 13, 17):
            for one, other in zip(points[first : first + 3], points[first + 1 : first + 4], strict=True):
                result |= strip(one, other, max(0.08 * width, 0.75), self.size)
        return result

    def _faces(self) -> None:
        sure_centres = []
        for points, agreement in zip(self.found["face_points"], self.found["face_agreement"], strict=True):
            oval_points = points[OVAL]
            oval = polygon(oval_points, self.size)
            if agreement < FACE_AGREEMENT:
                self.reasons["face: unsure"] += 1
                self._maybe_face(grow(oval, 0.2 * float(np.ptp(oval_points[:, 1]))))
                continue
            if (oval & self.hand_cover).sum() > 0.5 * max(oval.sum(), 1):
                self.reasons["face: behind a hand"] += 1
                self._maybe_face(oval)
                continue
            sure_centres.append(oval_points.mean(axis=0))
            clear = oval & ~self.hand_cover
            self.sure["face"].append(clear)
            self.oval_height = max(self.oval_height, float(np.ptp(oval_points[:, 1])))
            box = np.concatenate([oval_points.min(axis=0), oval_points.max(axis=0)])
            self.faces.append(Face(clear, box, self._face_parts(points)))
        for box in self.found["detector_box"]:
            if not any((box[:2] <= centre).all() and (centre <= box[2:]).all() for centre in sure_centres):
                self.reasons["face: detected, not measured"] += 1
                centre = (box[:2] + box[2:]) / 2
                self._maybe_face(disc(centre, 0.9 * float(box[2] - box[0]), self.size))

    def _maybe_face(self, region: np.ndarray) -> None:
        for name in ("face", *GROUPS["face"]):
            self.maybe[name].append(region)

    def _face_parts(self, points: np.ndarray) -> np.ndarray | None:
        """Adds the parts that can be seen; median CIELAB of the cheeks."""
        cheeks = self._part_regions("cheek", points)
        colours = [self.lab[region] for region in cheeks if region.any()]
        skin = np.median(np.concatenate(colours), axis=0) if colours else None
        for name in GROUPS["face"]:
            for region in cheeks if name == "cheek" else self._part_regions(name, points):
                clear = region & ~self.hand_cover
                if name == "forehead" and skin is not None:
                    clear &= np.linalg.norm(self.lab - skin, axis=2) < FOREHEAD_COLOUR
                if clear.sum() < 0.5 * max(region.sum(), 1):
                    self.reasons[f"{name}: covered"] += 1
                    self.maybe[name].append(region)
                else:
                    self.sure[name].append(clear)
        return skin if sum(map(len, colours)) >= MIN_PIXELS else None

    def _part_regions(self, name: str, points: np.ndarray) -> list[np.ndarray]:
        outlines = [points[indices] for indices in PARTS[name]]
        largest = max(area(outline) for outline in outlines)
        kept = [outline for outline in outlines if area(outline) >= FORESHORTENED * largest]
        shrunk = 0.9 if name in ("forehead", "cheek") else 1.0
        return [polygon(outline, self.size, shrunk) for outline in kept]

    def _body(self, index: int, person: np.ndarray) -> None:
        points, visibility, shift = (self.found[f"pose_{name}"][index] for name in ("points", "visibility", "shift"))
        shoulders, hips = points[11:13].mean(axis=0), points[23:25].mean(axis=0)
        size = max(float(np.linalg.norm(shoulders - hips)), float(np.linalg.norm(points[11] - points[12])))
        inside = (points >= 0).all(axis=1) & (points[:, 0] < self.size[1]) & (points[:, 1] < self.size[0])
        good = (visibility > VISIBILITY) & (shift < SHIFT * size)
        self._limbs("arm", ARMS, points, good & inside, visibility, person)
        self._limbs("leg", LEGS, points, good & inside, visibility, person)
        self._wrists(points, visibility)
        arms = self._union(self.sure["arm"] + self.maybe["arm"])
        in_front = grow(arms, 0.08 * size) | self.hand_cover
        # hips may lie below the picture: the polygon is cut there
        trunk = polygon(points[list(TORSO)], self.size, TORSO_SHRUNK)
        if good[[11, 12]].all() and (visibility[[23, 24]] > 0.5).all() and (shift[[23, 24]] < SHIFT * size).all():
            self.sure["torso"].append(trunk & person & ~in_front)
        else:
            self.reasons["torso: unsure"] += 1
            self.maybe["torso"].append(grow(polygon(points[list(TORSO)], self.size), 0.15 * size))
        if not self._has_face(points):
            reach = max(float(np.ptp(points[:11, 0])), float(np.ptp(points[:11, 1])), 0.15 * size)
            self._maybe_face(disc(points[:11].mean(axis=0), 1.2 * reach, self.size))

    def _has_face(self, points: np.ndarray) -> bool:
        nose = points[0]
        return any((face.box[:2] <= nose).all() and (nose <= face.box[2:]).all() for face in self.faces)

    def _limbs(
        self,
        name: str,
        limbs: Sequence[tuple[int, int, int]],
        points: np.ndarray,
        good: np.ndarray,
        visibility: np.ndarray,
        person: np.ndarray,
    ) -> None:
        """Strips from joint to joint; the joints nearest to the trunk are cut off, as are wrists and ankles."""
        for limb in limbs:
            for one, other, cut, end in ((limb[0], limb[1], 0.25, 1.0), (limb[1], limb[2], 0.0, 0.9)):
                start, stop = points[one], points[other]
                length = float(np.linalg.norm(stop - start))
                if good[[one, other]].all():
                    along = strip(start + cut * (stop - start), start + end * (stop - start), STRIP * length, self.size)
                    self.sure[name].append(along & person & ~self.hand_cover)
                elif (visibility[[one, other]] > MAYBE_VISIBLE).all():
                    self.reasons[f"{name}: unsure"] += 1
                    self.maybe[name].append(strip(start, stop, 0.25 * length, self.size))

    def _wrists(self, points: np.ndarray, visibility: np.ndarray) -> None:
        """Where a hand must be near, and none is sure, a hand may be."""
        for elbow, wrist in ((13, 15), (14, 16)):
            forearm = points[wrist] - points[elbow]
            length = max(float(np.linalg.norm(forearm)), 1.0)
            centre = points[wrist] + 0.3 * forearm
            near = disc(centre, 0.6 * length, self.size)
            if visibility[wrist] > MAYBE_VISIBLE and not any((near & hand).any() for hand in self.sure["hand"]):
                self.reasons["hand: at a wrist, not found"] += 1
                self.maybe["hand"].append(near)
                self.maybe["arm"].append(near)
                self.hand_cover |= disc(centre, 0.4 * length, self.size)


def read_frame(image: np.ndarray, found: Mapping[str, np.ndarray]) -> FrameRegions:
    """Regions of an (H, W, 3) uint8 RGB frame from the findings of that frame (`findings.of_frame`)."""
    return FrameReader(image, found).read()
