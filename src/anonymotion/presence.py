"""Whether anybody is there: what looks like an attribute counts only where something around it is surely a person.

Low thresholds find dim faces and bare arms, and fur, gravel and tissue as well.  This is hysteresis without a second
threshold on the mask: an island of saliency stays if some patch of it is one of the library's parts of a person with
probability `presence`, whichever part that is.  A grey-scale reconstruction does that for all thresholds at once.

Not here: how likely a patch is what was asked for (saliency), the probe's fit (probe), masks over time (continuity).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from anonymotion.backbone import Backbone
from anonymotion.probe import Probe
from anonymotion.registry import FeatureSpec
from anonymotion.template_bank import BankBuilder, build_bank
from anonymotion.templates import TemplateLibrary

RECOGNISED = 0.95

# Rounds of growing between two looks at whether anything still grows: a look waits for the device.
ROUNDS = 8


@dataclass(frozen=True)
class Presence:
    """Tells parts of people from everything else.

    spec: how the descriptors are made that it is asked about.  probe: its last class is everything but people.
    mean: (D,) float32, subtracted from descriptors first.  needed: in (0, 1], the probability from which a patch is
    surely somebody.  bound: (A,) bool, the attributes that this decides about; not those that a user marked, who may
    look for anything.
    """

    spec: FeatureSpec
    probe: Probe
    mean: Tensor
    needed: float
    bound: Tensor

    def sure(self, descriptors: Tensor) -> Tensor:
        """Which cells are surely somebody: (T, rows, columns, D) float32, raw -> (T, rows, columns) bool."""
        directions = F.normalize(descriptors - self.mean, dim=-1)
        return 1 - self.probe.probabilities(directions)[..., -1] >= self.needed

    def weigh(self, planes: Tensor, descriptors: Tensor) -> Tensor:
        """(T, A, rows, columns) saliency in [0, 1], without the islands that hold no cell which is surely somebody.

        For every threshold t: of the islands (8 neighbours, gaps of two cells bridged) of cells in which any bound
        attribute reaches t, those stay that hold or touch such a cell.  Others drop to the highest t at which
        they are joined to one; 0 where nobody is in the frame.
        """
        return inhabited(planes, self.sure(descriptors), self.bound)


def inhabited(planes: Tensor, sure: Tensor, bound: Tensor) -> Tensor:
    """`Presence.weigh`, for (T, rows, columns) bool of what is surely somebody."""
    if not bound.any():
        return planes
    # gaps are bridged: an arm behind a chair's back is not somebody else
    ground = _grown(planes[:, bound].amax(dim=1, keepdim=True))
    reached = reconstruct(ground * _grown(sure[:, None].to(planes.dtype)), ground)
    return torch.where(bound[:, None, None], torch.minimum(planes, reached), planes)


def presence_of(
    library: TemplateLibrary,
    backbone: Backbone,
    spec: FeatureSpec,
    wanted: float,
    attributes: Sequence[str],
    build: BankBuilder = build_bank,
) -> Presence | None:
    """For a run with these attributes; None if it would decide about none of them.  wanted: as `needed`, at most."""
    built_in, bound = library.parts[0], bound_of(library, attributes)
    if not bound.any():
        return None
    names = built_in.attributes
    bank = build(built_in, backbone, spec, names, contrast=dict.fromkeys(names, 1.0))
    assert bank.rivals is not None and bank.mean is not None  # noqa: S101, PT018 - for mypy: there is a contrast
    needed = level(bank.rivals.probe, bank.descriptors - bank.mean, wanted)
    return Presence(bank.spec, bank.rivals.probe, bank.mean, needed, bound.to(backbone.device))


def bound_of(library: TemplateLibrary, attributes: Sequence[str]) -> Tensor:
    """(A,) bool: built-in attributes that the user has no templates of."""
    own = {template.attribute for template in library.own_templates if not template.negative}
    return torch.tensor([name in library.parts[0].attributes and name not in own for name in attributes])


def level(probe: Probe, exemplars: Tensor, wanted: float) -> float:
    """`wanted`, but no more than RECOGNISED of the library's own exemplars of people reach; (N, D), de-biased.

    A network or a library with which nothing is sure must not hide nothing.
    """
    sure = 1 - probe.probabilities(F.normalize(exemplars, dim=-1))[..., -1]
    return min(wanted, float(sure.quantile(1 - RECOGNISED)))


def reconstruct(marker: Tensor, ground: Tensor) -> Tensor:
    """Grey-scale reconstruction by dilation: (T, 1, rows, columns) `marker` <= `ground`, grown under `ground`.

    The value of a cell is the highest t for which its island of cells with ground >= t holds one with marker >= t.
    """
    while True:
        grown = marker
        for _ in range(ROUNDS):
            grown = torch.minimum(_grown(grown), ground)
        if torch.equal(grown, marker):
            return marker
        marker = grown


def _grown(planes: Tensor) -> Tensor:
    """The maximum over each cell and its eight neighbours."""
    return F.max_pool2d(planes, 3, stride=1, padding=1)
