"""The linear probe: it tells classes apart, does not depend on their sizes, and is the same every time."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from anonymotion.probe import fit


def clusters(sizes: list[int], spread: float = 0.2, width: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors around as many axes as there are classes."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.eye(width)[: len(sizes)]
    classes = torch.cat([torch.full((size,), number) for number, size in enumerate(sizes)])
    scattered = centres[classes] + spread * torch.randn(len(classes), width, generator=generator)
    return F.normalize(scattered, dim=-1), classes


def test_probabilities_add_up_and_name_the_right_class() -> None:
    descriptors, classes = clusters([20, 30, 400])
    found = fit(descriptors, classes, 3).probabilities(descriptors)
    assert torch.allclose(found.sum(dim=-1), torch.ones(len(found)))
    assert (found.argmax(dim=-1) == classes).float().mean() > 0.97


def test_a_class_counts_alike_however_many_exemplars_it_has() -> None:
    descriptors, classes = clusters([10, 10, 10], spread=0.0)
    more = torch.cat([descriptors, descriptors[classes == 0].repeat(9, 1)])
    once, often = fit(descriptors, classes, 3), fit(more, torch.cat([classes, torch.zeros(90, dtype=torch.long)]), 3)
    assert torch.allclose(once.weight, often.weight, atol=1e-3)


def test_the_rest_counts_for_more_than_a_class() -> None:
    """Halfway between a class and the rest the rest wins; between two classes neither does."""
    descriptors, classes = clusters([10, 10, 10], spread=0.0)
    probe = fit(descriptors, classes, 3)
    first, second, rest = torch.eye(16)[:3]
    towards_rest = probe.probabilities(F.normalize(first + rest, dim=0))
    assert towards_rest[2] > towards_rest[0]
    between = probe.probabilities(F.normalize(first + second, dim=0))
    assert torch.isclose(between[0], between[1], atol=1e-3)


def test_the_same_input_gives_the_same_probe_also_where_gradients_are_off() -> None:
    descriptors, classes = clusters([10, 20, 60])
    with torch.no_grad():
        one = fit(descriptors, classes, 3)
    assert torch.equal(one.weight, fit(descriptors, classes, 3).weight)
    assert not one.weight.requires_grad
