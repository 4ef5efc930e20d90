"""mediapipe 0.10.14 on frames: faces, hands, poses and person segmentation, as points and bits.

Runs in its own environment (instruments.py): standard input is an npz with `frames` (T, H, W, 3) uint8 RGB, standard
output an npz.  Every finding carries a confidence and an agreement: each network is also run on the mirrored picture,
and the agreement says how well the two answers match.  All points are (x, y) pixels of the frame.

    detector_frame (D,), detector_box (D, 4: x0, y0, x1, y1), detector_score (D,)     faces the detector found
    face_frame (F,), face_points (F, 478, 2), face_agreement (F,)                     mesh; IoU of the two ovals
    hand_frame (N,), hand_points (N, 21, 2), hand_score (N,), hand_agreement (N,)     IoU of the two hulls
    pose_frame (P,), pose_points (P, 33, 2), pose_visibility (P, 33), pose_shift (P, 33: pixels between the two)
    pose_person (P, bytes of H x W bits): segmentation of that pose at 0.5
    selfie_sure, selfie_maybe (T, bytes): selfie segmentation at 0.7 and at 0.2

Not here: which findings are believed and what regions they make (measuring/regions.py).
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any

import cv2
import mediapipe as mp
import numpy as np

SHORT_SIDE = 480  # small frames are enlarged to it: the networks were made for people near the camera
CROP_SIDE = 384
Box = tuple[float, float, float, float]  # x0, y0, x1, y1
OVAL = [
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
]
# Pose points whose names swap sides in a mirrored picture.
MIRRORED = [0, 4, 5, 6, 1, 2, 3, 8, 7, 10, 9, *(i + 1 if i % 2 else i - 1 for i in range(11, 33))]


class Networks:
    """The six networks, loaded once."""

    def __init__(self) -> None:
        solutions = mp.solutions
        self.detectors = [
            solutions.face_detection.FaceDetection(model_selection=which, min_detection_confidence=0.5)
            for which in (0, 1)
        ]
        self.mesh = solutions.face_mesh.FaceMesh(
            static_image_mode=True, max_num_faces=1, refine_landmarks=True, min_detection_confidence=0.4
        )
        self.hands = solutions.hands.Hands(
            static_image_mode=True, max_num_hands=6, model_complexity=1, min_detection_confidence=0.5
        )
        self.pose = solutions.pose.Pose(
            static_image_mode=True, model_complexity=1, enable_segmentation=True, min_detection_confidence=0.5
        )
        self.selfie = solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)


class View:
    """A window of a frame, enlarged: runs a network on it, as it is or mirrored, and maps points back."""

    def __init__(self, image: np.ndarray, box: Box, short_side: int) -> None:
        height, width = image.shape[:2]
        x0, y0 = max(0, int(box[0])), max(0, int(box[1]))
        x1, y1 = min(width, int(np.ceil(box[2]))), min(height, int(np.ceil(box[3])))
        self.origin, self.size = (x0, y0), (max(1, x1 - x0), max(1, y1 - y0))
        scale = max(1.0, short_side / min(self.size))
        wanted = (round(self.size[0] * scale), round(self.size[1] * scale))
        crop = image[y0 : y0 + self.size[1], x0 : x0 + self.size[0]]
        self.image = np.ascontiguousarray(cv2.resize(crop, wanted, interpolation=cv2.INTER_CUBIC))
        self.mirrored = np.ascontiguousarray(self.image[:, ::-1])

    def points(self, landmarks: Any, mirrored: bool = False) -> np.ndarray:
        """Normalised landmarks -> (n, 2) pixels of the frame."""
        relative = np.array([(1 - p.x if mirrored else p.x, p.y) for p in landmarks], np.float32)
        return relative * np.array(self.size, np.float32) + np.array(self.origin, np.float32)


def views(image: np.ndarray, boxes: list[Box]) -> list[View]:
    """The windows of which enough lies in the frame: the networks' own cropping fails on slivers."""
    kept = []
    for x0, y0, x1, y1 in boxes:
        width, height = min(x1, image.shape[1]) - max(x0, 0), min(y1, image.shape[0]) - max(y0, 0)
        if min(width, height) >= 12 and max(width, height) <= 4 * min(width, height):
            kept.append(View(image, (x0, y0, x1, y1), CROP_SIDE))
    return kept


def whole(image: np.ndarray) -> View:
    """The frame itself, enlarged to SHORT_SIDE."""
    return View(image, (0, 0, image.shape[1], image.shape[0]), SHORT_SIDE)


