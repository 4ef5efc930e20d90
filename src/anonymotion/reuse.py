"""Patches that look as they did in an earlier frame are not computed again.

One frame in many, the reference, goes through the network whole, and what it leaves is kept: its tokens, what was asked
for of them, and the keys and values by which tokens meet each other.  Of later frames only those patches are computed

    that changed     a token differs from that of the reference by more than noise of so many grey values would make it
    that matter      something was found there in the reference, or nearly, or beside it

each among all others, which are those of the reference.  So what is hidden is always seen as it is now, and what is
taken from the reference is what surrounds it and looks the same.  Where more than LIMIT of a frame would have to be
computed, as after a cut or with a camera that moves, or after LOOKS, a whole frame is the next reference.  One in which
nothing was found is none: whoever was missed in it would stay so until something changes.

Every frame is compared with the reference itself, not with the one before it: nothing adds up.

Not here: what the network computes of some patches (blocks), what was found (matcher), which frames (keyframes).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from anonymotion.backbone import Backbone, PatchFeatures, features_of, wanted_of
from anonymotion.blocks import Part, Wanted, attending, no_others
from anonymotion.masks import dilate
from anonymotion.patch_grid import PatchGrid
from anonymotion.registry import FeatureSpec

# The share of patches from which on computing some of them costs about as much as computing all.
LIMIT = 0.6
# A reference serves for so many looks at most: what is found changes with what is around it, and nothing that was not
# found in it may stay so for long.
LOOKS = 8
# The number of patches computed is a multiple of this: engines prepare themselves for each number that they meet.
MULTIPLE = 32
# Of keys and values: kept, put together by the engine, given out by it, and given to it.
COPIES = 4

# From features of frames, in which cells something was found, or nearly: (T, rows, columns) bool.
Matter = Callable[[Mapping[FeatureSpec, PatchFeatures]], Tensor]


@dataclass(frozen=True)
class Reference:
    """A frame that went through the network whole.

    grid, wanted: how, and what was asked for.  tokens: (prefix + cells, D) float32, before the blocks.  found: for each
    of `wanted` (cells, D) float32.  context: (2 L, prefix + cells, D) float32, keys and values.  matter: (cells,) bool,
    patches that are always computed.
    """

    grid: PatchGrid
    wanted: Wanted
    tokens: Tensor
    found: tuple[Tensor, ...]
    context: Tensor
    matter: Tensor

    def fits(self, grid: PatchGrid, wanted: Wanted) -> bool:
        """Whether it can stand for patches of a frame of this grid of which this is wanted."""
        return (self.grid, self.wanted) == (grid, wanted)

    @property
    def prefix(self) -> int:
        """Number of tokens that are no cells."""
        return len(self.tokens) - len(self.matter)

    def to_compute(self, tokens: Tensor, limit: float) -> Tensor | None:
        """Which cells of a frame, (prefix + cells, D), to compute, int64 in ascending order; None: all of them.

        limit: by how much a token may differ.
        """
        distance = (tokens - self.tokens)[self.prefix :].norm(dim=1)
        needed = self.matter | (distance > limit)
        count = -(-int(needed.sum()) // MULTIPLE) * MULTIPLE
        if count > LIMIT * len(needed):
            return None
        cells: Tensor = distance.masked_fill(needed, torch.inf).topk(count).indices.sort().values
        return cells

    def part(self, tokens: Tensor, cells: Tensor) -> Part:
        """Those cells of a frame, (prefix + cells, D), among all others of this one."""
        taken = torch.zeros(len(tokens), dtype=torch.bool)
        taken[: self.prefix] = True
        taken[cells + self.prefix] = True
        return tokens[taken], self.context[:, ~taken]


class Kept(NamedTuple):
    """What is remembered from look to look: a reference, and for how many looks it has served, its own included."""

    reference: Reference | None = None
    looks: int = 0


class Reuse:
    """What one run remembers.

    noise: in grey values (of 255), how much noise a patch may change by; 0: everything is computed.
    kept: as `extract` leaves it; whoever asks puts it here once all of the work on those frames has succeeded.
    """

    def __init__(self, noise: float) -> None:
        self._noise = noise
        self.kept = Kept()

    def extract(
        self, backbone: Backbone, images: Tensor, specs: Sequence[FeatureSpec], matter: Matter
    ) -> tuple[dict[FeatureSpec, PatchFeatures], Kept]:
        """As `Backbone.extract`, of frames in their order; and what to remember for the next ones.

        It does not matter to the result how many frames are given at a time.
        """
        if not self._noise or not can_reuse(backbone, specs):
            return backbone.extract(images, specs), self.kept
        grid = PatchGrid.of((images.shape[1], images.shape[2]), backbone.patch_size, specs[0])
        wanted = wanted_of(specs)
        tokens = backbone.stem.tokens(images, grid)
        limit = self._noise * backbone.stem.grey_value
        nothing = no_others(wanted, tokens.shape[-1])
        kept, found = self.kept, []
        for one in tokens:
            reference = kept.reference
            if reference is not None and (kept.looks >= LOOKS or not reference.fits(grid, wanted)):
                reference = None
            cells = None if reference is None else reference.to_compute(one, limit)
            if reference is None or cells is None:
                computed, context = backbone.engine.run_part((one, nothing), wanted)
                assert context is not None  # noqa: S101 - for mypy: of a whole frame
                features = features_of(tuple(each[None] for each in computed), wanted, grid, specs)
                matters = dilate(matter(features), 1).flatten()
                kept = Kept(Reference(grid, wanted, one, computed, context, matters), 1) if matters.any() else Kept()
                found.append(computed)
            else:
                computed, _ = backbone.engine.run_part(reference.part(one, cells), wanted)
                kept = kept._replace(looks=kept.looks + 1)
                pairs = zip(reference.found, computed, strict=True)
                found.append(tuple(old.index_copy(0, cells, new) for old, new in pairs))
        together = tuple(torch.stack(each) for each in zip(*found, strict=True))
        return features_of(together, wanted, grid, specs), kept


def kept_bytes(backbone: Backbone, size_hw: tuple[int, int], specs: Sequence[FeatureSpec]) -> int:
    """About how much memory a run needs to remember a frame of (H, W), and to compare with it."""
    if not can_reuse(backbone, specs):
        return 0
    grid, wanted = PatchGrid.of(size_hw, backbone.patch_size, specs[0]), wanted_of(specs)
    tokens = grid.rows * grid.columns + backbone.stem.prefix_tokens
    return 4 * backbone.stem.width * tokens * (COPIES * 2 * attending(wanted) + 1 + len(wanted))


def can_reuse(backbone: Backbone, specs: Sequence[FeatureSpec]) -> bool:
    """Whether parts of frames can be computed, and are cheaper: not if all descriptors are of the first block."""
    sizes = {(spec.short_side, spec.stride) for spec in specs}
    return backbone.takes_parts and len(sizes) == 1 and attending(wanted_of(specs)) > 0
