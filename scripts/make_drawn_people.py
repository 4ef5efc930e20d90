"""Rebuild `library/drawn.safetensors` from labelled renders: `python scripts/make_drawn_people.py RENDERS`.

RENDERS is what render_crowd.py wrote.  Of each picture two versions count, as it is and as a poor camera has it.  A
patch counts if at least `PURE` of it is one part.  The descriptors of a part become centres of a k-means clustering,
each with the number of patches that it stands for; all random numbers come from the pictures' numbers, so the same
renders give the same file.

Not here: the renders (render_crowd.py), what is made of the file (anonymotion.drawn).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from anonymotion.backbone import Backbone
from anonymotion.drawn import PACKAGED_FILE, REST, entry_key, write_drawn
from anonymotion.presets import settings_for
from anonymotion.template_bank import build_bank
from anonymotion.templates import TemplateLibrary

# figures/labels.py has the same numbers; those not named here are nobody's part, and count for nothing.
NUMBERS = {0: REST, **dict(enumerate(("hair", "forehead", "eyes", "cheek", "lips", "hand", "arm", "torso", "leg"), 1))}
COUNT = 17
PURE = 0.7
CENTRES, CENTRES_OF_THE_REST, ROUNDS, LEAST = 64, 200, 15, 20


def poor(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture as a poor camera has it: small, noisy, too dark or too bright, blurred, compressed."""
    height, width = image.shape[:2]
    light = (image.astype(np.float32) / 255) ** np.exp(rng.normal(0, 0.3)) * np.exp(rng.normal(0, 0.2))
    middle = light.mean((0, 1))
    light = ((light - middle) * rng.uniform(0.6, 1.2) + middle) * np.exp(rng.normal(0, 0.08, 3)).astype(np.float32)
    if rng.random() < 0.2:
        light = np.repeat(light.mean(-1, keepdims=True), 3, -1)
    small = (np.clip(light, 0, 1) * 255).astype(np.uint8)
    factor = np.exp(rng.uniform(np.log(0.35), 0))
    small = cv2.resize(small, (int(width * factor), int(height * factor)), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.25:
        length = int(rng.integers(3, 8))
        streak = np.zeros((length, length), np.float32)
        streak[length // 2] = 1 / length
        small = cv2.filter2D(small, -1, streak.T if rng.random() < 0.5 else streak)
    small = np.clip(small + rng.normal(0, rng.uniform(0, 8), small.shape), 0, 255).astype(np.uint8)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 90))]
    small = cv2.imdecode(cv2.imencode(".jpg", small, quality)[1], cv2.IMREAD_COLOR)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def parts_of(labels: np.ndarray, patch: int) -> Tensor:
    """(rows, columns) int64: the number that at least `PURE` of each patch has, -1 for none."""
    rows, columns = labels.shape[0] // patch, labels.shape[1] // patch
    blocks = labels[: rows * patch, : columns * patch].reshape(rows, patch, columns, patch).swapaxes(1, 2)
    shares = np.stack([(blocks == number).mean((2, 3)) for number in range(COUNT)], -1)
    return torch.from_numpy(np.where(shares.max(-1) >= PURE, shares.argmax(-1), -1))


def centres_of(directions: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Centres of a k-means clustering, and how many of the (M, D) directions each stands for."""
    if len(directions) <= count:
        return directions, torch.ones(len(directions))
    first = torch.randperm(len(directions), generator=torch.Generator().manual_seed(0))[:count]
    centres = directions[first]
    for _ in range(ROUNDS):
        nearest = (directions @ centres.T - centres.square().sum(-1) / 2).argmax(-1)
        members = torch.bincount(nearest, minlength=count).float()
        sums = torch.zeros_like(centres).index_add_(0, nearest, directions)
        centres = torch.where(members[:, None] > 0, sums / members.clamp(min=1)[:, None], centres)
    return centres[members > 0], members[members > 0]


def main() -> None:
    """Compute and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("renders", type=Path)
    arguments = parser.parse_args()
    settings = settings_for("strict")
    spec = settings.spec_of("arm")
    backbone = Backbone.load(settings.backbone, torch.device("cpu"))
    mean = build_bank(TemplateLibrary.load(), backbone, spec, ["arm"]).mean
    assert mean is not None  # noqa: S101 - strict subtracts it
    found: dict[int, list[Tensor]] = defaultdict(list)
    pictures = sorted(file for file in arguments.renders.glob("p*.png") if ".labels." not in file.name)
    for file in pictures:
        image = cv2.imread(str(file))
        labels = cv2.imread(str(next(file.parent.glob(f"{file.stem}.labels.*.png"))), cv2.IMREAD_GRAYSCALE)
        clean = cv2.fastNlMeansDenoisingColored(image, None, 4, 6, 5, 13)
        for version in (clean, poor(clean, np.random.default_rng(int(file.stem[1:])))):
            features = backbone.extract(torch.from_numpy(version[None, ..., ::-1].copy()), [spec.raw])[spec.raw]
            parts = parts_of(labels, spec.stride)
            for number in NUMBERS:
                found[number].append(features.descriptors[0][parts == number])
    rows = []
    for number, name in NUMBERS.items():
        directions = F.normalize(torch.cat(found[number]) - mean, dim=-1)
        if len(directions) >= LEAST:
            centres, members = centres_of(directions, CENTRES if number else CENTRES_OF_THE_REST)
            rows.append((centres + mean, torch.full((len(centres),), number), members))
            print(f"  {name}: {len(directions)} patches, {len(centres)} centres")
    descriptors, parts, counts = (torch.cat(column) for column in zip(*rows, strict=True))
    entry = {"descriptors": descriptors, "parts": parts, "counts": counts}
    write_drawn({entry_key(backbone.fingerprint, spec): entry}, [NUMBERS[number] for number in sorted(NUMBERS)])
    print(f"{len(pictures)} pictures, {PACKAGED_FILE.name}: {PACKAGED_FILE.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