def iou(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two convex hulls of points."""
    one, other = (cv2.convexHull(points.astype(np.float32)) for points in (first, second))
    areas = [cv2.contourArea(hull) for hull in (one, other)]
    if min(areas) <= 0:
        return 0.0
    common, _ = cv2.intersectConvexConvex(one, other)
    return float(common / (sum(areas) - common))


def window(centre: np.ndarray, half: float) -> Box:
    """A square box around a point."""
    return (centre[0] - half, centre[1] - half, centre[0] + half, centre[1] + half)


def detected_faces(networks: Networks, image: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """(box, score) of both detectors on the frame, without doubles."""
    view = whole(image)
    found: list[tuple[np.ndarray, float]] = []
    for detector in networks.detectors:
        for detection in detector.process(view.image).detections or []:
            box = detection.location_data.relative_bounding_box
            scale, offset = np.array(view.size * 2, np.float32), np.array(view.origin * 2, np.float32)
            corners = np.array([box.xmin, box.ymin, box.xmin + box.width, box.ymin + box.height]) * scale + offset
            centre = (corners[:2] + corners[2:]) / 2
            if all(np.linalg.norm(centre - (b[:2] + b[2:]) / 2) > 0.4 * (b[2] - b[0]) for b, _ in found):
                found.append((corners.astype(np.float32), float(detection.score[0])))
    return found


def poses(networks: Networks, image: np.ndarray, faces: list[tuple[np.ndarray, float]]) -> list[dict[str, np.ndarray]]:
    """The pose of the frame's main person, then of every detected face that is not yet someone's."""
    found: list[dict[str, np.ndarray]] = []
    first = pose_in(networks, image, whole(image))
    if first is not None:
        found.append(first)
    for box, _ in faces:
        if any(box[0] <= p["points"][0, 0] <= box[2] and box[1] <= p["points"][0, 1] <= box[3] for p in found):
            continue
        width, middle = box[2] - box[0], (box[0] + box[2]) / 2
        around = (middle - 2.2 * width, box[1] - width, middle + 2.2 * width, box[3] + 7 * width)
        for view in views(image, [around]):
            pose = pose_in(networks, image, view)
            if pose is None:
                continue
            nose = pose["points"][0]
            if box[0] <= nose[0] <= box[2] and box[1] <= nose[1] <= box[3]:
                found.append(pose)
    return found


def pose_in(networks: Networks, image: np.ndarray, view: View) -> dict[str, np.ndarray] | None:
    """Points, visibility, shift against the mirrored picture, and the person's bits in the frame."""
    result = networks.pose.process(view.image)
    if not result.pose_landmarks:
        return None
    points = view.points(result.pose_landmarks.landmark)
    visibility = np.array([p.visibility for p in result.pose_landmarks.landmark], np.float32)
    shift = np.full(33, np.inf, np.float32)
    segmentation = result.segmentation_mask
    mirrored = networks.pose.process(view.mirrored)
    if mirrored.pose_landmarks:
        other = view.points(mirrored.pose_landmarks.landmark, mirrored=True)[MIRRORED]
        shift = np.linalg.norm(points - other, axis=1).astype(np.float32)
        segmentation = np.minimum(segmentation, mirrored.segmentation_mask[:, ::-1])
    person = np.zeros(image.shape[:2], bool)
    part = cv2.resize(segmentation, view.size, interpolation=cv2.INTER_AREA) > 0.5
    x, y = view.origin
    person[y : y + view.size[1], x : x + view.size[0]] = part
    return {"points": points, "visibility": visibility, "shift": shift, "person": np.packbits(person)}


def meshes(
    networks: Networks, image: np.ndarray, faces: list[tuple[np.ndarray, float]], people: list[dict[str, np.ndarray]]
) -> list[tuple[np.ndarray, float]]:
    """(478 points, agreement) of every face that the detector, or a pose's head, points to."""
    windows = [window((box[:2] + box[2:]) / 2, 1.1 * float(box[2] - box[0])) for box, _ in faces]
    for person in people:
        head = person["points"][:11]
        reach = max(np.ptp(head[:, 0]), np.ptp(head[:, 1]), 4.0)
        windows.append(window(head.mean(axis=0), 2.0 * float(reach)))
    found: list[tuple[np.ndarray, float]] = []
    for view in views(image, windows):
        answers = []
        for mirrored in (False, True):
            result = networks.mesh.process(view.mirrored if mirrored else view.image)
            if result.multi_face_landmarks:
                answers.append(view.points(result.multi_face_landmarks[0].landmark, mirrored))
        if not answers:
            continue
        agreement = iou(answers[0][OVAL], answers[1][OVAL]) if len(answers) == 2 else 0.0
        centre, width = answers[0][OVAL].mean(axis=0), np.ptp(answers[0][OVAL][:, 0])
        double = [i for i, (p, _) in enumerate(found) if np.linalg.norm(p[OVAL].mean(axis=0) - centre) < 0.5 * width]
        if not double:
            found.append((answers[0], agreement))
        elif agreement > found[double[0]][1]:
            found[double[0]] = (answers[0], agreement)
    return found


def hands(
    networks: Networks, image: np.ndarray, people: list[dict[str, np.ndarray]]
) -> list[tuple[np.ndarray, float, float]]:
    """(21 points, score, agreement) of hands in the frame and in a window around each wrist."""
    windows = []
    for person in people:
        points = person["points"]
        for elbow, wrist, middle in ((13, 15, 19), (14, 16, 20)):
            if person["visibility"][wrist] > 0.5:
                reach = max(float(np.linalg.norm(points[wrist] - points[elbow])), 12.0)
                windows.append(window((points[wrist] + points[middle]) / 2, 0.9 * reach))
    found: list[tuple[np.ndarray, float, float]] = []
    for view in [whole(image), *views(image, windows)]:
        plain, mirrored = networks.hands.process(view.image), networks.hands.process(view.mirrored)
        others = [view.points(hand.landmark, mirrored=True) for hand in mirrored.multi_hand_landmarks or []]
        for hand, side in zip(plain.multi_hand_landmarks or [], plain.multi_handedness or [], strict=True):
            points = view.points(hand.landmark)
            agreement = max((iou(points, other) for other in others), default=0.0)
            double = [i for i, (p, _, _) in enumerate(found) if iou(p, points) > 0.3]
            best = (points, float(side.classification[0].score), agreement)
            if not double:
                found.append(best)
            elif agreement > found[double[0]][2]:
                found[double[0]] = best
    return found


def measured(frames: np.ndarray) -> dict[str, np.ndarray]:
    """Everything about (T, H, W, 3) frames; see the module's docstring."""
    networks = Networks()
    lists: dict[str, list[Any]] = {name: [] for name in SHAPES}
    for number, image in enumerate(frames):
        faces = detected_faces(networks, image)
        people = poses(networks, image, faces)
        for box, score in faces:
            append(lists, detector_frame=number, detector_box=box, detector_score=score)
        for points, agreement in meshes(networks, image, faces, people):
            append(lists, face_frame=number, face_points=points, face_agreement=agreement)
        for points, score, agreement in hands(networks, image, people):
            append(lists, hand_frame=number, hand_points=points, hand_score=score, hand_agreement=agreement)
        for person in people:
            append(lists, pose_frame=number, **{f"pose_{name}": value for name, value in person.items()})
        view = whole(image)
        selfie = networks.selfie.process(view.image).segmentation_mask
        selfie = cv2.resize(selfie, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_AREA)
        append(lists, selfie_sure=np.packbits(selfie > 0.7), selfie_maybe=np.packbits(selfie > 0.2))
    bits = (frames.shape[1] * frames.shape[2] + 7) // 8
    return {
        name: np.array(values, dtype).reshape(len(values), *(bits if n == -1 else n for n in shape))
        for (name, values), (dtype, shape) in zip(lists.items(), SHAPES.values(), strict=True)
    }


# Type and shape of one entry of each array; -1 stands for the bytes of a frame's bits.
SHAPES: dict[str, tuple[type, tuple[int, ...]]] = {
    "detector_frame": (np.int32, ()),
    "detector_box": (np.float32, (4,)),
    "detector_score": (np.float32, ()),
    "face_frame": (np.int32, ()),
    "face_points": (np.float32, (478, 2)),
    "face_agreement": (np.float32, ()),
    "hand_frame": (np.int32, ()),
    "hand_points": (np.float32, (21, 2)),
    "hand_score": (np.float32, ()),
    "hand_agreement": (np.float32, ()),
    "pose_frame": (np.int32, ()),
    "pose_points": (np.float32, (33, 2)),
    "pose_visibility": (np.float32, (33,)),
    "pose_shift": (np.float32, (33,)),
    "pose_person": (np.uint8, (-1,)),
    "selfie_sure": (np.uint8, (-1,)),
    "selfie_maybe": (np.uint8, (-1,)),
}


def append(lists: dict[str, list[Any]], **values: Any) -> None:
    """One entry to each of the named lists."""
    for name, value in values.items():
        lists[name].append(value)


def main() -> None:
    """npz in, npz out; whatever the networks print goes to standard error."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False) as archive:
        frames = archive["frames"]
    stream = io.BytesIO()
    np.savez(stream, **measured(frames))  # type: ignore[arg-type]  # no name is one of its own
    output.write(stream.getvalue())
    output.close()


if __name__ == "__main__":
    main()
