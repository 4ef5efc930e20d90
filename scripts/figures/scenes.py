"""What a figure stands in: a room, a street, a park or a studio, with its light.

The camera looks along y from negative y; the figure stands at the origin.  All of a scene that varies from picture to
picture without being asked for (books, trees, doors) comes from the picture's own random numbers.

Not here: the figure (person), the camera (picture), the look of walls and ground (materials).
"""

from __future__ import annotations

import math
from typing import Any

import bpy
import numpy as np
from mathutils import Vector

from figures.cast import Colour
from figures.materials import bricks, grass, leaves, plain, wood
from figures.meshes import make_box

Rng = np.random.Generator
Options = dict[str, Any]
Point = tuple[float, float, float]

ROOM_DEPTH = 1.9  # of the wall behind the figure, in m
STREET_DEPTH = 3.0
FRAME = (0.75, 0.75, 0.73)


def add_scene(rng: Rng, figure: Options) -> None:
    """Build the scene that a figure asks for."""
    SCENES[figure["scene"]](rng, figure)


def _room(rng: Rng, figure: Options) -> None:
    make_box((0, 0, -0.1), (12, 12, 0.1), wood((0.3, 0.17, 0.08)), 0)
    make_box((0, ROOM_DEPTH + 0.05, 0), (12, 0.1, 3), plain(figure.get("wall", (0.6, 0.55, 0.45)), 0.9, 40), 0)
    make_box((0, ROOM_DEPTH - 0.01, 0), (12, 0.03, 0.1), plain((0.8, 0.8, 0.78)), 0)
    for _ in range(2):
        _add_framed_picture(rng)
    _add_shelf(rng, figure.get("shelf_x", -1.5))
    _add_window(figure.get("window_x", 1.4))
    if "table" in figure:
        _add_table(figure["table"])
    if figure.get("furniture"):
        _add_furniture()
    _even_light((0.85, 0.9, 1.0), 0.35)
    _area_light((-1.8, -2.2, 2.6), (0, 0, 1), 1.6, 85, (1, 0.93, 0.85))
    _area_light((2.0, -1.2, 2.4), (0, 0, 1), 1.0, 40, (0.85, 0.92, 1))


def _street(rng: Rng, figure: Options) -> None:
    make_box((0, 0, -0.1), (60, 60, 0.1), plain((0.16, 0.16, 0.165), 0.95, 60), 0)
    make_box((0, STREET_DEPTH - 0.6, 0), (60, 1.2, 0.13), plain((0.32, 0.31, 0.29), 0.9, 40), 0.02)
    if figure.get("brick", True):
        wall = bricks((0.35, 0.12, 0.07), (0.25, 0.09, 0.06), (0.4, 0.38, 0.35), 2.2)
    else:
        wall = plain((0.62, 0.56, 0.45), 0.9, 30)
    make_box((0, STREET_DEPTH + 1, 0), (40, 2, 9), wall, 0)
    for k in range(-4, 5):  # windows, and doors for some
        x = k * 1.9 + 0.6
        frame = plain((0.75, 0.74, 0.7))
        door = rng.random() < 0.3
        z, height = (0.13, 2.1) if door else (1.0, 1.3)
        make_box((x, STREET_DEPTH, z), (0.95, 0.12, height), frame)
        pane = plain(tuple(rng.random(3) * 0.3), 0.4) if door else plain((0.03, 0.05, 0.07), 0.05)
        make_box((x, STREET_DEPTH - 0.03, z + 0.07), (0.8, 0.12, height - 0.14), pane)
    _sun_light(35, figure.get("sun_rotation", 200))


def _park(rng: Rng, figure: Options) -> None:
    make_box((0, 20, -0.1), (120, 90, 0.1), grass(), 0)
    make_box((0, 1.8, -0.098), (120, 1.3, 0.11), plain((0.45, 0.4, 0.32), 1, 50), 0)
    for _ in range(11):
        _add_tree(rng)
    _sun_light(42, figure.get("sun_rotation", 150))


def _studio(rng: Rng, figure: Options) -> None:
    grey = (0.4, 0.42, 0.45)
    make_box((0, 0, -0.1), (14, 14, 0.1), plain(grey, 0.8, 30), 0)
    make_box((0, 2.2, 0), (14, 0.1, 6), plain(grey, 0.9, 3), 0)
    _even_light((1, 1, 1), 0.25)
    _area_light((-1.8, -2.4, 2.4), (0, 0, 1.1), 1.4, 150, (1, 0.96, 0.9))
    _area_light((2.2, -1.6, 1.8), (0, 0, 1.1), 1.0, 50, (0.9, 0.95, 1))


SCENES = {"room": _room, "street": _street, "park": _park, "studio": _studio}


def _add_framed_picture(rng: Rng) -> None:
    """Add a dark panel on the wall of a room and a painted one over it."""
    x, z = rng.uniform(-1.8, 1.8), rng.uniform(1.2, 1.6)
    size = rng.uniform(0.3, 0.6), 0.03, rng.uniform(0.3, 0.6)
    make_box((x, ROOM_DEPTH - 0.02, z), size, plain((0.05, 0.03, 0.02)))
    paint = tuple(0.1 + 0.3 * rng.random() + 0.15 * rng.random(3))
    make_box((x, ROOM_DEPTH - 0.035, 1.65), (0.3, 0.03, 0.25), plain(paint, 0.5, 8))


