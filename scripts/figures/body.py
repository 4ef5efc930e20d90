"""Bodies: the MakeHuman base mesh (CC0-1.0, MPFB) with its targets, weights and a pose.

The mesh carries more than the skin: helper surfaces around it (tights, a skirt, the eyes) that clothes are cut from,
and small cubes that mark joints.  Coordinates are metres, x to the figure's left, y to its back, z up.

Not here: pose tables and bone matrices (poses), anything of Blender's, clothes, hair.
"""

from __future__ import annotations

import gzip
import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from figures.poses import Pose, Skeleton

Faces = list[list[int]]

# MakeHuman's models of an age and their shares
AGES = {
    "teen": {"child": 0.5, "young": 0.5},
    "young": {"young": 1.0},
    "middle": {"old": 0.45, "young": 0.55},
    "old": {"old": 0.9, "young": 0.1},
}
DECIMETRE = 0.1


class Body:
    """One posed body: what of it lies where, before and after the pose.

    `rest` and `posed` are the vertices, `rotation` is how the pose turned the surroundings of each, `bone` names the
    bone that moves it most.  `faces` (vertices), `uvs` (rows of `texture`) and `groups` run in step.  `index` gives
    the vertices of MakeHuman's named vertex groups, `heads` where each bone begins in the rest pose.
    """

    def __init__(
        self, data: Path, gender: str, age: str, race: str, weight: float, muscle: str = "average", *, pose: Pose
    ):
        base, self.texture, self.faces, self.uvs, self.groups = _read_obj(data / "3dobjs/base.obj")
        vertices = base.copy()
        level, side = min(1.0, abs(weight)), "max" if weight > 0 else "min"
        for model, share in AGES[age].items():
            build = f"universal-{gender}-{model}-{muscle}muscle"
            _add_target(vertices, data, f"{race}-{gender}-{model}", share)
            _add_target(vertices, data, f"{build}-averageweight", share * (1 - level))
            if level:
                _add_target(vertices, data, f"{build}-{side}weight", share * level)
        self.rest = np.stack([vertices[:, 0], -vertices[:, 2], vertices[:, 1]], 1) * DECIMETRE
        ranges = _read_json(data / "mesh_metadata/basemesh_vertex_groups.json")
        self.index = {
            name: np.concatenate([np.arange(first, last + 1) for first, last in parts])
            for name, parts in ranges.items()
        }
        self._bones = _read_json(data / "rigs/standard/rig.default.json")
        self.heads = {name: self._place(bone["head"], self.rest) for name, bone in self._bones.items()}
        weights = self._weights(_read_json(data / "rigs/standard/weights.default.json")["weights"])
        names = list(self._bones)
        self.bone = [names[i] for i in weights.argmax(1)]
        self.posed, self.rotation = self._pose(weights, pose)
        self.posed[:, 2] -= self.posed[self.index["body"], 2].min()

    def faces_of(self, group: str) -> Faces:
        """The faces of one group of the mesh: the skin is "body", the rest are helpers."""
        return [face for face, of in zip(self.faces, self.groups, strict=True) if of == group]

    def moved_by(self, *bones: str) -> np.ndarray:
        """Which vertices hang mostly on a bone whose name begins with one of these."""
        return np.array([name.startswith(bones) for name in self.bone])

    def centre(self, group: str, *, rest: bool = False) -> np.ndarray:
        """The middle of a vertex group, after the pose unless `rest`."""
        return (self.rest if rest else self.posed)[self.index[group]].mean(0)

    def joints(self) -> dict[str, np.ndarray]:
        """Where each bone begins after the pose."""
        return {name: self._place(bone["head"], self.posed) for name, bone in self._bones.items()}

    def turn(self, degrees: float) -> np.ndarray:
        """Turn the body about the vertical and put its pelvis over the origin; returns the rotation."""
        angle = math.radians(degrees)
        cosine, sine = math.cos(angle), math.sin(angle)
        spin = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
        self.posed = self.posed @ spin.T
        self.rotation = np.einsum("ij,vjk->vik", spin, self.rotation)
        self.posed[:, :2] -= self.centre("joint-pelvis")[:2]
        return spin

    def _place(self, where: dict[str, Any], vertices: np.ndarray) -> np.ndarray:
        """An end of a bone, in the three ways that the rig describes one."""
        match where["strategy"]:
            case "CUBE":
                return vertices[self.index[where["cube_name"]]].mean(0)
            case "VERTEX":
                return vertices[where["vertex_index"]]
            case _:
                return vertices[where["vertex_indices"]].mean(0)

    def _weights(self, table: dict[str, list[list[float]]]) -> np.ndarray:
        """How much each bone moves each vertex; helpers that the rig leaves out follow the nearest skin."""
        weights = np.zeros((len(self.rest), len(self._bones)), np.float32)
        for column, name in enumerate(self._bones):
            if table.get(name):
                rows = np.array(table[name])
                weights[rows[:, 0].astype(int), column] = rows[:, 1]
        skin = self.index["body"]
        for bare in np.where(weights.sum(1) < 1e-4)[0]:
            nearest = np.argmin(((self.rest[skin] - self.rest[bare]) ** 2).sum(1))
            weights[bare] = weights[skin[nearest]]
        return weights / weights.sum(1, keepdims=True)

    def _pose(self, weights: np.ndarray, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
        """The vertices after the pose, and the rotation that each went through (linear blend skinning)."""
        parents = {name: bone["parent"] for name, bone in self._bones.items()}
        tails = {name: self._place(bone["tail"], self.rest) for name, bone in self._bones.items()}
        skeleton = Skeleton(parents, self.heads, tails, pose)
        matrices = np.stack([skeleton.matrix(name) for name in self._bones])
        blend = np.einsum("vb,bij->vij", weights, matrices)
        posed = np.einsum("vij,vj->vi", blend[:, :3, :3], self.rest) + blend[:, :3, 3]
        return posed, blend[:, :3, :3]


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


@cache
def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray, Faces, Faces, np.ndarray]:
    """Vertices, texture coordinates, and of each face its vertices, texture coordinates and group."""
    vertices, texture, groups = [], [], []
    faces: Faces = []
    uvs: Faces = []
    group = ""
    for line in path.read_text().splitlines():
        match line.split():
            case ["v", *numbers]:
                vertices.append([float(number) for number in numbers[:3]])
            case ["vt", *numbers]:
                texture.append([float(number) for number in numbers[:2]])
            case ["g", name, *_]:
                group = name
            case ["f", *words]:
                corners = [word.split("/") for word in words]
                faces.append([int(corner[0]) - 1 for corner in corners])
                uvs.append([int(corner[1]) - 1 for corner in corners])
                groups.append(group)
    return np.array(vertices), np.array(texture), faces, uvs, np.array(groups)


def _add_target(vertices: np.ndarray, data: Path, name: str, share: float) -> None:
    """Move the vertices by a share of one MakeHuman target."""
    with gzip.open(data / "targets/macrodetails" / f"{name}.target.gz", "rt") as file:
        for line in file:
            words = line.split()
            if len(words) == 4 and not line.startswith("#"):
                vertices[int(words[0])] += share * np.array([float(word) for word in words[1:]])
