"""A linear probe on a library's descriptors: what a patch is, among everything that the library knows.

One layer of softmax regression on the de-biased, normalised descriptors of templates and background.  It is fitted in a
fraction of a second whenever a bank is built, from what the library holds and nothing else: no network is trained, and
a template that somebody adds counts at once.

Not here: which descriptors belong to which class (template_bank), what is done with the probabilities (saliency).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

WEIGHT_DECAY = 1e-3
# Classes count alike however many descriptors they have, but the last, which is everything else, counts thrice: it
# holds more than any part of a person.
WEIGHT_OF_THE_REST = 3.0
ITERATIONS = 80


@dataclass(frozen=True)
class Probe:
    """weight: (C, D) and bias: (C,), float32, of classes; for descriptors that are de-biased and normalised."""

    weight: Tensor
    bias: Tensor

    def probabilities(self, descriptors: Tensor) -> Tensor:
        """(..., D) float32 of length 1 -> (..., C) float32, summing to 1."""
        return (descriptors @ self.weight.T + self.bias).softmax(dim=-1)


def fit(descriptors: Tensor, classes: Tensor, count: int) -> Probe:
    """Fit to (M, D) float32 descriptors of length 1 and their classes, (M,) int64 in 0..count - 1.

    The last class is everything that is none of the others.  Minimises the cross-entropy with a quadratic penalty on
    the weights; always from zero, so the same input gives the same probe.
    """
    members = torch.bincount(classes, minlength=count).clamp(min=1)
    share = 1 / members.float()
    share[-1] *= WEIGHT_OF_THE_REST
    importance = share[classes] / share[classes].sum()
    weight = descriptors.new_zeros(count, descriptors.shape[1]).requires_grad_()
    bias = descriptors.new_zeros(count).requires_grad_()
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        errors = F.cross_entropy(descriptors @ weight.T + bias, classes, reduction="none")
        total: Tensor = (errors * importance).sum() + WEIGHT_DECAY * weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    with torch.enable_grad():
        optimiser.step(loss)  # type: ignore[no-untyped-call]
    return Probe(weight.detach(), bias.detach())
