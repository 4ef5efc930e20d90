"""A second look at heads: where one is found, a square around it is enlarged and matched again.

In a frame a face is a few patches wide, and the mask of a part of it covers most of it.  Enlarged, hair and the parts
of a face are told apart, and less of what is around them is taken for them.  The library's pictures are treated in the
same way, so that like is compared with like.

    saliency of face and hair ──► squares around the islands ──► enlarged, matched with enlarged templates ──► put back

A square in which nothing is found the second time keeps what was found the first time: when in doubt, hide more.  There
is no doubt where it is seen well enough and no part of it looks like a head at all, a fist for example.

Not here: squares of pictures (squares), the comparison (saliency), how banks are built (template_bank), what is looked
at twice (matcher).
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor

from anonymotion.backbone import Backbone, PatchFeatures
from anonymotion.errors import TemplateError
from anonymotion.patch_grid import PatchGrid
from anonymotion.presence import Presence
from anonymotion.presets import Settings
from anonymotion.registry import GROUPS, FeatureSpec
from anonymotion.saliency import attribute_saliency, evidence_share, upsample
from anonymotion.squares import Square, enlarged, only_in, put_back, squares
from anonymotion.template_bank import BankBuilder, TemplateBank, build_bank
from anonymotion.templates import BUILTIN_FOLDER, Picture, Template, TemplateLibrary

HEADS_FILE = BUILTIN_FOLDER / "heads.toml"

# What is looked at again.
HEAD = (*GROUPS["face"], "hair")
# Islands of a frame that are looked at again, the tallest first; others stay as they were found.
MOST = 4
# An island that is hardly a head, and that others of the attributes asked for hide, is not looked at again: it stays
# hidden whatever is seen there.  A hand, for example.  The share of it that must be so, and the probability below which
# a cell is hardly some of a head: of heads 40 pixels high some cell had .52.
HIDDEN_ANYWAY, HARDLY = 0.95, 0.4
# The side of a square around a template that lies in no head, in short sides of its picture.
ELSEWHERE = 0.5
# The saliency of some part of a head that is looked at again, if no threshold is lower, and the share of evidence that
# it needs for that.
FOUND, FOUND_CONTRAST = 0.42, 0.3
# Enlarged, hair is told from faces and collars, and can be asked for more evidence than in a whole frame; so can lips.
SURER = {"hair": 10.0, "lips": 1.4}
# What is found there by evidence alone: hair is like itself in too many ways for a few exemplars.
BY_EVIDENCE = ("hair",)
# Whoever asks for all parts of a face asks whether a patch is one at all: their probabilities add up, so that more of
# it is needed than for one part, or a fist is a face as well.
WHOLE_FACE = 1.7
# What shows no head: none of its cells is a part of one with so high a probability.  Runners 70 pixels high have more,
# as has a blurred face that is half out of the frame: the least of a head was .48.  It is believed of squares of at
# least so many pixels that are so much larger than in the first look: in blurs of a few pixels, and in squares around
# whole people, heads are hard to see.
HEAD_PROBABILITY = 0.4
BELIEVED_SIDE, BELIEVED_ENLARGEMENT = 48, 1.5
# Enlarged squares that go through the network at a time.
BATCH = 8


def joined(planes: Tensor, thresholds: Tensor, parts: Sequence[int], into: int) -> None:
    """What lies between the parts of a face: all of the convex hull of the largest island of cells in which one of them
    reaches its threshold.

    planes: (A, rows, columns) cells.  thresholds: (A,).  parts: the planes that count.  into: the one of them that is
    raised to its threshold in the hull.
    """
    which = list(parts)
    reached = (planes[which] >= thresholds[which, None, None]).any(dim=0).cpu().numpy().view(np.uint8)
    _, islands, boxes, _ = cv2.connectedComponentsWithStats(reached, connectivity=8)
    if len(boxes) == 1:
        return
    largest = np.argwhere(islands == 1 + boxes[1:, cv2.CC_STAT_AREA].argmax())[:, ::-1]
    hull = cv2.fillConvexPoly(np.zeros_like(reached), cv2.convexHull(largest.astype(np.int32)), 1).view(bool)
    inside = torch.from_numpy(hull).to(planes.device)
    # a little more than the threshold, or rounding between two cells would open gaps
    planes[into] = torch.where(inside, planes[into].clamp(min=1.001 * float(thresholds[into])), planes[into])


@dataclass(frozen=True)
class CloseUp:
    """Matches squares around heads again.

    finder: all of HEAD as it is matched in a whole frame.  bank: those asked for, enlarged; its `short_side` is the
    side of what is enlarged.  planes: (A,) int64, where its attributes are among those of the run.
    thresholds: (A,) float32, theirs.  hair: its number among the attributes of the run, or None.
    face: the bank's numbers of the parts of a face where all of them are asked for: what lies between them is hidden
    too, as a cheek; else none.  how: exemplars are aggregated.
    """

    backbone: Backbone
    finder: TemplateBank
    bank: TemplateBank
    planes: Tensor
    thresholds: Tensor
    hair: int | None
    face: tuple[int, ...]
    how: str

    @property
    def level(self) -> float:
        """From where on saliency of some part of a head is looked at again."""
        return min(FOUND, float(self.thresholds.min()))

    def heads(self, found: Mapping[FeatureSpec, PatchFeatures], presence: Presence | None) -> Tensor:
        """Of parts of heads in a first look the greatest saliency, and the probability: (T, 2, rows, columns) float32.

        found: descriptors of the frames for the finder's spec, and for that of `presence`.
        """
        heads = attribute_saliency(found[self.finder.spec], self.finder, self.how)
        if presence is not None:
            everything = torch.ones(heads.shape[1], dtype=torch.bool, device=heads.device)
            heads = replace(presence, bound=everything).weigh(heads, found[presence.spec].descriptors)
        return torch.stack((heads.amax(dim=1), head_probability(found[self.finder.spec], self.finder)), dim=1)

    def look(
        self, frames: Tensor, heads: Tensor, grid: PatchGrid, saliency: Tensor, hidden: Tensor | None = None
    ) -> None:
        """Change (T, A, H, W) saliency of (T, H, W, 3) uint8 frames where heads are to what the second look has.

        heads: what `heads` gave, on the cells of `grid`.  hidden: (T, H, W) bool, what other attributes hide; None:
        nothing.
        """
        # one transfer for all frames, here and below
        whole = upsample(heads, grid)
        masks = (whole[:, 0] >= self.level).cpu()
        needless = torch.zeros_like(masks) if hidden is None else (hidden & (whole[:, 1] < HARDLY)).cpu()
        every = [squares(*pair) for pair in zip(masks, needless, strict=True)]
        left = [[square for square, share in around if share < HIDDEN_ANYWAY] for around in every]
        places = [(number, square) for number, around in enumerate(left) for square in around[:MOST]]
        looks: list[list[tuple[Square, Tensor]]] = [[] for _ in frames]
        heads_at: list[list[Square]] = [[] for _ in frames]
        for start in range(0, len(places), BATCH):
            some = places[start : start + BATCH]
            size = self.bank.spec.short_side
            images = torch.stack([enlarged(frames[number], square, size) for number, square in some])
            closer = self.backbone.extract(images, [self.bank.spec])[self.bank.spec]
            planes = attribute_saliency(closer, self.bank, self.how)
            seen = (planes >= self.thresholds[:, None, None]).flatten(1).any(dim=1)
            # both in one transfer
            found_there, empty = torch.stack((seen, ~self.shows_head(closer))).tolist()
            for (number, square), plane, anything, none in zip(some, planes, found_there, empty, strict=True):
                if anything:
                    heads_at[number].append(square)
                    if self.face:
                        joined(plane, self.thresholds, self.face, self.bank.attributes.index("cheek"))
                if anything or (none and self._is_seen_well(square, frames)):
                    looks[number].append((square, plane))
        if self.hair is not None:
            limit = float(self.thresholds[self.planes == self.hair])
            hair = saliency[:, self.hair].cpu()
            for number, around in enumerate(heads_at):
                if around and len(left[number]) <= MOST:
                    # hair is on heads, and all heads were looked at: the rest of a dark coat is none
                    unseen = [square for square, share in every[number] if share >= HIDDEN_ANYWAY]
                    hair[number] = only_in(hair[number], [*around, *unseen], limit)
            if saliency.device.type != "cpu":
                saliency[:, self.hair] = hair.to(saliency.device)
        which = self.planes.tolist()
        for number, changed in enumerate(looks):
            put_back(saliency[number], which, changed)

    def shows_head(self, closer: PatchFeatures) -> Tensor:
        """Which of (T, rows, columns, D) enlarged squares show a head, or some of one: (T,) bool."""
        return (head_probability(closer, self.bank) >= HEAD_PROBABILITY).flatten(1).any(dim=1)

    def _is_seen_well(self, square: Square, frames: Tensor) -> bool:
        in_frame = self.finder.spec.short_side / min(frames.shape[1:3])
        enlargement = self.bank.spec.short_side / square.side / in_frame
        return square.side >= BELIEVED_SIDE and enlargement >= BELIEVED_ENLARGEMENT


def head_probability(features: PatchFeatures, bank: TemplateBank) -> Tensor:
    """How probably a cell is some of a head: (T, rows, columns) float32, 1 where nothing tells heads from the rest."""
    if bank.rivals is None:
        return torch.ones(features.descriptors.shape[:3], device=features.descriptors.device)
    return evidence_share(features, bank.rivals, bank.mean, of=bank.rivals.classes_in(HEAD))


def close_up_of(
    library: TemplateLibrary,
    backbone: Backbone,
    settings: Settings,
    attributes: Sequence[str],
    build: BankBuilder = build_bank,
) -> CloseUp | None:
    """For a run with these attributes; None if the settings want none, or if there is nothing to tell apart: no part of
    a head is asked for, or all of a person is.  A user's own exemplars count in the second look too.
    """
    names = [name for name in HEAD if name in library.parts[0].attributes and name in attributes]
    if not (settings.close_up and settings.weighs_rivals and names) or set(GROUPS["person"]) <= set(attributes):
        return None
    whole_face = set(GROUPS["face"]) <= set(attributes)
    surer = {**SURER, **(dict.fromkeys(GROUPS["face"], WHOLE_FACE) if whole_face else {})}
    contrast = {name: min(1.0, settings.contrast[name] * surer.get(name, 1.0)) for name in attributes}
    enlarged = enlarge_library(library, settings.close_up)
    bank = build(enlarged, backbone, settings.close_up_spec, names, contrast=contrast, siblings_count=whole_face)
    if bank.rivals is not None:
        by_evidence = torch.tensor([name in BY_EVIDENCE for name in names], device=backbone.device)
        bank = replace(bank, rivals=replace(bank.rivals, by_evidence=by_evidence))
    return CloseUp(
        backbone=backbone,
        finder=head_finder(library, backbone, settings, build),
        bank=bank,
        planes=torch.tensor([list(attributes).index(name) for name in names], device=backbone.device),
        thresholds=torch.tensor([settings.threshold[name] for name in names], device=backbone.device),
        hair=list(attributes).index("hair") if "hair" in names else None,
        face=tuple(names.index(name) for name in GROUPS["face"]) if whole_face else (),
        how=settings.exemplar_aggregation,
    )


def head_finder(
    library: TemplateLibrary, backbone: Backbone, settings: Settings, build: BankBuilder = build_bank
) -> TemplateBank:
    """What heads are found with in a whole frame, whichever of their parts are asked for."""
    known = [name for name in HEAD if name in library.parts[0].attributes]
    return build(library, backbone, settings.spec_of("face"), known, contrast=dict.fromkeys(known, FOUND_CONTRAST))


@dataclass(frozen=True)
class EnlargedPicture(Picture):
    """A square of a library's picture, enlarged to `size` pixels."""

    background_grid: ClassVar[int] = 5

    square: Square = Square(0, 0, 1)
    size: int = 1

    def read(self) -> np.ndarray:
        """(size, size, 3) uint8 RGB; raises as `Picture.read`."""
        return enlarged(torch.from_numpy(super().read().copy()), self.square, self.size).numpy()


