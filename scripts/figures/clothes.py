"""Clothes: offset copies of the base mesh's helper surfaces, cut in the rest pose and wrinkled.

Lengths along a limb count its segments: 0 at the shoulder or hip, 1 at the elbow or knee, 2 at the wrist or ankle.

Not here: which figure wears what (cast), the look of the cloth (materials), cloth that hangs or collides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np

from figures import materials
from figures.body import Body, Faces
from figures.cast import Cloth, Colour
from figures.meshes import faces_within, make_mesh, subdivide, vertex_normals

ARM = ("upperarm", "lowerarm", "wrist", "finger", "metacarpal")
LEG = ("upperleg", "lowerleg", "foot", "toe")
FOOT = ("foot", "toe")
TORSO = ("spine", "clavicle", "shoulder", "breast", "pelvis", "root")
ARM_CHAIN = ("upperarm01", "lowerarm01", "wrist")
LEG_CHAIN = ("upperleg01", "lowerleg01", "foot")
LEG_END = {"trousers": 2.02, "shorts": 0.75}
HEM = -0.04  # of a shirt, in m above the hip joint
SOLE = 0.012  # how far shoes lift a body, in m


@dataclass(frozen=True)
class Measures:
    """Where every vertex of a body lies along its limbs (-1: not on one), and some heights in m; all at rest."""

    arm: np.ndarray
    leg: np.ndarray
    torso: np.ndarray
    height: np.ndarray
    hip: float
    waist: float
    neck: float

    @classmethod
    def of(cls, body: Body) -> Measures:
        """Measure a body."""
        hip, neck = body.heads["upperleg01.L"][2], body.heads["neck01"][2]
        return cls(
            arm=_along_limb(body, ARM_CHAIN, ARM),
            leg=_along_limb(body, LEG_CHAIN, LEG),
            torso=body.moved_by(*TORSO),
            height=body.rest[:, 2],
            hip=hip,
            waist=hip + 0.26 * (neck - hip),
            neck=neck,
        )

    def legs(self, end: float) -> np.ndarray:
        """The vertices of the legs down to a length."""
        return (self.leg >= 0) & (self.leg < end)

    def belly(self, gap: float = 0.0) -> np.ndarray:
        """The vertices of the torso below the waist, or a gap in m below that."""
        return self.torso & (self.height < self.waist - gap)


def dress(body: Body, figure: dict[str, Any]) -> np.ndarray:
    """Put a figure's clothes on its body; returns which vertices they hide, so that no skin shows through."""
    measures = Measures.of(body)
    cloths = {part: materials.cloth(*value) for part, value in figure.items() if isinstance(value, Cloth)}
    tights, skin = body.faces_of("helper-tights"), body.faces_of("body")
    outwards = vertex_normals(body.posed, tights)
    covered = np.zeros(len(body.rest), bool)

    low = figure.get("low")
    if low in LEG_END:
        end = figure.get("leg_end", LEG_END[low])
        area = faces_within(tights, measures.legs(end) | measures.belly())
        _sew("low", body.posed + outwards * 0.016, area, cloths["low_material"], wrinkle=0.012)
        covered |= measures.legs(end - 0.12) | measures.belly(0.03)
    elif low == "skirt":
        skirt = body.faces_of("helper-skirt")
        area = faces_within(skirt, measures.height > measures.hip - figure["skirt_length"])
        surface = body.posed + vertex_normals(body.posed, skirt) * 0.004
        _sew("low", surface, area, cloths["low_material"], wrinkle=0.02)
        covered |= measures.legs(0.3) | measures.belly(0.03)

    sleeve, tank = figure.get("sleeve", 0.62), figure.get("tank", False)
    bottom, top = measures.hip + HEM, measures.neck + 0.012
    area = faces_within(tights, _shirt(body, measures, sleeve, bottom, top, tank=tank))
    _sew("shirt", body.posed + outwards * 0.02, area, cloths["shirt"], wrinkle=0.012)
    covered |= _shirt(body, measures, sleeve - 0.14, bottom + 0.03, top - 0.05, tank=tank)

    if "jacket" in cloths:
        cut = _shirt(body, measures, 1.96, measures.hip - 0.1, top + 0.02) & ~_neckline(body, measures)
        surface = body.posed + outwards * 0.032
        _sew("jacket", surface, faces_within(tights, cut), cloths["jacket"], wrinkle=0.014, thickness=0.006)

    if "shoes" in figure:
        ankle = body.heads["foot.L"][2]
        feet = body.moved_by(*FOOT) & (measures.height < ankle)
        _make_shoes(body.posed + vertex_normals(body.posed, skin) * 0.011, faces_within(skin, feet), figure["shoes"])
        covered |= feet & (measures.height < ankle - 0.012)
    return covered


