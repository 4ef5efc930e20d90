"""What is found of every attribute in a video, once, so that any subset and threshold can be hidden without matching.

How strongly an attribute is found depends on what else is asked for: parts that are asked for together do not compete
(`template_bank.Rivals`).  So two things are kept, over patches: the best cosine of each attribute, and the probability
of each class.  `MapHider` makes of them what `Hider` makes of frames; a test compares the two.

Not here: which subset is good (selection, choosing), alphas of one fixed subset (looks).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from anonymotion.backbone import Backbone
from anonymotion.errors import DatasetError, SettingsError
from anonymotion.flow import FlowEstimator, flow_to_previous, load_flow
from anonymotion.matcher import Matched, Matcher
from anonymotion.patch_grid import PatchGrid
from anonymotion.pipeline import Hider
from anonymotion.presence import bound_of, inhabited, presence_of
from anonymotion.presets import Settings, settings_for
from anonymotion.registry import FeatureSpec, backbone_entry
from anonymotion.research.archives import load_arrays, save_arrays
from anonymotion.results import library_versions
from anonymotion.reuse import Reuse
from anonymotion.saliency import attribute_saliency, evidence_weight, upsample
from anonymotion.template_bank import Rivals, TemplateBank, build_bank, what_counts
from anonymotion.templates import TemplateLibrary

BATCH = 8
FIELDS = ("cosines", "sure", "shares", "flow")
"""Of Maps, in their order."""


@dataclass(frozen=True)
class Maps:
    """What is found in the T frames of a video; everything on the CPU.

    cosines: (T, A, rows, columns) float32 in [0, 1].  sure: (T, rows, columns) bool, whether a patch is surely a part
    of somebody (presence); everywhere if that does not matter.  shares: (S, T, rows, columns, C) float32, for each
    way of comparing (spec) the probability of each class: the A attributes and, last, everything else.
    flow: (T, 2, H, W) float32 pixels to the previous frame.
    """

    cosines: Tensor
    sure: Tensor
    shares: Tensor
    flow: Tensor


def map_settings(**changes: Any) -> Settings:
    """Settings that a MapMaker takes: `strict`, every frame matched, one look."""
    return settings_for("strict", close_up=0, every=1, reuse=0, **changes)


class MapMaker:
    """Looks for all attributes of a library, by default the built-in one, with the settings of a preset.

    Raises SettingsError for settings without masks (blend), key frames, a second look at heads, or rivals that do not
    count, and for a library with negative templates of a user's own.
    """

    def __init__(self, settings: Settings, network: Backbone, library: TemplateLibrary | None = None) -> None:
        if settings.composite != "replace" or settings.every != "1" or not settings.weighs_rivals:
            raise SettingsError("attributes are chosen by what replaces pixels in every frame: use strict with every 1")
        if settings.close_up:
            raise SettingsError("maps are of whole frames: look at heads once, with close_up 0")
        self.settings, self.network = settings, network
        self.library = library or TemplateLibrary.load()
        if any(template.negative for template in self.library.own_templates):
            raise SettingsError("a library with negative templates of your own cannot be chosen from: leave them out")
        self.attributes = self.library.attributes
        self.flow = load_flow(settings.flow, network.device, scale=settings.flow_scale)
        groups: dict[FeatureSpec, list[str]] = {}
        for name in self.attributes:
            groups.setdefault(settings.spec_of(name), []).append(name)
        self.specs = tuple(groups)
        self._banks: list[tuple[TemplateBank, Rivals]] = []
        for spec, names in groups.items():
            # without rivals the best cosines; with them what else a patch could be, in one order for all banks
            bare = build_bank(self.library, network, spec, names, exemplars=settings.exemplars)
            contrast = dict.fromkeys(self.attributes, 1.0)
            full = build_bank(
                self.library, network, spec, names, exemplars=settings.exemplars, contrast=contrast
            ).rivals
            assert full is not None  # noqa: S101 - for mypy: a contrast was given
            self._banks.append((bare, full))
        self._presence = None
        if settings.presence:
            face = settings.spec_of("face")
            self._presence = presence_of(self.library, network, face, settings.presence, self.attributes)

    @property
    def key(self) -> dict[str, Any]:
        """What decides the maps, but for the video."""
        matching = ("layer", "facet", "stride", "short_side", "exemplars", "exemplar_aggregation", "presence")
        fields = (*matching, "flow", "flow_scale")
        settings = self.settings.as_json()
        return {
            "library": self.library.digest,
            "backbone": [self.network.name, self.network.fingerprint, self.network.engine.name],
            "settings": {name: settings[name] for name in fields},
            "version": library_versions()["anonymotion"],
        }

    def look(self, frames: np.ndarray) -> Maps:
        """Maps of (T, H, W, 3) uint8 frames."""
        images = torch.from_numpy(frames)
        how = self.settings.exemplar_aggregation
        cosines, shares, sure = [], [], []
        specs = [spec.raw for spec in self.specs] + ([self._presence.spec.raw] if self._presence else [])
        for batch in torch.split(images, BATCH):
            found = self.network.extract(batch, list(dict.fromkeys(specs)))
            by_name: dict[str, Tensor] = {}
            parts = []
            for bare, rivals in self._banks:
                features, mean = found[bare.spec.raw], bare.mean
                planes = attribute_saliency(features, bare, how)
                assert mean is not None  # noqa: S101 - for mypy: rivals are weighed on de-biased descriptors
                by_name.update(zip(bare.attributes, planes.unbind(1), strict=True))
                parts.append(rivals.probe.probabilities(F.normalize(features.descriptors - mean, dim=-1)))
            cosines.append(torch.stack([by_name[name] for name in self.attributes], dim=1).cpu())
            shares.append(torch.stack(parts).cpu())
            if self._presence is None:
                sure.append(torch.ones_like(cosines[-1][:, 0], dtype=torch.bool))
            else:
                sure.append(self._presence.sure(found[self._presence.spec.raw].descriptors).cpu())
        flow = flow_to_previous(self.flow, images.to(self.network.device), None).cpu()
        return Maps(torch.cat(cosines), torch.cat(sure), torch.cat(shares, dim=1), flow)


class MapMatcher(Matcher):
    """Gives what was found before, frame after frame, for the attributes and thresholds of `settings`."""

    def __init__(self, maps: Maps, attributes: Sequence[str], settings: Settings, library: TemplateLibrary) -> None:
        nothing: tuple[str, ...] = ()
        super().__init__(
            settings, library, attributes, nothing, backbone=None, person_mask=None, device=torch.device("cpu")
        )
        self._planes = weighed(maps, library, attributes, settings)
        self._next = 0

    def find(self, frames: Tensor, reuse: Reuse | None = None) -> Matched:
        """See Matcher.find; `frames` are the next ones of the video, of which nothing is computed."""
        planes = self._planes[self._next : self._next + len(frames)]
        self._next += len(frames)
        saliency = at_pixels(planes, self.settings.spec_of(self.attributes[0]), (frames.shape[1], frames.shape[2]))
        return Matched(saliency, self.mask(saliency), None)


def at_pixels(planes: Tensor, spec: FeatureSpec, size_hw: tuple[int, int]) -> Tensor:
    """(T, A, rows, columns) of frames of (H, W) that were compared as `spec` says: (T, A, H, W) float32 in [0, 1]."""
    grid = PatchGrid.of(size_hw, backbone_entry(spec.backbone).patch_size, spec)
    return upsample(planes, grid).clamp_(0, 1)


def weighed(maps: Maps, library: TemplateLibrary, attributes: Sequence[str], settings: Settings) -> Tensor:
    """The saliency of `attributes` when they are asked for together: (T, len(attributes), rows, columns) float32.

    As `Matcher.planes`: the best cosine, weakened where there is too little evidence, and nothing where nobody is.
    library: that of the maps.
    """
    known = library.attributes
    contrast = {name: settings.contrast[name] for name in attributes}
    specs = list(dict.fromkeys(settings.spec_of(name) for name in known))
    planes = []
    for name in attributes:
        probabilities = maps.shares[specs.index(settings.spec_of(name))]
        counts = what_counts(known, [name], contrast, probabilities.device)
        planes.append(maps.cosines[:, known.index(name)] * evidence_weight(probabilities, *counts)[:, 0])
    return inhabited(torch.stack(planes, dim=1), maps.sure, bound_of(library, attributes))


class _KeptFlow(FlowEstimator):
    """The flows of a video, one after the other."""

    def __init__(self, name: str, flow: Tensor) -> None:
        self.name = name
        self._rest = iter(flow[1:])  # of the first frame there is none

    def between(self, current: Tensor, previous: Tensor) -> Tensor:
        """See FlowEstimator.between."""
        flow: Tensor = next(self._rest)
        return flow


class MapHider(Hider):
    """A Hider of one video for one run, that takes everything but the pixels from maps."""

    def __init__(
        self, maps: Maps, attributes: Sequence[str], settings: Settings, library: TemplateLibrary, *, seed: int
    ) -> None:
        self._maps = maps
        fields = {name: value for name, value in settings.as_json().items() if name != "preset"}
        super().__init__(tuple(attributes), settings.preset, device="cpu", library=library, seed=seed, **fields)
        self.matcher = MapMatcher(maps, self.attributes, self.settings, library)

    def _networks(self, *_: object) -> tuple[None, FlowEstimator]:
        return None, _KeptFlow(self.settings.flow, self._maps.flow)


class MapStore:
    """Maps of videos on the disk, `<key>/<video>.npz`, looked for when they are first asked for.

    About 0.3 MB per frame at 180x144, most of it flow.  computed: how many videos were not there yet.
    """

    def __init__(self, folder: Path, maker: MapMaker) -> None:
        digest = hashlib.sha256(json.dumps(maker.key, sort_keys=True).encode()).hexdigest()[:12]
        self.folder, self.maker, self.computed = folder / digest, maker, 0

    def of(self, video: Path, frames: np.ndarray) -> Maps:
        """Maps of a video, whose frames, (T, H, W, 3) uint8, are looked at if it is new.

        Raises DatasetError if what is kept cannot be read or is of another length.
        """
        path = self.folder / video.with_name(f"{video.name}.npz")
        if not path.is_file():
            maps = self.maker.look(frames)
            save_arrays(path, {name: getattr(maps, name).numpy() for name in FIELDS})
            self.computed += 1
            return maps
        maps = Maps(*load_arrays(path, FIELDS))
        if maps.flow.shape[0] != len(frames) or maps.flow.shape[2:] != frames.shape[1:3]:
            raise DatasetError(f"{path} is of another video than {video}: remove it, and it is computed again")
        return maps
