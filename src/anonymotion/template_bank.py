"""Templates as descriptors of one FeatureSpec, from a cache where there is one.

A bank holds the exemplars that frames are compared with and, for presets that weigh them, the rivals: what else a
patch could be.

Not here: which templates there are (templates), the comparison (saliency), where entries are kept (descriptor_cache).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from anonymotion.backbone import Backbone, PatchFeatures
from anonymotion.descriptor_cache import DescriptorCache
from anonymotion.drawn import drawn_people
from anonymotion.errors import SettingsError, TemplateError, UnknownAttributeError
from anonymotion.probe import HELPED_DECAY, Probe, fit, fit_once
from anonymotion.registry import GROUPS, FeatureSpec
from anonymotion.templates import Template, TemplateLibrary

# Whoever asks for every part of a person asks whether a patch is a person at all.  The probabilities of nine of ten
# classes add up then, so that more of it is needed than for one part.
WHOLE_PERSON_CONTRAST = 0.4

# The parts of these groups are too small for patches to tell them apart: a mask of `eyes` that `cheek` could take
# patches away from missed every second frame.
NO_RIVALS = ("face",)

# What drawn people help to tell from the rest, where there are any for the spec.  Hands and faces are told apart better
# by the library's points alone.
HELPED = ("arm",)
BankBuilder = Callable[..., "TemplateBank"]
"""What has the arguments of `build_bank` and gives what it gives."""


@dataclass(frozen=True)
class Rivals:
    """Everything a library knows, in classes: what was asked for, and what else a patch could be.

    probe: tells the classes apart: the attributes asked for, the others, and as the last one everything else
    (negative templates and background).  asked_for: (C,) bool.  own: (A, C) bool, the classes that are an attribute
    of the bank itself, or a part of a face beside it.  contrast: (A,) float32 in [0, 1], for each attribute of the bank
    the probability of its own classes that leaves its saliency whole; 0: nothing is weakened.  together: in (0, 1], the
    probability of all that was asked for that does so as well.
    helped: the probe that decides about those attributes of the bank for which by_help, (A,) bool, holds; or None.
    by_evidence: (A,) bool, whose saliency is the share of evidence itself, without a comparison with exemplars.
    negatives: (K, D) float32, raw, the negative templates of the user's own, and negative_index: (K,) int64, which
    attribute of the bank each takes away from.
    classes: names of all classes but the last.
    """

    probe: Probe
    asked_for: Tensor
    own: Tensor
    contrast: Tensor
    together: float
    helped: Probe | None = None
    by_help: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.bool))
    by_evidence: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.bool))
    negatives: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    negative_index: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    classes: tuple[str, ...] = ()

    def classes_in(self, names: Sequence[str]) -> Tensor:
        """Which classes are among `names`: (C,) bool."""
        return torch.tensor([*(name in names for name in self.classes), False], device=self.asked_for.device)


@dataclass(frozen=True)
class TemplateBank:
    """The exemplars of some attributes as descriptors of one spec.

    descriptors: (N, D) float32, raw.  attribute_index: (N,) int64, which of `attributes` each belongs to.
    mean: (D,) float32, the de-biasing vector named by `spec.mean`, or None for raw comparison.
    rivals: what else a patch could be, or None where nothing is to be weighed against.
    """

    spec: FeatureSpec
    attributes: tuple[str, ...]
    descriptors: Tensor
    attribute_index: Tensor
    mean: Tensor | None
    rivals: Rivals | None = None

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.spec.mean is None):
            raise ValueError("a bank has a mean exactly if its spec names one")
        if len(self.descriptors) != len(self.attribute_index):
            raise ValueError("a bank needs one attribute index per descriptor")


def build_bank(
    library: TemplateLibrary,
    backbone: Backbone,
    spec: FeatureSpec,
    attributes: Sequence[str],
    *,
    exemplars: str = "all",
    contrast: Mapping[str, float] | None = None,
    siblings_count: bool = True,
) -> TemplateBank:
    """The exemplars of `attributes` as descriptors of `spec`; `exemplars` as of `TemplateLibrary.exemplars`.

    `contrast`: of every attribute of the run, also those of other banks; then the bank has rivals.  `siblings_count`:
    what is likely to be another part of a group in `NO_RIVALS` is no rival either.
    """
    for attribute in attributes:
        if attribute not in library.attributes:
            raise UnknownAttributeError(library.unknown(attribute))
    chosen = [(i, t) for i, attribute in enumerate(attributes) for t in library.exemplars(attribute, exemplars)]
    if exemplars != "all" and spec.mean is None and contrast is None:
        # The published setting takes seconds per picture: no pass over those that nothing is compared with.
        library = library.only(template for _, template in chosen)
    vectors = _vectors(library, backbone, spec)
    rows = [library.templates.index(template) for _, template in chosen]
    mean = vectors["mean"] if spec.mean is not None else None
    rivals = None
    if contrast is not None:
        rivals = _rivals(library, vectors, attributes, contrast, siblings_count, (backbone.fingerprint, spec))
    index = torch.tensor([position for position, _ in chosen], device=backbone.device)
    return TemplateBank(spec, tuple(attributes), vectors["templates"][rows], index, mean, rivals)


def _rivals(
    library: TemplateLibrary,
    vectors: dict[str, Tensor],
    attributes: Sequence[str],
    contrast: Mapping[str, float],
    siblings_count: bool,
    described_by: tuple[str, FeatureSpec],
) -> Rivals:
    """Classes in this order: what was asked for, other attributes, everything else.

    An attribute of a user's own competes only where it was asked for: somebody's `glasses` must not take `eyes`
    away from whoever hides eyes.  `described_by`: the network's fingerprint and the spec.
    """
    built_in = library.parts[0]
    names = [*contrast, *(name for name in built_in.attributes if name not in contrast)]
    rest = len(names)
    members: list[tuple[int, int]] = []
    own_negatives: list[tuple[int, int]] = []
    for number, template in enumerate(library.templates):
        if template.negative and number >= len(built_in.templates):  # those of the user's own come last
            if template.attribute in attributes:
                own_negatives.append((number, attributes.index(template.attribute)))
        elif template.negative or template.attribute in names:
            members.append((number, rest if template.negative else names.index(template.attribute)))
    descriptors = torch.cat([vectors["templates"][[number for number, _ in members]], vectors["background"]])
    classes = torch.tensor([kind for _, kind in members] + [rest] * len(vectors["background"]))
    device = descriptors.device
    directions, classes = F.normalize(descriptors - vectors["mean"], dim=-1), classes.to(device)
    by_help = torch.tensor([name in HELPED for name in attributes], device=device)
    drawn = drawn_people(*described_by, names, vectors["mean"]) if by_help.any() else None
    fitting = fit if len(library.templates) > len(built_in.templates) else fit_once
    return Rivals(
        fitting(directions, classes, rest + 1),
        *what_counts(names, attributes, contrast, device, siblings_count=siblings_count),
        helped=None if drawn is None else fitting(directions, classes, rest + 1, drawn, HELPED_DECAY),
        by_help=by_help,
        negatives=vectors["templates"][[number for number, _ in own_negatives]],
        negative_index=torch.tensor([position for _, position in own_negatives], dtype=torch.long, device=device),
        classes=tuple(names),
    )


def what_counts(
    classes: Sequence[str],
    attributes: Sequence[str],
    contrast: Mapping[str, float],
    device: torch.device,
    *,
    siblings_count: bool = True,
) -> tuple[Tensor, Tensor, Tensor, float]:
    """`asked_for`, `own`, `contrast` and `together` of Rivals for a probe of `classes` and, last, everything else.

    contrast: of all that was asked for, `attributes` among it.
    """

    def family(name: str) -> set[str]:
        groups = [GROUPS[group] for group in NO_RIVALS if siblings_count and name in GROUPS[group]]
        return {name}.union(*groups)

    def mask(counted: set[str]) -> list[bool]:
        return [name in counted for name in classes] + [False]

    asked_for = set[str]().union(*map(family, contrast))
    least = WHOLE_PERSON_CONTRAST if asked_for.issuperset(GROUPS["person"]) else 0.0
    return (
        torch.tensor(mask(asked_for), device=device),
        torch.tensor([mask(family(name)) for name in attributes], device=device),
        torch.tensor([contrast[name] for name in attributes], device=device),
        max(*contrast.values(), least),
    )


def _vectors(library: TemplateLibrary, backbone: Backbone, spec: FeatureSpec) -> dict[str, Tensor]:
    """`templates` (N, D) in the library's order, `background` (B, D), `mean` (D,): from the cache, or computed.

    Mean and background are those of the built-in part: a template of the user's own must not move what every
    other template is compared by.
    """
    found = [_vectors_of(part, backbone, spec) for part in library.parts]
    vectors = {**found[0], "templates": torch.cat([entry["templates"] for entry in found])}
    return {name: tensor.to(backbone.device) for name, tensor in vectors.items()}


def _vectors_of(part: TemplateLibrary, backbone: Backbone, spec: FeatureSpec) -> dict[str, Tensor]:
    cache = DescriptorCache(part.digest, backbone.fingerprint, own=part.own)
    vectors = cache.read(spec)
    if vectors is None:
        vectors = compute_vectors(part, backbone.exact(), [spec])[spec]
        cache.write(spec, vectors)
    # A comparison with NaN is false: a template that is not finite would hide nothing, without a word.
    if not torch.isfinite(vectors["templates"]).all():
        raise TemplateError(f"a descriptor of library {part.folder} is not finite: remove the template and add it anew")
    return vectors


def compute_vectors(
    library: TemplateLibrary, backbone: Backbone, specs: Sequence[FeatureSpec]
) -> dict[FeatureSpec, dict[str, Tensor]]:
    """Descriptors of templates and background, and the de-biasing mean, for each spec; one pass per picture.

    Background is an even grid of patches of each picture with nobody in it.  The mean is fixed: the mean
    over this library's pictures of each one's mean descriptor.  It is never taken from the video, where a
    frame full of one thing would subtract that thing.
    """
    means: dict[FeatureSpec, list[Tensor]] = {spec: [] for spec in specs}
    found: dict[FeatureSpec, dict[int, Tensor]] = {spec: {} for spec in specs}
    background: dict[FeatureSpec, list[Tensor]] = {spec: [] for spec in specs}
    for picture in library.pictures.values():
        image = torch.from_numpy(picture.read().copy())[None]
        for spec, features in backbone.extract(image, specs).items():
            means[spec].append(features.descriptors.mean(dim=(0, 1, 2)))
            if picture.kind == "background":
                background[spec].append(_even_patches(features, picture.background_grid))
            for number, template in enumerate(library.templates):
                if template.picture == picture.id:
                    found[spec][number] = template_descriptor(template, features)
    return {
        spec: {
            "templates": torch.stack([found[spec][i] for i in range(len(library.templates))]).cpu(),
            "background": torch.cat([*background[spec], means[spec][0].new_empty(0, len(means[spec][0]))]).cpu(),
            "mean": torch.stack(means[spec]).mean(dim=0).cpu(),
        }
        for spec in specs
    }


def template_descriptor(template: Template, features: PatchFeatures) -> Tensor:
    """(D,) descriptor: of the patch at the point, or the mean over the patches between the box's corners."""
    height, width = features.grid.image_size_hw
    if template.point is not None:
        x0, y0 = x1, y1 = template.point
    else:
        assert template.box is not None  # noqa: S101 - for mypy: checked above
        x0, y0, x1, y1 = template.box
        x1, y1 = min(x1, width) - 1, min(y1, height) - 1
    try:
        (top, left), (bottom, right) = features.grid.cell_at(x0, y0), features.grid.cell_at(x1, y1)
    except SettingsError as error:
        raise TemplateError(f"template of {template.attribute!r} in picture {template.picture!r}: {error}") from error
    return features.descriptors[0, top : bottom + 1, left : right + 1].mean(dim=(0, 1))


def _even_patches(features: PatchFeatures, side: int) -> Tensor:
    """Descriptors of at most side x side evenly spaced cells, (n, D)."""
    rows, columns = (
        torch.tensor(sorted({round(i * (count - 1) / (side - 1)) for i in range(side)}))
        for count in (features.grid.rows, features.grid.columns)
    )
    return features.descriptors[0, rows][:, columns].flatten(0, 1)
