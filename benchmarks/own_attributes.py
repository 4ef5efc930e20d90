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
from anonymotion.registry import FeatureSpec
from anonymotion.saliency import attribute_saliency, upsample
from anonymotion.template_bank import Rivals, TemplateBank, build_bank, template_descriptor
from anonymotion.templates import Template, TemplateLibrary

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from scenes import Box, background, car, logo, place, screen

LAYERS = (11, 10, 9)
CONTRASTS = (0.001, 0.05, 0.2)
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


def mask_of(seen: Seen, own: torch.Tensor, spec: FeatureSpec, contrast: float, base: TemplateBank) -> np.ndarray:
    """Where the thing is found, (H, W) bool; `base` has the library's rivals without what is known of this picture."""
    known = base.rivals
    assert known is not None  # noqa: S101 - for the type checker
    rivals = Rivals(
        torch.cat([own, known.descriptors]),
        torch.cat([torch.zeros(1, dtype=torch.long), known.class_index + 1]),
        torch.arange(len(known.asked_for) + 1) < 1,
        torch.tensor([contrast]),
    )
    bank = TemplateBank(spec, ("own",), own, torch.zeros(1, dtype=torch.long), base.mean, rivals)
    features = seen.features[spec]
    plane = upsample(attribute_saliency(features, bank, "max"), features.grid)[0, 0]
    return (plane >= PRESETS["strict"].threshold["own"]).numpy()


def without(library: TemplateLibrary, bank: TemplateBank, ground: str) -> TemplateBank:
    """`bank`, built for all attributes of `library`, without the templates and background patches of a picture."""
    rivals = bank.rivals
    assert rivals is not None  # noqa: S101 - for the type checker
    # rivals: the exemplars of each attribute in turn, then the negatives, then 16 patches of each background
    owners = [t.picture for name in library.attributes for t in library.exemplars(name)]
    owners += [
        t.picture for name in library.attributes for t in library.templates if t.negative and t.attribute == name
    ]
    owners += [p.id for p in library.pictures.values() if p.kind == "background" for _ in range(16)]
    kept = torch.tensor([owner != ground for owner in owners])
    return replace(
        bank, rivals=replace(rivals, descriptors=rivals.descriptors[kept], class_index=rivals.class_index[kept])
    )


def main() -> None:
    """Print the table."""
    backbone = Backbone.load(PRESETS["strict"].backbone, torch.device("cpu"))
    library = TemplateLibrary.load()
    specs = [replace(PRESETS["strict"].spec_of("own"), layer=layer) for layer in LAYERS]
    every = dict.fromkeys(library.attributes, 0.001)
    banks = {spec: build_bank(library, backbone, spec, library.attributes, contrast=every) for spec in specs}

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
                    mask = mask_of(seen, own, spec, contrast, without(library, banks[spec], seen.ground))
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
