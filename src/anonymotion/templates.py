"""Templates: an attribute, a picture, and a point or box in it (section 3.1 of the paper).

A library is a folder with a `library.toml` and pictures.  The built-in one has the paper's nine attributes.
`TemplateLibrary.bank` turns the templates of some attributes into descriptors of one FeatureSpec, from a cache
where there is one.

Not here: comparing descriptors (saliency), thresholds (presets), the file format of exchanged templates.
"""

from __future__ import annotations

import difflib
import hashlib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anonymotion.backbone import Backbone, PatchFeatures
from anonymotion.descriptor_cache import DescriptorCache
from anonymotion.errors import SettingsError, TemplateError, UnknownAttributeError
from anonymotion.registry import ATTRIBUTES, GROUPS, FeatureSpec

BUILTIN_FOLDER = Path(__file__).parent / "library"
SCHEMA_VERSION = 1
BACKGROUND_GRID = 4
PICTURE_KINDS = ("photograph", "rendered", "background")


@dataclass(frozen=True)
class Picture:
    """A picture of a library, with its origin.

    kind: `photograph`, `rendered` or `background` (nobody in it; it serves the de-biasing mean).
    """

    id: str
    path: Path
    kind: str
    subject: str
    licence: str
    source: str
    sha256: str

    def read(self) -> np.ndarray:
        """The picture as (H, W, 3) uint8 RGB.  Raises TemplateError if it is missing or damaged."""
        from PIL import Image, UnidentifiedImageError

        try:
            if hashlib.sha256(self.path.read_bytes()).hexdigest() != self.sha256:
                raise TemplateError(
                    f"picture {self.path.name} of the library is not the one recorded: install it again"
                )
            with Image.open(self.path) as image:
                return np.asarray(image.convert("RGB"))
        except (OSError, UnidentifiedImageError) as error:
            raise TemplateError(f"picture {self.path.name} of the library cannot be read: {error}") from error


@dataclass(frozen=True)
class Template:
    """One exemplar of an attribute.

    Exactly one of point, (x, y), and box, (x0, y0, x1, y1), in pixels of the picture.  A negative template
    shows what the attribute is not.
    """

    attribute: str
    picture: str
    point: tuple[float, float] | None = None
    box: tuple[float, float, float, float] | None = None
    negative: bool = False

    def __post_init__(self) -> None:
        if (self.point is None) == (self.box is None):
            raise TemplateError(f"a template of {self.attribute!r} needs either a point or a box")
        if self.box is not None and not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            raise TemplateError(f"the box {self.box} of {self.attribute!r} is empty: give x0 < x1 and y0 < y1")

    @property
    def centre(self) -> tuple[float, float]:
        """The point, or the middle of the box, (x, y) in pixels of the picture."""
        if self.point is not None:
            return self.point
        assert self.box is not None  # noqa: S101 - for mypy: checked above
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2

    def descriptor(self, features: PatchFeatures) -> Tensor:
        """(D,) descriptor: of the patch at the point, or the mean over the patches between the box's corners."""
        height, width = features.grid.image_size_hw
        if self.point is not None:
            x0, y0 = x1, y1 = self.point
        else:
            assert self.box is not None  # noqa: S101 - for mypy: checked above
            x0, y0, x1, y1 = self.box
            x1, y1 = min(x1, width) - 1, min(y1, height) - 1
        try:
            (top, left), (bottom, right) = features.grid.cell_at(x0, y0), features.grid.cell_at(x1, y1)
        except SettingsError as error:
            raise TemplateError(f"template of {self.attribute!r} in picture {self.picture!r}: {error}") from error
        return features.descriptors[0, top : bottom + 1, left : right + 1].mean(dim=(0, 1))


@dataclass(frozen=True)
class Rivals:
    """Everything a library knows, in classes: what was asked for, and what else a patch could be.

    descriptors: (M, D) float32, raw.  class_index: (M,) int64 into the classes.  asked_for: (C,) bool.
    The other classes are the attributes not asked for, the negative templates of those that were, and
    background.  contrast: (A,) float32 in [0, 1], for each attribute of the bank the share of the evidence below
    which its saliency is weakened; 0 for never.
    """

    descriptors: Tensor
    class_index: Tensor
    asked_for: Tensor
    contrast: Tensor


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


