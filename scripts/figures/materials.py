"""Materials: skin, eyes, cloth, hair, walls, ground and leaves, all procedural.

Colours are linear RGB from 0 to 1.  The only images are the masks that MPFB (CC0-1.0) ships for face, lips and nails.

Not here: which colour who or what has (cast, scenes), the shapes they are put on.
"""

from __future__ import annotations

import math
from pathlib import Path

import bpy

from figures.cast import Colour

Socket = bpy.types.NodeSocket


class Shader:
    """A new material and the parts of its node tree, the principled shader among them."""

    def __init__(self, name: str):
        self.material = bpy.data.materials.new(name)
        self.material.use_nodes = True
        self.nodes = self.material.node_tree.nodes
        self._links = self.material.node_tree.links
        self._principled = self.nodes["Principled BSDF"]

    def link(self, source: Socket, target: Socket) -> None:
        """Let one node's output feed another's input."""
        self._links.new(source, target)

    def feed(self, name: str, source: Socket) -> None:
        """Let a node's output feed the shader."""
        self.link(source, self._principled.inputs[name])

    def set(self, **values: float | tuple[float, ...]) -> None:
        """Set the shader's inputs; an underscore stands for a space."""
        for name, value in values.items():
            self._principled.inputs[name.replace("_", " ").title()].default_value = value

    def noise(
        self,
        first: Colour,
        second: Colour,
        scale: float,
        detail: float = 4,
        stretch: tuple[float, float, float] | None = None,
    ) -> tuple[Socket, Socket]:
        """Two colours mixed by noise, and the noise itself."""
        texture = self.nodes.new("ShaderNodeTexNoise")
        texture.inputs["Scale"].default_value = scale
        texture.inputs["Detail"].default_value = detail
        place = self.nodes.new("ShaderNodeTexCoord").outputs["Object"]
        if stretch:
            mapping = self.nodes.new("ShaderNodeMapping")
            mapping.inputs["Scale"].default_value = stretch
            self.link(place, mapping.inputs[0])
            place = mapping.outputs[0]
        self.link(place, texture.inputs["Vector"])
        ramp = self.ramp(texture.outputs["Fac"], 0.35, 0.65)
        ramp.color_ramp.elements[0].color = (*first, 1)
        ramp.color_ramp.elements[1].color = (*second, 1)
        return ramp.outputs[0], texture.outputs["Fac"]

    def ramp(self, source: Socket, low: float, high: float) -> bpy.types.Node:
        """A colour ramp that rises between two values of its source."""
        ramp = self.nodes.new("ShaderNodeValToRGB")
        ramp.color_ramp.elements[0].position, ramp.color_ramp.elements[1].position = low, high
        self.link(source, ramp.inputs[0])
        return ramp

    def mix(self, share: Socket | float, first: Socket, second: Socket | Colour) -> Socket:
        """The second colour over the first, by a share."""
        mix = self.nodes.new("ShaderNodeMixRGB")
        if isinstance(share, float):
            mix.inputs[0].default_value = share
        else:
            self.link(share, mix.inputs[0])
        self.link(first, mix.inputs[1])
        if isinstance(second, tuple):
            mix.inputs[2].default_value = (*second, 1)
        else:
            self.link(second, mix.inputs[2])
        return mix.outputs[0]

    def bump(self, height: Socket, strength: float, distance: float = 0.002) -> None:
        """Let heights shade the surface."""
        bump = self.nodes.new("ShaderNodeBump")
        bump.inputs["Strength"].default_value = strength
        bump.inputs["Distance"].default_value = distance
        self.link(height, bump.inputs["Height"])
        self.feed("Normal", bump.outputs[0])


def scaled(colour: Colour, factor: float) -> Colour:
    """A colour made lighter or darker."""
    red, green, blue = (min(1.0, part * factor) for part in colour)
    return red, green, blue


def skin(data: Path, tone: Colour) -> bpy.types.Material:
    """Skin with redder face, lips and nails."""
    shader = Shader("skin")
    colour, _ = shader.noise(scaled(tone, 0.93), scaled(tone, 1.06), 25)
    red, green, blue = tone
    tints = {
        "face": (min(1, red * 1.04), green * 0.9, blue * 0.88),
        "lips": (min(1, red * 0.85), green * 0.5, blue * 0.55),
        "fingernails": (min(1, red * 1.15), green * 1.0, blue * 1.05),
    }
    for name, tint in tints.items():
        image = shader.nodes.new("ShaderNodeTexImage")
        image.image = bpy.data.images.load(str(data / f"textures/mpfb_{name}.jpg"), check_existing=True)
        colour = shader.mix(image.outputs[0], colour, tint)
    shader.feed("Base Color", colour)
    shader.feed("Subsurface Color", colour)
    shader.set(subsurface=0.08, subsurface_radius=(0.02, 0.008, 0.004), roughness=0.48)
    _, pores = shader.noise((0, 0, 0), (1, 1, 1), 350, 3)
    shader.bump(pores, 0.25, 0.001)
    return shader.material


