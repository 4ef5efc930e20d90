"""The linear probe: it tells classes apart, does not depend on their sizes, and is the same every time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save

from anonymotion import probe
from anonymotion.probe import Drawn, Probe, fit, fit_once


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
    fitted = fit(descriptors, classes, 3)
    first, second, rest = torch.eye(16)[:3]
    towards_rest = fitted.probabilities(F.normalize(first + rest, dim=0))
    assert towards_rest[2] > towards_rest[0]
    between = fitted.probabilities(F.normalize(first + second, dim=0))
    assert torch.isclose(between[0], between[1], atol=1e-3)


def test_the_same_input_gives_the_same_probe_also_where_gradients_are_off() -> None:
    descriptors, classes = clusters([10, 20, 60])
    with torch.no_grad():
        one = fit(descriptors, classes, 3)
    assert torch.equal(one.weight, fit(descriptors, classes, 3).weight)
    assert not one.weight.requires_grad


def test_a_fit_is_kept_and_found_again_only_for_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    descriptors, classes = clusters([10, 20, 60])
    drawn = Drawn(descriptors[:30], classes[:30], torch.ones(30))
    expected = fit(descriptors, classes, 3, drawn)
    assert torch.equal(fit_once(descriptors, classes, 3, drawn).weight, expected.weight)
    fits = 0

    def counted(*given: Any) -> Probe:
        nonlocal fits
        fits += 1
        return fit(*given)

    monkeypatch.setattr(probe, "fit", counted)
    again = fit_once(descriptors, classes, 3, drawn)
    assert fits == 0
    assert torch.equal(again.weight, expected.weight)
    assert torch.equal(again.bias, expected.bias)
    for other in (
        (descriptors.flip(1), classes, 3, drawn),
        (descriptors, classes.flip(0), 3, drawn),
        (descriptors, classes, 4, drawn),
        (descriptors, classes, 3),
        (descriptors, classes, 3, drawn, 0.1),
        (descriptors, classes, 3, Drawn(drawn.descriptors, drawn.classes, 2 * drawn.counts)),
    ):
        before = fits
        fit_once(*other)  # type: ignore[arg-type]
        assert fits == before + 1


def test_a_damaged_fit_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    given = (*clusters([10, 20, 60]), 3)
    expected = fit_once(*given)
    (file,) = (tmp_path / "anonymotion" / "probes").iterdir()
    whole = file.read_bytes()
    flipped = whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:]
    for content in (b"", whole[:-40], flipped, save({"weight": torch.zeros(3, 16), "bias": torch.zeros(3)})):
        file.write_bytes(content)
        assert torch.equal(fit_once(*given).weight, expected.weight)
        assert torch.equal(fit_once(*given).bias, expected.bias)
