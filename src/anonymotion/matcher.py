"""The left of the picture, frame by frame: patch descriptors, saliency planes, and where they reach a threshold.

What is to stay visible (`keep` of a policy) is found in the same pass of the network as what is to be hidden, with
banks of its own: each counts against the other.

Not here: a comparison of descriptors (saliency), masks over time (continuity), what a mask does (pipeline, compositor).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from anonymotion import masks
from anonymotion.backbone import Backbone, PatchFeatures
from anonymotion.closeup import close_up_of
from anonymotion.device import in_parts
from anonymotion.methods import PersonMask
from anonymotion.patch_grid import PatchGrid
from anonymotion.presence import presence_of
from anonymotion.presets import Settings
from anonymotion.registry import FeatureSpec
from anonymotion.reuse import Reuse, kept_bytes
from anonymotion.saliency import cell_planes, saliency_planes, upsample
from anonymotion.template_bank import BankBuilder, TemplateBank, build_bank
from anonymotion.templates import TemplateLibrary

# Per pixel, of a network that finds persons: 21 classes as floats, twice, and what leads there.
PERSON_BYTES = 400


# What comes so near to a threshold may reach it in the next frame, where nothing but what surrounds it has changed.
NEARLY = 0.8


class Matched(NamedTuple):
    """What was found in T frames, on their device.

    saliency: (T, A, H, W) float32 in [0, 1].  mask: (T, H, W) bool, where an attribute reaches its threshold; nowhere
    if thresholds decide nothing (a blend, no attributes).  kept: likewise for what is to stay visible; None: nothing.
    """

    saliency: Tensor
    mask: Tensor
    kept: Tensor | None


class Matcher:
    """Finds `attributes`, and those in `kept`, in frames of any size.

    library: where exemplars and negatives come from.  backbone: None if `person_mask` finds everything, or there is
    nothing to find.  person_mask: finds `attributes` in the place of templates.  bank_builder: makes the banks.

    Raises an AnonymotionError if an attribute is unknown or its templates cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        library: TemplateLibrary,
        attributes: Sequence[str],
        kept: Sequence[str],
        *,
        backbone: Backbone | None,
        person_mask: PersonMask | None,
        device: torch.device,
        bank_builder: BankBuilder = build_bank,
    ) -> None:
        self.settings = settings
        self.attributes, self.kept = tuple(attributes), tuple(kept)
        self.backbone, self.person_mask = backbone, person_mask
        self._build_bank = bank_builder
        self.thresholds, self.kept_thresholds = (
            torch.tensor([settings.threshold[name] for name in names], device=device) for names in (attributes, kept)
        )
        self.banks = [] if person_mask is not None else self._banks_of(self.attributes, library)
        self.presence = None
        if self.banks and backbone is not None and settings.presence and settings.weighs_rivals:
            face = settings.spec_of("face")
            self.presence = presence_of(library, backbone, face, settings.presence, self.attributes, bank_builder)
        self.close_up = None
        if self.banks and backbone is not None:
            self.close_up = close_up_of(library, backbone, settings, self.attributes, bank_builder)
        # a part that is to be hidden must not become visible because one beside it is kept
        self.kept_banks = self._banks_of(self.kept, library, siblings_count=False)

    def _banks_of(
        self, names: tuple[str, ...], library: TemplateLibrary, *, siblings_count: bool = True
    ) -> list[TemplateBank]:
        """One bank for each way in which some of the attributes are compared."""
        if self.backbone is None:
            return []
        groups: dict[FeatureSpec, list[str]] = {}
        for name in names:
            groups.setdefault(self.settings.spec_of(name), []).append(name)
        contrast = {name: self.settings.contrast[name] for name in names} if self.settings.weighs_rivals else None
        return [
            self._build_bank(
                library,
                self.backbone,
                spec,
                group,
                exemplars=self.settings.exemplars,
                contrast=contrast,
                siblings_count=siblings_count,
            )
            for spec, group in groups.items()
        ]

    @property
    def specs(self) -> list[FeatureSpec]:
        """What `find` asks the backbone for, each once."""
        wanted = [bank.spec for bank in (*self.banks, *self.kept_banks)]
        wanted += [] if self.presence is None else [self.presence.spec]
        wanted += [] if self.close_up is None else [self.close_up.finder.spec]
        return list(dict.fromkeys(wanted))

    def planes(self, found: Mapping[FeatureSpec, PatchFeatures]) -> Tensor:
        """Saliency of `attributes` in a first look, over cells: (T, A, rows, columns) float32, from features of all
        `specs`.
        """
        how = self.settings.exemplar_aggregation
        planes = cell_planes([found[bank.spec] for bank in self.banks], self.banks, self.attributes, how)
        if self.presence is None:
            return planes
        return self.presence.weigh(planes, found[self.presence.spec].descriptors)

    def find(self, frames: Tensor, reuse: Reuse | None = None) -> Matched:
        """Eq. 1 and 2: (T, H, W, 3) uint8 against the templates, one pass of the network for all of them.

        reuse: what the run remembers of earlier frames; without it all patches of all frames are computed.

        Where memory does not suffice for so many frames: in halves, down to single ones.  Raises what PyTorch raises
        if it does not suffice for one.
        """
        work = partial(self._find, reuse=reuse or Reuse(0))
        found = list(in_parts(frames, work, lambda part: part.chunk(2) if len(part) > 1 else ()))
        if len(found) == 1:
            return found[0]
        kept = [part.kept for part in found if part.kept is not None]
        return Matched(
            torch.cat([part.saliency for part in found]),
            torch.cat([part.mask for part in found]),
            torch.cat(kept) if kept else None,
        )

    def working_bytes(self, size_hw: tuple[int, int]) -> int:
        """About how much memory `find` needs for a frame of (H, W), besides what it gives."""
        person = 0 if self.person_mask is None else PERSON_BYTES * size_hw[0] * size_hw[1]
        if self.backbone is None or not self.specs:
            return person
        grid = PatchGrid.of(size_hw, self.backbone.patch_size, self.specs[0])
        return person + self.backbone.working_bytes(grid, len(self.specs))

    def kept_bytes(self, size_hw: tuple[int, int]) -> int:
        """About how much memory a run needs to remember a frame of (H, W); see `Reuse`."""
        if self.backbone is None or not self.specs or not self.settings.reuse:
            return 0
        return kept_bytes(self.backbone, size_hw, self.specs)

    def _find(self, frames: Tensor, reuse: Reuse) -> Matched:
        found: Mapping[FeatureSpec, PatchFeatures] = {}
        specs, memory = self.specs, reuse.kept
        if self.backbone is not None and specs:
            found, memory = reuse.extract(self.backbone, frames, specs, self._matters)
        if self.person_mask is not None:
            saliency = self.person_mask.planes(frames)
        elif self.banks:
            grid = found[specs[0]].grid
            saliency = upsample(self.planes(found), grid).clamp_(0, 1)
            if self.close_up is not None:
                heads = self.close_up.heads(found, self.presence)
                self.close_up.look(frames, heads, grid, saliency, self._hidden_anyway(saliency))
        else:
            saliency = torch.zeros(len(frames), 0, *frames.shape[1:3], device=frames.device)
        kept = None
        if self.kept_banks:
            features, how = [found[bank.spec] for bank in self.kept_banks], self.settings.exemplar_aggregation
            planes = saliency_planes(features, self.kept_banks, self.kept, how)
            kept = masks.threshold_union(planes, self.kept_thresholds)
        matched = Matched(saliency, self.mask(saliency), kept)
        reuse.kept = memory  # now that nothing can fail any more
        return matched

    def _matters(self, found: Mapping[FeatureSpec, PatchFeatures]) -> Tensor:
        """Where a first look finds something, or what is looked at again, or nearly: (T, rows, columns) bool."""
        matters = (self.planes(found) >= NEARLY * self.thresholds[:, None, None]).any(dim=1)
        if self.close_up is not None:
            matters |= self.close_up.heads(found, self.presence)[:, 0] >= NEARLY * self.close_up.level
        return matters

    def _hidden_anyway(self, saliency: Tensor) -> Tensor | None:
        """Where attributes reach their threshold that a second look does not change, (T, H, W) bool; None: not asked.

        There it would only find what is hidden already; where saliency itself is a weight, it is found all the same.
        """
        assert self.close_up is not None  # noqa: S101 - for mypy
        others = [number for number in range(len(self.attributes)) if number not in self.close_up.planes.tolist()]
        if not (others and self.decides_by_threshold):
            return None
        return masks.threshold_union(saliency[:, others], self.thresholds[others])

    @property
    def decides_by_threshold(self) -> bool:
        """Whether pixels are replaced where something was found: not everywhere, and not by a soft weight."""
        return bool(self.attributes) and self.settings.composite == "replace"

    def mask(self, saliency: Tensor) -> Tensor:
        """Where (T, A, H, W) planes reach a threshold, (T, H, W) bool; nowhere if thresholds decide nothing."""
        if not self.decides_by_threshold:
            return torch.zeros(len(saliency), *saliency.shape[2:], dtype=torch.bool, device=saliency.device)
        return masks.threshold_union(saliency, self.thresholds)