def eye(iris: Colour) -> bpy.types.Material:
    """Pupil, iris and white, by the length of the mesh attribute "gaze"."""
    shader = Shader("eye")
    gaze = shader.nodes.new("ShaderNodeAttribute")
    gaze.attribute_name = "gaze"
    length = shader.nodes.new("ShaderNodeVectorMath")
    length.operation = "LENGTH"
    shader.link(gaze.outputs["Vector"], length.inputs[0])
    ramp = shader.ramp(length.outputs["Value"], 0.17, 0.22)
    rings = ramp.color_ramp.elements
    rings[0].color, rings[1].color = (0.005, 0.005, 0.005, 1), (*iris, 1)
    for position, colour in ((0.43, scaled(iris, 0.5)), (0.5, (0.78, 0.72, 0.7)), (0.9, (0.8, 0.6, 0.58))):
        rings.new(position).color = (*colour, 1)
    shader.feed("Base Color", ramp.outputs[0])
    shader.set(roughness=0.05, clearcoat=1)
    return shader.material


def cloth(colour: Colour, kind: str = "cotton", second: Colour | None = None) -> bpy.types.Material:
    """Woven cloth: cotton, denim, or stripes in a second colour."""
    shader = Shader("cloth")
    if kind == "denim":
        threads, weave = shader.noise(scaled(colour, 0.7), scaled(colour, 1.35), 260, 2, stretch=(1, 1, 0.25))
        worn, _ = shader.noise(scaled(colour, 0.75), scaled(colour, 1.5), 7, 3)
        surface = shader.mix(0.5, threads, worn)
    else:
        surface, weave = shader.noise(scaled(colour, 0.85), scaled(colour, 1.12), 300, 3)
    if second:
        surface = _striped(shader, surface, second)
    shader.feed("Base Color", surface)
    shader.set(roughness=0.9, specular=0.15, sheen=0.4)
    shader.bump(weave, 0.5)
    return shader.material


def _striped(shader: Shader, surface: Socket, second: Colour) -> Socket:
    """Slightly uneven stripes across a surface, one above the other."""
    wave = shader.nodes.new("ShaderNodeTexWave")
    wave.bands_direction = "Z"
    wave.inputs["Scale"].default_value = 6.5
    wave.inputs["Distortion"].default_value = 0.6
    place = shader.nodes.new("ShaderNodeTexCoord")
    shader.link(place.outputs["Object"], wave.inputs["Vector"])
    ramp = shader.ramp(wave.outputs["Fac"], 0.48, 0.54)
    return shader.mix(ramp.outputs[0], surface, second)


def hair(colour: Colour) -> bpy.types.Material:
    """Glossy hair whose strands differ in shade."""
    shader = Shader("hair")
    shades, _ = shader.noise(scaled(colour, 0.55), scaled(colour, 1.5), 60, stretch=(1, 1, 0.15))
    shader.feed("Base Color", shades)
    shader.set(roughness=0.38, specular=0.4)
    return shader.material


def plain(colour: Colour, roughness: float = 0.6, noise: float | None = None, emit: float = 0.0) -> bpy.types.Material:
    """One colour, with noise of a scale if asked for, and light of its own."""
    shader = Shader("plain")
    if noise:
        shades, height = shader.noise(scaled(colour, 0.8), scaled(colour, 1.15), noise)
        shader.feed("Base Color", shades)
        shader.bump(height, 0.2, 0.004)
    else:
        shader.set(base_color=(*colour, 1))
    shader.set(roughness=roughness)
    if emit:
        shader.set(emission=(*colour, 1), emission_strength=emit)
    return shader.material


def bricks(first: Colour, second: Colour, mortar: Colour, scale: float) -> bpy.types.Material:
    """A brick wall that faces the camera."""
    shader = Shader("brick")
    texture = shader.nodes.new("ShaderNodeTexBrick")
    for name, colour in {"Color1": first, "Color2": second, "Mortar": mortar}.items():
        texture.inputs[name].default_value = (*colour, 1)
    texture.inputs["Scale"].default_value = scale
    place = shader.nodes.new("ShaderNodeTexCoord")
    mapping = shader.nodes.new("ShaderNodeMapping")
    mapping.inputs["Rotation"].default_value = (math.radians(90), 0, 0)
    shader.link(place.outputs["Object"], mapping.inputs[0])
    shader.link(mapping.outputs[0], texture.inputs["Vector"])
    shader.feed("Base Color", texture.outputs[0])
    shader.set(roughness=0.9)
    return shader.material


def wood(colour: Colour, scale: float = 1.5) -> bpy.types.Material:
    """Wood with its grain along y."""
    shader = Shader("wood")
    grain, _ = shader.noise(scaled(colour, 0.6), scaled(colour, 1.2), 6 * scale, 6, stretch=(12, 0.7, 1))
    shader.feed("Base Color", grain)
    shader.set(roughness=0.35)
    return shader.material


def grass() -> bpy.types.Material:
    """A lawn, bumpy enough to pass for blades from some metres away."""
    shader = Shader("grass")
    blades, height = shader.noise((0.02, 0.06, 0.01), (0.16, 0.26, 0.06), 130, 8)
    shader.feed("Base Color", blades)
    shader.set(roughness=1)
    shader.bump(height, 1.0, 0.05)
    return shader.material


def leaves() -> bpy.types.Material:
    """The crown of a tree."""
    shader = Shader("leaf")
    colour, _ = shader.noise((0.01, 0.035, 0.005), (0.12, 0.22, 0.04), 9, 8)
    shader.feed("Base Color", colour)
    shader.set(roughness=0.8)
    return shader.material
