"""Poses as directions of bones, and the matrices that bring the rig of the base mesh into them.

A pose maps a bone to the direction it points in: x to the figure's left, y to its back, z up.  ``curl.L`` and
``curl.R`` bend the fingers of a hand by an angle in degrees at each joint, or by one angle per finger ("1" is the
thumb).  ``turn.BONE`` turns a bone and what hangs on it by angles in degrees about x (to nod), y (to lean) and z (to
look aside).  What a pose does not name follows its parent bone.

Not here: the mesh that the matrices move (body), facial expressions, contact with the ground or a seat.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Pose = dict[str, Any]

STAND: Pose = {
    "upperarm01.L": (0.28, 0.05, -1),
    "upperarm01.R": (-0.28, 0.05, -1),
    "lowerarm01.L": (0.14, -0.18, -1),
    "lowerarm01.R": (-0.14, -0.18, -1),
    "upperleg01.L": (0.1, 0, -1),
    "upperleg01.R": (-0.1, 0, -1),
    "lowerleg01.L": (0.06, 0.04, -1),
    "lowerleg01.R": (-0.06, 0.04, -1),
    "curl.L": 18,
    "curl.R": 18,
}
WALK = STAND | {
    "upperarm01.L": (0.2, 0.5, -1),
    "upperarm01.R": (-0.2, -0.45, -1),
    "lowerarm01.L": (0.1, -0.1, -1),
    "lowerarm01.R": (-0.1, -0.9, -1),
    "upperleg01.L": (0.05, -0.45, -1),
    "upperleg01.R": (-0.05, 0.3, -1),
    "lowerleg01.L": (0.03, 0.1, -1),
    "lowerleg01.R": (-0.03, 0.75, -1),
}
WAVE = STAND | {
    "upperarm01.R": (-1, -0.1, 0.15),
    "lowerarm01.R": (-0.2, -0.25, 1),
    "curl.R": 4,
}
UP = STAND | {
    "upperarm01.L": (0.8, -0.1, 0.75),
    "upperarm01.R": (-0.8, -0.1, 0.75),
    "lowerarm01.L": (0.15, -0.15, 1),
    "lowerarm01.R": (-0.15, -0.15, 1),
    "curl.L": 5,
    "curl.R": 5,
}
SIT = STAND | {
    "upperarm01.L": (0.25, -0.35, -1),
    "upperarm01.R": (-0.25, -0.35, -1),
    "lowerarm01.L": (-0.05, -1, -0.35),
    "lowerarm01.R": (0.05, -1, -0.35),
    "upperleg01.L": (0.18, -1, -0.05),
    "upperleg01.R": (-0.18, -1, -0.05),
    "lowerleg01.L": (0.05, -0.1, -1),
    "lowerleg01.R": (-0.05, -0.1, -1),
}
PALM = STAND | {
    "upperarm01.L": (0.3, -0.3, -1),
    "upperarm01.R": (-0.35, -0.3, -1),
    "lowerarm01.L": (-0.1, -0.9, 0.5),
    "lowerarm01.R": (-0.25, -0.55, 1),
    "wrist.L": (-0.2, -0.9, 0.5),
    "wrist.R": (-0.1, -0.2, 1),
    "curl.L": 75,
    "curl.R": 3,
}
POINT = STAND | {
    "upperarm01.L": (0.3, -0.2, -1),
    "upperarm01.R": (-0.4, -0.5, -0.8),
    "lowerarm01.L": (-0.75, -0.75, 0.1),
    "lowerarm01.R": (0.5, -0.7, 0.45),
    "wrist.L": (-0.8, -0.6, 0.1),
    "wrist.R": (0.6, -0.6, 0.45),
    "curl.L": 10,
    "curl.R": {"1": 30, "2": 2, "3": 70, "4": 75, "5": 75},
}

# the bone whose head is the far end of a limb's segment: the rig splits some segments in two bones
SEGMENT_END = {
    "upperarm01": "lowerarm01",
    "lowerarm01": "wrist",
    "wrist": "finger3-1",
    "upperleg01": "lowerleg01",
    "lowerleg01": "foot",
}
THUMB = "1"
THUMB_SHARE = 0.4  # of the bend that a pose asks for: a thumb folds less than a finger


def rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rotation matrix about an axis of any length, in radians."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


def align(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The smallest rotation that turns one direction into another."""
    source, target = source / np.linalg.norm(source), target / np.linalg.norm(target)
    axis = np.cross(source, target)
    sine = np.linalg.norm(axis)
    return np.eye(3) if sine < 1e-8 else rotation(axis, math.atan2(sine, source @ target))


class Skeleton:
    """The bones of a body in one pose: `matrix` says where a bone takes what hangs on it."""

    def __init__(self, parents: dict[str, str], heads: dict[str, np.ndarray], tails: dict[str, np.ndarray], pose: Pose):
        self._parents, self._heads, self._tails, self._pose = parents, heads, tails, pose
        self._known: dict[str, np.ndarray] = {}

    def matrix(self, bone: str) -> np.ndarray:
        """The 4x4 matrix of a bone, from the rest pose to this one, its parents' included."""
        if bone not in self._known:
            parent = self._parents[bone]
            base = self.matrix(parent) if parent else np.eye(4)
            turn = self._turn(bone) @ self._bend(bone) @ self._aim(bone, base[:3, :3])
            own = np.eye(4)
            own[:3, :3] = turn
            own[:3, 3] = self._heads[bone] - turn @ self._heads[bone]
            self._known[bone] = base @ own
        return self._known[bone]

    def _aim(self, bone: str, base: np.ndarray) -> np.ndarray:
        """Turn a limb's segment into the direction that the pose gives it."""
        if bone not in self._pose:
            return np.eye(3)
        stem, _, side = bone.partition(".")
        along = self._heads[f"{SEGMENT_END[stem]}.{side}"] - self._heads[bone]
        return align(along, base.T @ np.asarray(self._pose[bone], float))

    def _turn(self, bone: str) -> np.ndarray:
        """Turn a bone by the angles that the pose gives it."""
        turn = np.eye(3)
        for axis, degrees in zip(np.eye(3), self._pose.get("turn." + bone, ()), strict=False):
            turn = rotation(axis, math.radians(degrees)) @ turn
        return turn

    def _bend(self, bone: str) -> np.ndarray:
        """Bend a joint of a finger towards the palm."""
        stem, _, side = bone.partition(".")
        curl = self._pose.get("curl." + side)
        if not curl or not stem.startswith("finger"):
            return np.eye(3)
        finger = stem[len("finger")]
        degrees = curl.get(finger, 0) if isinstance(curl, dict) else curl
        if finger == THUMB:
            degrees *= THUMB_SHARE
        middle = self._heads["finger3-2." + side] - self._heads["finger3-1." + side]
        across = self._heads["finger2-1." + side] - self._heads["finger5-1." + side]
        along = self._tails[bone] - self._heads[bone]
        axis = np.cross(np.cross(middle, across), along) * (1 if side == "L" else -1)
        return rotation(axis, math.radians(degrees))
