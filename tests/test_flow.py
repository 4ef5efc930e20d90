"""Optical flow: size, direction, chunk boundaries, and what happens when it goes wrong."""

from __future__ import annotations

import inspect
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from tiny import TINY_SETTINGS, moving, patchwork, tiny_library
from torchvision.models import optical_flow
from torchvision.models.optical_flow import raft_small

from anonymotion.backbone import Backbone
from anonymotion.errors import AnonymotionError, FlowError, SettingsError, WeightsError
from anonymotion.flow import BUILDERS, FlowEstimator, flow_to_previous, load_flow, raft, source_positions
from anonymotion.flow.estimators import DISFlow, ResizedFlow
from anonymotion.flow.raft import RAFTFlow
from anonymotion.pipeline import Hider
from anonymotion.presets import Settings
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


class Constant(FlowEstimator):
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


def test_raft_refuses_weights_of_another_network(tmp_path: Path, cpu: torch.device) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="do not fit") as caught:
        load_flow("raft-small", cpu, tmp_path / "w.pth")
    assert "\n" not in str(caught.value)


def check_shift(
    estimator: FlowEstimator, picture: np.ndarray, step: tuple[int, int], tolerance_px: float = 0.1
) -> None:
    """A photograph moves by `step`: the mean flow away from the border is minus that."""
    first, second = (torch.from_numpy(frame) for frame in moving(picture, 2, (243, 325), step))
    flow = estimator.between(second, first)
    assert flow.shape == (2, 243, 325)
    assert flow.dtype == torch.float32
    interior = flow[:, 16:-16, 16:-16]
    assert interior.mean(dim=(1, 2)).tolist() == pytest.approx([-step[0], -step[1]], abs=tolerance_px)


@pytest.mark.parametrize("step", [(5, 3), (-5, -3)])
@pytest.mark.parametrize(
    ("name", "scale", "tolerance_px"), [("dis", 1, 0.1), ("dis", 2, 0.1), ("dis", 0.75, 0.15), ("dis-fast", 1, 0.2)]
)
def test_dis_recovers_the_shift_of_a_photograph(
    name: str, scale: float, tolerance_px: float, step: tuple[int, int], public_picture: np.ndarray, cpu: torch.device
) -> None:
    check_shift(load_flow(name, cpu, scale=scale), public_picture, step, tolerance_px)


@pytest.mark.shared
@pytest.mark.parametrize(("step", "scale"), [((5, 3), 1), ((-5, -3), 1), ((5, 3), 1.5)])
def test_raft_small_recovers_the_shift_of_a_photograph(
    step: tuple[int, int], scale: float, shared: Path, public_picture: np.ndarray, cpu: torch.device
) -> None:
    weights = shared / "weights" / "raft_small.safetensors"
    check_shift(load_flow("raft-small", cpu, weights, scale=scale), public_picture, step)


@pytest.mark.shared
def test_raft_takes_frames_smaller_than_its_pyramid(shared: Path, cpu: torch.device) -> None:
    estimator = load_flow("raft-small", cpu, shared / "weights" / "raft_small.safetensors")
    flow = flow_to_previous(estimator, shifted((3, 0), size_hw=(60, 77)), None)[1]
    assert flow.shape == (2, 60, 77)
    assert float(flow[0].median()) == pytest.approx(-3, abs=0.5)


# Resolution and iterations


class Sizes(Constant):
    """An estimator that notes the frames it is given, and answers one pixel to the right and below."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[torch.Tensor] = []

    def between(self, current: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
        assert current.shape == previous.shape
        assert current.dtype == previous.dtype == torch.uint8
        self.frames.append(current)
        return super().between(current, previous)


@pytest.mark.parametrize(("scale", "worked_hw"), [(4, (24, 36)), (0.5, (3, 4)), (0.1, (1, 1)), (1.1, (7, 10))], ids=str)
def test_frames_are_resized_and_the_flow_stays_in_pixels_of_the_frame(
    scale: float, worked_hw: tuple[int, int], cpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = Sizes()
    monkeypatch.setitem(BUILDERS, "dis", lambda *_: inner)
    estimator = load_flow("dis", cpu, scale=scale)
    assert estimator.name == inner.name
    frame = torch.full((6, 9, 3), 77, dtype=torch.uint8)
    flow = estimator.between(frame, frame)
    assert inner.frames[0].shape == (*worked_hw, 3)
    assert (inner.frames[0] == 77).all()
    assert flow.shape == (2, 6, 9)
    # the exact ratio of the sizes, not the scale, which rounding has changed
    assert torch.allclose(flow[0], torch.full((6, 9), 9 / worked_hw[1]))
    assert torch.allclose(flow[1], torch.full((6, 9), 6 / worked_hw[0]))


def test_scale_one_is_the_estimator_itself(cpu: torch.device) -> None:
    assert type(load_flow("dis", cpu)) is type(load_flow("dis", cpu, scale=1)) is DISFlow
    assert type(load_flow("dis", cpu, scale=2)) is ResizedFlow


def test_a_frame_that_becomes_too_small_is_an_error_in_one_line(cpu: torch.device) -> None:
    with pytest.raises(FlowError, match="8x6 pixels are too small"):
        load_flow("dis", cpu, scale=0.1).between(*shifted((0, 0), size_hw=(60, 80)))


def random_raft(folder: Path, name: str = "raft-small") -> Path:
    """A file of random weights that fit RAFT."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = getattr(optical_flow, name.replace("-", "_"))(weights=None)
        torch.save(network.state_dict(), folder / "random.pth")
    return folder / "random.pth"


