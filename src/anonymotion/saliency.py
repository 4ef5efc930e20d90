"""Descriptors x templates -> saliency planes in [0, 1] (eq. 1 and 2).

Eq. 1 is the mean over templates of the clipped cosine; here it is `patch_saliency` followed by `aggregate`
with `mean`.  With a de-biasing mean in the bank both sides of the cosine have it subtracted first: raw keys of
DINOv2 share so large a component that their cosine is high everywhere.  A bank with rivals also asks how probable
it is that a patch is something that was asked for (`evidence_share`).

Not here: thresholds and masks (masks), what is done with a plane (compositor), pictures of it (overlays).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from anonymotion import recycling
from anonymotion.backbone import PatchFeatures
from anonymotion.errors import FeatureSpecMismatch, SettingsError, WeightsError
from anonymotion.patch_grid import PatchGrid
from anonymotion.template_bank import Rivals, TemplateBank

# How sharply an own negative template takes away: one that is better by a cosine of 0.1 leaves 0.24.
NEGATIVE_SHARPNESS = 20.0


def patch_saliency(features: PatchFeatures, bank: TemplateBank) -> Tensor:
    """max(0, cos(K(tau_i), K(I_j))) of every exemplar and cell: (T, N, rows, columns) float32 in [0, 1].

    Raises FeatureSpecMismatch if the two were made differently: such a cosine means nothing; WeightsError if a
    descriptor is not finite.
    """
    return _clipped_cosine(_comparable(features, bank), bank)


def _comparable(features: PatchFeatures, bank: TemplateBank) -> Tensor:
    """Directions of all cells, (T, rows, columns, D), once for all comparisons; raises as `patch_saliency` does."""
    if features.spec != bank.spec.raw:
        raise FeatureSpecMismatch(f"features of {features.spec} cannot be compared with templates of {bank.spec.raw}")
    # A comparison with NaN is false, and what is not over its threshold would be shown: stop instead.
    # The extremes of what holds a NaN are NaN.
    if not torch.isfinite(torch.stack(features.descriptors.aminmax())).all():
        raise WeightsError(
            "the descriptors of a frame are not finite: the weights are damaged, or the device is faulty"
        )
    return _directions(features.descriptors, bank.mean)


def _directions(descriptors: Tensor, mean: Tensor | None) -> Tensor:
    """Descriptors, (..., D), without the mean, if there is one, and of length 1."""
    return F.normalize(descriptors if mean is None else descriptors - mean, dim=-1)


def _clipped_cosine(cells: Tensor, bank: TemplateBank) -> Tensor:
    return _cosine(cells, bank.descriptors, bank.mean).clamp_(0, 1)


def _cosine(cells: Tensor, descriptors: Tensor, mean: Tensor | None) -> Tensor:
    """Cosine of every descriptor, (N, D), with every direction: (T, N, rows, columns)."""
    return torch.einsum("trcd,nd->tnrc", cells, _directions(descriptors, mean))


def evidence_share(features: PatchFeatures, rivals: Rivals, mean: Tensor | None, of: Tensor | None = None) -> Tensor:
    """The probability that a cell is something that was asked for: (T, rows, columns) float32 in [0, 1].

    Parts asked for together do not compete: their probabilities add up.  `of`: (C,) bool, other classes than those.
    """
    counted = rivals.asked_for if of is None else of
    return rivals.probe.probabilities(_directions(features.descriptors, mean))[..., counted].sum(dim=-1)


def _noisy_or(planes: Tensor) -> Tensor:
    return 1 - (1 - planes).prod(dim=1, keepdim=True)


def _maximum(planes: Tensor) -> Tensor:
    return planes.amax(dim=1, keepdim=True)


def _mean(planes: Tensor) -> Tensor:
    return planes.mean(dim=1, keepdim=True)


OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {"max": _maximum, "noisy-or": _noisy_or, "mean": _mean}


def aggregate(planes: Tensor, how: str) -> Tensor:
    """Combine (T, N, ...) planes in [0, 1] to (T, 1, ...); `how` is one of `OPERATIONS`.

    For the same planes noisy-or >= max >= mean, and only mean can weaken when a plane is added.
    """
    if how not in OPERATIONS:
        raise SettingsError(f"aggregation {how!r} is not known: use one of {', '.join(OPERATIONS)}")
    return OPERATIONS[how](planes)


def attribute_saliency(features: PatchFeatures, bank: TemplateBank, how: str) -> Tensor:
    """One plane per attribute of the bank, over cells: (T, A, rows, columns) float32 in [0, 1].

    With rivals, a cell is weakened in which the attribute is less probable than its `contrast`, in proportion, unless
    all that was asked for is as probable as `together`; so is one that a negative template of the user's own
    matches better.  Where `by_evidence` holds, saliency is that share of the evidence itself, however like an exemplar.
    """
    cells = _comparable(features, bank)
    planes = _clipped_cosine(cells, bank)
    grouped = [aggregate(planes[:, bank.attribute_index == i], how) for i in range(len(bank.attributes))]
    by_attribute = torch.cat(grouped, dim=1)
    if bank.rivals is None:
        return by_attribute
    rivals = bank.rivals
    counted = rivals.asked_for, rivals.own, rivals.contrast
    probabilities = rivals.probe.probabilities(cells)
    weight = evidence_weight(probabilities, *counted, rivals.together)
    if rivals.helped is not None:
        helped = evidence_weight(rivals.helped.probabilities(cells), *counted, rivals.together)
        weight = torch.where(rivals.by_help[:, None, None], helped, weight)
    weighed = by_attribute * weight
    if rivals.by_evidence.any():
        alone = evidence_weight(probabilities, *counted, math.inf)
        weighed = torch.where(rivals.by_evidence[:, None, None], torch.maximum(alone, weighed), weighed)
    return weighed * _negative_weight(by_attribute, cells, rivals, bank.mean)


def evidence_weight(probabilities: Tensor, asked_for: Tensor, own: Tensor, contrast: Tensor, together: float) -> Tensor:
    """What evidence leaves of saliency: (T, rows, columns, C) probabilities -> (T, A, rows, columns) in [0, 1].

    The others are those of `Rivals`.  Each part counts as if it had been asked for alone, or where all of them together
    are as probable as the most demanding one needs: hair needs so little that a collar has it with a face.
    """
    alone = torch.einsum("trcp,ap->tarc", probabilities, own.to(probabilities.dtype))
    all_of_it = probabilities[..., asked_for].sum(dim=-1)[:, None] / together
    needed = contrast[:, None, None]
    return torch.where(needed > 0, torch.maximum(alone / needed, all_of_it), 1.0).clamp(max=1)


def _negative_weight(planes: Tensor, cells: Tensor, rivals: Rivals, mean: Tensor | None) -> Tensor:
    """What own negative templates leave of (T, A, rows, columns) planes: weights of that shape in [0, 1].

    1 where no negative template of the attribute matches better than the attribute itself; e.g. 0.24 where one is
    better by a cosine of 0.1.
    """
    weight = torch.ones_like(planes)
    if not len(rivals.negatives):
        return weight
    against = _cosine(cells, rivals.negatives, mean)
    for attribute in sorted(set(rivals.negative_index.tolist())):
        strongest = against[:, rivals.negative_index == attribute].amax(dim=1)
        ahead = NEGATIVE_SHARPNESS * (planes[:, attribute] - strongest)
        weight[:, attribute] = (2 * torch.sigmoid(ahead)).clamp(max=1)
    return weight


def upsample(planes: Tensor, grid: PatchGrid) -> Tensor:
    """Eq. 2: (T, A, rows, columns) -> (T, A, H, W), bilinear, by the half-pixel rule of `PatchGrid`."""
    if planes.device.type == "cpu" and grid.stride == grid.patch_size:
        return _upsampled_on_cpu(planes, grid.image_size_hw)
    rows, columns = (grid.interpolation(axis, planes.device) for axis in (0, 1))
    return rows @ planes @ columns.T


def _upsampled_on_cpu(planes: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """See `upsample`: with OpenCV, whose rule it is where patches lie side by side."""
    import cv2

    whole = recycling.empty(*planes.shape[:2], *size_hw)
    for plane, into in zip(planes.flatten(0, 1).numpy(), whole.flatten(0, 1).numpy(), strict=True):
        cv2.resize(plane, size_hw[::-1], dst=into, interpolation=cv2.INTER_LINEAR)
    return whole


def cell_planes(
    features: Sequence[PatchFeatures], banks: Sequence[TemplateBank], attributes: Sequence[str], how: str
) -> Tensor:
    """(T, A, rows, columns) float32 in [0, 1], one plane per attribute, in the order of `attributes`.

    `features[i]` is compared with `banks[i]`; the banks' attributes together are `attributes`.  All features are of one
    grid.
    """
    by_name: dict[str, Tensor] = {}
    for feature, bank in zip(features, banks, strict=True):
        by_name.update(zip(bank.attributes, attribute_saliency(feature, bank, how).unbind(1), strict=True))
    return torch.stack([by_name[name] for name in attributes], dim=1)


def saliency_planes(
    features: Sequence[PatchFeatures], banks: Sequence[TemplateBank], attributes: Sequence[str], how: str
) -> Tensor:
    """Eq. 1 and 2 in one: `cell_planes` at the size of the picture, (T, A, H, W) float32 in [0, 1]."""
    grid = features[0].grid
    return upsample(cell_planes(features, banks, attributes, how), grid).clamp_(0, 1)
