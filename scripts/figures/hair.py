"""Hair of the head, eyebrows and beards, grown strand by strand.

Not here: hair that styles or moves, lashes, the look of a strand (materials).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np
from mathutils import Vector
from mathutils.bvhtree import BVHTree

from figures import materials
from figures.body import Body, Faces
from figures.meshes import (
    faces_within,
    make_mesh,
    make_strands,
    sample_faces,
    subdivide,
    vertex_normals,
)

HEAD = ("head", "temporalis", "oculi", "neck03", "jaw")
LOWER_FACE = ("jaw", "oris", "risorius", "levator", "special", "head")
UP = np.array([0, 0, 1.0])
FALL = 0.35  # how much of a strand's direction each step takes from gravity and comb
# the hairline from forehead (0) to nape (1): its height over the eyes, in heights of the forehead
HAIRLINE = ((0, 0.22, 0.36, 0.46, 0.62, 1.0), (0.66, 0.5, 0.0, -0.15, -0.75, -0.8))
BROW_COUNT = 26000  # random points on the face, of which those on the brows are kept


@dataclass(frozen=True)
class Face:
    """Where a posed face is and looks to; a strand that hangs into it is left out."""

    centre: np.ndarray
    forward: np.ndarray
    right: np.ndarray

    def hidden_by(self, strand: np.ndarray) -> bool:
        """Whether a strand hangs into the face."""
        from_centre = strand - self.centre
        before = (from_centre @ self.forward > 0.02) & (from_centre[:, 2] < 0.055)
        return bool((before & (np.abs(from_centre @ self.right) < 0.066)).any())


@dataclass(frozen=True)
class Growth:
    """How strands grow: length and lift off the skin in m, pull downwards, the direction they are combed in."""

    length: float
    pull: float
    lift: float
    steps: int
    comb: np.ndarray | None = None
    face: Face | None = None


def add_hair(body: Body, figure: dict[str, Any], rng: np.random.Generator) -> None:
    """Grow the hair, the eyebrows and the beard of a figure."""
    material = materials.hair(figure["hair_colour"])
    skin = body.faces_of("body")
    surface = BVHTree.FromPolygons([tuple(vertex) for vertex in body.posed], skin)
    _add_scalp(body, figure, skin, surface, rng, material)
    _add_brows(body, figure, skin, rng)
    if "beard" in figure:
        roots, normals = sample_faces(body.posed, faces_within(skin, _beard(body)), 4500, rng)
        growth = Growth(figure["beard"], pull=0.9, lift=0.002, steps=4)
        make_strands("beard", _grow(roots, normals, growth, surface, rng), 0.0006, material)


def _add_scalp(
    body: Body,
    figure: dict[str, Any],
    skin: Faces,
    surface: BVHTree,
    rng: np.random.Generator,
    material: bpy.types.Material,
) -> None:
    """Grow the hair of the head, parted in the middle, over a cap that closes the gaps between strands."""
    length = figure["hair_length"]
    scalp = faces_within(skin, _scalp(body, figure.get("hairline", 0.0)))
    cap = make_mesh("cap", body.posed + vertex_normals(body.posed, skin) * 0.004, scalp, material)
    subdivide(cap, 1)
    roots, normals = sample_faces(body.posed, scalp, figure.get("hair_count", 7000), rng)
    forward = _head_rotation(body) @ np.array([0, -1.0, 0])
    right = np.cross(forward, UP)
    eyes = (body.centre("joint-l-eye") + body.centre("joint-r-eye")) / 2
    face = Face(eyes - 0.06 * forward, forward, right)
    back = -forward * (0.55 if length < 0.2 else 0.35)
    strands = []
    for side in (-1, 1):
        here = np.sign((roots - eyes) @ right) == side
        growth = Growth(
            length,
            pull=0.25 + min(1.2, length * 6),
            lift=0.008 + length * 0.04,
            steps=9,
            comb=back + right * side * (0.08 if length > 0.09 else 0),
            face=face,
        )
        strands += _grow(roots[here], normals[here], growth, surface, rng)
    make_strands("hair", strands, figure.get("hair_radius", 0.0009), material)


def _add_brows(body: Body, figure: dict[str, Any], skin: Faces, rng: np.random.Generator) -> None:
    """Grow the eyebrows: an arched band above the eyes, combed outwards."""
    eye, forehead = body.centre("joint-l-eye", rest=True), forehead_height(body)
    around = (np.abs(body.rest[:, 2] - eye[2]) < 0.6 * forehead) & (body.rest[:, 1] < eye[1] + 0.3 * forehead)
    faces = faces_within(skin, around)
    seed = int(rng.integers(1 << 30))
    spots, _ = sample_faces(body.posed, faces, BROW_COUNT, np.random.default_rng(seed), body.rest)
    roots, normals = sample_faces(body.posed, faces, BROW_COUNT, np.random.default_rng(seed))
    aside = np.abs(spots[:, 0]) / forehead
    arch = 0.2 + 0.06 * np.sin(np.clip((aside - 0.12) / 0.36, 0, 1) * 2.4)
    above = ((spots - eye) / forehead)[:, 2]
    pick = (np.abs(above - arch) < 0.032) & (aside > 0.12) & (aside < 0.5)
    roots, normals = roots[pick], normals[pick]
    sides = np.sign(roots[:, 0] - body.centre("joint-head")[0])
    left = _head_rotation(body) @ np.array([1.0, 0, 0])
    strands = []
    for root, normal, side in zip(roots, normals, sides, strict=True):
        along = normal * 0.3 + left * side + UP * 0.15
        along /= np.linalg.norm(along)
        strands.append(np.array([root, root + along * 0.004 + normal * 0.001, root + along * 0.008]))
    make_strands("brows", strands, 0.0004, materials.hair(materials.scaled(figure["hair_colour"], 0.6)))


def _grow(
    roots: np.ndarray, normals: np.ndarray, growth: Growth, surface: BVHTree, rng: np.random.Generator
) -> list[np.ndarray]:
    """Strands as polylines: along the normal at first, then falling, pushed out of the body."""
    strands = []
    pull = -UP * growth.pull
    if growth.comb is not None:
        pull = pull + growth.comb
    for root, normal in zip(roots, normals, strict=True):
        length = growth.length * rng.uniform(0.75, 1.1)
        along = normal + rng.normal(0, 0.15, 3)
        layer = growth.lift * rng.uniform(0.4, 1.6)
        sway = rng.normal(0, 0.036, 3)
        tip = root
        points = [tip]
        for _ in range(growth.steps):
            along = along / np.linalg.norm(along) * (1 - FALL) + pull * FALL + sway * 0.5
            along /= np.linalg.norm(along)
            tip = tip + along * length / growth.steps
            nearest, outwards, *_ = surface.find_nearest(Vector(tip))
            if nearest is not None:
                outwards = np.array(outwards)
                gap = (tip - np.array(nearest)) @ outwards
                if gap < layer:
                    tip = tip + outwards * (layer - gap)
                    along = along - min(0, along @ outwards) * outwards
            points.append(tip)
        strand = np.array(points)
        if growth.face is None or not growth.face.hidden_by(strand):
            strands.append(strand)
    return strands


def _head_rotation(body: Body) -> np.ndarray:
    """How the pose turned the head."""
    return body.rotation[body.index["joint-head"]].mean(0)


def forehead_height(body: Body) -> float:
    """The height of the head above the eyes, about 0.11 m."""
    return body.rest[body.index["body"], 2].max() - body.centre("joint-l-eye", rest=True)[2]


def _scalp(body: Body, receding: float) -> np.ndarray:
    """The vertices above the hairline, which recedes by a share of the forehead."""
    rest, forehead, eye = body.rest, forehead_height(body), body.centre("joint-l-eye", rest=True)
    head = body.moved_by(*HEAD)
    depth = rest[head & (rest[:, 2] > eye[2]), 1]
    share = (rest[:, 1] - depth.min()) / (depth.max() - depth.min())
    places, heights = HAIRLINE
    line = np.interp(share, places, np.array(heights) * forehead)
    return head & (rest[:, 2] > line + eye[2] + receding * forehead)


def _beard(body: Body) -> np.ndarray:
    """The vertices of chin, jaw and upper lip, without the lips."""
    forehead, mouth = forehead_height(body), body.centre("joint-mouth", rest=True)
    above, aside = body.rest[:, 2] - mouth[2], np.abs(body.rest[:, 0])
    lips = (np.abs(above) < 0.14 * forehead) & (aside < 0.27 * forehead) & (body.rest[:, 1] < mouth[1])
    band = (above < 0.22 * forehead) & (above > -0.75 * forehead)
    return body.moved_by(*LOWER_FACE) & band & ~lips & (body.rest[:, 1] < mouth[1] + 0.75 * forehead)
