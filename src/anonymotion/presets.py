"""Settings: what decides each pixel, as one checked dataclass, and the presets that fill it.

    strict          hides: de-biased, union over attributes, threshold, dilation, accumulated noise, replacement
    paper           eq. 1-5 as printed at the published setting; needs DINOv1 and RAFT-large weights
    paper-debiased  the same equations on de-biased keys of whatever backbone and flow are chosen

Every field of `Settings` is a flag of the command line; its `help` says range and unit, and `__post_init__`
checks it.  A new option starts here.

Not here: how the run is done (device, seed, files): those are arguments of `Hider` and `hide_video`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Generic, TypeVar

from anonymotion.errors import SettingsError
from anonymotion.registry import (
    AGGREGATIONS,
    ATTRIBUTE_NAME,
    BACKBONES,
    FACETS,
    FLOWS,
    GROUPS,
    METHODS,
    NOISES,
    PERSON_MASKS,
    Facet,
    FeatureSpec,
    backbone_entry,
)

T = TypeVar("T", bound=int | float | str)

DEBIASING_MEAN = "library-2"
PUBLISHED_FLOW_ITERATIONS = 12
COMPOSITES = ("replace", "blend")
EXEMPLARS = ("all", "first")
AUTO = "auto"


@dataclass(frozen=True)
class PerAttribute(Generic[T]):
    """A value for all attributes, with exceptions by name of an attribute or group: `0.4,face=0.3,eyes=0.2`."""

    default: T
    exceptions: tuple[tuple[str, T], ...] = ()

    @classmethod
    def parse(cls, text: str, number: Callable[[str], T], base: PerAttribute[T] | None = None) -> PerAttribute[T]:
        """Read `DEFAULT[,NAME=VALUE...]`, or with a `base` also `NAME=VALUE,...`, which leaves the rest of it as it is.

        Raises SettingsError.
        """
        default: T | None = None
        exceptions: list[tuple[str, T]] = []
        try:
            for part in text.split(","):
                name, separator, value = part.partition("=")
                if separator:
                    name = name.strip().lower()
                    if not ATTRIBUTE_NAME.fullmatch(name):
                        raise ValueError(f"{name!r} is no name")
                    exceptions.append((name, number(value)))
                elif default is None:
                    default = number(part)
                else:
                    raise ValueError("two defaults")
        except ValueError as error:
            raise SettingsError(f"{text!r} is not of the form DEFAULT,NAME=VALUE,... ({error})") from error
        if default is not None:
            return cls(default, tuple(exceptions))
        if base is None:
            raise SettingsError(f"{text!r} has no default: put a value without a name in front")
        # What is said of a group now counts more than what the base says of one of its members.
        said = {member for name, _ in exceptions for member in (name, *GROUPS.get(name, ()))}
        return cls(base.default, (*exceptions, *(item for item in base.exceptions if item[0] not in said)))

    def __getitem__(self, attribute: str) -> T:
        """The exception of the attribute itself, else of the first group that has it, else the default."""
        named = dict(self.exceptions)
        groups = (value for name, value in self.exceptions if attribute in GROUPS.get(name, ()))
        return named[attribute] if attribute in named else next(groups, self.default)

    def values(self) -> tuple[T, ...]:
        """The default and every exception's value."""
        return (self.default, *(value for _, value in self.exceptions))

    def __str__(self) -> str:
        return ",".join([str(self.default), *(f"{name}={value}" for name, value in self.exceptions)])


def _option(default: Any, help_text: str) -> Any:
    return field(default=default, metadata={"help": help_text})


def _one_of(names: Mapping[str, Any] | tuple[str, ...]) -> str:
    return " | ".join(names)


