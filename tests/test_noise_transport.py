"""The two ways to move a field give the same bits, frame after frame."""

from __future__ import annotations

import pytest
import torch

from anonymotion.noise_transport import CPUTransport, TensorTransport, make_transport, to_pixels

CPU = torch.device("cpu")
SIZES = [(1, 1), (1, 9), (31, 47)]


def flows(size_hw: tuple[int, int], strength: float, count: int) -> list[torch.Tensor]:
    """Random, smooth and far beyond the frame: many claims to one place, and none to others."""
    generator = torch.Generator().manual_seed(size_hw[0] + round(10 * strength))
    noise = [torch.randn(2, *size_hw, generator=generator) * strength for _ in range(count)]
    coarse = [torch.randn(1, 2, 3, 3, generator=generator) * 3 * strength for _ in range(count)]
    smooth = [torch.nn.functional.interpolate(c, size=size_hw, mode="bilinear")[0] for c in coarse]
    halves = [torch.full((2, *size_hw), 0.5), torch.full((2, *size_hw), -0.5), torch.full((2, *size_hw), 3e9)]
    return [*noise, *smooth, *halves, *noise]


@pytest.mark.parametrize("size_hw", SIZES)
@pytest.mark.parametrize("grain", [1, 2, 14, 49])
@pytest.mark.parametrize("strength", [0.3, 1.0, 20.0])
def test_opencv_moves_a_field_as_tensors_do(size_hw: tuple[int, int], grain: int, strength: float) -> None:
    fast, general = CPUTransport(size_hw, grain), TensorTransport(size_hw, grain, CPU)
    values = torch.rand(*size_hw, 3)
    for flow in flows(size_hw, strength, 4):
        fresh, expected = fast.step(flow), general.step(flow)
        assert torch.equal(fresh, expected)
        moved, by_tensors = torch.full_like(values, -1), torch.full_like(values, -2)
        fast.carry(values, moved)
        general.carry(values, by_tensors)
        assert torch.equal(moved, by_tensors)
        new = torch.rand(*size_hw, 3)
        fast.lay(new, fresh, moved)
        general.lay(new, expected, by_tensors)
        assert torch.equal(moved, by_tensors)
        assert torch.equal(moved[fresh], new[fresh])
        values = moved


def test_a_grain_becomes_a_square_of_just_so_many_pixels() -> None:
    grains = torch.rand(3, 5, 3)
    for side in range(1, 120):
        size_hw = (3 * side - 1, 5 * side - side // 2)
        expected = grains.repeat_interleave(side, 0).repeat_interleave(side, 1)[: size_hw[0], : size_hw[1]]
        assert torch.equal(to_pixels(grains, side, size_hw), expected)
        assert torch.equal(to_pixels(grains[..., 0] > 0.5, side, size_hw), expected[..., 0] > 0.5)


@pytest.mark.parametrize(("size_hw", "kind"), [((1, 32766), CPUTransport), ((1, 32767), TensorTransport)])
def test_frames_too_long_for_opencv_are_moved_by_tensors(size_hw: tuple[int, int], kind: type) -> None:
    transport = make_transport(size_hw, 1, CPU)
    assert type(transport) is kind
    values, moved = torch.rand(*size_hw, 3), torch.zeros(*size_hw, 3)
    fresh = transport.step(torch.tensor([1.0, 0.0])[:, None, None].expand(2, *size_hw).contiguous())
    transport.carry(values, moved)
    assert torch.equal(moved[:, :-1], values[:, 1:])
    assert fresh.nonzero().tolist() == [[0, size_hw[1] - 1]]


@pytest.mark.gpu
@pytest.mark.parametrize("grain", [1, 5])
def test_a_graphics_card_moves_a_field_as_a_processor_does(grain: int) -> None:
    size_hw = (48, 64)
    here, there = CPUTransport(size_hw, grain), make_transport(size_hw, grain, torch.device("cuda"))
    for flow in flows(size_hw, 1.0, 6):
        assert torch.equal(here.step(flow), there.step(flow.cuda()).cpu())
