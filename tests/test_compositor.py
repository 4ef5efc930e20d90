"""Eq. 5, and the promise that nothing of a pixel survives where alpha is 1."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anonymotion.compositor import composite


def scene(seed: int, size: tuple[int, int, int] = (2, 9, 11)) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 256, (*size, 3), generator=generator, dtype=torch.uint8)
    alpha = torch.rand(size, generator=generator)
    noise = torch.rand((*size, 3), generator=generator) * 255
    return frames, alpha, noise


@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_full_alpha_gives_the_same_bits_whatever_the_picture_was(one: int, other: int) -> None:
    _, alpha, noise = scene(0)
    hidden = alpha > 0.5
    alpha = alpha.masked_fill(hidden, 1.0)
    a, b = (composite(scene(seed)[0], alpha, noise) for seed in (one, other))
    assert torch.equal(a[hidden], b[hidden])


def test_full_alpha_is_the_rounded_noise_for_every_grey_value() -> None:
    """All 256 values under 64 noise values with awkward fractions."""
    frames = torch.arange(256, dtype=torch.uint8).view(1, 256, 1, 1).expand(1, 256, 64, 3).contiguous()
    noise = torch.linspace(0, 255, 64).view(1, 1, 64, 1).expand(1, 256, 64, 3).contiguous()
    output = composite(frames, torch.ones(1, 256, 64), noise)
    assert torch.equal(output, noise.round().to(torch.uint8))


def test_zero_alpha_returns_the_picture_exactly() -> None:
    frames, alpha, noise = scene(1)
    assert torch.equal(composite(frames, torch.zeros_like(alpha), noise), frames)


@given(st.integers(0, 2**32))
def test_the_equation_within_rounding(seed: int) -> None:
    frames, alpha, noise = scene(seed)
    i, s, n = (tensor.numpy().astype(np.float64) for tensor in (frames, alpha[..., None], noise))
    exact = i + s * (n - i)
    got = composite(frames, alpha, noise).numpy()
    assert got.dtype == np.uint8
    assert np.abs(got - exact).max() <= 0.5 + 1e-4


def test_a_picture_of_four_by_four() -> None:
    alpha = torch.tensor([[[0, 0, 1, 1], [0, 0.5, 0.5, 1], [0, 0.25, 0.75, 1], [0, 0, 0, 1]]])
    expected = [[100, 100, 200, 200], [100, 150, 150, 200], [100, 125, 175, 200], [100, 100, 100, 200]]
    output = composite(torch.full((1, 4, 4, 3), 100, dtype=torch.uint8), alpha, torch.full((1, 4, 4, 3), 200.0))
    for channel in range(3):
        assert output[0, :, :, channel].tolist() == expected


@given(st.integers(0, 2**32), st.floats(0, 0.5))
def test_a_mask_with_a_rim_gives_the_bits_of_the_plain_equation(seed: int, soft: float) -> None:
    """Where most weights are 0 or 1, copies take the place of the equation; noise may also lie beyond 0..255."""
    frames, weights, noise = scene(seed, (3, 13, 17))
    where = torch.rand(weights.shape, generator=torch.Generator().manual_seed(seed))
    alpha = torch.where(where < soft, weights, (where > 0.75).float())
    noise = torch.where(where[..., None] > 0.9, (noise * 1.2 - 20).mul(2).round() / 2, noise)
    plain = torch.lerp(frames.float(), noise, alpha[..., None]).round().clamp(0, 255).to(torch.uint8)
    assert torch.equal(composite(frames, alpha, noise), plain)


def test_the_inputs_are_not_changed() -> None:
    frames, alpha, noise = scene(2)
    kept = [tensor.clone() for tensor in (frames, alpha, noise)]
    composite(frames, alpha, noise)
    assert all(torch.equal(a, b) for a, b in zip(kept, (frames, alpha, noise), strict=True))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("frames", lambda t: t[0]),
        ("frames", lambda t: t.float()),
        ("frames", lambda t: t[..., :2]),
        ("frames", lambda t: t.permute(0, 3, 1, 2)),
        ("alpha", lambda t: t[:1]),
        ("alpha", lambda t: t[..., None]),
        ("alpha", lambda t: t.transpose(1, 2)),
        ("alpha", lambda t: t.double()),
        ("alpha", lambda t: t > 0.5),
        ("alpha", lambda t: t - 0.6),
        ("alpha", lambda t: t + 0.6),
        (
            "alpha",
            lambda t: t.clone().index_put_(
                (torch.tensor(1), torch.tensor(8), torch.tensor(10)), torch.tensor(torch.nan)
            ),
        ),
        ("alpha", lambda t: t.clone().fill_(torch.inf)),
        ("noise", lambda t: t[:1]),
        ("noise", lambda t: t[..., :1]),
        ("noise", lambda t: t.to(torch.uint8)),
        ("noise", lambda t: t.clone().index_fill_(1, torch.tensor([3]), torch.nan)),
        ("noise", lambda t: t.clone().index_fill_(1, torch.tensor([3]), torch.inf)),
    ],
)
def test_anything_in_doubt_is_refused(name: str, change: object) -> None:
    arguments = dict(zip(("frames", "alpha", "noise"), scene(3), strict=True))
    arguments[name] = change(arguments[name])  # type: ignore[operator]
    with pytest.raises(ValueError, match=name):
        composite(**arguments)


def test_there_is_no_default_mask() -> None:
    frames, _, noise = scene(4)
    with pytest.raises(TypeError):
        composite(frames, noise=noise)  # type: ignore[call-arg]
