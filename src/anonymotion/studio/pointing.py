"""Why a pixel is hidden or not, in words and numbers: which template fired there, how strongly, what decided.

Not here: the decision itself (pipeline); this asks the same functions for their values at one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from anonymotion.backbone import PatchFeatures
from anonymotion.patch_grid import PatchGrid
from anonymotion.pipeline import Hider
from anonymotion.policy import Policy
from anonymotion.saliency import attribute_saliency, evidence_share, patch_saliency
from anonymotion.shapes import Shape
from anonymotion.studio.clips import Clip
from anonymotion.studio.seeing import Explained, Seeing, as_batch, specs_of
from anonymotion.template_bank import TemplateBank
from anonymotion.templates import Template, TemplateLibrary


@dataclass(frozen=True)
class Finding:
    """One attribute at one pixel.

    saliency, first, alone, similarity, evidence: in [0, 1].  saliency decides; first is that of the frame before heads
    were looked at again, alone what that would be if it did not matter whether anybody is there; similarity is that of
    the best template, evidence the probability that the patch is something that was asked for, which weakens the
    saliency below `contrast`.
    """

    attribute: str
    saliency: float
    first: float
    alone: float
    threshold: float
    template: Template
    similarity: float
    evidence: float | None
    contrast: float


def findings(
    seeing: Seeing, clip: Clip, number: int, x: float, y: float, policy: Policy, library: TemplateLibrary
) -> list[Finding]:
    """Every attribute that the policy hides, at pixel (x, y) of a frame, the strongest first.

    Raises SettingsError for a pixel that is not in the frame.
    """
    image = clip.frame(number).image
    hider = seeing.hider(policy, library)
    if hider.backbone is None or not hider.matcher.banks:
        return []
    batch = as_batch(image)
    hider.backbone.extract(batch, specs_of(hider.settings, library))
    features = hider.backbone.extract(batch, hider.matcher.specs)
    grid = features[hider.matcher.specs[0]].grid
    looks = [
        hider.matcher.find(batch).saliency[0, :, int(y), int(x)],
        _at_pixel(hider.matcher.planes(features), grid, x, y),
    ]
    saliency, first = (dict(zip(hider.attributes, values.tolist(), strict=True)) for values in looks)
    found = []
    for bank in hider.matcher.banks:
        found += _of_bank(hider, bank, features[bank.spec], x, y, library, saliency, first)
    return sorted(found, key=lambda finding: finding.threshold - finding.saliency)


def _of_bank(
    hider: Hider,
    bank: TemplateBank,
    features: PatchFeatures,
    x: float,
    y: float,
    library: TemplateLibrary,
    saliency: Mapping[str, float],
    first: Mapping[str, float],
) -> list[Finding]:
    row, column = features.grid.cell_at(x, y)
    planes = attribute_saliency(features, bank, hider.settings.exemplar_aggregation)
    values = _at_pixel(planes, features.grid, x, y)
    similar = patch_saliency(features, bank)[0, :, row, column]
    templates = [t for name in bank.attributes for t in library.exemplars(name, hider.settings.exemplars)]
    evidence = None
    if bank.rivals is not None:
        evidence = float(evidence_share(features, bank.rivals, bank.mean)[0, row, column])
    found = []
    for index, name in enumerate(bank.attributes):
        own = bank.attribute_index == index
        best = int(similar.masked_fill(~own, -1).argmax())
        found.append(
            Finding(
                attribute=name,
                saliency=saliency[name],
                first=first[name],
                alone=float(values[index]),
                threshold=hider.settings.threshold[name],
                template=templates[best],
                similarity=float(similar[best]),
                evidence=evidence,
                contrast=hider.settings.contrast[name],
            )
        )
    return found


def _at_pixel(planes: Tensor, grid: PatchGrid, x: float, y: float) -> Tensor:
    """(1, A, rows, columns) at one pixel, as `upsample` gives it: (A,)."""
    row = grid.interpolation(0, planes.device)[int(y)]
    column = grid.interpolation(1, planes.device)[int(x)]
    return (planes[0] * row[:, None] * column[None, :]).sum(dim=(1, 2))


def verdict(
    policy: Policy, found: list[Finding], explained: Explained, x: float, y: float, *, by_threshold: bool
) -> tuple[str, str]:
    """`hidden`, `partly` (the soft rim, or a blend) or `visible`, and a sentence that says why."""
    alpha = float(explained.alpha[int(y), int(x)])
    reached = [f for f in found if by_threshold and f.saliency >= f.threshold]
    size_hw = (explained.alpha.shape[0], explained.alpha.shape[1])
    if alpha == 0:
        return "visible", _why_visible(policy, found, reached, size_hw, x, y)
    state = "hidden" if alpha == 1 else "partly"
    if any(_inside(shape, size_hw, x, y, grow=True) for shape in policy.include):
        return state, "It lies in a region that is always hidden."
    if reached:
        best = reached[0]
        return state, (
            f"{best.attribute} matches with {best.saliency:.2f}, and from {best.threshold:.2f} on a pixel is hidden."
        )
    if not by_threshold:
        return state, f"The picture is mixed with noise here by {alpha:.0%} (a blend; not for release)."
    if state == "partly":
        return state, f"It lies on the soft rim of something that is hidden ({alpha:.0%})."
    if explained.exact:
        return state, "It was found in a frame around this one, or lies beside what was found: the mask grows."
    return state, "It lies beside what was found: the mask grows by the dilation."


def _why_visible(
    policy: Policy, found: list[Finding], reached: list[Finding], size_hw: tuple[int, int], x: float, y: float
) -> str:
    if any(_inside(shape, size_hw, x, y, grow=False) for shape in policy.exclude):
        return "It lies in a region that is never hidden."
    if reached and policy.spans:
        return f"{reached[0].attribute} matches, but this moment lies outside the times in which anything is hidden."
    if reached:
        return f"{reached[0].attribute} matches, but something that is to stay visible matches here, too."
    if not found:
        return "Nothing was chosen that could be found here."
    best = found[0]
    seen = max(found, key=lambda finding: finding.first - finding.threshold)
    if seen.first >= seen.threshold:
        return (
            f"{seen.attribute} matches with {seen.first:.2f} in the whole frame, but no longer in a closer look at the "
            f"head ({seen.saliency:.2f} of {seen.threshold:.2f}): mark it, or set close_up to 0."
        )
    lonely = max(found, key=lambda finding: finding.alone - finding.threshold)
    if lonely.alone >= lonely.threshold:
        return (
            f"{lonely.attribute} matches with {lonely.alone:.2f}, but nothing around it is surely a part of a person: "
            "if there is one, mark it, or lower the setting presence."
        )
    return f"Nothing reaches its threshold; nearest is {best.attribute}: {best.saliency:.2f} of {best.threshold:.2f}."


def _inside(shape: Shape, size_hw: tuple[int, int], x: float, y: float, *, grow: bool) -> bool:
    return bool(np.asarray(shape.pixels(size_hw, grow=grow))[int(y), int(x)])


def as_json(finding: Finding, library: TemplateLibrary) -> dict[str, Any]:
    """A finding with plain values; the template by its short id."""
    return {
        "attribute": finding.attribute,
        "saliency": round(finding.saliency, 4),
        "threshold": finding.threshold,
        "similarity": round(finding.similarity, 4),
        "evidence": None if finding.evidence is None else round(finding.evidence, 4),
        "contrast": finding.contrast,
        "template": library.template_id(finding.template)[:8],
        "picture": finding.template.picture,
        "own": finding.template in library.own_templates,
    }