def enlarge_library(library: TemplateLibrary, size: int) -> TemplateLibrary:
    """The same templates, each in an enlarged square of its picture; of pictures with nobody in them, all quarters,
    and what was taken for a head.

    A template lies in the largest square around a head that holds it, or else in one of its own.
    """
    parts = tuple(_enlarge_part(part, size) for part in library.parts)
    if len(parts) == 1:
        return parts[0]
    return TemplateLibrary(
        folder=library.folder,
        pictures={name: picture for part in parts for name, picture in part.pictures.items()},
        templates=tuple(template for part in parts for template in part.templates),
        digest=hashlib.sha256(" ".join(part.digest for part in parts).encode()).hexdigest(),
        joined=parts,
    )


def _enlarge_part(part: TemplateLibrary, size: int) -> TemplateLibrary:
    heads = {} if part.own else _heads()
    pictures: dict[str, Picture] = {}

    def picture_of(picture: Picture, square: Square) -> str:
        name = f"{picture.id}@{square.x},{square.y},{square.side}"
        known = {item.name: getattr(picture, item.name) for item in fields(picture)} | {"id": name}
        pictures[name] = EnlargedPicture(**known, square=square, size=size)
        return name

    sizes = {name: picture.size_hw() for name, picture in part.pictures.items()}
    templates = []
    for template in part.templates:
        picture, (x, y) = part.pictures[template.picture], template.centre
        holding = [square for square in heads.get(picture.id, ()) if square.holds(x, y)]
        own = Square.around(x, y, ELSEWHERE * min(sizes[picture.id]))
        square = max(holding, key=lambda each: each.side, default=own)
        templates.append(_in_square(template, picture_of(picture, square), square, size))
    for picture in part.pictures.values():
        if picture.kind == "background":
            height, width = sizes[picture.id]
            side = min(height, width) // 2
            quarters = [Square(x, y, side) for x in (0, width - side) for y in (0, height - side)]
            for square in (*quarters, *heads.get(picture.id, ())):
                picture_of(picture, square)
    return TemplateLibrary(part.folder, pictures, tuple(templates), _digest(part, pictures, size), own=part.own)


