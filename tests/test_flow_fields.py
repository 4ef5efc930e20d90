"""Flow fields: sampling, sizes, and which pixels fail the round trip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anonymotion.errors import FlowError
from anonymotion.flow import (
    FlowEstimator,
    flow_and_occlusion,
    load_flow,
    occlusion,
    resize_flow,
    sample_at,
    source_positions,
)
from anonymotion.templates import TemplateLibrary

sizes = st.tuples(st.integers(1, 12), st.integers(1, 12))
seeds = st.integers(0, 2**16)


def constant(dx: float, dy: float, size_hw: tuple[int, int] = (4, 4)) -> torch.Tensor:
    return torch.tensor([float(dx), float(dy)]).view(2, 1, 1).expand(2, *size_hw).contiguous()


def columns(*values: float) -> torch.Tensor:
    """A flow along x only, one value per column, four rows."""
    return torch.stack((torch.tensor(values).expand(4, len(values)), torch.zeros(4, len(values))))


def rough(size_hw: tuple[int, int], seed: int, scale: float = 3.0) -> torch.Tensor:
    return torch.randn(2, *size_hw, generator=torch.Generator().manual_seed(seed)) * scale


def pattern(mask: torch.Tensor) -> list[str]:
    return ["".join(".#"[int(cell)] for cell in line) for line in mask]


# Sampling


@given(sizes, seeds)
def test_a_field_at_its_own_pixels_is_itself(size_hw: tuple[int, int], seed: int) -> None:
    field = rough(size_hw, seed)
    assert torch.equal(sample_at(field, source_positions(torch.zeros(2, *size_hw))), field)


def test_half_a_pixel_further_is_the_mean_of_two() -> None:
    field = torch.tensor([[[0.0, 4.0, 8.0], [2.0, 6.0, 30.0]]])
    at = torch.tensor([[[0.5, 1.0, 1.5]], [[0.0, 0.5, 0.5]]])
    assert sample_at(field, at).tolist() == [[[2.0, 5.0, 12.5 - 0.5]]]


def test_outside_the_picture_are_the_values_of_its_edge() -> None:
    field = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    at = torch.tensor([[[-5.0, 0.5, 9.0, 1e30]], [[-5.0, 9.0, -0.4, 1e30]]])
    assert sample_at(field, at).tolist() == [[[1.0, 3.5, 2.0, 4.0]]]


@given(sizes, sizes, seeds)
def test_sampling_is_that_of_torch_with_half_pixel_borders(
    size_hw: tuple[int, int], target_hw: tuple[int, int], seed: int
) -> None:
    field = rough(size_hw, seed)
    at = rough(target_hw, seed + 1, 6.0)
    grid = torch.stack([(2 * at[axis] + 1) / length - 1 for axis, length in ((0, size_hw[1]), (1, size_hw[0]))], -1)
    expected = torch.nn.functional.grid_sample(
        field[None].double(), grid[None].double(), "bilinear", "border", align_corners=False
    )[0]
    assert torch.allclose(sample_at(field, at).double(), expected, atol=1e-4)


# Sizes


@given(sizes, sizes, st.floats(-50, 50), st.floats(-50, 50))
def test_a_constant_shift_keeps_its_share_of_the_picture(
    size_hw: tuple[int, int], target_hw: tuple[int, int], dx: float, dy: float
) -> None:
    flow = resize_flow(constant(dx, dy, size_hw), target_hw)
    expected = constant(dx * target_hw[1] / size_hw[1], dy * target_hw[0] / size_hw[0], target_hw)
    assert torch.allclose(flow, expected, rtol=1e-6, atol=1e-6)


@given(sizes, seeds)
def test_the_same_size_changes_nothing(size_hw: tuple[int, int], seed: int) -> None:
    assert torch.equal(resize_flow(rough(size_hw, seed), size_hw), rough(size_hw, seed))


def test_resized_flow_follows_the_half_pixel_rule() -> None:
    grown = resize_flow(torch.tensor([[[0.0, 8.0]], [[0.0, 4.0]]]), (1, 4))
    assert grown.tolist() == [[[0.0, 4.0, 12.0, 16.0]], [[0.0, 1.0, 3.0, 4.0]]]


@pytest.mark.parametrize("target", [(8, 16), (24, 48), (13, 31)])
def test_a_zoom_about_the_centre_stays_one_about_the_centre(target: tuple[int, int]) -> None:
    def zoom(size_hw: tuple[int, int]) -> torch.Tensor:
        still = source_positions(torch.zeros(2, *size_hw))
        centre = torch.tensor([size_hw[1] - 1, size_hw[0] - 1]).view(2, 1, 1) / 2
        return 0.1 * (still - centre)

    inner = (slice(None), slice(3, -3), slice(3, -3))
    assert torch.allclose(resize_flow(zoom((12, 24)), target)[inner], zoom(target)[inner], atol=1e-5)


# Occlusion


def test_standing_still_is_consistent_and_a_shift_loses_what_leaves_the_picture() -> None:
    assert pattern(occlusion(constant(0, 0), constant(0, 0))) == ["....", "....", "....", "...."]
    assert pattern(occlusion(constant(1, 0), constant(-1, 0))) == ["...#", "...#", "...#", "...#"]
    assert pattern(occlusion(constant(-1, 2), constant(1, -2))) == ["#...", "#...", "####", "####"]


def test_the_picture_ends_half_a_pixel_beyond_the_last_centre() -> None:
    assert pattern(occlusion(columns(0.25, 0.0, 0.0, 0.49), constant(0, 0))) == ["...."] * 4
    assert pattern(occlusion(columns(-0.5, 0.0, 0.0, 0.5), constant(0, 0))) == ["...#"] * 4
    assert pattern(occlusion(columns(-0.51, 0.0, 0.0, 0.0), constant(0, 0))) == ["#..."] * 4


def test_a_pixel_whose_target_moved_elsewhere_is_occluded() -> None:
    backward = constant(0, 0)
    backward[:, 1, 2] = torch.tensor([2.0, 0.0])
    assert pattern(occlusion(constant(0, 0), backward)) == ["....", "..#.", "....", "...."]
    # the same, seen from a frame in which everything is one pixel further right
    assert pattern(occlusion(constant(-1, 0), backward + constant(1, 0))) == ["#...", "#..#", "#...", "#..."]


def test_the_way_back_is_read_between_pixels() -> None:
    # read at the nearest pixel, the round trip would miss by two
    assert pattern(occlusion(constant(0.5, 0), columns(1.5, -2.5, 1.5, -2.5))) == ["...#"] * 4


@pytest.mark.parametrize(("miss", "occluded"), [(0.70, False), (0.72, True)])
def test_half_a_square_pixel_is_allowed(miss: float, occluded: bool) -> None:
    # miss^2 = 0.01 miss^2 + 0.5 at 0.7107
    assert bool(occlusion(constant(0, 0), constant(0, miss)).all()) is occluded


@pytest.mark.parametrize(("miss", "occluded"), [(1.48, False), (1.50, True)])
def test_a_hundredth_of_the_squared_way_is_allowed_in_addition(miss: float, occluded: bool) -> None:
    # 10 px there and 10 - miss back: miss^2 = 0.01 (100 + (10 - miss)^2) + 0.5 at 1.4889
    size_hw = (4, 20)
    mask = occlusion(constant(10, 0, size_hw), constant(miss - 10, 0, size_hw))
    assert mask[:, 10:].all()
    assert bool(mask[:, :10].all()) is occluded
    assert bool(mask[:, :10].any()) is occluded


@given(sizes, seeds)
def test_a_mirrored_or_turned_scene_has_the_mirrored_or_turned_mask(size_hw: tuple[int, int], seed: int) -> None:
    # odd eighths: sums are exact, and no target lies on the border, whose two sides differ
    forward, backward = (((rough(size_hw, number) * 4).round() + 0.5) / 4 for number in (seed, seed + 1))
    mask = occlusion(forward, backward)
    assert mask.shape == size_hw
    assert mask.dtype == torch.bool
    mirror = torch.tensor([-1.0, 1.0]).view(2, 1, 1)
    assert torch.equal(occlusion((forward * mirror).flip(2), (backward * mirror).flip(2)), mask.flip(1))
    turned = occlusion(forward.flip(0).transpose(1, 2), backward.flip(0).transpose(1, 2))
    assert torch.equal(turned, mask.T)


@given(sizes, st.integers(-6, 6), st.integers(-6, 6))
def test_a_rigid_shift_loses_exactly_what_leaves_the_picture(size_hw: tuple[int, int], dx: int, dy: int) -> None:
    lost = occlusion(constant(dx, dy, size_hw), constant(-dx, -dy, size_hw))
    kept = max(0, size_hw[0] - abs(dy)) * max(0, size_hw[1] - abs(dx))
    assert int(lost.sum()) == size_hw[0] * size_hw[1] - kept


def test_flows_too_long_for_floats_are_occluded_not_trusted() -> None:
    assert occlusion(constant(1e30, 0), constant(-1e30, 0)).all()
    assert occlusion(constant(0, 0), constant(1e30, 0)).all()


@pytest.mark.parametrize("backward", [torch.zeros(2, 4, 5), torch.zeros(4, 4), torch.full((2, 4, 4), torch.nan)])
def test_flows_that_do_not_belong_together_are_refused(backward: torch.Tensor) -> None:
    with pytest.raises(FlowError, match="backward"):
        occlusion(constant(0, 0), backward)
    with pytest.raises(FlowError):
        occlusion(torch.full((2, 4, 4), torch.inf), constant(0, 0))


# A scene whose occlusion is known

STEP = (-10, 6)
SQUARE = 112


def scene(library: TemplateLibrary) -> tuple[torch.Tensor, torch.Tensor]:
    """A piece of a portrait moving over gravel: frames (2, 240, 320, 3) uint8 and where it is (2, 240, 320)."""
    ground = library.pictures["bg_gravel"].read()[:240, :320]
    piece = library.pictures["astronaut"].read()[150 : 150 + SQUARE, 150 : 150 + SQUARE]
    frames, places = [], []
    for number in (0, 1):
        x, y = 100 + number * STEP[0], 60 + number * STEP[1]
        frame, place = ground.copy(), np.zeros(ground.shape[:2], bool)
        frame[y : y + SQUARE, x : x + SQUARE] = piece
        place[y : y + SQUARE, x : x + SQUARE] = True
        frames.append(torch.from_numpy(frame))
        places.append(torch.from_numpy(place))
    return torch.stack(frames), torch.stack(places)


def uncovered(places: torch.Tensor) -> torch.Tensor:
    """Ground of the second frame that the piece hid in the first."""
    return places[0] & ~places[1]


def near_an_edge(places: torch.Tensor, radius: int) -> torch.Tensor:
    def grown(mask: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.max_pool2d(mask[:, None].float(), 2 * radius + 1, 1, radius)[:, 0] > 0

    return (grown(places) & grown(~places)).any(0)


def test_true_flows_give_exactly_the_true_occlusion(library: TemplateLibrary) -> None:
    _, places = scene(library)
    step = torch.tensor(STEP, dtype=torch.float32).view(2, 1, 1)
    assert torch.equal(occlusion(-step * places[1], step * places[0]), uncovered(places))


def check_estimator(name: str, weights: Path | None, library: TemplateLibrary, cpu: torch.device) -> None:
    (previous, current), places = scene(library)
    flow, mask = flow_and_occlusion(load_flow(name, cpu, weights), current, previous)
    assert [float(axis[places[1]].median()) for axis in flow] == pytest.approx([-STEP[0], -STEP[1]], abs=0.5)
    truth, front = uncovered(places), places[1] & ~places[0]
    recall = float(mask[truth].float().mean())
    assert recall > 0.8
    # what moved to the front was visible before, if hardly for an estimate that bleeds over edges
    assert float(mask[front].float().mean()) < recall - 0.2
    assert float(mask[~near_an_edge(places, 10)].float().mean()) < 0.002


def test_dis_finds_the_occlusion_of_a_moving_square(library: TemplateLibrary, cpu: torch.device) -> None:
    check_estimator("dis", None, library, cpu)


@pytest.mark.shared
def test_raft_finds_the_occlusion_of_a_moving_square(shared: Path, library: TemplateLibrary, cpu: torch.device) -> None:
    check_estimator("raft-small", shared / "weights" / "raft_small.safetensors", library, cpu)


def test_both_directions_are_estimated_and_checked() -> None:
    class Numbers(FlowEstimator):
        name = "numbers"

        def between(self, current: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
            shift = float(previous[0, 0, 0]) - float(current[0, 0, 0])
            return constant(shift if abs(shift) < 9 else torch.nan, 0)

    def frame(value: int) -> torch.Tensor:
        return torch.full((4, 4, 3), value, dtype=torch.uint8)

    flow, mask = flow_and_occlusion(Numbers(), frame(5), frame(7))
    assert torch.equal(flow, constant(2, 0))
    assert pattern(mask) == ["..##"] * 4
    with pytest.raises(FlowError, match="numbers"):
        flow_and_occlusion(Numbers(), frame(5), frame(50))
