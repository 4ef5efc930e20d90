"""Optical flow: size, direction, chunk boundaries, and what happens when it goes wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from tiny import moving

from anonymotion.errors import AnonymotionError, FlowError, SettingsError, WeightsError
from anonymotion.flow import BUILDERS, flow_to_previous, load_flow, source_positions
from anonymotion.registry import FLOWS


def texture(size_hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Smooth random texture at several scales, (H, W, 3) uint8."""
    random = np.random.default_rng(seed)
    layers = [ndimage.gaussian_filter(random.standard_normal((*size_hw, 3)), (s, s, 0)) for s in (1, 3, 9)]
    image = sum(layer / layer.std() for layer in layers)
    return np.clip(128 + 35 * image, 0, 255).astype(np.uint8)


def shifted(step_xy: tuple[int, int], count: int = 2, size_hw: tuple[int, int] = (120, 160)) -> torch.Tensor:
    """Frames whose content moves by `step_xy` per frame, so that the flow to the previous frame is minus that."""
    wide = texture((size_hw[0] + 40, size_hw[1] + 40))
    return torch.from_numpy(np.stack(moving(wide, count, size_hw, step_xy)))


class Constant:
    """An estimator that notes what it was asked."""

    name = "constant"

    def __init__(self, flow: torch.Tensor | None = None) -> None:
        self.flow = flow
        self.pairs: list[tuple[int, int]] = []

    def between(self, current: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
        self.pairs.append((int(current[0, 0, 0]), int(previous[0, 0, 0])))
        return torch.ones(2, *current.shape[:2]) if self.flow is None else self.flow


def numbered(*numbers: int) -> torch.Tensor:
    return torch.stack([torch.full((6, 8, 3), number, dtype=torch.uint8) for number in numbers])


def test_moving_helper_moves_content_in_the_direction_it_says() -> None:
    first, second = shifted((5, 3)).numpy()
    assert np.array_equal(second[3:, 5:], first[:-3, :-5])


@pytest.mark.parametrize("name", ["dis", "dis-fast"])
@pytest.mark.parametrize("step", [(5, 3), (-5, 3), (2, -4), (0, 0)])
def test_dis_recovers_a_shift_and_points_to_the_previous_frame(
    name: str, step: tuple[int, int], cpu: torch.device
) -> None:
    first, second = shifted(step)
    flow = load_flow(name, cpu).between(second, first)
    assert flow.shape == (2, 120, 160)
    assert flow.dtype == torch.float32
    for axis in (0, 1):
        assert float(flow[axis].median()) == pytest.approx(-step[axis], abs=0.3)


def test_frame_t_at_p_shows_what_the_frame_before_showed_at_p_plus_v(cpu: torch.device) -> None:
    frames = shifted((4, -3))
    flow = flow_to_previous(load_flow("dis", cpu), frames, None)[1]
    x, y = source_positions(flow).round().long()
    inner = (slice(20, -20), slice(20, -20))
    warped = frames[0][y.clamp(0, 119), x.clamp(0, 159)][inner].float()
    here, unwarped = frames[1][inner].float(), frames[0][inner].float()
    assert (warped - here).abs().mean() < 0.1 * (unwarped - here).abs().mean()


def test_zero_flow_is_the_identity_of_positions() -> None:
    x, y = source_positions(torch.zeros(2, 3, 4))
    assert x.tolist() == [[0, 1, 2, 3]] * 3
    assert y.tolist() == [[0] * 4, [1] * 4, [2] * 4]
    moved = source_positions(torch.tensor([0.25, -1.0]).view(2, 1, 1).expand(2, 3, 4))
    assert moved[:, 1, 2].tolist() == [2.25, 0.0]


def test_the_first_frame_of_a_run_has_no_flow_and_is_not_estimated() -> None:
    estimator = Constant()
    flow = flow_to_previous(estimator, numbered(1, 2, 3), None)
    assert flow.shape == (3, 2, 6, 8)
    assert not flow[0].any()
    assert flow[1:].all()
    assert estimator.pairs == [(2, 1), (3, 2)]


def test_a_chunk_continues_from_the_last_frame_of_the_one_before() -> None:
    estimator = Constant()
    flow = flow_to_previous(estimator, numbered(4, 5), numbered(3)[0])
    assert flow.all()
    assert estimator.pairs == [(4, 3), (5, 4)]


def test_chunks_do_not_change_the_flow(cpu: torch.device) -> None:
    frames = shifted((3, 1), count=4)
    whole = flow_to_previous(load_flow("dis", cpu), frames, None)
    estimator = load_flow("dis", cpu)
    parts = [flow_to_previous(estimator, frames[:2], None), flow_to_previous(estimator, frames[2:], frames[1])]
    assert torch.equal(whole, torch.cat(parts))


@pytest.mark.parametrize(
    "flow",
    [
        torch.zeros(2, 8, 6),
        torch.zeros(6, 8, 2),
        torch.zeros(1, 2, 6, 8),
        torch.zeros(2, 6, 8).index_fill_(1, torch.tensor([2]), torch.nan),
        torch.zeros(2, 6, 8).index_fill_(2, torch.tensor([7]), torch.inf),
    ],
)
def test_a_flow_that_is_not_finite_or_of_another_size_is_refused(flow: torch.Tensor) -> None:
    with pytest.raises(FlowError, match="constant"):
        flow_to_previous(Constant(flow), numbered(1, 2), None)


@pytest.mark.parametrize("size_hw", [(1, 1), (4, 4), (8, 8), (1, 64), (13, 7), (16, 16)])
def test_a_frame_too_small_for_dis_is_no_foreign_error(size_hw: tuple[int, int], cpu: torch.device) -> None:
    frames = torch.from_numpy(np.stack([texture(size_hw, seed) for seed in (0, 1)]))
    try:
        flow = flow_to_previous(load_flow("dis", cpu), frames, None)
    except AnonymotionError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
    else:
        assert flow.shape == (2, 2, *size_hw)


def test_every_flow_that_can_be_named_can_be_built() -> None:
    assert set(BUILDERS) == set(FLOWS)


def test_an_unknown_flow_is_answered_with_the_known_ones(cpu: torch.device) -> None:
    with pytest.raises(SettingsError, match=r"'farneback'.*dis"):
        load_flow("farneback", cpu)


@pytest.mark.parametrize("name", ["raft-small", "raft-large"])
def test_raft_without_weights_says_how_to_get_on(name: str, cpu: torch.device) -> None:
    with pytest.raises(WeightsError, match=r"--flow-weights.*--flow dis"):
        load_flow(name, cpu)


def test_raft_refuses_weights_of_another_network(tmp_path: Path, cpu: torch.device) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="do not fit") as caught:
        load_flow("raft-small", cpu, tmp_path / "w.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.shared
def test_raft_small_recovers_a_shift(shared: Path, cpu: torch.device) -> None:
    raft = load_flow("raft-small", cpu, shared / "weights" / "raft_small.safetensors")
    frames = shifted((-5, -3), size_hw=(241, 323))  # not a multiple of eight
    flow = flow_to_previous(raft, frames, None)[1]
    assert flow.shape == (2, 241, 323)
    assert [float(axis.median()) for axis in flow] == pytest.approx([5, 3], abs=0.1)


@pytest.mark.shared
def test_raft_takes_frames_smaller_than_its_pyramid(shared: Path, cpu: torch.device) -> None:
    raft = load_flow("raft-small", cpu, shared / "weights" / "raft_small.safetensors")
    flow = flow_to_previous(raft, shifted((3, 0), size_hw=(60, 77)), None)[1]
    assert flow.shape == (2, 60, 77)
    assert float(flow[0].median()) == pytest.approx(-3, abs=0.5)
