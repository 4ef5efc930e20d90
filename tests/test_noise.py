"""Noise that moves with the scene: section 7 of the method notes.

A field at p holds what the field before held at p + v, so content moves by -v.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from anonymotion import noise
from anonymotion.errors import SettingsError
from anonymotion.noise import FIELDS, NoiseField, make_noise
from anonymotion.noise_transport import TensorTransport
from anonymotion.registry import NOISES

MEAN, STD = 0.45, 0.225
LOW, HIGH = (MEAN - STD) * 255, (MEAN + STD) * 255


def field(name: str, size_hw: tuple[int, int], seed: int | None = 1) -> NoiseField:
    return make_noise(name, size_hw, mean=MEAN, std=STD, device=torch.device("cpu"), seed=seed)


def constant(size_hw: tuple[int, int], dx: float, dy: float) -> Tensor:
    return torch.tensor([dx, dy]).view(2, 1, 1).expand(2, *size_hw).clone()


def run(noise: NoiseField, flows: list[Tensor]) -> list[np.ndarray]:
    """The field of frame 0, and then one per flow."""
    first = noise.next(torch.zeros_like(flows[0]))
    return [first.numpy().copy(), *(noise.next(flow).numpy().copy() for flow in flows)]


def identities(values: np.ndarray) -> np.ndarray:
    """(H, W) integers, one per distinct triple: tells apart nearly all pixels of a small field."""
    return (values.astype(np.float64) * [1.0, 1e6, 1e12]).sum(-1)


def smooth_flow(size_hw: tuple[int, int], generator: torch.Generator, strength: float) -> Tensor:
    coarse = torch.randn(1, 2, 4, 4, generator=generator) * strength
    return torch.nn.functional.interpolate(coarse, size=size_hw, mode="bicubic", align_corners=True)[0]


@pytest.mark.parametrize("name", ["accumulated", "first-frame"])
def test_zero_flow_keeps_the_noise_identical(name: str) -> None:
    fields = run(field(name, (31, 47)), [torch.zeros(2, 31, 47)] * 20)
    assert all(np.array_equal(fields[0], later) for later in fields)


@pytest.mark.parametrize("step", [(3, 0), (0, -2), (-4, 1), (5, 3)])
def test_constant_translation_moves_accumulated_noise_between_consecutive_frames(step: tuple[int, int]) -> None:
    dx, dy = step
    fields = run(field("accumulated", (40, 60)), [constant((40, 60), dx, dy)] * 8)
    rows, columns = np.mgrid[5:35, 5:55]
    for before, after in pairwise(fields):
        assert np.array_equal(after[rows, columns], before[rows + dy, columns + dx])


@pytest.mark.parametrize("direction", [(1, 0), (0, 1), (1, 1), (1, -1)])
@pytest.mark.parametrize("speed", [0.1, 0.2, 0.25, 0.3, 0.45, 0.5, -0.2, -0.25, -0.45, -0.5, 1.5])
def test_slow_motion_neither_freezes_nor_dissolves_the_noise(speed: float, direction: tuple[int, int]) -> None:
    """After n frames the noise has moved by n * v, to the pixel, and it is still the same noise."""
    count, side = 20, 84
    dx, dy = (speed * sign for sign in direction)
    fields = run(field("accumulated", (side, side)), [constant((side, side), dx, dy)] * count)
    first, last = identities(fields[0]), identities(fields[-1])
    rows, columns = np.mgrid[33 : side - 33, 33 : side - 33]  # what has been in the frame from the start
    order = np.argsort(first, axis=None)
    found = order[np.searchsorted(first.ravel(), last[rows, columns], sorter=order).clip(0, first.size - 1)]
    kept = first.ravel()[found] == last[rows, columns]
    assert kept.mean() >= 0.95, "noise that should only move was replaced"
    assert np.abs((found % side - columns)[kept] - count * dx).max() <= 1
    assert np.abs((found // side - rows)[kept] - count * dy).max() <= 1


def test_a_neighbourhood_that_turns_keeps_most_of_its_noise() -> None:
    """A slow rotation is not a translation anywhere, and still need not re-seed more than a few percent."""
    size, angle = (80, 80), 0.01
    y, x = torch.meshgrid(torch.arange(80.0) - 39.5, torch.arange(80.0) - 39.5, indexing="ij")
    flow = torch.stack((-angle * y, angle * x))
    fields = run(field("accumulated", size), [flow] * 10)
    centre = (slice(10, 70), slice(10, 70))
    for before, after in pairwise(fields):
        assert np.isin(identities(after)[centre], identities(before)).mean() > 0.93


def test_first_frame_is_the_first_field_sampled_at_the_rounded_clamped_position() -> None:
    height, width = 23, 37
    generator = torch.Generator().manual_seed(3)
    flows = [torch.randn(2, height, width, generator=generator) * 6 for _ in range(4)]
    fields = run(field("first-frame", (height, width)), flows)
    for flow, got in zip(flows, fields[1:], strict=True):
        v = flow.numpy()
        for row in range(height):
            for column in range(width):
                x = min(max(int(np.rint(np.float32(column) + v[0, row, column])), 0), width - 1)
                y = min(max(int(np.rint(np.float32(row) + v[1, row, column])), 0), height - 1)
                assert np.array_equal(got[row, column], fields[0][y, x])


def test_first_frame_and_accumulated_differ_by_the_acceleration() -> None:
    """Consecutive first-frame fields are shifted by the change of velocity, accumulated ones by the velocity."""
    size, velocities = (40, 70), [2, 5, 4, 4, 7, 1]
    flows = [constant(size, v, 0) for v in velocities]
    first, accumulated = run(field("first-frame", size), flows), run(field("accumulated", size), flows)
    columns = np.arange(10, 60)
    for t in range(1, len(velocities)):
        before, after = velocities[t - 1], velocities[t]
        change = after - before
        assert np.array_equal(first[t + 1][:, columns], first[t][:, columns + change])
        assert np.array_equal(accumulated[t + 1][:, columns], accumulated[t][:, columns + after])
    assert np.array_equal(first[4], first[3]), "at constant velocity, eq. 4 as printed stands still"
    assert not np.array_equal(accumulated[4], accumulated[3])


def zoom(size_hw: tuple[int, int], factor: float) -> Tensor:
    height, width = size_hw
    y, x = torch.meshgrid(torch.arange(height) - height / 2, torch.arange(width) - width / 2, indexing="ij")
    return torch.stack((x, y)) * (factor - 1)


@pytest.mark.parametrize("motion", ["smooth", "zoom-in", "zoom-out"])
def test_noise_stays_uniform_and_white_after_a_hundred_frames(motion: str) -> None:
    size = (64, 80)
    generator = torch.Generator().manual_seed(5)
    noise = field("accumulated", size, seed=11)
    noise.next(torch.zeros(2, *size))
    for _ in range(100):
        flow = {
            "smooth": lambda: smooth_flow(size, generator, 1.5),
            "zoom-in": lambda: zoom(size, 0.97),
            "zoom-out": lambda: zoom(size, 1.03),
        }[motion]()
        last = noise.next(flow)
    values = last.numpy().astype(np.float64)
    assert values.min() >= LOW
    assert values.max() <= HIGH
    for channel in range(3):
        plane = values[..., channel]
        assert stats.kstest(plane.ravel(), stats.uniform(LOW, HIGH - LOW).cdf).pvalue > 0.001
        for left, right in ((plane[:, :-1], plane[:, 1:]), (plane[:-1], plane[1:]), (plane[:-1, :-1], plane[1:, 1:])):
            assert abs(np.corrcoef(left.ravel(), right.ravel())[0, 1]) < 0.06, "neighbours are copies of each other"


@pytest.mark.parametrize("motion", ["smooth", "zoom-in", "shear", "collapse"])
def test_no_value_is_used_by_two_pixels(motion: str) -> None:
    size = (48, 48)
    generator = torch.Generator().manual_seed(6)
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    flows = {
        "smooth": [smooth_flow(size, generator, 4) for _ in range(10)],
        "zoom-in": [zoom(size, 0.8)] * 10,
        "shear": [torch.stack((0.3 * y, torch.zeros_like(y)))] * 10,
        "collapse": [torch.stack((24 - x, 24 - y))] * 2,  # every pixel claims the same source
    }[motion]
    for values in run(field("accumulated", size, seed=None), flows):
        triples = np.unique(values.reshape(-1, 3), axis=0)
        assert len(triples) == size[0] * size[1]


def test_pixels_from_outside_the_frame_get_values_never_seen_before() -> None:
    size = (32, 48)
    fields = run(field("accumulated", size, seed=None), [constant(size, 7, 0)] * 12)
    seen = identities(fields[0])
    for values in fields[1:]:
        entered = identities(values)[:, -7:]
        assert not np.isin(entered, seen).any()
        seen = np.union1d(seen, entered)


def test_a_disoccluded_strip_gets_values_never_seen_before() -> None:
    """A subject moves right over a still ground: what it uncovers is new, what it covers is gone."""
    size = (20, 60)
    flow = torch.zeros(2, *size)
    flow[0, :, 20:40] = -5  # the subject lies at columns 20..39 now and at 15..34 before
    before, after = run(field("accumulated", size, seed=None), [flow])
    known = np.isin(identities(after), identities(before))
    assert np.array_equal(after[:, 20:40], before[:, 15:35]) or known[:, 20:40].mean() > 0.7
    both_claim = identities(after)[:, 15:40]
    assert len(np.unique(both_claim)) == both_claim.size
    assert (~known[:, 15:25]).sum() >= 5 * size[0], "five columns of ground appear, their noise must be new"


def test_a_new_value_follows_the_scene_like_an_old_one() -> None:
    size = (24, 60)
    fields = run(field("accumulated", size, seed=None), [constant(size, 4, 0)] * 5)
    assert np.array_equal(fields[5][:, 40:44], fields[2][:, 52:56]), "entered at frame 2, moved 12 pixels since"


@pytest.mark.parametrize("name", sorted(NOISES))
def test_two_unseeded_runs_are_uncorrelated(name: str) -> None:
    flows = [constant((60, 60), 1, 0)] * 2
    one, two = (run(field(name, (60, 60), seed=None), flows) for _ in range(2))
    for a, b in zip(one, two, strict=True):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.05
        assert np.isin(identities(a), identities(b)).mean() < 0.001


@pytest.mark.parametrize("name", sorted(NOISES))
def test_the_same_seed_gives_the_same_noise_and_another_seed_does_not(name: str) -> None:
    flows = [constant((20, 20), 3, -2)] * 3
    one, same, other = (run(field(name, (20, 20), seed=seed), flows) for seed in (4, 4, 5))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_unseeded_noise_does_not_depend_on_torchs_or_numpys_seed() -> None:
    def draw() -> np.ndarray:
        torch.manual_seed(0)
        np.random.seed(0)
        return run(field("accumulated", (16, 16), seed=None), [torch.zeros(2, 16, 16)])[0]

    assert not np.array_equal(draw(), draw())


def test_a_run_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    run(field("accumulated", (16, 16), seed=7), [constant((16, 16), 3, 0)] * 3)
    assert torch.equal(before, torch.get_rng_state())


def test_iid_frames_are_uncorrelated_even_without_motion() -> None:
    fields = run(field("iid", (60, 60)), [torch.zeros(2, 60, 60)] * 3)
    for before, after in pairwise(fields):
        assert abs(np.corrcoef(before.ravel(), after.ravel())[0, 1]) < 0.05


@pytest.mark.parametrize("seed", [1, None])
@pytest.mark.parametrize("name", sorted(NOISES))
def test_the_first_field_is_uniform_in_its_range_with_independent_channels(name: str, seed: int | None) -> None:
    values = run(field(name, (80, 80), seed), [torch.zeros(2, 80, 80)])[0]
    assert values.shape == (80, 80, 3)
    assert values.dtype == np.float32
    assert stats.kstest(values.ravel(), stats.uniform(LOW, HIGH - LOW).cdf).pvalue > (1e-7 if seed is None else 0.001)
    assert np.abs(np.corrcoef(values.reshape(-1, 3).T) - np.eye(3)).max() < 0.06


@pytest.mark.parametrize(
    ("mean", "std"),
    [(0.2, 0.3), (0.9, 0.2), (0.5, 0.0), (0.5, -0.1), (0.5, 0.6), (float("nan"), 0.1), (0.5, float("nan"))],
)
def test_a_range_that_leaves_zero_to_one_is_refused(mean: float, std: float) -> None:
    with pytest.raises(SettingsError):
        make_noise("iid", (4, 4), mean=mean, std=std, device=torch.device("cpu"))


def test_the_whole_range_is_allowed() -> None:
    values = make_noise("iid", (100, 100), mean=0.5, std=0.5, device=torch.device("cpu")).next(torch.zeros(2, 100, 100))
    assert 0 <= values.min() < 1
    assert 254 < values.max() <= 255


def test_an_unknown_noise_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match=r"'pink'.*accumulated"):
        make_noise("pink", (4, 4), mean=0.5, std=0.1, device=torch.device("cpu"))


@pytest.mark.parametrize("name", sorted(NOISES))
def test_a_chunk_equals_its_frames_one_by_one(name: str) -> None:
    generator = torch.Generator().manual_seed(8)
    flows = torch.stack([smooth_flow((20, 24), generator, 2) for _ in range(5)])
    whole = field(name, (20, 24)).chunk(flows)
    single = field(name, (20, 24))
    assert torch.equal(whole, torch.stack([single.next(flow) for flow in flows]))
    halves = field(name, (20, 24))
    assert torch.equal(whole, torch.cat([halves.chunk(flows[:2]), halves.chunk(flows[2:])]))


def test_reseeded_share_counts_the_new_pixels() -> None:
    noise = field("accumulated", (10, 40))
    run(noise, [constant((10, 40), 4, 0)])
    assert noise.reseeded_share == pytest.approx(0.1)  # type: ignore[attr-defined]


@pytest.mark.gpu
def test_accumulated_noise_does_not_depend_on_the_order_of_parallel_writes() -> None:
    generator = torch.Generator().manual_seed(9)
    flows = torch.stack([smooth_flow((90, 120), generator, 4) for _ in range(6)])
    on = {
        device: make_noise("accumulated", (90, 120), mean=MEAN, std=STD, device=torch.device(device), seed=1)
        .chunk(flows.to(device))
        .cpu()
        for device in ("cpu", "cuda")
    }
    assert (on["cpu"] == on["cuda"]).all(-1).float().mean() > 0.999


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("grain", [1, 5])
@pytest.mark.parametrize("by_tensors", [False, True])
def test_a_copy_goes_on_as_the_field_would_and_leaves_it_alone(
    name: str, grain: int, by_tensors: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What had no room in memory is done again, and must not have left anything behind."""
    if by_tensors:
        monkeypatch.setattr(noise, "make_transport", TensorTransport)
    generator = torch.Generator().manual_seed(5)
    flows = torch.stack([smooth_flow((20, 24), generator, 3) for _ in range(6)])
    whole = make_noise(name, (20, 24), mean=MEAN, std=STD, device=torch.device("cpu"), seed=2, grain=grain)
    tried = make_noise(name, (20, 24), mean=MEAN, std=STD, device=torch.device("cpu"), seed=2, grain=grain)
    for start in (0, 3):
        given_up = tried.copy()
        given_up.chunk(flows[start : start + 2])
        again = tried.copy()
        expected = whole.chunk(flows[start : start + 3])
        assert torch.equal(again.chunk(flows[start : start + 3]), expected)
        tried = again


def test_a_copy_of_secret_noise_is_secret_too() -> None:
    one = make_noise("iid", (20, 24), mean=MEAN, std=STD, device=torch.device("cpu"))
    flow = torch.zeros(1, 2, 20, 24)
    assert not torch.equal(one.copy().chunk(flow), one.chunk(flow))


def test_new_grains_do_not_depend_on_whether_anybody_asked_for_them() -> None:
    """A graphics card lays them without asking, and has the same noise."""
    still, moving = torch.zeros(1, 2, 20, 24), constant((20, 24), 3, 0)[None]
    fields = []
    for first in (still, moving):
        made = make_noise("accumulated", (20, 24), mean=MEAN, std=STD, device=torch.device("cpu"), seed=2, grain=4)
        made.chunk(torch.cat((still, first)))
        fields.append(made.chunk(constant((20, 24), 50, 0)[None]))  # all of it comes from outside the frame
    assert torch.equal(*fields)