@dataclass(frozen=True)
class TemplateLibrary:
    """Pictures and templates, in the order of their file."""

    folder: Path
    pictures: dict[str, Picture]
    templates: tuple[Template, ...]
    digest: str

    @classmethod
    def load(cls, folder: Path = BUILTIN_FOLDER) -> TemplateLibrary:
        """Read `folder`/library.toml.  Raises TemplateError if it is missing, damaged or inconsistent."""
        path = folder / "library.toml"
        try:
            data = path.read_bytes()
            content = tomllib.loads(data.decode())
        except OSError as error:
            raise TemplateError(
                f"library {folder} cannot be read ({error.strerror}): expected a library.toml"
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise TemplateError(
                f"{path} is not valid TOML ({error}): restore it or install the package again"
            ) from error
        version = content.get("schema_version")
        if version != SCHEMA_VERSION:
            raise TemplateError(f"{path} has schema_version {version!r}; this release reads {SCHEMA_VERSION}: upgrade")
        found = _parse(path, content, "picture", _picture)
        pictures = {picture.id: picture for picture in found}
        if len(pictures) < len(found):
            raise TemplateError(f"{path} has two pictures of one id: give each its own")
        templates = tuple(_parse(path, content, "template", _template))
        for template in templates:
            if template.picture not in pictures:
                raise TemplateError(
                    f"{path} has a template of {template.attribute!r} in no picture: {template.picture!r}"
                )
        return cls(folder, pictures, templates, hashlib.sha256(data).hexdigest())

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """The attributes that have a positive template: the paper's nine first, then others in file order."""
        present = dict.fromkeys(template.attribute for template in self.templates if not template.negative)
        return tuple(
            sorted(present, key=lambda name: ATTRIBUTES.index(name) if name in ATTRIBUTES else len(ATTRIBUTES))
        )

    def expand(self, names: Iterable[str]) -> tuple[str, ...]:
        """Attribute and group names -> attributes, groups expanded, duplicates removed, first mention first.

        Raises UnknownAttributeError, which names the known ones and the nearest.
        """
        expanded: dict[str, None] = {}
        for name in (word.strip().lower() for word in names):
            for attribute in GROUPS.get(name, (name,)):
                if attribute not in self.attributes:
                    raise UnknownAttributeError(self._unknown(name))
                expanded[attribute] = None
        if not expanded:
            raise UnknownAttributeError(f"no attribute was named: use some of {', '.join((*self.attributes, *GROUPS))}")
        return tuple(expanded)

    def check_names(self, names: Iterable[str]) -> None:
        """Raise UnknownAttributeError if a name is neither in this library nor one of the standard ones."""
        for name in names:
            if name not in {*self.attributes, *ATTRIBUTES, *GROUPS}:
                raise UnknownAttributeError(self._unknown(name))

    def _unknown(self, name: str) -> str:
        known = (*self.attributes, *GROUPS)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        return f"attribute {name!r} is not in the library{hint}: use some of {', '.join(known)}"

    def exemplars(self, attribute: str) -> tuple[Template, ...]:
        """The positive templates of an attribute, the best one first."""
        return tuple(t for t in self.templates if t.attribute == attribute and not t.negative)

    def bank(
        self,
        backbone: Backbone,
        spec: FeatureSpec,
        attributes: Sequence[str],
        *,
        first_only: bool = False,
        contrast: Mapping[str, float] | None = None,
    ) -> TemplateBank:
        """The exemplars of `attributes` as descriptors of `spec`; with `first_only` one per attribute.

        `contrast`: of every attribute of the run, also those of other banks; then the bank has rivals.
        """
        vectors = self._vectors(backbone, spec)
        chosen: list[int] = []
        index: list[int] = []
        for position, attribute in enumerate(attributes):
            rows = [i for i, t in enumerate(self.templates) if t.attribute == attribute and not t.negative]
            if not rows:
                raise UnknownAttributeError(self._unknown(attribute))
            rows = rows[:1] if first_only else rows
            chosen += rows
            index += [position] * len(rows)
        mean = vectors["mean"] if spec.mean is not None else None
        rivals = None if contrast is None else self._rivals(vectors, attributes, contrast)
        bank_index = torch.tensor(index, device=backbone.device)
        return TemplateBank(spec, tuple(attributes), vectors["templates"][chosen], bank_index, mean, rivals)

    def _rivals(self, vectors: dict[str, Tensor], attributes: Sequence[str], contrast: Mapping[str, float]) -> Rivals:
        """Classes in this order: what was asked for, other attributes, negatives of the former, background."""
        names = [*contrast, *(name for name in self.attributes if name not in contrast)]
        kinds = [(name, False) for name in names] + [(name, True) for name in contrast]
        members_of = {
            kind: [i for i, t in enumerate(self.templates) if (t.attribute, t.negative) == kind] for kind in kinds
        }
        classes = [members_of[kind] for kind in kinds if members_of[kind]]
        parts = [vectors["templates"][members] for members in classes]
        if len(vectors["background"]):
            parts.append(vectors["background"])
        device = vectors["templates"].device
        index = torch.cat([torch.full((len(part),), number) for number, part in enumerate(parts)])
        return Rivals(
            descriptors=torch.cat(parts),
            class_index=index.to(device),
            asked_for=(torch.arange(len(parts)) < len(contrast)).to(device),
            contrast=torch.tensor([contrast[name] for name in attributes], device=device),
        )

    def _vectors(self, backbone: Backbone, spec: FeatureSpec) -> dict[str, Tensor]:
        """`templates` (N, D) in file order, `background` (B, D), `mean` (D,): from the cache, or computed."""
        cache = DescriptorCache(self.digest, backbone.fingerprint)
        vectors = cache.read(spec)
        if vectors is None:
            vectors = self.compute_vectors(backbone, [spec])[spec]
            cache.write(spec, vectors)
        return {name: tensor.to(backbone.device) for name, tensor in vectors.items()}

    def compute_vectors(self, backbone: Backbone, specs: Sequence[FeatureSpec]) -> dict[FeatureSpec, dict[str, Tensor]]:
        """Descriptors of templates and background, and the de-biasing mean, for each spec; one pass per picture.

        Background is an even grid of patches of each picture with nobody in it.  The mean is fixed: the mean
        over this library's pictures of each one's mean descriptor.  It is never taken from the video, where a
        frame full of one thing would subtract that thing.
        """
        means: dict[FeatureSpec, list[Tensor]] = {spec: [] for spec in specs}
        found: dict[FeatureSpec, dict[int, Tensor]] = {spec: {} for spec in specs}
        background: dict[FeatureSpec, list[Tensor]] = {spec: [] for spec in specs}
        for picture in self.pictures.values():
            image = torch.from_numpy(picture.read().copy())[None]
            for spec, features in backbone.extract(image, specs).items():
                means[spec].append(features.descriptors.mean(dim=(0, 1, 2)))
                if picture.kind == "background":
                    background[spec].append(_even_patches(features))
                for number, template in enumerate(self.templates):
                    if template.picture == picture.id:
                        found[spec][number] = template.descriptor(features)
        return {
            spec: {
                "templates": torch.stack([found[spec][i] for i in range(len(self.templates))]).cpu(),
                "background": torch.cat([*background[spec], means[spec][0].new_empty(0, len(means[spec][0]))]).cpu(),
                "mean": torch.stack(means[spec]).mean(dim=0).cpu(),
            }
            for spec in specs
        }


def _even_patches(features: PatchFeatures) -> Tensor:
    """Descriptors of BACKGROUND_GRID x BACKGROUND_GRID evenly spaced cells, (n, D)."""
    rows, columns = (
        torch.tensor(sorted({round(i * (count - 1) / (BACKGROUND_GRID - 1)) for i in range(BACKGROUND_GRID)}))
        for count in (features.grid.rows, features.grid.columns)
    )
    return features.descriptors[0, rows][:, columns].flatten(0, 1)


def _parse(path: Path, content: dict[str, Any], table: str, build: Any) -> list[Any]:
    """Build each entry of a table of the library file; name the entry that is wrong."""
    entries = content.get(table, [])
    if not isinstance(entries, list) or not entries:
        raise TemplateError(f"{path} has no [[{table}]]: restore it or install the package again")
    result = []
    for number, entry in enumerate(entries, start=1):
        try:
            result.append(build(path.parent, entry))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise TemplateError(f"{path}: [[{table}]] number {number} is not usable ({error!r})") from error
    return result


def _picture(folder: Path, entry: dict[str, Any]) -> Picture:
    if entry["kind"] not in PICTURE_KINDS:
        raise ValueError(f"kind {entry['kind']!r} is none of {PICTURE_KINDS}")
    path = folder / entry["file"]
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"file {entry['file']!r} lies outside the library")
    texts = {key: str(entry[key]) for key in ("kind", "subject", "licence", "source", "sha256")}
    return Picture(id=str(entry["id"]), path=path, **texts)


def _template(_folder: Path, entry: dict[str, Any]) -> Template:
    point, box = entry.get("point"), entry.get("box")
    if point is not None:
        x, y = point
        point = (float(x), float(y))
    if box is not None:
        x0, y0, x1, y1 = box
        box = (float(x0), float(y0), float(x1), float(y1))
    return Template(
        attribute=str(entry["attribute"]).lower(),
        picture=str(entry["picture"]),
        point=point,
        box=box,
        negative=bool(entry.get("negative", False)),
    )
