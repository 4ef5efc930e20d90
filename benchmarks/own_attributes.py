"""How well a thing that was marked once is found in other scenes, and how much else is taken for it.

    python benchmarks/own_attributes.py

Rendered logos, car plates and screens (tests/scenes.py): a box in one scene, four other scenes with another size,
text or colour, and 19 pictures without the thing.  What the library knows of a picture is left out of the rivals
while that picture is looked at.  Prints, at the default threshold and before the mask grows: the mean and the least
share of the box that is found, the mean share of the rest of those frames, and of the pictures without the thing.

Not here: people (contact_sheet.py), speed (speed.py).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from anonymotion.backbone import Backbone, PatchFeatures
from anonymotion.presets import PRESETS
from anonymotion.probe import fit
from anonymotion.registry import FeatureSpec
from anonymotion.saliency import attribute_saliency, upsample
from anonymotion.template_bank import Rivals, TemplateBank, compute_vectors, template_descriptor
from anonymotion.templates import Template, TemplateLibrary

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from scenes import Box, background, car, logo, place, screen

LAYERS = (11, 10, 9)
CONTRASTS = (0.05, 0.3)
SCENES = (
    ("r_street_empty", 130, 110, 1.0),
    ("bg_brick", 180, 60, 0.8),
    ("r_room_empty", 60, 80, 1.1),
    ("bg_lawn", 200, 80, 0.9),
    ("bg_curtain", 30, 60, 0.7),
)
CARS = (
    ("KA 482", (150, 30, 35)),
    ("M 7715", (40, 70, 120)),
    ("XP 30", (90, 95, 100)),
    ("B 9921", (30, 30, 34)),
    ("LX 55", (200, 200, 205)),
)
PEOPLE = ("hopper", "astronaut", "obama", "r_man_tshirt", "r_woman_skirt", "cameraman")


@dataclass(frozen=True)
class Seen:
    """The features of a picture, the library's picture that it shows, and the box of the thing, if it is there."""

    features: dict[FeatureSpec, PatchFeatures]
    ground: str
    box: Box | None = None


def thing(name: str, number: int) -> tuple[Image.Image, Box]:
    """The `number`-th variant of a thing."""
    small = number % 2
    if name == "logo":
        return logo(70 if small else 90)
    return car(180 if small else 220, *CARS[number]) if name == "plate" else screen(150 if small else 180, number)


@dataclass(frozen=True)
class Known:
    """What the library knows under one spec: descriptors, their classes (1: the first attribute) and pictures."""

    descriptors: torch.Tensor
    classes: torch.Tensor
    owners: list[str]
    mean: torch.Tensor

    def rivals(self, own: torch.Tensor, ground: str, contrast: float) -> Rivals:
        """The thing itself, (1, D), against everything that is not from the picture `ground`."""
        kept = torch.tensor([owner != ground for owner in self.owners])
        descriptors = torch.cat([own, self.descriptors[kept]]) - self.mean
        classes = torch.cat([torch.zeros(1, dtype=torch.long), self.classes[kept]])
        count = int(self.classes.max()) + 1
        probe = fit(torch.nn.functional.normalize(descriptors, dim=-1), classes, count)
        first = torch.arange(count) < 1
        return Rivals(probe, first, first[None], torch.tensor([contrast]), contrast)


def known_of(library: TemplateLibrary, vectors: dict[str, torch.Tensor]) -> Known:
    """Templates and background of the library, each with the picture that it comes from."""
    grounds = [picture.id for picture in library.pictures.values() if picture.kind == "background"]
    patches = len(vectors["background"]) // len(grounds)
    owners = [t.picture for t in library.templates] + [name for name in grounds for _ in range(patches)]
    rest = len(library.attributes) + 1
    classes = [rest if t.negative else library.attributes.index(t.attribute) + 1 for t in library.templates]
    classes += [rest] * len(vectors["background"])
    descriptors = torch.cat([vectors["templates"], vectors["background"]])
    return Known(descriptors, torch.tensor(classes), owners, vectors["mean"])


def mask_of(seen: Seen, own: torch.Tensor, spec: FeatureSpec, rivals: Rivals, mean: torch.Tensor) -> np.ndarray:
    """Where the thing is found, (H, W) bool."""
    bank = TemplateBank(spec, ("own",), own, torch.zeros(1, dtype=torch.long), mean, rivals)
    features = seen.features[spec]
    plane = upsample(attribute_saliency(features, bank, "max"), features.grid)[0, 0]
    return (plane >= PRESETS["strict"].threshold["own"]).numpy()


def main() -> None:
    """Print the table."""
    backbone = Backbone.load(PRESETS["strict"].backbone, torch.device("cpu"))
    library = TemplateLibrary.load()
    specs = [replace(PRESETS["strict"].spec_of("own"), layer=layer) for layer in LAYERS]
    known = {spec: known_of(library, found) for spec, found in compute_vectors(library, backbone, specs).items()}

    def look(image: np.ndarray, ground: str, box: Box | None = None) -> Seen:
        return Seen(backbone.extract(torch.from_numpy(image.copy())[None], specs), ground, box)

    empty = []
    for picture in library.pictures.values():
        if picture.kind == "background" or picture.id in PEOPLE:
            image = Image.fromarray(picture.read())
            image.thumbnail((640, 640))
            empty.append(look(np.array(image), picture.id))
    print(f"{len(empty)} pictures without the thing, {len(SCENES) - 1} scenes with it")
    print("| thing | layer | contrast | box found, mean | least | rest of the frame | pictures without it |")
    print("|---|---|---|---|---|---|---|")
    for name in ("logo", "plate", "screen"):
        scenes = []
        for i, (ground, x, y, light) in enumerate(SCENES):
            frame, box = place(thing(name, i), background(ground), x, y, light=light, seed=i)
            scenes.append(look(frame, ground, box))
        for spec in specs:
            marked = Template(name, "marked", box=scenes[0].box)
            own = template_descriptor(marked, scenes[0].features[spec])[None]
            for contrast in CONTRASTS:
                inside, rest, elsewhere = [], [], []
                for seen in (*scenes[1:], *empty):
                    rivals = known[spec].rivals(own, seen.ground, contrast)
                    mask = mask_of(seen, own, spec, rivals, known[spec].mean)
                    area = np.zeros(mask.shape, bool)
                    if seen.box is None:
                        elsewhere.append(mask.mean())
                        continue
                    area[seen.box[1] : seen.box[3], seen.box[0] : seen.box[2]] = True
                    inside.append(mask[area].mean())
                    rest.append(mask[~area].mean())
                row = (np.mean(inside), min(inside), np.mean(rest), np.mean(elsewhere))
                print(f"| {name} | {spec.layer} | {contrast} | {' | '.join(f'{v:.2f}' for v in row)} |", flush=True)


if __name__ == "__main__":
    main()