def test_raft_makes_as_many_updates_as_asked_for(tmp_path: Path, cpu: torch.device) -> None:
    frames = shifted((1, 0), size_hw=(40, 50))
    for iterations in (1, 3):
        estimator = RAFTFlow("raft-small", random_raft(tmp_path), cpu, iterations)
        updates: list[int] = []
        estimator._network.update_block.register_forward_pre_hook(lambda *_, updates=updates: updates.append(1))
        assert estimator.between(*frames).shape == (2, 40, 50)
        assert len(updates) == iterations


def torchvisions(network: torch.nn.Module, current: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
    """The flow by torchvision's own pass, from scratch."""
    with torch.inference_mode():
        batch = [frame.permute(2, 0, 1)[None].float() / 127.5 - 1 for frame in (current, previous)]
        flow: torch.Tensor = network(*batch, num_flow_updates=3)[-1][0]
    return flow


def test_raft_looks_at_each_frame_once_and_finds_what_torchvisions_does(tmp_path: Path, cpu: torch.device) -> None:
    frames = [torch.from_numpy(patchwork((136, 144), seed=seed)) for seed in range(4)]
    network = raft_small(weights=None).eval()
    network.load_state_dict(torch.load(random_raft(tmp_path), weights_only=True))
    estimator = RAFTFlow("raft-small", random_raft(tmp_path), cpu, 3)
    seen: list[int] = []
    estimator._network.feature_encoder.register_forward_pre_hook(lambda _, images: seen.append(len(images[0])))
    pairs = [(1, 0), (2, 1), (1, 2), (3, 2), (0, 3)]
    expected_work = [2, 3, 3, 4, 5]  # the last pair's first frame was forgotten
    for (current, previous), work in zip(pairs, expected_work, strict=True):
        expected = torchvisions(network, frames[current], frames[previous])
        assert torch.allclose(estimator.between(frames[current], frames[previous]), expected, atol=1e-4)
        assert sum(seen) == work


@pytest.mark.parametrize(("name", "at_once"), [("raft-small", 1), ("raft-small", 8), ("raft-large", 2)])
def test_a_chunk_in_one_call_has_the_flows_of_its_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu: torch.device, name: str, at_once: int
) -> None:
    """In chunks of three and two, with as many pairs at once as a graphics card might take."""
    frames = torch.stack([torch.from_numpy(patchwork((128, 136), seed=seed)) for seed in range(5)])
    weights = random_raft(tmp_path, name)
    network = getattr(optical_flow, name.replace("-", "_"))(weights=None).eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    estimator = RAFTFlow(name, weights, cpu, 3)
    monkeypatch.setattr(RAFTFlow, "_pairs_at_once", lambda *_: at_once)
    seen: list[int] = []
    estimator._network.feature_encoder.register_forward_pre_hook(lambda _, images: seen.append(len(images[0])))
    flows = [flow_to_previous(estimator, frames[:3], None), flow_to_previous(estimator, frames[3:], frames[2])]
    assert sum(seen) == len(frames)
    assert max(seen) <= at_once
    pairs = [torchvisions(network, now, before) for before, now in pairwise(frames)]
    assert torch.allclose(torch.cat(flows)[1:], torch.stack(pairs), atol=1e-3)
    assert not torch.cat(flows)[0].any()
    assert estimator._network.corr_block.corr_pyramid == []


