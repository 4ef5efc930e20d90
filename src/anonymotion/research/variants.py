"""What a copy of a data set shows: the source, it hidden in some way, or a control; named, or by any settings.

A name is that of a recipe, then `@` and attributes if it is not the paper's that are hidden, then `+neutral` if the
background is replaced: `strict`, `strict+neutral`, `strict@torso`, `iid@torso+arm+neutral`.

A variant turns what looks saw in a video into frames.  Its description decides whether two copies are the same.

Not here: how looks are computed (looks), how copies are written and resumed (obfuscate), the methods themselves.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anonymotion.backbone import Backbone
from anonymotion.compositor import composite
from anonymotion.device import choose_device
from anonymotion.errors import SettingsError
from anonymotion.methods import load_method
from anonymotion.noise import NoiseField
from anonymotion.pipeline import Hider
from anonymotion.presets import settings_for
from anonymotion.registry import METHODS, backbone_entry
from anonymotion.research.controls import (
    PERSON_ATTRIBUTES,
    PERSON_LOOK,
    PersonRemover,
    main_parts,
    replace_background,
)
from anonymotion.research.datasets import Clip
from anonymotion.research.looks import Look, OnePass, Seen, look_at
from anonymotion.state import new_noise
from anonymotion.templates import TemplateLibrary

NEUTRAL_SUFFIX = "+neutral"
OF_ATTRIBUTES = "@"
OWN_SETTINGS = "settings"
NEED_PERSON = ("person-removed", "person-mask")
SHARED_SETTINGS = ("backbone", "short_side", "stride", "flow")

# The attributes that the paper hides in each data set; it does not have the others.
PAPER_ATTRIBUTES = {
    "kth": "torso,arm,leg,hair",
    "sbu": "torso,arm,leg,hair",
    "weizmann": "torso,arm,leg,hair",
    "ipn": "cheek,eyes,forehead,hair",
    "folder": "person",
}

Painter = Callable[[Seen], Tensor]


@dataclass(frozen=True)
class Recipe:
    """A named variant: a preset with some settings, or a control that hides nothing (`preset` is None).

    attributes: whether it needs some: the paper's for the data set, where none are named.  Without them a method
    covers the whole frame.
    """

    help: str
    preset: str | None = "strict"
    settings: Mapping[str, Any] = field(default_factory=dict)
    attributes: bool = True


RECIPES: dict[str, Recipe] = {
    "source": Recipe("the clips as they are", preset=None),
    "strict": Recipe("preset strict"),
    "paper": Recipe("preset paper", preset="paper"),
    "paper-debiased": Recipe("preset paper-debiased", preset="paper-debiased"),
    "first-frame": Recipe("strict with the noise of eq. 4", settings={"noise": "first-frame"}),
    "iid": Recipe("strict with new noise in each frame", settings={"noise": "iid"}),
    **{
        name: Recipe(entry.help, settings={"method": name}, attributes=name in ("person-mean", "black"))
        for name, entry in METHODS.items()
        if entry.home is not None
    },
    "person-removed": Recipe("control: a grey box for the person", preset=None),
    "person-mask": Recipe("white where a person is found, else black", preset=None),
}


@dataclass(frozen=True)
class Variant:
    """One way to show a data set.

    name: of its folder.  recipe: its name in `RECIPES`, or `settings` for settings of one's own.
    look: where the method puts something, None for nowhere or everywhere.  person: where the person is, for controls.
    hider: the method, None for controls and the source.  test_key: None for secret noise.
    """

    name: str
    recipe: str
    neutral: bool
    hider: Hider | None
    look: Look | None
    person: Look | None
    test_key: int | None

    @property
    def looks(self) -> tuple[Look, ...]:
        """What has to be looked for in each video."""
        return tuple(look for look in (self.look, self.person) if look is not None)

    def describe(self) -> dict[str, Any]:
        """Everything but the source that decides the frames: copies with other values are not mixed."""
        method = None
        if self.hider is not None:
            settings = self.hider.settings.as_json()
            method = {"attributes": list(self.hider.attributes), "settings": settings, **self.hider.networks}
        control = self.recipe if self.hider is None else None
        return {
            "method": method,
            "control": control,
            "neutral_background": self.neutral,
            "looks": [look.key for look in self.looks],
            "noise": "secret" if self.test_key is None else f"test key {self.test_key}",
        }

    def not_for_release(self) -> list[str]:
        """Why copies of this variant must not be given away as hidden."""
        if self.hider is None:
            return ["it hides nothing on purpose: it shows the source, or what is left of it for a control"]
        reasons = []
        if self.test_key is not None:
            reasons.append("the noise was made with a test key: whoever knows the key knows the noise")
        if self.hider.method is not None and self.hider.method.weakness is not None:
            reasons.append(self.hider.method.weakness)
        if self.hider.settings.composite == "blend":
            reasons.append("a soft blend (eq. 5) leaves a faded copy of what it covers")
        return reasons

    @property
    def base(self) -> str:
        """What two variants share that differ in nothing but the background: its frames are made once for both."""
        look = None if self.look is None else self.look.digest
        return json.dumps({**self.describe(), "neutral_background": None, "looks": look}, sort_keys=True)

    def painter(self, video: Path) -> Painter:
        """What makes the frames of one video, (T, H, W, 3) uint8, of what was seen, in order; but for `finish`."""
        return self._covering(video) if self.hider is not None else self._control()

    def finish(self, seen: Seen, painted: Tensor) -> Tensor:
        """The frames with the background that this variant has."""
        return replace_background(painted, self._person_in(seen)) if self.neutral else painted

    def apply(self, frames: np.ndarray, clip: Clip) -> np.ndarray:
        """This variant as a transform of a loader: all frames of a clip, (T, H, W, 3) uint8 -> the same shape.

        Computed anew each time, with new noise unless there is a test key; a copy (obfuscate) is computed once.
        """
        paint = self.painter(clip.path)
        return np.concatenate([self.finish(seen, paint(seen)).numpy() for seen in look_at(self.looks, frames)])

    def _person_in(self, seen: Seen) -> Tensor:
        assert self.person is not None  # noqa: S101 - for mypy: `make_variant` has set it
        return main_parts(seen.alphas[self.person.digest] == 1)

    def _control(self) -> Painter:
        if self.recipe == "source":
            return lambda seen: seen.frames
        if self.recipe == "person-mask":
            return lambda seen: self._person_in(seen)[..., None].expand(seen.frames.shape).to(torch.uint8) * 255
        remover = PersonRemover()
        return lambda seen: remover(seen.frames, self._person_in(seen))

    def _covering(self, video: Path) -> Painter:
        """The right half of the pipeline's picture, on looks: the same to the bit (a test compares them)."""
        assert self.hider is not None  # noqa: S101 - for mypy
        settings, method, device = self.hider.settings, self.hider.method, self.hider.device.device
        fields: list[NoiseField] = []

        def paint(seen: Seen) -> Tensor:
            frames = seen.frames.to(device)
            alpha = torch.ones(frames.shape[:3], device=device)
            if self.look is not None:
                alpha = seen.alphas[self.look.digest].to(device)
            if method is not None:
                return composite(frames, alpha, method.replacement(frames, alpha, settings.at_native)).cpu()
            if not fields:
                size_hw = (frames.shape[1], frames.shape[2])
                fields.append(new_noise(settings, size_hw, device, self.seed_of(video)))
            return composite(frames, alpha, fields[0].chunk(seen.flow.to(device))).cpu()

        return paint

    def seed_of(self, video: Path) -> int | None:
        """The seed of a video's noise: of its own for each, None where the noise is secret."""
        if self.test_key is None:
            return None
        digest = hashlib.sha256(f"{self.test_key}:{video.as_posix()}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % 2**63


class Networks:
    """Backbones by name, each loaded once, for all variants of a run; every frame passes each of them once.

    weights: a file for a backbone that is not in the package, or for the one that the settings name.
    engine: what runs them, of `registry.ENGINES`; which one it came to is in the key of every look.
    """

    def __init__(
        self, device: torch.device, weights: Path | None = None, named: str | None = None, engine: str = "auto"
    ) -> None:
        self._device, self._weights, self._named, self._engine = device, weights, named, engine
        self._loaded: dict[str, Backbone] = {}

    def __getitem__(self, name: str) -> Backbone:
        if name not in self._loaded:
            in_package = backbone_entry(name).embedded_file is not None and name != self._named
            self._loaded[name] = OnePass.load(name, self._device, None if in_package else self._weights, self._engine)
        return self._loaded[name]


def make_variant(
    name: str,
    dataset: str,
    attributes: Sequence[str] | str | None = None,
    *,
    networks: Mapping[str, Backbone] | Networks,
    test_key: int | None = None,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    library: TemplateLibrary | None = None,
    **options: Any,
) -> Variant:
    """The variant `name`: a name of `RECIPES`, or `settings` with a preset; `@` and attributes, `+neutral` behind it.

    dataset: its name, for the attributes where none are given.  attributes: of variants that do not name their own.
    settings: changed fields of `Settings`, on top of the recipe's.  library: by default the built-in one.
    options: of `Hider` (device, weights of flow, of the person).  Raises an AnonymotionError.
    """
    rest, neutral = name.removesuffix(NEUTRAL_SUFFIX), name.endswith(NEUTRAL_SUFFIX)
    base, of_attributes, named = rest.partition(OF_ATTRIBUTES)
    if test_key is not None and not 0 <= test_key < 2**63:
        raise SettingsError(f"test key {test_key} is not a whole number from 0 to 2**63 - 1")
    changed = dict(settings or {})
    library = library or TemplateLibrary.load()
    recipe = _recipe(base, preset, changed)
    if of_attributes:
        if recipe.preset is None:
            raise SettingsError(f"variant {name!r} names attributes, and {base} hides none: leave @{named} out")
        attributes = named.split("+")

    def hider_for(wanted: Sequence[str] | str | None, which: str, fields: Mapping[str, Any]) -> Hider:
        chosen = settings_for(which, **fields)
        method = load_method(chosen.method)
        matches = (wanted is not None or (method and method.covers)) and chosen.person_mask == "ours"
        network = networks[chosen.backbone] if matches else None
        return Hider(wanted, which, network=network, library=library, **options, **fields)

    person = None
    if neutral or base in NEED_PERSON:
        # found as the other looks find: same backbone, size and flow
        shared = {field: changed[field] for field in SHARED_SETTINGS if field in changed}
        person = Look(hider_for(PERSON_ATTRIBUTES, "strict", {**shared, **PERSON_LOOK}), library.digest)
    hider = look = None
    if recipe.preset is not None:
        if attributes is None and recipe.attributes:
            attributes = PAPER_ATTRIBUTES[dataset]
        hider = hider_for(attributes, recipe.preset, {**recipe.settings, **changed})
        look = Look(hider, library.digest) if hider.attributes else None
    return Variant(name, base, neutral, hider, look, person, test_key)


def _recipe(base: str, preset: str | None, settings: Mapping[str, Any]) -> Recipe:
    if base == OWN_SETTINGS:
        return Recipe("", preset or "strict", attributes=settings.get("method", "noise") == "noise")
    if base not in RECIPES:
        known = ", ".join(RECIPES)
        raise SettingsError(f"variant {base!r} is not known: use some of {known}, or e.g. strict{NEUTRAL_SUFFIX}")
    if preset is not None or {"method", "noise", "composite"} & set(settings):
        raise SettingsError(
            f"variant {base} says itself which preset, method and noise it is: leave those flags out, or --variants"
        )
    return RECIPES[base]


def make_variants(
    names: Sequence[str],
    dataset: str,
    attributes: Sequence[str] | str | None = None,
    *,
    device: str = "auto",
    engine: str = "auto",
    backbone_weights: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> list[Variant]:
    """`make_variant` for each of `names`, with the same networks.  Raises SettingsError for a name given twice."""
    names = [name.strip() for name in names]
    if len(set(names)) != len(names):
        raise SettingsError(f"variants {','.join(names)!r}: give each name once")
    named = (settings or {}).get("backbone")
    networks = Networks(choose_device(device).device, backbone_weights, named, engine)
    return [
        make_variant(name, dataset, attributes, networks=networks, device=device, settings=settings, **options)
        for name in names
    ]
