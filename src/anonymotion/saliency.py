"""Descriptors x templates -> saliency planes in [0, 1] (eq. 1 and 2).

Eq. 1 is the mean over templates of the clipped cosine; here it is `patch_saliency` followed by `aggregate`
with `mean`.  With a de-biasing mean in the bank both sides of the cosine have it subtracted first: raw keys of
DINOv2 share so large a component that their cosine is high everywhere.

Not here: thresholds and masks (masks), what is done with a plane (compositor), pictures of it (overlays).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from anonymotion.backbone import PatchFeatures, PatchGrid
from anonymotion.errors import FeatureSpecMismatch, SettingsError
from anonymotion.templates import TemplateBank


def patch_saliency(features: PatchFeatures, bank: TemplateBank) -> Tensor:
    """max(0, cos(K(tau_i), K(I_j))) of every exemplar and cell: (T, N, rows, columns) float32 in [0, 1].

    Raises FeatureSpecMismatch if the two were made differently: such a cosine means nothing.
    """
    if features.spec != bank.spec.raw:
        raise FeatureSpecMismatch(f"features of {features.spec} cannot be compared with templates of {bank.spec.raw}")
    cells, exemplars = features.descriptors, bank.descriptors
    if bank.mean is not None:
        cells, exemplars = cells - bank.mean, exemplars - bank.mean
    cosine = torch.einsum("trcd,nd->tnrc", F.normalize(cells, dim=-1), F.normalize(exemplars, dim=-1))
    return cosine.clamp(0, 1)


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
    """One plane per attribute of the bank, over cells: (T, A, rows, columns) float32 in [0, 1]."""
    planes = patch_saliency(features, bank)
    return torch.cat([aggregate(planes[:, bank.attribute_index == i], how) for i in range(len(bank.attributes))], dim=1)


def upsample(planes: Tensor, grid: PatchGrid) -> Tensor:
    """Eq. 2: (T, A, rows, columns) -> (T, A, H, W), bilinear, by the half-pixel rule of `PatchGrid`."""
    rows, columns = (grid.interpolation(axis, planes.device) for axis in (0, 1))
    return rows @ planes @ columns.T


def saliency_planes(
    features: Sequence[PatchFeatures], banks: Sequence[TemplateBank], attributes: Sequence[str], how: str
) -> Tensor:
    """(T, A, H, W) float32 in [0, 1], one plane per attribute, in the order of `attributes`.

    `features[i]` is compared with `banks[i]`; the banks' attributes together are `attributes`.
    """
    by_name: dict[str, Tensor] = {}
    for feature, bank in zip(features, banks, strict=True):
        planes = upsample(attribute_saliency(feature, bank, how), feature.grid)
        by_name.update(zip(bank.attributes, planes.unbind(1), strict=True))
    return torch.stack([by_name[name] for name in attributes], dim=1).clamp(0, 1)
