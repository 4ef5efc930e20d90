"""Where the masks come from: our pipeline once per attribute, exported masks, or the whole person.

Every attribute is a run of its own, because what was asked for decides what competes with it; the backbone's pass over
a frame and the flow are the same for all of them and are computed once.

Not here: what a mask is compared with (regions, measures).
"""

from __future__ import annotations

import hashlib
import itertools
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from anonymotion import Hider
from anonymotion.backbone import Backbone, PatchFeatures
from anonymotion.device import choose_device
from anonymotion.flow import FlowEstimator, load_flow
from anonymotion.presets import settings_for
from anonymotion.registry import ATTRIBUTES, FeatureSpec

# Runs look at most a few chunks ahead of one another, so this many answers are enough.
KEPT = 12


@dataclass
class MaskedFrame:
    """A frame, its masks, run's name -> (H, W) bool, and the flow to the frame before, (2, H, W); None in the first.

    saliency: run's name -> (A, H, W) float32 planes, for the sweep.
    """

    image: np.ndarray
    masks: dict[str, np.ndarray]
    flow: np.ndarray | None
    saliency: dict[str, np.ndarray]


def content_key(*tensors: Tensor) -> bytes:
    """Hash of shapes and bytes."""
    digest = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.digest()


class SharedBackbone:
    """A Backbone that computes the descriptors of all runs' specs at once and remembers the last chunks."""

    def __init__(self, backbone: Backbone, specs: Sequence[FeatureSpec]) -> None:
        self._backbone, self._specs = backbone, list(dict.fromkeys(specs))
        self._known: OrderedDict[bytes, dict[FeatureSpec, PatchFeatures]] = OrderedDict()
        self._enlarged: OrderedDict[bytes, dict[FeatureSpec, PatchFeatures]] = OrderedDict()
        self.passes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backbone, name)

    def extract(self, images: Tensor, specs: Sequence[FeatureSpec]) -> dict[FeatureSpec, PatchFeatures]:
        """As Backbone.extract."""
        if not set(specs) <= set(self._specs):
            return self._one_by_one(images, specs)
        key = content_key(images)
        if key not in self._known:
            self._known[key] = self._backbone.extract(images, self._specs)
            self.passes += 1
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
        return {spec: self._known[key][spec] for spec in specs}

    def _one_by_one(self, images: Tensor, specs: Sequence[FeatureSpec]) -> dict[FeatureSpec, PatchFeatures]:
        """For second looks: most runs enlarge the same places of a frame, in batches that differ."""
        keys = [content_key(image) for image in images]
        missing = [number for number, key in enumerate(keys) if key not in self._enlarged]
        if missing:
            found = self._backbone.extract(images[missing], specs)
            for place, number in enumerate(missing):
                self._enlarged[keys[number]] = {
                    spec: replace(features, descriptors=features.descriptors[place : place + 1])
                    for spec, features in found.items()
                }
        answers = [self._enlarged[key] for key in keys]
        while len(self._enlarged) > KEPT * 16:
            self._enlarged.popitem(last=False)
        return {
            spec: replace(answers[0][spec], descriptors=torch.cat([answer[spec].descriptors for answer in answers]))
            for spec in specs
        }


class SharedFlow(FlowEstimator):
    """A FlowEstimator that remembers its last answers."""

    def __init__(self, estimator: FlowEstimator) -> None:
        self._estimator, self.name = estimator, estimator.name
        self._known: OrderedDict[bytes, Tensor] = OrderedDict()

    def between(self, current: Tensor, previous: Tensor) -> Tensor:
        """As FlowEstimator.between."""
        key = content_key(current, previous)
        if key not in self._known:
            self._known[key] = self._estimator.between(current, previous)
            while len(self._known) > KEPT * 8:
                self._known.popitem(last=False)
        return self._known[key]


