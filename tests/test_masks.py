"""Mask algebra on literals, and its laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from anonymotion.masks import dilate, reached_shares, share, soft_rim, threshold_union

SIZES = st.tuples(st.just(1), st.integers(1, 12), st.integers(1, 12))


def _dotted(size: tuple[int, ...]) -> st.SearchStrategy[Tensor]:
    """Few set pixels, so that most of the mask stays empty; or any mask at all."""

    def plot(points: list[tuple[int, int]]) -> Tensor:
        mask = torch.zeros(size, dtype=torch.bool)
        for row, column in points:
            mask[0, row, column] = True
        return mask

    points = st.tuples(st.integers(0, size[1] - 1), st.integers(0, size[2] - 1))
    return st.lists(points, max_size=4).map(plot) | hnp.arrays(np.bool_, size).map(torch.from_numpy)


MASKS = SIZES.flatmap(_dotted)
PAIRS = SIZES.flatmap(lambda size: st.tuples(_dotted(size), _dotted(size)))
RADII = st.integers(0, 5)


def drawn(*rows: str) -> Tensor:
    return torch.tensor([[[cell == "#" for cell in row] for row in rows]])


def test_dilate_by_one_in_the_middle() -> None:
    assert torch.equal(
        dilate(drawn(".....", ".....", "..#..", ".....", "....."), 1),
        drawn(".....", ".###.", ".###.", ".###.", "....."),
    )


def test_dilate_at_the_edges_and_by_two() -> None:
    assert torch.equal(dilate(drawn("#...", "....", "....", "...."), 1), drawn("##..", "##..", "....", "...."))
    assert torch.equal(
        dilate(drawn(".....", ".....", ".....", ".....", "....#"), 2),
        drawn(".....", ".....", "..###", "..###", "..###"),
    )


def test_dilate_more_than_the_frame() -> None:
    assert dilate(drawn("#...", "....", "....", "...."), 9).all()


def test_dilate_keeps_frames_apart() -> None:
    mask = torch.zeros(3, 5, 5, dtype=torch.bool)
    mask[1, 2, 2] = True
    assert dilate(mask, 2).sum(dim=(1, 2)).tolist() == [0, 25, 0]


def test_threshold_union_reaches_or_exceeds_any() -> None:
    hair = [[0.9, 0.4, 0.0, 0.0], [0.5, 0.0, 0.0, 0.0], [0.0] * 4, [0.0] * 4]
    torso = [[0.0] * 4, [0.0, 0.0, 0.29, 0.3], [0.0, 0.0, 0.31, 0.0], [0.0] * 4]
    got = threshold_union(torch.tensor([[hair, torso]]), torch.tensor([0.5, 0.3]))
    assert torch.equal(got, drawn("#...", "#..#", "..#.", "...."))


@given(MASKS, RADII)
def test_dilate_is_extensive_and_grows_with_the_radius(mask: Tensor, radius: int) -> None:
    grown = dilate(mask, radius)
    assert grown.dtype == torch.bool
    assert (grown | ~mask).all()
    assert (dilate(mask, radius + 1) | ~grown).all()


@given(PAIRS, RADII)
def test_dilate_distributes_over_union(pair: tuple[Tensor, Tensor], radius: int) -> None:
    one, other = pair
    assert torch.equal(dilate(one | other, radius), dilate(one, radius) | dilate(other, radius))


@given(PAIRS, RADII)
def test_dilate_is_monotone(pair: tuple[Tensor, Tensor], radius: int) -> None:
    part, whole = pair[0] & pair[1], pair[1]
    assert (dilate(whole, radius) | ~dilate(part, radius)).all()


@given(MASKS, RADII, RADII)
def test_dilate_twice_is_dilate_by_the_sum(mask: Tensor, one: int, two: int) -> None:
    assert torch.equal(dilate(dilate(mask, one), two), dilate(mask, one + two))


def test_zero_radius_and_zero_width_change_nothing() -> None:
    mask = drawn("#..", ".#.", "...")
    assert torch.equal(dilate(mask, 0), mask)
    assert torch.equal(soft_rim(mask, 0), mask.float())


@given(MASKS, st.integers(0, 6))
def test_soft_rim_is_one_inside_and_never_below_the_mask(mask: Tensor, width: int) -> None:
    alpha = soft_rim(mask, width)
    assert alpha.dtype == torch.float32
    assert (alpha[mask] == 1).all()
    assert ((alpha >= 0) & (alpha <= 1)).all()


@given(MASKS, st.integers(0, 6))
def test_soft_rim_is_zero_beyond_its_width(mask: Tensor, width: int) -> None:
    alpha = soft_rim(mask, width)
    assert not alpha[~dilate(mask, width)].any()


@given(PAIRS, st.integers(0, 6))
def test_soft_rim_of_a_larger_mask_is_nowhere_lower(pair: tuple[Tensor, Tensor], width: int) -> None:
    part, whole = pair[0] & pair[1], pair[1]
    assert (soft_rim(whole, width) >= soft_rim(part, width) - 1e-6).all()


@pytest.mark.parametrize("width", [1, 2, 3, 4, 7, 8])
def test_soft_rim_falls_steadily_from_a_straight_edge(width: int) -> None:
    mask = torch.zeros(1, 41, 60, dtype=torch.bool)
    mask[:, :, :20] = True
    profile = soft_rim(mask, width)[0, 20]
    assert (profile[:20] == 1).all()
    rim = profile[19 : 20 + width + 1]
    assert (rim.diff() <= 0).all()
    assert 0 < rim[1] < 1, "the rim is soft"
    assert rim[-1] == 0


def test_soft_rim_is_not_darkened_by_the_frame_edge() -> None:
    mask = torch.zeros(1, 20, 20, dtype=torch.bool)
    mask[:, :, :10] = True
    alpha = soft_rim(mask, 4)[0]
    assert torch.allclose(alpha, alpha[10].expand(20, 20))


def test_share_counts_each_frame() -> None:
    mask = torch.cat([drawn("#...", "....", "....", "...."), drawn("####", "####", "....", "....")])
    assert share(mask).tolist() == [1 / 16, 0.5]


@given(MASKS, st.integers(0, 15))
def test_dilate_is_the_maximum_over_a_square(mask: Tensor, radius: int) -> None:
    grown = torch.nn.functional.max_pool2d(mask.float(), 2 * radius + 1, stride=1, padding=radius)
    assert torch.equal(dilate(mask, radius), grown.bool())


@given(MASKS, st.sampled_from([0, 1, 2, 7]))
def test_soft_rim_is_the_mean_of_masks_grown_step_by_step(mask: Tensor, width: int) -> None:
    mean = torch.stack([dilate(mask, radius) for radius in range(width + 1)]).float().sum(dim=0) / (width + 1)
    assert torch.equal(soft_rim(mask, width), mean.masked_fill(mask, 1))


def test_a_rim_of_more_steps_than_a_byte_counts() -> None:
    mask = torch.zeros(1, 1, 400, dtype=torch.bool)
    mask[..., 0] = True
    assert torch.equal(soft_rim(mask, 300)[0, 0], (301 - torch.arange(400)).clamp(min=0) / 301)


def test_union_and_shares_are_those_of_the_plain_formulas() -> None:
    random = torch.Generator().manual_seed(0)
    planes, thresholds = torch.rand(3, 4, 37, 53, generator=random), torch.tensor([0.9, 0.95, 0.99, 1.0])
    union = threshold_union(planes, thresholds)
    assert torch.equal(union, (planes >= thresholds[:, None, None]).any(dim=1))
    assert torch.equal(share(union), union.float().mean(dim=(1, 2)))
    assert not threshold_union(planes[:, :0], thresholds[:0]).any()
    reached = (planes >= thresholds[:, None, None]).float().mean(dim=(2, 3))
    assert torch.equal(reached_shares(planes, thresholds), reached)
    assert reached_shares(planes[:, :0], thresholds[:0]).shape == (3, 0)
