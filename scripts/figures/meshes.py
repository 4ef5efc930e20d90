"""Meshes: from vertices and faces to Blender's objects, normals, random points on faces, boxes, strands.

Not here: what the meshes show (body, clothes, hair, scenes), what they look like (materials).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import bpy
import numpy as np

from figures.body import Faces


def make_mesh(
    name: str,
    vertices: np.ndarray,
    faces: Faces,
    material: bpy.types.Material,
    uv: tuple[Faces, np.ndarray] | None = None,
) -> bpy.types.Object:
    """A smooth object of some faces of a mesh, without the vertices that none uses; `vertices` names those kept."""
    used = used_vertices(faces)
    place = {vertex: i for i, vertex in enumerate(used)}
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata([tuple(vertices[i]) for i in used], [], [[place[i] for i in face] for face in faces])
    if uv is not None:
        rows, texture = uv
        flat = np.array([texture[i] for row in rows for i in row], np.float32)
        mesh.uv_layers.new().data.foreach_set("uv", flat.ravel())
    mesh.update()
    made = bpy.data.objects.new(name, mesh)
    made["vertices"] = used
    bpy.context.collection.objects.link(made)
    mesh.materials.append(material)
    mesh.polygons.foreach_set("use_smooth", [True] * len(mesh.polygons))
    return made


def subdivide(target: bpy.types.Object, levels: int) -> None:
    """Round an object off when it is rendered."""
    target.modifiers.new("subdivide", "SUBSURF").render_levels = levels


def used_vertices(faces: Faces) -> list[int]:
    """The vertices of some faces, in the order that `make_mesh` keeps them in."""
    return sorted({i for face in faces for i in face})


def faces_within(faces: Faces, mask: np.ndarray) -> Faces:
    """The faces whose vertices all lie in the mask."""
    return [face for face in faces if all(mask[i] for i in face)]


def vertex_normals(vertices: np.ndarray, faces: Faces) -> np.ndarray:
    """Unit normals of the vertices of some faces; zero for all others."""
    normals = np.zeros_like(vertices)
    for face in faces:
        corner = vertices[face]
        across = np.cross(corner[1] - corner[0], corner[2] - corner[0])
        for i in face:
            normals[i] += across
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)


def sample_faces(
    vertices: np.ndarray, faces: Faces, count: int, rng: np.random.Generator, other: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Random points on faces, by area, and the normals there; with `other`, the same points of another pose."""
    triangles = np.array([[face[0], face[k], face[k + 1]] for face in faces for k in range(1, len(face) - 1)])
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    normals = np.cross(b - a, c - a)
    size = np.linalg.norm(normals, axis=1)
    pick = rng.choice(len(triangles), count, p=size / size.sum())
    u, v = rng.random((2, count))
    flip = u + v > 1
    u[flip], v[flip] = 1 - u[flip], 1 - v[flip]
    if other is not None:
        a, b, c = (other[triangles[:, k]] for k in range(3))
    points = a[pick] + u[:, None] * (b - a)[pick] + v[:, None] * (c - a)[pick]
    return points, normals[pick] / size[pick][:, None]


def make_strands(name: str, lines: Iterable[np.ndarray], radius: float, material: bpy.types.Material) -> None:
    """Thin tubes along polylines, tapered towards their ends."""
    curve = bpy.data.curves.new(name, "CURVE")
    curve.dimensions = "3D"
    curve.bevel_depth, curve.bevel_resolution, curve.resolution_u = radius, 0, 1
    for line in lines:
        spline = curve.splines.new("POLY")
        spline.points.add(len(line) - 1)
        spline.points.foreach_set("co", np.c_[line, np.ones(len(line))].ravel())
        spline.points.foreach_set("radius", np.linspace(1, 0.35, len(line)))
    curve.materials.append(material)
    bpy.context.collection.objects.link(bpy.data.objects.new(name, curve))


def make_box(
    foot: Sequence[float], size: Sequence[float], material: bpy.types.Material, bevel: float = 0.01
) -> bpy.types.Object:
    """A box of a size (x, y, z) that stands with the middle of its underside on `foot`."""
    x, y, z = foot
    bpy.ops.mesh.primitive_cube_add(size=1, location=(x, y, z + size[2] / 2))
    made = bpy.context.object
    made.scale = size
    made.data.materials.append(material)
    bpy.ops.object.transform_apply(scale=True, location=False, rotation=False)
    if bevel:
        made.modifiers.new("bevel", "BEVEL").width = bevel
    return made