class Runs:
    """One Hider per name (an attribute or a group), sharing backbone and flow.

    Continuity needs neighbours: frames are given as consecutive runs, and each run of frames is a video of its own.
    """

    def __init__(self, names: Sequence[str], preset: str, device: str, engine: str = "auto", **settings: Any) -> None:
        self.names = list(names)
        chosen = settings_for(preset, **settings)
        self.settings = chosen
        where = choose_device(device).device
        specs = [chosen.spec_of(attribute) for attribute in ATTRIBUTES]
        self.backbone = SharedBackbone(Backbone.load(chosen.backbone, where, engine=engine), specs)
        flow = SharedFlow(load_flow(chosen.flow, where))
        self._hiders = {}
        for name in self.names:
            # a duck in place of a Backbone: it has all that a Hider asks of one
            hider = Hider([name], preset, device=device, network=self.backbone, **settings)  # type: ignore[arg-type]
            hider.flow = flow
            self._hiders[name] = hider

    def masked(
        self, frames: Iterable[np.ndarray], names: Sequence[str] | None = None, *, keep_saliency: bool = False
    ) -> Iterator[MaskedFrame]:
        """Masks of consecutive frames, (H, W, 3) uint8 RGB, in order, of all runs or of `names`; holds a few chunks."""
        chosen = self.names if names is None else names
        *copies, images = itertools.tee(frames, len(chosen) + 1)
        streams = {name: self._hiders[name].explain(copy) for name, copy in zip(chosen, copies, strict=True)}
        pending: dict[str, list[tuple[np.ndarray, np.ndarray, Any]]] = {name: [] for name in streams}
        for number, image in enumerate(images):
            for name, stream in streams.items():
                if not pending[name]:
                    chunk = next(stream)
                    planes = chunk.saliency.cpu().numpy() if keep_saliency else [None] * len(chunk.alpha)
                    flows = chunk.flow.cpu().numpy()
                    pending[name] = list(zip((chunk.alpha == 1).cpu().numpy(), flows, planes, strict=True))
            here = {name: pending[name].pop(0) for name in streams}
            yield MaskedFrame(
                image,
                masks={name: mask for name, (mask, _, _) in here.items()},
                flow=None if number == 0 else next(iter(here.values()))[1],
                saliency={name: planes for name, (_, _, planes) in here.items() if planes is not None},
            )

    def strength(self, name: str, image: np.ndarray) -> np.ndarray:
        """What run `name` sees in one (H, W, 3) frame: (H, W) float32, saliency over its threshold.

        From 1 on there is a mask.  The strongest of the run's attributes; nothing is joined over time, nothing grown.
        """
        matcher = self._hiders[name].matcher
        planes = matcher.find(torch.from_numpy(image)[None]).saliency[0] / matcher.thresholds[:, None, None]
        strongest: np.ndarray = planes.amax(dim=0).numpy()
        return strongest

    def at_scale(self, name: str, planes: np.ndarray, scale: float) -> np.ndarray:
        """The mask of run `name` with every threshold multiplied by `scale`: no continuity, else as the pipeline."""
        hider = self._hiders[name]
        thresholds = np.array([hider.settings.threshold[attribute] for attribute in hider.attributes]) * scale
        over = planes >= thresholds[:, None, None]
        return dilated(np.logical_or.reduce(over), hider.settings.dilation)


class ExportedMasks:
    """Masks that `hide -a NAME --export-masks DIR/CLIP/NAME` wrote for each run; 255 is masked."""

    def __init__(self, folder: Path, names: Sequence[str], flow: str) -> None:
        self.folder, self.names = folder, list(names)
        self._flow = load_flow(flow, torch.device("cpu"))

    def masked(self, frames: Iterable[np.ndarray], clip: str, first: int) -> Iterator[MaskedFrame]:
        """As Runs.masked, for the frames of `clip` from number `first`.  Raises FileNotFoundError."""
        previous: Tensor | None = None
        for number, image in enumerate(frames, first):
            current = torch.from_numpy(image)
            flow = None if previous is None else self._flow.between(current, previous).numpy()
            yield MaskedFrame(image, {name: self._read(clip, name, number) for name in self.names}, flow, {})
            previous = current

    def _read(self, clip: str, name: str, number: int) -> np.ndarray:
        path = self.folder / clip / name / f"{number:06d}.png"
        if not path.exists():
            raise FileNotFoundError(f"no mask {path}: `anonymotion hide -a {name} --export-masks` writes such a folder")
        mask: np.ndarray = np.asarray(Image.open(path)) == 255
        return mask


def dilated(mask: np.ndarray, percent: float) -> np.ndarray:
    """A bool mask grown as the pipeline grows masks: a square, by a percentage of the short side."""
    radius = round(percent * min(mask.shape) / 100)
    grown: np.ndarray = cv2.dilate(mask.astype(np.uint8), np.ones((2 * radius + 1,) * 2, np.uint8)) > 0
    return grown
