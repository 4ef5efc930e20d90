"""A linear probe on a library's descriptors: what a patch is, among everything that the library knows.

One layer of softmax regression on the de-biased, normalised descriptors of templates and background.  It is fitted in a
fraction of a second when a bank is built, from what the library holds and nothing else: no network is trained, and
a template that somebody adds counts at once.  What the built-in library alone gives is kept in the user's cache: it is
the same in every run, and importing the optimiser takes longer than all fits.

Not here: which descriptors belong to which class (template_bank), what is done with the probabilities (saliency).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from anonymotion.descriptor_cache import read_tensors, user_cache_folder, write_tensors

WEIGHT_DECAY = 1e-3
# Classes count alike however many descriptors they have, but the last, which is everything else, counts thrice: it
# holds more than any part of a person.
WEIGHT_OF_THE_REST = 3.0
ITERATIONS = 80
# Drawn people are many and not quite like real ones: what they say counts for little, and more is learnt of it.
SHARE_OF_DRAWN = 0.1
HELPED_DECAY = 1e-4

# Raise it when a fit changes, so that what was kept before is not found.
PROBE_FORMAT = 1


@dataclass(frozen=True)
class Probe:
    """weight: (C, D) and bias: (C,), float32, of classes; for descriptors that are de-biased and normalised."""

    weight: Tensor
    bias: Tensor

    def probabilities(self, descriptors: Tensor) -> Tensor:
        """(..., D) float32 of length 1 -> (..., C) float32, summing to 1."""
        return (descriptors @ self.weight.T + self.bias).softmax(dim=-1)


@dataclass(frozen=True)
class Drawn:
    """Descriptors that help a library's own: (K, D) float32 of length 1, their classes, (K,) int64, and how many each
    stands for, (K,) float32.
    """

    descriptors: Tensor
    classes: Tensor
    counts: Tensor


def fit_once(
    descriptors: Tensor, classes: Tensor, count: int, drawn: Drawn | None = None, weight_decay: float = WEIGHT_DECAY
) -> Probe:
    """As `fit`, from the user's cache if the same has been fitted before; not for what somebody marked, whose traces
    would outlive their templates.
    """
    given = [descriptors, classes, *(() if drawn is None else (drawn.descriptors, drawn.classes, drawn.counts))]
    how = [PROBE_FORMAT, torch.__version__, count, weight_decay, [list(tensor.shape) for tensor in given]]
    digest = hashlib.sha256(json.dumps(how).encode())
    for tensor in given:
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    path = user_cache_folder() / "probes" / f"{digest.hexdigest()[:32]}.safetensors"
    kept = read_tensors(path)
    if kept is not None and kept.keys() == {"weight", "bias"} and len(kept["bias"]) == count:
        return Probe(kept["weight"].to(descriptors.device), kept["bias"].to(descriptors.device))
    fitted = fit(descriptors, classes, count, drawn, weight_decay)
    write_tensors(path, {"weight": fitted.weight, "bias": fitted.bias})
    return fitted


def fit(
    descriptors: Tensor, classes: Tensor, count: int, drawn: Drawn | None = None, weight_decay: float = WEIGHT_DECAY
) -> Probe:
    """Fit to (M, D) float32 descriptors of length 1 and their classes, (M,) int64 in 0..count - 1.

    The last class is everything that is none of the others.  Minimises the cross-entropy with a quadratic penalty on
    the weights; always from zero, so the same input gives the same probe.  Of the weight of a class that both have,
    SHARE_OF_DRAWN is that of `drawn`; a class that the library does not have is none.
    """
    share = _shares(torch.ones_like(classes, dtype=torch.float32), classes, count)
    importance = share
    if drawn is not None:
        known = torch.bincount(classes, minlength=count) > 0
        helped = known & (torch.bincount(drawn.classes, minlength=count) > 0)
        own = torch.where(helped, 1 - SHARE_OF_DRAWN, 1.0)[classes] * share
        theirs = torch.where(helped, SHARE_OF_DRAWN, 0.0)[drawn.classes] * _shares(drawn.counts, drawn.classes, count)
        importance = torch.cat([own, theirs])
        descriptors = torch.cat([descriptors, drawn.descriptors])
        classes = torch.cat([classes, drawn.classes])
    importance = importance / importance.sum()
    weight = descriptors.new_zeros(count, descriptors.shape[1]).requires_grad_()
    bias = descriptors.new_zeros(count).requires_grad_()
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        errors = F.cross_entropy(descriptors @ weight.T + bias, classes, reduction="none")
        total: Tensor = (errors * importance).sum() + weight_decay * weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    with torch.enable_grad():
        optimiser.step(loss)  # type: ignore[no-untyped-call]
    return Probe(weight.detach(), bias.detach())


def _shares(counts: Tensor, classes: Tensor, count: int) -> Tensor:
    """What each of (M,) descriptors weighs, of which each stands for `counts`."""
    of_class = torch.zeros(count, device=counts.device).index_add_(0, classes, counts)
    share = 1 / of_class.clamp(min=1)
    share[-1] *= WEIGHT_OF_THE_REST
    return share[classes] * counts