def _in_square(template: Template, picture: str, square: Square, size: int) -> Template:
    """The template in the pixels of its enlarged square; what reaches out of that is cut off."""
    scale = size / square.side
    x0, y0, x1, y1 = template.box or (*template.centre, *template.centre)
    left, top = ((at - corner) * scale for at, corner in ((x0, square.x), (y0, square.y)))
    right, bottom = ((at - corner) * scale for at, corner in ((x1, square.x), (y1, square.y)))
    if template.box is None:
        return replace(template, picture=picture, point=(left, top))
    box = (max(left, 0.0), max(top, 0.0), min(right, float(size)), min(bottom, float(size)))
    return replace(template, picture=picture, box=box)


def _digest(part: TemplateLibrary, pictures: Iterable[str], size: int) -> str:
    return hashlib.sha256(json.dumps([part.digest, size, *pictures]).encode()).hexdigest()


@cache
def _heads(path: Path = HEADS_FILE) -> dict[str, tuple[Square, ...]]:
    """The squares around the heads in the built-in pictures, from the file that scripts/make_library_heads.py wrote."""
    try:
        content = tomllib.loads(path.read_text())
        return {name: tuple(Square(*values) for values in rows) for name, rows in content["heads"].items()}
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise TemplateError(
            f"{path.name} of the library cannot be read ({error}): install the package again"
        ) from error