def _along_limb(body: Body, chain: tuple[str, str, str], bones: tuple[str, ...]) -> np.ndarray:
    """How far down a pair of limbs each vertex lies, in segments; -1 off the limbs."""
    along = np.full(len(body.rest), -1.0)
    for side, sign in (("L", 1), ("R", -1)):
        limb = body.moved_by(*bones) & (sign * body.rest[:, 0] > 0)
        joints = [body.heads[f"{bone}.{side}"] for bone in chain]
        for segment in (0, 1):
            reach = joints[segment + 1] - joints[segment]
            share = (body.rest - joints[segment]) @ reach / (reach @ reach)
            here = limb & (share > 0) if segment else limb
            longest = 1.6 if segment else 1  # hands and feet lie beyond the last joint
            along[here] = np.maximum(along[here], segment + np.clip(share[here], 0, longest))
    return along


def _shirt(
    body: Body, measures: Measures, sleeve: float, bottom: float, top: float, *, tank: bool = False
) -> np.ndarray:
    """The vertices under a shirt with sleeves of a length, or without, between two heights."""
    trunk = measures.torso | measures.legs(0.25)
    trunk = trunk & (measures.height > bottom) & (measures.height < top)
    if tank:
        return trunk & (np.abs(body.rest[:, 0]) < abs(body.heads["upperarm01.L"][0]) - 0.01)
    return trunk | ((measures.arm >= 0) & (measures.arm < sleeve))


def _neckline(body: Body, measures: Measures) -> np.ndarray:
    """The vertices that a jacket leaves open at the front, in the shape of a V."""
    front = body.rest[:, 1] < body.heads["spine02"][1]
    low = measures.hip + 0.45 * (measures.neck - measures.hip)
    return front & (np.abs(body.rest[:, 0]) < np.clip(measures.height - low, 0, None) * 0.42)


def _sew(
    name: str,
    surface: np.ndarray,
    faces: Faces,
    material: bpy.types.Material,
    *,
    wrinkle: float,
    thickness: float = 0.004,
) -> None:
    """Make a garment of some faces, with wrinkles and folds."""
    garment = make_mesh(name, surface, faces, material)
    garment.modifiers.new("smooth", "SMOOTH").iterations = 4
    subdivide(garment, 2)
    clouds = bpy.data.textures.new(name, "CLOUDS")
    clouds.noise_scale, clouds.noise_depth = 0.14, 1
    wrinkles = garment.modifiers.new("wrinkles", "DISPLACE")
    wrinkles.texture, wrinkles.strength, wrinkles.mid_level = clouds, wrinkle, 0.45
    marble = bpy.data.textures.new(name + " folds", "MARBLE")
    marble.noise_scale, marble.turbulence = 0.08, 12
    folds = garment.modifiers.new("folds", "DISPLACE")
    folds.texture, folds.strength, folds.mid_level = marble, wrinkle * 0.5, 0.5
    _thicken(garment, thickness)


def _make_shoes(surface: np.ndarray, faces: Faces, colour: Colour) -> None:
    """Make shoes of the faces of the feet: the toes melt into one."""
    shoes = make_mesh("shoes", surface, faces, materials.plain(colour, 0.45, 60))
    _thicken(shoes, 0.004)
    melt = shoes.modifiers.new("melt", "REMESH")
    melt.mode, melt.voxel_size, melt.use_smooth_shade = "VOXEL", 0.008, True
    shoes.modifiers.new("smooth", "SMOOTH").iterations = 8


def _thicken(garment: bpy.types.Object, thickness: float) -> None:
    """Give a surface a thickness in m, outwards."""
    solid = garment.modifiers.new("solid", "SOLIDIFY")
    solid.thickness, solid.offset = thickness, 1