@pytest.mark.shared
def test_a_chunk_in_one_call_has_the_flows_of_its_pairs_with_real_weights(
    shared: Path, monkeypatch: pytest.MonkeyPatch, cpu: torch.device
) -> None:
    weights, frames = shared / "weights" / "raft_small.safetensors", shifted((3, -2), count=4, size_hw=(120, 133))
    monkeypatch.setattr(RAFTFlow, "_pairs_at_once", lambda *_: 3)
    flows = flow_to_previous(load_flow("raft-small", cpu, weights), frames, None)
    for number, (before, now) in enumerate(pairwise(frames)):
        pair = load_flow("raft-small", cpu, weights).between(now, before)
        assert torch.allclose(flows[number + 1], pair, atol=1e-3)


@pytest.mark.gpu
def test_a_graphics_card_has_the_same_flows(tmp_path: Path, cpu: torch.device) -> None:
    frames = torch.stack([torch.from_numpy(patchwork((128, 136), seed=seed)) for seed in range(4)])
    flows = []
    for device in (cpu, torch.device("cuda")):
        estimator = RAFTFlow("raft-small", random_raft(tmp_path), device, 3)
        flows.append(flow_to_previous(estimator, frames.to(device), None).cpu())
    assert (flows[0] - flows[1]).abs().mean() < 0.02 * flows[0].abs().mean()


def test_frames_are_resized_once_for_a_chunk(cpu: torch.device) -> None:
    frames = shifted((4, 2), count=4)
    estimator = load_flow("dis", cpu, scale=0.5)
    flows = flow_to_previous(estimator, frames, None)
    for number, (before, now) in enumerate(pairwise(frames)):
        assert torch.equal(flows[number + 1], estimator.between(now, before))


def test_what_a_chunk_needs_grows_with_its_pairs_up_to_what_is_done_at_once(tmp_path: Path, cpu: torch.device) -> None:
    estimator = RAFTFlow("raft-small", random_raft(tmp_path), cpu, 1)
    assert estimator.working_bytes((240, 320), 1) > raft._pyramid_bytes((240, 320))
    frames_only = estimator.working_bytes((240, 320), 8) - estimator.working_bytes((240, 320), 1)
    assert frames_only == raft.FRAME_BYTES * 7 * 240 * 320
    on_a_card = RAFTFlow("raft-small", random_raft(tmp_path), cpu, 1)
    on_a_card._device = torch.device("cuda")
    assert on_a_card.working_bytes((240, 320), 8) > 7 * estimator.working_bytes((240, 320), 1)
    more_frames = on_a_card.working_bytes((1088, 1920), 8) - on_a_card.working_bytes((1088, 1920), 1)
    assert more_frames == raft.FRAME_BYTES * 7 * 1088 * 1920
    scaled = ResizedFlow(estimator, 2)
    assert scaled.working_bytes((120, 160), 1) > estimator.working_bytes((240, 320), 1)
    assert load_flow("dis", cpu).working_bytes((240, 320), 8) == 0


def test_settings_reach_the_estimator(
    tmp_path: Path, tiny: Backbone, monkeypatch: pytest.MonkeyPatch, cpu: torch.device
) -> None:
    inner, asked = Sizes(), []
    monkeypatch.setitem(BUILDERS, "raft-small", lambda *arguments: asked.append(arguments) or inner)
    options = {**TINY_SETTINGS, "library": tiny_library(tmp_path), "network": tiny, "device": "cpu"}
    hider = Hider("hair", flow="raft-small", flow_scale=0.5, flow_iterations=7, **options)
    frames = shifted((1, 0), size_hw=(56, 70))
    assert len(list(hider.hide(frames))) == 2
    assert asked == [(None, cpu, 7)]
    assert inner.frames[0].shape == (28, 35, 3)


def test_the_default_is_the_published_number_of_updates() -> None:
    assert Settings().flow_iterations == inspect.signature(load_flow).parameters["iterations"].default == 12
    assert Settings().flow_scale == 1


def test_frames_that_memory_cannot_hold_are_refused_before_the_system_kills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu: torch.device
) -> None:
    estimator = RAFTFlow("raft-small", random_raft(tmp_path), cpu, 1)
    frames = shifted((1, 0), size_hw=(160, 240))
    needed = 4 * (20 * 30) ** 2 * 4 / 3
    monkeypatch.setattr(raft, "memory_bytes", lambda _: needed - 1)
    with pytest.raises(FlowError, match=r"240x160.*--flow-scale") as caught:
        estimator.between(*frames)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(raft, "memory_bytes", lambda _: needed)
    assert estimator.between(*frames).shape == (2, 160, 240)
