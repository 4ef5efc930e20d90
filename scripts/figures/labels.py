"""What every pixel of a drawn person is: a label for each face of its meshes, rendered beside the picture.

A mesh whose faces belong to several parts has one copy of its material for each of them; the copies carry the number of
the part as their pass index, which Cycles writes into a picture of its own.

Not here: who is drawn (crowd), how the picture is rendered (picture), what labels are good for (make_drawn_people.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import bpy
import numpy as np

from figures.body import Body
from figures.clothes import Measures
from figures.hair import forehead_height

# Numbers of parts; 0 is everything that is nobody.  Those from `face` on are parts that nobody asks for by name, or of
# which it is a matter of taste what they belong to.
PARTS = (
    "rest", "hair", "forehead", "eyes", "cheek", "lips", "hand", "arm", "torso", "leg",
    "face", "neck", "ear", "beard", "hip", "skirt", "foot",
)  # fmt: skip
NUMBER = {name: number for number, name in enumerate(PARTS)}


def vertex_parts(body: Body) -> np.ndarray:
    """The number of the part that each vertex of a body belongs to, clothes apart: a sleeve is an arm."""
    measures = Measures.of(body)
    parts = np.full(len(body.rest), NUMBER["torso"])
    parts[measures.arm >= 0] = NUMBER["arm"]
    parts[body.moved_by("wrist", "finger", "metacarpal") & (measures.arm > 1.97)] = NUMBER["hand"]
    parts[measures.leg >= 0] = NUMBER["leg"]
    parts[(measures.leg >= 0) & (measures.leg < 0.06)] = NUMBER["hip"]
    parts[body.moved_by("foot", "toe") & (measures.leg > 1.95)] = NUMBER["foot"]
    parts[measures.torso & (measures.height < measures.hip + 0.02)] = NUMBER["hip"]
    head = (
        "head",
        "temporalis",
        "oculi",
        "jaw",
        "oris",
        "risorius",
        "levator",
        "special",
        "orbicularis",
        "tongue",
        "eye",
    )
    parts[body.moved_by("neck")] = NUMBER["neck"]
    on_head = body.moved_by(*head)
    parts[on_head] = NUMBER["face"]
    unit, eye, mouth = (
        forehead_height(body),
        body.centre("joint-l-eye", rest=True),
        body.centre("joint-mouth", rest=True),
    )
    x, y, z = np.abs(body.rest[:, 0]), body.rest[:, 1], body.rest[:, 2]
    front = on_head & (y < eye[1] + 0.45 * unit)
    parts[front & (z > eye[2] + 0.24 * unit)] = NUMBER["forehead"]
    aside = np.abs(x - abs(eye[0])) / unit
    parts[front & (aside < 0.24) & (z < eye[2] + 0.24 * unit) & (z > eye[2] - 0.12 * unit)] = NUMBER["eyes"]
    level = (z < eye[2] - 0.16 * unit) & (z > mouth[2] - 0.12 * unit)
    parts[front & level & (x > 0.2 * unit) & (x > abs(eye[0]) * 0.62)] = NUMBER["cheek"]
    lips = (np.abs(z - mouth[2]) < 0.15 * unit) & (x < 0.27 * unit) & (y < mouth[1] + 0.1 * unit)
    parts[on_head & lips] = NUMBER["lips"]
    parts[on_head & (y > eye[1] + 0.75 * unit) & (x > 0.55 * unit) & (np.abs(z - eye[2]) < 0.45 * unit)] = NUMBER["ear"]
    parts[on_head & (z < mouth[2] - 0.75 * unit)] = NUMBER["neck"]
    return parts


def label_person(body: Body, low: str | None, objects: Iterable[bpy.types.Object]) -> None:
    """Give the materials of a person's objects the number of what each shows; 0 for what is not of the person."""
    parts = vertex_parts(body)
    whole = {"hair": "hair", "cap": "hair", "beard": "beard", "brows": "eyes", "eye": "eyes", "shoes": "foot"}
    for made in objects:
        name = made.name.partition(".")[0]
        if name in whole:
            for slot in made.data.materials:
                slot.pass_index = NUMBER[whole[name]]
        elif name == "body":
            _by_face(made, parts, lambda part: part)
        elif name in ("shirt", "jacket"):
            _by_face(made, parts, _of_shirt)
        elif name == "low" and low == "skirt":
            made.data.materials[0].pass_index = NUMBER["skirt"]
        elif name == "low":
            _by_face(made, parts, _of_trousers)


def _of_shirt(part: int) -> int:
    """What a shirt shows over a part of the body: it hangs over hips, and its collar is no neck."""
    if part == NUMBER["hand"]:
        return NUMBER["arm"]
    return part if part == NUMBER["arm"] else NUMBER["torso"]


def _of_trousers(part: int) -> int:
    return NUMBER["leg"] if part in (NUMBER["leg"], NUMBER["foot"]) else NUMBER["hip"]


def _by_face(made: bpy.types.Object, parts: np.ndarray, shown: Callable[[int], int]) -> None:
    """A material for each part, and of each face the one of most of its vertices.

    A mesh keeps the order of vertices of the body, but only the used ones: `vertices` of the object tells which.
    """
    used = np.array(made["vertices"])
    polygons = made.data.polygons
    corners = [used[list(polygon.vertices)] for polygon in polygons]
    labels = [shown(int(np.bincount(parts[corner]).argmax())) for corner in corners]
    first = made.data.materials[0]
    slots = {}
    for label in sorted(set(labels)):
        copy = first if not slots else first.copy()
        copy.pass_index = label
        slots[label] = len(slots)
        if copy is not first:
            made.data.materials.append(copy)
    polygons.foreach_set("material_index", [slots[label] for label in labels])