@dataclass(frozen=True)
class Settings:
    """Everything that decides a pixel, apart from the video, the attributes and the random numbers."""

    preset: str = "strict"
    backbone: str = _option("dinov2-vits14-embedded", f"descriptor network: {_one_of(BACKBONES)}")
    layer: PerAttribute[int] = _option(
        PerAttribute(11, (("face", 9), ("body", 10))), "0-based transformer block; per attribute or group: 11,torso=10"
    )
    facet: PerAttribute[Facet] = _option(
        PerAttribute[Facet]("key", (("face", "value"),)),
        f"which vectors of the block: {_one_of(FACETS)}; key,face=value",
    )
    stride: int = _option(0, "patch distance in pixels of the resized frame, 1 to the patch size; 0: the patch size")
    short_side: int = _option(336, "shorter side that frames are resized to for matching, a multiple of the patch size")
    debias: bool = _option(True, "subtract the library's fixed mean descriptor before the cosine")
    exemplars: str = _option(
        "all", f"exemplars per attribute: {_one_of(EXEMPLARS)} | those of one source picture, by its id (hopper)"
    )
    exemplar_aggregation: str = _option("max", f"over the exemplars of an attribute: {_one_of(AGGREGATIONS)}")
    attribute_aggregation: str = _option("max", f"over attributes, for --composite blend: {_one_of(AGGREGATIONS)}")
    threshold: PerAttribute[float] = _option(
        PerAttribute(
            0.5,
            (
                ("face", 0.42),
                ("forehead", 0.405),
                ("hair", 0.4),
                ("hand", 0.4),
                ("torso", 0.33),
                ("leg", 0.48),
                ("arm", 0.16),
            ),
        ),
        "saliency in 0..1 from which a pixel is hidden, for --composite replace; hair=0.3 changes that one, 0.5 all",
    )
    contrast: PerAttribute[float] = _option(
        PerAttribute(0.1, (("face", 0.3), ("body", 0.3), ("hair", 0.02))),
        "probability in 0..1 that a patch is something that was asked for, against all else in the library, below "
        "which its saliency is weakened in proportion; 0: off; 0.1,face=0.3",
    )
    presence: float = _option(
        0.8,
        "probability in 0..1 that a patch is a part of a person, any part, which some patch of an island of saliency "
        "must reach for the island to count; not for attributes with own templates; 0, and with contrast 0: off",
    )
    close_up: int = _option(
        224,
        "side in pixels, a multiple of the patch size, to which what looks like a head is enlarged, so that hair and "
        "parts of faces are told apart in a second look; 0, and with contrast 0: off",
    )
    dilation: float = _option(1.5, "growth of the mask in percent of the frame's short side, 0 to 25")
    feather: float = _option(0.5, "width of the soft rim outside the mask in percent of the short side, 0 to 10")
    look_ahead: int = _option(
        3,
        "frames before and after, 0 to 30, in which what was found is hidden too, moved along the flow; holds back and "
        "keeps in memory so many frames; for --composite replace",
    )
    every: str = _option(
        "auto",
        "which frames are matched, the others get their mask along the flow from both sides: auto: as far apart as "
        "motion and agreement allow, at most 8, holding back so many frames; N: each N-th, up to look_ahead; for "
        "--composite replace",
    )
    reuse: float = _option(
        4.0,
        "patches in which nothing was found and that changed by less than noise of so many grey values (of 255) would "
        "change them are not computed again, for --composite replace; on CPUs; 0: all of every frame is, 0 to 64",
    )
    motion_dilation: float = _option(
        0.5, "growth of the mask per pixel that the scene moves, 0 to 4; at most 4 percent of the short side"
    )
    flow: str = _option("dis", f"optical flow: {_one_of(FLOWS)}")
    flow_iterations: int = _option(
        PUBLISHED_FLOW_ITERATIONS, "updates of RAFT's flow, 1 to 100 (the published code: 12); not for DIS"
    )
    flow_scale: float = _option(
        1.0,
        "factor by which frames are resized before their flow is estimated, 0.1 to 8; the flow stays in pixels of the "
        "frame (the published code: 4 for KTH and IPN)",
    )
    noise: str = _option("accumulated", f"how noise moves: {_one_of(NOISES)}")
    noise_mean: float = _option(0.45, "mean of the noise, 0 to 1 of the full range; never measured on the clip")
    noise_std: float = _option(0.225, "half width of its uniform range, from 0.01; mean - std >= 0 and mean + std <= 1")
    noise_grain: float = _option(
        4.0,
        "side of the grains of the noise in percent of the frame's short side, 0 to 10, at least one pixel: larger "
        "grains need fewer bits",
    )
    composite: str = _option(
        "replace",
        "replace: noise instead of pixels inside the mask; blend: eq. 5 with the saliency as weight",
    )
    method: str = _option(
        "noise",
        f"what takes the place of pixels: {_one_of(METHODS)}; all but noise are for comparison, and without "
        "--attributes they cover the whole frame (person-mean: the person)",
    )
    at_native: bool = _option(
        False, "pixelate and blur in pixels of the frame, not of the frame at a short side of 224 as in the paper"
    )
    person_mask: str = _option("ours", f"where --method person-mean finds the person: {_one_of(tuple(PERSON_MASKS))}")

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            kinds: dict[str, tuple[type, ...]] = {"bool": (bool,), "int": (int,), "float": (int, float), "str": (str,)}
            wanted = kinds.get(str(item.type), (object,))
            if not isinstance(value, wanted) or (isinstance(value, bool) and item.type != "bool"):
                raise SettingsError(f"{item.name} {value!r} is not of type {item.type}")
        for name, known in (
            ("exemplar_aggregation", AGGREGATIONS),
            ("attribute_aggregation", AGGREGATIONS),
            ("flow", FLOWS),
            ("noise", NOISES),
            ("composite", COMPOSITES),
            ("method", METHODS),
            ("person_mask", PERSON_MASKS),
        ):
            value = getattr(self, name)
            if value not in known:
                near = difflib.get_close_matches(value, known, n=1)
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                raise SettingsError(f"{name} {value!r} is not known{hint}: use one of {', '.join(known)}")
        for name, low, high in (
            ("presence", 0, 1),
            ("close_up", 0, 1120),
            ("dilation", 0, 25),
            ("feather", 0, 10),
            ("look_ahead", 0, 30),
            ("reuse", 0, 64),
            ("motion_dilation", 0, 4),
            ("flow_iterations", 1, 100),
            ("flow_scale", 0.1, 8),
            ("noise_mean", 0, 1),
            ("noise_std", 0, 0.5),
            ("noise_grain", 0, 10),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise SettingsError(f"{name} {value} is not in {low}..{high}")
        every = int(self.every) if self.every.isascii() and self.every.isdigit() else 0
        if self.every != AUTO and not 1 <= every <= max(1, self.look_ahead):
            raise SettingsError(
                f"every {self.every!r} is neither {AUTO} nor a number from 1 to look_ahead ({self.look_ahead}): frames "
                "further from a matched one would have no mask"
            )
        if every > 1 and self.composite == "blend":
            raise SettingsError(f"every {self.every} moves masks, and composite blend has none: leave it out")
        if self.flow_iterations != PUBLISHED_FLOW_ITERATIONS and not self.flow.startswith("raft"):
            raise SettingsError(f"flow_iterations {self.flow_iterations} is for RAFT: leave it out with {self.flow}")
        if not (self.noise_std >= 0.01 and self.noise_std <= min(self.noise_mean, 1 - self.noise_mean) + 1e-9):
            raise SettingsError(
                f"noise range {self.noise_mean} +- {self.noise_std} leaves 0..1, or is narrower than 0.01"
            )
        if not all(0 <= value <= 1 for value in self.contrast.values()):
            raise SettingsError(f"contrast {self.contrast} is not in 0..1")
        if self.weighs_rivals and not self.debias:
            raise SettingsError("contrast compares de-biased descriptors: use it with --debias, or set --contrast 0")
        if not all(0 < value <= 1 for value in self.threshold.values()):
            raise SettingsError(f"threshold {self.threshold} is not in (0, 1]: at 0 everything would be hidden")
        self._check_method()
        for layer in self.layer.values():
            for facet in self.facet.values():
                self._spec(layer, facet)
        if self.close_up:
            _ = self.close_up_spec

    def _check_method(self) -> None:
        """What belongs to one method only, and what a comparison method is not defined for."""
        if METHODS[self.method].home is not None and self.composite == "blend":
            raise SettingsError(
                f"method {self.method} takes the place of pixels, and composite blend fades it into them by eq. 5: "
                "use --preset strict, or --composite replace"
            )
        if self.person_mask != "ours" and self.method != "person-mean":
            raise SettingsError(
                f"person mask {self.person_mask} is for --method person-mean, not {self.method}: leave one of them out"
            )

    def _spec(self, layer: int, facet: Facet) -> FeatureSpec:
        mean = DEBIASING_MEAN if self.debias else None
        stride = self.stride or backbone_entry(self.backbone).patch_size
        return FeatureSpec(self.backbone, layer, facet, stride, self.short_side, mean)

    def spec_of(self, attribute: str) -> FeatureSpec:
        """The FeatureSpec that `attribute` is matched with."""
        return self._spec(self.layer[attribute], self.facet[attribute])

    @property
    def close_up_spec(self) -> FeatureSpec:
        """The FeatureSpec of a second look at heads; its short side is that of what is enlarged.

        One block further than in a whole frame: what is larger is still told apart there.
        """
        face = self.spec_of("face")
        last = backbone_entry(self.backbone).depth - 1
        return replace(face, layer=min(face.layer + 1, last), short_side=self.close_up)

    @property
    def weighs_rivals(self) -> bool:
        """Whether any attribute needs a share of the evidence."""
        return any(value > 0 for value in self.contrast.values())

    def grain_px(self, size_hw: tuple[int, int]) -> int:
        """Side of the grains of the noise in pixels, for frames of (H, W); even, so that halved chroma keeps them."""
        return max(1, 2 * round(self.noise_grain * min(size_hw) / 200))

    def names_per_attribute(self) -> set[str]:
        """Attributes and groups that layer, facet, threshold or contrast name, to be checked against a library."""
        return {
            name for value in (self.layer, self.facet, self.threshold, self.contrast) for name, _ in value.exceptions
        }

    def as_json(self) -> dict[str, Any]:
        """The settings with plain values, in field order."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: str(value) if isinstance(value, PerAttribute) else value for name, value in values.items()}


_EQUATIONS: dict[str, Any] = {
    "exemplars": "first",
    "exemplar_aggregation": "mean",
    "attribute_aggregation": "mean",
    "noise": "first-frame",
    "composite": "blend",
    "contrast": PerAttribute(0.0),
    "presence": 0.0,
    "close_up": 0,
    "facet": PerAttribute[Facet]("key"),
    "dilation": 0.0,
    "feather": 0.0,
    "look_ahead": 0,
    "every": "1",
    "reuse": 0.0,
    "motion_dilation": 0.0,
    "noise_grain": 0.0,
}

PRESETS: dict[str, Settings] = {
    "strict": Settings(),
    "paper": Settings(
        preset="paper",
        backbone="dino-vits8",
        layer=PerAttribute(11),
        stride=4,
        short_side=224,
        debias=False,
        flow="raft-large",
        **_EQUATIONS,
    ),
    "paper-debiased": Settings(preset="paper-debiased", layer=PerAttribute(11), **_EQUATIONS),
}


def settings_for(preset: str = "strict", **overrides: Any) -> Settings:
    """A preset with some fields changed; `None` means unchanged, texts are parsed.

    Raises SettingsError for an unknown preset or field, or a value outside its range.
    """
    if preset not in PRESETS:
        raise SettingsError(f"preset {preset!r} is not known: use one of {', '.join(PRESETS)}")
    known = {item.name for item in fields(Settings)} - {"preset"}
    changes = {name: value for name, value in overrides.items() if value is not None}
    for name in changes:
        if name not in known:
            raise SettingsError(f"setting {name!r} is not known: use some of {', '.join(sorted(known))}")
    if type(changes.get("every")) is int:
        changes["every"] = str(changes["every"])
    for name, number in (("layer", int), ("facet", str), ("threshold", float), ("contrast", float)):
        value = changes.get(name)
        if isinstance(value, str):
            changes[name] = PerAttribute.parse(value, number, getattr(PRESETS[preset], name))
        elif value is not None and not isinstance(value, PerAttribute):
            if not isinstance(value, int | float) or value != value or number(value) != value:
                raise SettingsError(f"{name} {value!r} is not {'a whole' if number is int else 'a'} number")
            changes[name] = PerAttribute(number(value))
    return replace(PRESETS[preset], **changes)
