"""What the page shows of a frame: where an attribute is found, what a click matches, what a run would do there.

Features of a frame are computed once (features); everything else is a comparison with them.  Masks, noise and results
come from `Hider` itself: for a frame alone at once; as a run has it, once its neighbours were looked at.

One thing is computed at a time.  A request that is out of date by the time it gets its turn is given up.

Not here: how a layer is drawn (layers), why a pixel is hidden in words (pointing), routes (app).
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from anonymotion.backbone import Backbone
from anonymotion.device import choose_device
from anonymotion.errors import AnonymotionError
from anonymotion.flow import flow_to_previous, load_flow
from anonymotion.pipeline import Hider
from anonymotion.policy import Policy
from anonymotion.presets import PRESETS, Settings
from anonymotion.registry import FeatureSpec
from anonymotion.saliency import patch_saliency, upsample
from anonymotion.studio.clips import Clip
from anonymotion.studio.features import BankShelf, FeatureStore, RememberingBackbone
from anonymotion.template_bank import TemplateBank, template_descriptor
from anonymotion.template_crop import Mark
from anonymotion.templates import Template, TemplateLibrary

HIDERS = 6
EXPLAINED = 6

LARGEST = 480
"""Pixels of the longer side of a heat map."""

Wanted = Callable[[], bool]


class SupersededError(AnonymotionError):
    """The page has moved on: nobody waits for the answer."""


@dataclass(frozen=True)
class Explained:
    """What `Hider` does with one frame.

    output, noise: (H, W, 3) uint8.  alpha: (H, W) float32 in [0, 1].  exact: with its neighbours, as a run has it.
    """

    output: NDArray[np.uint8]
    noise: NDArray[np.uint8]
    alpha: NDArray[np.float32]
    exact: bool


@dataclass(frozen=True)
class Candidate:
    """A place in a frame that may become a template: its descriptor, (D,), of `spec`."""

    id: str
    clip: str
    frame: int
    mark: Mark
    spec: FeatureSpec
    descriptor: Tensor


class Seeing:
    """Looks at frames with one network on one device; safe to be called from several threads.

    The network is loaded by `load`; whoever asks before that waits.
    """

    def __init__(self, store: FeatureStore, device: str) -> None:
        self._store, self._device = store, choose_device(device)
        self.device_request = device
        self.shelf = BankShelf()
        self._busy = threading.RLock()
        self._backbones: dict[str, RememberingBackbone] = {}
        self._hiders: OrderedDict[str, Hider] = OrderedDict()
        self._explained: OrderedDict[str, Explained] = OrderedDict()

    @property
    def ready(self) -> bool:
        """Whether the network is there."""
        return bool(self._backbones)

    def load(self) -> None:
        """Load the usual network, before somebody asks."""
        with self._busy:
            self._backbone(PRESETS["strict"])

    @contextmanager
    def _turn(self, wanted: Wanted) -> Iterator[None]:
        with self._busy:
            _check(wanted)
            yield

    def _backbone(self, settings: Settings) -> RememberingBackbone:
        name = settings.backbone
        if name not in self._backbones:
            plain = Backbone.load(name, self._device.device, engine="auto")
            self._backbones[name] = RememberingBackbone(plain, self._store)
        return self._backbones[name]

    def _features(self, image: NDArray[np.uint8], settings: Settings, library: TemplateLibrary) -> RememberingBackbone:
        """The network, with the features of `image` for whatever the library can ask of it in its store."""
        backbone = self._backbone(settings)
        backbone.also = specs_of(settings, library)
        backbone.extract(as_batch(image), backbone.also)
        return backbone

    def hider(self, policy: Policy, library: TemplateLibrary) -> Hider:
        """A Hider for this policy; the last few are kept.  Raises what `Hider` raises."""
        key = _key(policy, library)
        if key not in self._hiders:
            backbone = self._backbone(policy.effective_settings())
            self._hiders[key] = Hider(
                policy=policy,
                library=library,
                network=backbone,
                bank_builder=self.shelf,
                device=self.device_request,
            )
        self._hiders.move_to_end(key)
        while len(self._hiders) > HIDERS:
            self._hiders.popitem(last=False)
        return self._hiders[key]

    # ------------------------------------------------------------------ maps

    def prepare(self, clip: Clip, number: int, policy: Policy, library: TemplateLibrary, wanted: Wanted) -> None:
        """Compute the features of a frame, so that whatever is asked next is quick."""
        image = clip.frame(number).image
        with self._turn(wanted):
            self._features(image, policy.effective_settings(), library)

    def heat(
        self, clip: Clip, number: int, attribute: str, policy: Policy, library: TemplateLibrary, wanted: Wanted
    ) -> NDArray[np.float32]:
        """Saliency of an attribute in [0, 1], at most LARGEST pixels wide or high, as a run with it has it."""
        image = clip.frame(number).image
        names = dict.fromkeys((*(policy.asked(library) or ()), attribute))
        # shapes, spans and what is kept do not change where something is found
        policy = Policy(attributes=tuple(names), preset=policy.preset, settings=policy.settings)
        with self._turn(wanted):
            hider = self.hider(policy, library)
            self._features(image, hider.settings, library)
            saliency = hider.matcher.find(as_batch(image)).saliency
            index = hider.attributes.index(attribute)
            return _smaller(saliency[:, index : index + 1])

    def candidate(
        self, clip: Clip, number: int, mark: Mark, attribute: str, policy: Policy, library: TemplateLibrary, name: str
    ) -> Candidate:
        """The descriptor of a place in a frame, made as those of `attribute` are.  Raises TemplateError."""
        image = clip.frame(number).image
        mark.check((image.shape[1], image.shape[0]))
        settings = policy.effective_settings()
        spec = settings.spec_of(attribute)
        with self._turn(_always):
            backbone = self._features(image, settings, library)
            features = backbone.extract(as_batch(image), [spec])[spec]
            template = Template(attribute, "frame", mark.point, mark.box)
            return Candidate(name, clip.id, number, mark, spec, template_descriptor(template, features))

    def similarity(
        self, candidate: Candidate, clip: Clip, number: int, library: TemplateLibrary, wanted: Wanted
    ) -> NDArray[np.float32]:
        """Eq. 1 of one candidate in a frame, as of `heat`: what this one place is like, nothing weighed."""
        image = clip.frame(number).image
        with self._turn(wanted):
            backbone = self._backbones[candidate.spec.backbone]
            features = backbone.extract(as_batch(image), [candidate.spec])[candidate.spec]
            like = self.shelf(library, backbone, candidate.spec, [library.attributes[0]])
            index = torch.zeros(1, dtype=torch.long, device=backbone.device)
            bank = TemplateBank(candidate.spec, ("candidate",), candidate.descriptor[None], index, like.mean)
            return _smaller(upsample(patch_saliency(features, bank), features.grid))

    def flow(self, clip: Clip, number: int, policy: Policy, wanted: Wanted) -> NDArray[np.float32]:
        """Optical flow of a frame to the one before it, (2, H, W) pixels; zeros in the first frame."""
        pair = [as_batch(clip.frame(other).image)[0] for other in range(max(0, number - 1), number + 1)]
        settings = policy.effective_settings()
        with self._turn(wanted):
            estimator = load_flow(
                settings.flow, self._device.device, iterations=settings.flow_iterations, scale=settings.flow_scale
            )
            previous = pair[0] if len(pair) == 2 else None
            flow: NDArray[np.float32] = flow_to_previous(estimator, pair[-1][None], previous)[0].cpu().numpy()
            return flow

    # ------------------------------------------------------------------ what a run would do

    def explained(
        self,
        clip: Clip,
        number: int,
        policy: Policy,
        library: TemplateLibrary,
        *,
        exact: bool = False,
        wanted: Wanted | None = None,
    ) -> Explained:
        """What `Hider` does with a frame: by itself, or (`exact`) with the frames around it that a run looks at.

        The noise is not that of any run.  Raises what `Hider` raises, SupersededError.
        """
        wanted = wanted or _always
        ahead = policy.effective_settings().look_ahead
        if exact:
            policy = policy.overridden(settings={"every": "1"})  # which frames a run matches, only all of it tells
        else:
            policy, ahead = policy.overridden(settings={"look_ahead": 0}), -1
        key = json.dumps([clip.id, number, exact, _key(policy, library)])
        if key in self._explained:
            return self._explained[key]
        with clip.lock:
            last = clip.access().count - 1 if exact else number
        # one more before, for the flow of the first that counts
        numbers = range(max(0, number - ahead - 1), min(last, number + max(ahead, 0)) + 1)
        with self._turn(wanted):
            hider = self.hider(policy, library)
            if hider.backbone is not None:
                for other in numbers:
                    _check(wanted)
                    self._features(clip.frame(other).image, hider.settings, library)
            times = [_moment(clip, other) for other in numbers] if policy.needs_times else None
            found = self._explain(hider, (clip.frame(other).image for other in numbers), times, number - numbers[0])
        self._explained[key] = Explained(*found, exact)
        while len(self._explained) > EXPLAINED:
            self._explained.popitem(last=False)
        return self._explained[key]

    @staticmethod
    def _explain(hider: Hider, images: Iterator[Any], times: Any, place: int) -> tuple[Any, Any, Any]:
        """Output, noise and alpha of the frame at `place` among `images`."""
        done = 0
        for chunk in hider.explain(images, times):
            size = len(chunk.frames)
            if place < done + size:
                tensors = (t[place - done].cpu().numpy() for t in (chunk.output, chunk.noise, chunk.alpha))
                output, noise, alpha = tensors
                return output, np.rint(noise).clip(0, 255).astype(np.uint8), alpha
            done += size
        raise IndexError(place)  # explain gives as many frames as it takes

    def cached(self, clip: Clip, number: int, policy: Policy, library: TemplateLibrary) -> Explained | None:
        """The exact result of a frame, if it was asked for already."""
        return self._explained.get(json.dumps([clip.id, number, True, _key(policy, library)]))


def _smaller(saliency: Tensor) -> NDArray[np.float32]:
    """(1, 1, H, W) as a picture of at most LARGEST pixels: a map is smooth."""
    height, width = saliency.shape[2:]
    scale = min(1.0, LARGEST / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    shown: NDArray[np.float32] = F.interpolate(saliency, size=size, mode="bilinear")[0, 0].cpu().numpy()
    return shown


def specs_of(settings: Settings, library: TemplateLibrary) -> tuple[FeatureSpec, ...]:
    """All ways in which attributes of the library, or new ones, are compared with these settings."""
    names = (*library.attributes, "a-new-one")
    return tuple(dict.fromkeys(settings.spec_of(name) for name in names))


def as_batch(image: NDArray[np.uint8]) -> Tensor:
    """(H, W, 3) uint8 -> (1, H, W, 3) on the CPU."""
    return torch.from_numpy(np.require(image, requirements=("C", "W", "E")))[None]


def _moment(clip: Clip, number: int) -> tuple[Fraction, Fraction]:
    """When a frame appears and goes, as a run takes it (`run._timed`)."""
    with clip.lock:
        access = clip.access()
        frame, begin = clip.frame(number), access.seconds(number)
        said = Fraction(0) if frame.duration is None else frame.duration * frame.time_base
        rate = access.info.frame_rate
    return begin, begin + max(said, 1 / rate if rate else said)


def _key(policy: Policy, library: TemplateLibrary) -> str:
    parts = [policy.attributes, policy.preset, {n: str(v) for n, v in policy.settings.items()}, policy.as_json()]
    return json.dumps([parts, library.digest], default=str)


def _check(wanted: Wanted) -> None:
    if not wanted():
        raise SupersededError("superseded by a later request")


def _always() -> bool:
    return True
