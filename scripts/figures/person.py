"""A person: a body with skin, eyes, hair and clothes, turned, and on a chair where the figure sits.

Not here: where the person is (scenes), how each part is made (body, clothes, hair).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from figures import materials
from figures.body import Body
from figures.cast import Colour
from figures.clothes import SOLE, dress
from figures.hair import add_hair
from figures.meshes import make_box, make_mesh, subdivide, used_vertices

BROWN_EYES, BLUE_EYES = (0.07, 0.035, 0.015), (0.08, 0.16, 0.22)
LIGHT_SKIN = 0.7  # the red of a skin from which on eyes are blue


def add_person(data: Path, figure: dict[str, Any], rng: np.random.Generator) -> Body:
    """Put a figure into the scene, its pelvis over the origin; returns its body."""
    body = Body(data, *figure["body"], pose=figure["pose"])
    spin = body.turn(figure["turn"])
    if "shoes" in figure:
        body.posed[:, 2] += SOLE
    covered = dress(body, figure)
    _add_skin(data, body, figure["skin"], covered)
    _add_eyes(body, BROWN_EYES if figure["skin"][0] < LIGHT_SKIN else BLUE_EYES)
    add_hair(body, figure, rng)
    if figure.get("seat"):
        _add_seat(body, figure["turn"], spin)
    return body


def _add_skin(data: Path, body: Body, tone: Colour, covered: np.ndarray) -> None:
    """Add the skin, less the faces that clothes hide."""
    shown = [
        i
        for i, (face, group) in enumerate(zip(body.faces, body.groups, strict=True))
        if group == "body" and not all(covered[j] for j in face)
    ]
    uv = [body.uvs[i] for i in shown], body.texture
    skin = make_mesh("body", body.posed, [body.faces[i] for i in shown], materials.skin(data, tone), uv)
    subdivide(skin, 1)


def _add_eyes(body: Body, iris: Colour) -> None:
    """Add both eyes; the attribute "gaze" tells the material how far from the pupil a vertex is."""
    for side in "lr":
        group = f"helper-{side}-eye"
        faces, vertices = body.faces_of(group), body.index[group]
        from_centre = body.rest - body.rest[vertices].mean(0)
        radius = np.abs(from_centre[vertices]).max()
        x, y, z = (from_centre[used_vertices(faces)] / radius).T
        gaze = np.stack([x, np.where(y < 0, 0, 1.0), z], 1)
        eye = make_mesh("eye", body.posed, faces, materials.eye(iris))
        attribute = eye.data.attributes.new("gaze", "FLOAT_VECTOR", "POINT")
        attribute.data.foreach_set("vector", gaze.astype(np.float32).ravel())
        subdivide(eye, 2)


def _add_seat(body: Body, degrees: float, spin: np.ndarray) -> None:
    """Add a chair under the pelvis, turned with the body."""
    height = body.posed[body.index["joint-pelvis"], 2].min() - 0.12
    cushion = materials.plain((0.25, 0.1, 0.06), 0.7, 60)
    for part in (
        make_box((0, 0.05, height - 0.42), (0.55, 0.55, 0.42), cushion, 0.03),
        make_box((0, 0.32, height - 0.05), (0.55, 0.08, 0.6), cushion, 0.03),
    ):
        part.location = spin @ np.array(part.location)
        part.rotation_euler = (0, 0, np.radians(degrees))
