"""One picture: an empty Blender, a scene, a person where the figure has one, the camera, the render.

Writes ``ID.png`` and ``ID.json``, the pixel of each joint: a help for placing the library's points.  With labels also
``ID.labels.png``, the number of the part that each pixel shows.

Not here: which pictures there are (cast), JPEGs and the library itself (make_library.py).
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Vector

from figures.body import Body
from figures.labels import label_person
from figures.person import add_person
from figures.scenes import add_scene

APERTURE = 2.8
EXPOSURE = 0.15


def render(data: Path, out: Path, name: str, figure: dict[str, Any], samples: int, *, labelled: bool = False) -> None:
    """Render one figure of the cast; the same name gives the same picture."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.world = bpy.data.worlds.new("world")
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    add_scene(rng, figure)
    height, joints = 1.0, {}
    people: list[tuple[Body, dict[str, Any], set[bpy.types.Object]]] = []
    if "body" in figure:
        body = add_person(data, figure, rng)
        height, joints = body.posed[body.index["body"], 2].max(), body.joints()
        people = [(body, figure, set(scene.objects))]
        for other in figure.get("others", ()):
            before = set(scene.objects)
            beside = add_person(data, other, rng)
            people.append((beside, other, set(scene.objects) - before))
            for made in people[-1][2]:
                made.location.x += other["at"][0]
                made.location.y += other["at"][1]
    camera = _add_camera(scene, *figure["camera"], height)
    _set_up(scene, figure["size"], samples, figure.get("exposure", EXPOSURE))
    bpy.context.view_layer.update()
    pixels = {joint: _pixel(scene, camera, place) for joint, place in joints.items()}
    (out / f"{name}.json").write_text(json.dumps(pixels))
    if labelled:
        for someone, worn, objects in people:
            label_person(someone, worn.get("low"), objects)
        _write_labels(scene, out, name)
    scene.render.filepath = str(out / f"{name}.png")
    bpy.ops.render.render(write_still=True)


def _add_camera(
    scene: bpy.types.Scene, x: float, share: float, distance: float, z: float, focal: float, height: float
) -> bpy.types.Object:
    """Add the camera of `cast` for a person of a height in m."""
    lens = bpy.data.cameras.new("camera")
    lens.lens = focal
    lens.dof.use_dof = True
    lens.dof.focus_distance, lens.dof.aperture_fstop = distance, APERTURE
    camera = bpy.data.objects.new("camera", lens)
    camera.location = (x, -distance, z)
    looks_at = Vector((x, 0, share * height))
    camera.rotation_euler = (looks_at - camera.location).to_track_quat("-Z", "Y").to_euler()
    scene.collection.objects.link(camera)
    scene.camera = camera
    return camera


def _write_labels(scene: bpy.types.Scene, out: Path, name: str) -> None:
    """Let the render also write the pass index of the material that each pixel shows."""
    scene.view_layers[0].use_pass_material_index = True
    scene.use_nodes = True
    nodes, links = scene.node_tree.nodes, scene.node_tree.links
    layers = next(node for node in nodes if node.type == "R_LAYERS")
    share = nodes.new("CompositorNodeMath")
    share.operation = "DIVIDE"
    share.inputs[1].default_value = 255
    file = nodes.new("CompositorNodeOutputFile")
    file.base_path = str(out)
    file.file_slots[0].path = f"{name}.labels."
    file.format.file_format, file.format.color_mode, file.format.color_depth = "PNG", "BW", "8"
    file.format.color_management = "OVERRIDE"
    file.format.view_settings.view_transform = "Raw"
    links.new(layers.outputs["IndexMA"], share.inputs[0])
    links.new(share.outputs[0], file.inputs[0])


def _set_up(scene: bpy.types.Scene, size: tuple[int, int], samples: int, exposure: float) -> None:
    """Set the engine, the size and the look of the picture."""
    render = scene.render
    render.engine = "CYCLES"
    render.resolution_x, render.resolution_y, render.resolution_percentage = *size, 100
    render.image_settings.file_format = "PNG"
    scene.cycles.samples = samples
    scene.cycles.use_denoising = False
    scene.cycles.max_bounces = 5
    scene.view_settings.view_transform = "Filmic"
    scene.view_settings.look = "Medium Contrast"
    scene.view_settings.exposure = exposure


def _pixel(scene: bpy.types.Scene, camera: bpy.types.Object, place: np.ndarray) -> tuple[int, int]:
    """Where a point of the scene is in the picture."""
    share = world_to_camera_view(scene, camera, Vector(place))
    return round(share.x * scene.render.resolution_x), round((1 - share.y) * scene.render.resolution_y)
