"""People by chance: any number of figures as `cast` describes them, drawn from a seed.

Not here: what a figure's words mean (cast), labels (labels), the people of the library itself (cast).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from figures.cast import BROWN, BROWN_HAIR, DARK, FAIR, LIGHT, OLIVE, Cloth, Colour
from figures.poses import PALM, POINT, SIT, STAND, UP, WALK, WAVE, Pose

Rng = np.random.Generator
SKINS = {"caucasian": (LIGHT, FAIR, OLIVE), "asian": (LIGHT, FAIR, OLIVE), "african": (BROWN, DARK, OLIVE)}
HAIRS = ((0.012, 0.009, 0.008), (0.012, 0.009, 0.008), BROWN_HAIR, (0.13, 0.06, 0.025), (0.42, 0.27, 0.11),
         (0.4, 0.39, 0.38), (0.2, 0.05, 0.02))  # fmt: skip
# What of a person a picture shows: the share of the body's height that is looked at, and how much of it is seen (a body
# fills the picture at 1), least and most.
FRAMINGS = {
    "whole": (0.5, 1.05, 1.7),
    "far": (0.5, 1.8, 3.2),
    "half": (0.74, 0.42, 0.75),
    "portrait": (0.87, 0.24, 0.42),
    "trunk": (0.62, 0.35, 0.6),
    "legs": (0.28, 0.5, 0.8),
}
ODDS = {"whole": 0.26, "far": 0.16, "half": 0.27, "portrait": 0.15, "trunk": 0.09, "legs": 0.07}
SHORT_SIDE, LONG_SIDE = 336, 448
SENSOR = 36.0  # mm, the longer side of Blender's


MOST_PEOPLE, ROOM_OF_ONE = 3, 0.8  # people in a picture, and the metres that each is wide


def figure_of(seed: int) -> dict[str, Any]:
    """A figure of `cast`, with `others` beside it where the picture has room; the same for the same seed."""
    rng = np.random.default_rng([seed, 2024])
    figure = _figure(rng)
    figure["size"], figure["camera"], width = _view(rng)
    count = min(MOST_PEOPLE, int(width / ROOM_OF_ONE * rng.uniform(0.8, 1.5)))
    left = bool(rng.random() < 0.5)
    figure["others"] = []
    for number in range(1, count):
        side = (1 if left else -1) * (1 if number == 1 else -1)
        other = _figure(rng)
        other["at"] = (figure["camera"][0] + side * float(rng.uniform(0.6, 1.0)), float(rng.uniform(-0.2, 0.7)))
        figure["others"].append(other)
    return figure


def _figure(rng: Rng) -> dict[str, Any]:
    """A person, and a scene."""
    gender = str(rng.choice(["male", "female"]))
    race = str(rng.choice(["caucasian", "asian", "african"]))
    age = str(rng.choice(["teen", "young", "young", "middle", "old"]))
    pose = _pose(rng)
    low = str(rng.choice(["trousers", "shorts", "skirt"], p=[0.62, 0.26, 0.12]))
    figure: dict[str, Any] = {
        "body": (
            gender,
            age,
            race,
            float(rng.uniform(-0.5, 1.0)),
            str(rng.choice(["average", "average", "max", "min"])),
        ),
        "pose": pose,
        "turn": float(_turn(rng)),
        "skin": _near(rng, SKINS[race][rng.integers(3)], 0.2),
        "hair_colour": _near(rng, HAIRS[rng.integers(len(HAIRS))], 0.4),
        "hair_length": float(rng.choice([0.008, 0.02, 0.04, 0.07, 0.14, 0.24, 0.34])),
        "hairline": float(max(0.0, rng.uniform(-0.4, 0.4))),
        "hair_count": 5000,
        "hair_radius": 0.0012,
        "shirt": _cloth(rng),
        "sleeve": float(rng.choice([0.3, 0.5, 0.62, 0.75, 1.2, 1.95, 1.95, 1.95])),
        "tank": bool(rng.random() < 0.1),
        "low": low,
        "low_material": _cloth(rng, denim=0.4),
        "leg_end": float(rng.uniform(0.4, 1.0)) if low == "shorts" else 2.02,
        "skirt_length": float(rng.uniform(0.3, 0.7)),
        "scene": str(rng.choice(["room", "room", "street", "park", "studio"])),
        "brick": bool(rng.random() < 0.5),
        "wall": tuple(float(part) for part in rng.uniform(0.05, 0.8) * rng.uniform(0.7, 1.0, 3)),
        "shelf_x": float(rng.uniform(-2, 2)),
        "window_x": float(rng.uniform(-2, 2)),
        "furniture": bool(rng.random() < 0.3),
        "sun_rotation": float(rng.uniform(90, 270)),
        "exposure": float(rng.uniform(-0.7, 1.2)),
        "seat": pose.get("sits", False),
    }
    if gender == "male" and rng.random() < 0.35:
        figure["beard"] = float(rng.uniform(0.004, 0.02))
    if rng.random() < 0.2:
        figure["jacket"] = _cloth(rng)
    if rng.random() < 0.85:
        figure["shoes"] = _colour(rng)
    return figure


def _pose(rng: Rng) -> Pose:
    base = [STAND, WALK, WAVE, UP, SIT, PALM, POINT][rng.choice(7, p=[0.2, 0.17, 0.13, 0.1, 0.14, 0.13, 0.13])]
    pose: Pose = dict(base)
    for bone, direction in base.items():
        if isinstance(direction, tuple):
            pose[bone] = tuple(np.array(direction) + rng.normal(0, 0.16, 3))
    if rng.random() < 0.35:  # arms anywhere
        for side, sign in (("L", 1), ("R", -1)):
            if rng.random() < 0.7:
                pose[f"upperarm01.{side}"] = (sign * rng.uniform(0.1, 1), rng.uniform(-0.8, 0.2), rng.uniform(-1, 0.7))
                pose[f"lowerarm01.{side}"] = (sign * rng.uniform(-0.8, 0.7), rng.uniform(-1, 0), rng.uniform(-0.8, 1))
    for side in "LR":
        if not isinstance(pose.get(f"curl.{side}"), dict):
            pose[f"curl.{side}"] = float(rng.choice([3, 15, 30, 60]))
    pose["turn.neck02"] = tuple(rng.normal(0, (8, 6, 18)))
    pose["turn.head"] = tuple(rng.normal(0, (8, 5, 8)))
    pose["turn.spine04"] = (float(rng.normal(2, 5)), float(rng.normal(0, 5)), float(rng.normal(0, 8)))
    if rng.random() < 0.08:  # bends down
        pose["turn.spine04"] = (float(rng.uniform(25, 70)), 0.0, 0.0)
        pose["turn.spine02"] = (float(rng.uniform(5, 20)), 0.0, 0.0)
    pose["sits"] = base is SIT
    return pose


def _turn(rng: Rng) -> float:
    return float(rng.normal(0, 28)) if rng.random() < 0.6 else float(rng.uniform(-180, 180))


def _view(rng: Rng) -> tuple[tuple[int, int], tuple[float, float, float, float, float], float]:
    """The size of a picture, its camera, and how many metres wide it is where the person stands."""
    framing = str(rng.choice(list(ODDS), p=list(ODDS.values())))
    share, least, most = FRAMINGS[framing]
    tall = framing in ("whole", "legs", "trunk") and rng.random() < 0.5
    size = (SHORT_SIDE, LONG_SIDE) if tall else (LONG_SIDE if rng.random() < 0.7 else SHORT_SIDE, SHORT_SIDE)
    seen = 1.7 * np.exp(rng.uniform(np.log(least), np.log(most)))  # metres from bottom to top
    focal = float(rng.uniform(32, 80))
    height_mm = SENSOR * size[1] / max(size)
    distance = float(seen * focal / height_mm)
    aside = float(rng.uniform(-0.25, 0.25) * seen * size[0] / size[1])
    level = share + float(rng.uniform(-0.06, 0.06)) * seen / 1.7
    return (
        size,
        (aside, level, max(0.9, distance), float(rng.uniform(0.8, 2.0)), focal),
        float(seen * size[0] / size[1]),
    )


def _near(rng: Rng, colour: Colour, spread: float) -> Colour:
    red, green, blue = np.clip(
        np.array(colour) * np.exp(rng.normal(0, spread)) * rng.uniform(0.92, 1.08, 3), 0.004, 0.95
    )
    return float(red), float(green), float(blue)


def _colour(rng: Rng) -> Colour:
    if rng.random() < 0.45:  # black, grey or white
        grey = float(np.exp(rng.uniform(np.log(0.012), np.log(0.85))))
        return _near(rng, (grey, grey, grey), 0.0)
    red, green, blue = rng.uniform(0.02, 1, 3) * np.exp(rng.uniform(np.log(0.06), np.log(0.8)))
    return float(red), float(green), float(blue)


def _cloth(rng: Rng, denim: float = 0.05) -> Cloth:
    if rng.random() < denim:
        shade = float(np.exp(rng.uniform(np.log(0.25), np.log(2.5))))
        return Cloth((0.05 * shade, 0.09 * shade, 0.19 * shade), "denim")
    return Cloth(_colour(rng), second=_colour(rng) if rng.random() < 0.22 else None)