def _add_shelf(rng: Rng, x: float) -> None:
    """Add a shelf full of books against the wall of a room."""
    board = wood((0.35, 0.22, 0.12), 3)
    for z in (0.0, 0.4, 0.8, 1.2, 1.6):
        make_box((x, ROOM_DEPTH - 0.17, z), (1.1, 0.3, 0.03), board)
        left = x - 0.5
        while left < x + 0.45:
            width, height = rng.uniform(0.02, 0.06), rng.uniform(0.16, 0.3)
            cover = plain(tuple(0.05 + 0.35 * rng.random() + 0.12 * rng.random(3)), 0.5)
            make_box((left + width / 2, ROOM_DEPTH - 0.2, z + 0.03), (width, 0.2, height), cover, 0.003)
            left += width + 0.004
    for side in (-0.56, 0.56):
        make_box((x + side, ROOM_DEPTH - 0.17, 0), (0.03, 0.3, 1.65), board)


def _add_window(x: float) -> None:
    """Add a window that glows, with its frame, to the wall of a room."""
    make_box((x, ROOM_DEPTH - 0.02, 0.9), (1.0, 0.03, 1.2), plain((0.8, 0.9, 1.0), 0.3, emit=2.0))
    for side in (-0.5, 0, 0.5):
        make_box((x + side, ROOM_DEPTH - 0.05, 0.9), (0.05, 0.04, 1.2), plain(FRAME))
    make_box((x, ROOM_DEPTH - 0.05, 1.48), (1.0, 0.04, 0.05), plain(FRAME))


def _add_table(x: float) -> None:
    """Add a table with four legs."""
    surface = wood((0.45, 0.3, 0.18), 2)
    make_box((x, 1.1, 0.7), (0.9, 0.6, 0.04), surface)
    for side in (-0.4, 0.4):
        for end in (-0.25, 0.25):
            make_box((x + side, 1.1 + end, 0), (0.05, 0.05, 0.7), surface)


def _add_furniture() -> None:
    """Add a sofa, an armchair, a low table with a book, a door and a basket."""
    dark, red = plain((0.02, 0.025, 0.04), 0.7, 80), plain((0.3, 0.06, 0.05), 0.8, 60)
    for x, cover, width in ((-0.5, red, 1.5), (1.35, dark, 0.5)):
        make_box((x, 0.9, 0.15), (width, 0.7, 0.3), cover, 0.06)
        make_box((x, 1.2, 0.4), (width, 0.18, 0.6), cover, 0.06)
        for side in (-1, 1):
            make_box((x + side * width / 2, 0.9, 0.3), (0.1, 0.6, 0.32), cover, 0.04)
    make_box((0.5, 0.2, 0.4), (0.9, 0.5, 0.04), wood((0.3, 0.2, 0.12), 2))
    for side in (-0.4, 0.4):
        make_box((0.5 + side, 0.2, 0), (0.05, 0.4, 0.4), dark)
    make_box((0.55, 0.2, 0.44), (0.3, 0.2, 0.05), plain((0.1, 0.2, 0.3)))
    make_box((2.3, ROOM_DEPTH - 0.02, 0), (0.9, 0.05, 2.05), plain((0.45, 0.36, 0.26), 0.5, 4))
    make_box((-2.0, 1.2, 0), (0.3, 0.3, 0.4), plain((0.5, 0.3, 0.2)), 0.05)


def _add_tree(rng: Rng) -> None:
    """Add a trunk and four ragged balls of leaves somewhere behind the figure."""
    x, y = rng.uniform(-9, 9), rng.uniform(5, 16)
    bpy.ops.mesh.primitive_cylinder_add(radius=0.14, depth=3, location=(x, y, 1.4), vertices=12)
    bpy.context.object.data.materials.append(plain((0.09, 0.06, 0.04), 1, 20))
    for _ in range(4):
        radius = rng.uniform(0.8, 1.5)
        place = x + rng.uniform(-0.8, 0.8), y + rng.uniform(-0.8, 0.8), rng.uniform(2.4, 4.2)
        bpy.ops.mesh.primitive_ico_sphere_add(subdivisions=5, radius=radius, location=place)
        crown = bpy.context.object
        crown.data.materials.append(leaves())
        clouds = bpy.data.textures.new("leaf", "CLOUDS")
        clouds.noise_scale, clouds.noise_depth = 0.16, 5
        ragged = crown.modifiers.new("ragged", "DISPLACE")
        ragged.texture, ragged.strength = clouds, 0.9


def _sun_light(elevation: float, rotation: float) -> None:
    """A clear sky with the sun at two angles in degrees."""
    world = bpy.context.scene.world
    world.use_nodes = True
    nodes, links = world.node_tree.nodes, world.node_tree.links
    sky = nodes.new("ShaderNodeTexSky")
    sky.sky_type = "NISHITA"
    sky.sun_elevation, sky.sun_rotation = math.radians(elevation), math.radians(rotation)
    sky.sun_size = math.radians(4)
    colour, strength, *_ = nodes["Background"].inputs
    links.new(sky.outputs[0], colour)
    strength.default_value = 0.045


def _even_light(colour: Colour, brightness: float) -> None:
    """Light of one colour from all around."""
    world = bpy.context.scene.world
    world.use_nodes = True
    background, strength, *_ = world.node_tree.nodes["Background"].inputs
    background.default_value = (*colour, 1)
    strength.default_value = brightness


def _area_light(place: Point, target: Point, size: float, power: float, colour: Colour) -> None:
    """A square lamp of a size in m and a power in W that shines at a target."""
    lamp = bpy.data.lights.new("area", "AREA")
    lamp.energy, lamp.size, lamp.color = power, size, colour
    holder = bpy.data.objects.new("area", lamp)
    holder.location = place
    holder.rotation_euler = (Vector(target) - Vector(place)).to_track_quat("-Z", "Y").to_euler()
    bpy.context.collection.objects.link(holder)
