"""Hider: frames in, as many frames out, and what each pixel may depend on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import SIZE, TINY_SETTINGS, explained, patchwork, picture_entry, write_library

from anonymotion import memory, pipeline
from anonymotion.backbone import Backbone
from anonymotion.chunks import HiddenChunk
from anonymotion.compositor import composite
from anonymotion.continuity import Found
from anonymotion.errors import (
    AnonymotionError,
    DeviceError,
    FlowError,
    SettingsError,
    UnknownAttributeError,
    WeightsError,
)
from anonymotion.flow import FlowEstimator
from anonymotion.pipeline import Hider
from anonymotion.policy import Policy
from anonymotion.presets import PRESETS
from anonymotion.results import Coverage
from anonymotion.templates import GROUPS, TemplateLibrary


def make(library: TemplateLibrary, backbone: Backbone, preset: str = "strict", **changes: Any) -> Hider:
    options: dict[str, Any] = {**TINY_SETTINGS, "seed": 3, "device": "cpu", **changes}
    return Hider(["hair", "torso"], preset, library=library, network=backbone, **options)


@pytest.mark.parametrize("number", [0, 1, 3, 9])
def test_as_many_frames_come_out_as_went_in(small: TemplateLibrary, tiny: Backbone, number: int) -> None:
    still = [patchwork(SIZE)] * number
    hidden = list(make(small, tiny).hide(still))
    assert len(hidden) == number
    for image in hidden:
        assert isinstance(image, np.ndarray)
        assert image.shape == (*SIZE, 3)
        assert image.dtype == np.uint8


def test_torch_frames_come_out_as_torch_frames_with_the_same_pixels(
    small: TemplateLibrary, tiny: Backbone, frames: list[np.ndarray]
) -> None:
    as_numpy = list(make(small, tiny).hide(frames))
    as_torch = list(make(small, tiny).hide([torch.from_numpy(frame) for frame in frames]))
    for one, other in zip(as_numpy, as_torch, strict=True):
        assert isinstance(other, torch.Tensor)
        assert other.dtype == torch.uint8
        assert np.array_equal(one, other.numpy())


@pytest.mark.parametrize("layout", ["read-only", "mirrored", "BGR", "strided", "memory-mapped"])
def test_any_numpy_layout_is_taken_and_gives_the_same_pixels(
    small: TemplateLibrary, tiny: Backbone, frames: list[np.ndarray], layout: str, tmp_path: Path
) -> None:
    plain = frames[:2]
    if layout == "read-only":
        other = [frame.copy() for frame in plain]
        for frame in other:
            frame.flags.writeable = False
    elif layout == "mirrored":
        other = [frame[:, ::-1].copy()[:, ::-1] for frame in plain]
    elif layout == "BGR":
        other = [frame[..., ::-1].copy()[..., ::-1] for frame in plain]
    elif layout == "strided":
        other = [frame.repeat(2, axis=1)[:, ::2] for frame in plain]
    else:
        np.save(tmp_path / "frames.npy", np.stack(plain))
        other = list(np.load(tmp_path / "frames.npy", mmap_mode="r"))
    for expected, got in zip(make(small, tiny).hide(plain), make(small, tiny).hide(other), strict=True):
        assert isinstance(got, np.ndarray)
        assert np.array_equal(expected, got)


def test_the_frames_given_are_not_changed(small: TemplateLibrary, tiny: Backbone, frames: list[np.ndarray]) -> None:
    before = [frame.copy() for frame in frames]
    list(make(small, tiny).hide(frames))
    assert all(np.array_equal(one, other) for one, other in zip(before, frames, strict=True))


@pytest.mark.parametrize("preset", ["strict", "paper-debiased"])
def test_chunking_does_not_change_the_result(
    small: TemplateLibrary,
    tiny: Backbone,
    frames: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    preset: str,
) -> None:
    results = []
    for size in (1, 4):
        monkeypatch.setattr(memory, "MAX_CHUNK_FRAMES", size)
        chunks = list(make(small, tiny, preset).explain(frames))
        # with continuity the first three are held back until the next chunk is there
        expected = [1] * 7 if size == 1 else [4, 3] if preset == "paper-debiased" else [1, 3, 3]
        assert [len(chunk.frames) for chunk in chunks] == expected
        results.append(explained(make(small, tiny, preset), frames))
    one, four = results
    assert torch.equal(one.flow, four.flow)
    assert torch.equal(one.noise, four.noise)
    assert torch.allclose(one.saliency, four.saliency, atol=1e-5)
    difference = (one.output.int() - four.output.int()).abs()
    assert (difference > 1).float().mean() < 0.001, "only a saliency on the very threshold may flip by rounding"


def test_strict_replaces_inside_and_keeps_outside(
    small: TemplateLibrary, tiny: Backbone, frames: list[np.ndarray]
) -> None:
    found = explained(make(small, tiny, threshold=0.6), frames)
    inside, outside = found.alpha == 1, found.alpha == 0
    assert inside.float().mean() > 0.02, "the test needs both kinds of pixels"
    assert outside.float().mean() > 0.02
    assert torch.equal(found.output[inside], found.noise[inside].round().to(torch.uint8))
    assert torch.equal(found.output[outside], found.frames[outside])


def test_hidden_pixels_do_not_depend_on_the_source_at_fixed_mask_and_flow(
    small: TemplateLibrary, tiny: Backbone, frames: list[np.ndarray]
) -> None:
    found = explained(make(small, tiny, threshold=0.6), frames)
    other = torch.from_numpy(np.stack([patchwork(SIZE, seed=100 + t) for t in range(len(frames))]))
    output = composite(other, found.alpha, found.noise)
    hidden = found.alpha == 1
    assert torch.equal(output[hidden], found.output[hidden])
    assert not torch.equal(output, found.output)


def test_noise_does_not_depend_on_the_picture_but_through_the_flow(
    small: TemplateLibrary, tiny: Backbone, frames: list[np.ndarray]
) -> None:
    one = explained(make(small, tiny), [frames[0]] * 3)
    other = explained(make(small, tiny), [255 - frames[0]] * 3)
    assert not one.flow.any()
    assert torch.equal(one.noise, other.noise)
    assert torch.equal(one.noise[0], one.noise[2])


def test_the_mask_holds_every_pixel_that_reaches_its_threshold(
    small: TemplateLibrary, tiny: Backbone, frames: list[np.ndarray]
) -> None:
    found = explained(make(small, tiny, threshold="0.8,torso=0.6"), frames)
    matched = (found.saliency[:, 0] >= 0.8) | (found.saliency[:, 1] >= 0.6)
    assert matched.any()
    assert (found.alpha[matched] == 1).all()
    assert (found.saliency[:, 0] >= 0.8).float().mean() < (found.saliency[:, 0] >= 0.5).float().mean()


def test_dilation_and_feather_are_percent_of_the_short_side(small: TemplateLibrary, tiny: Backbone) -> None:
    planes = torch.zeros(1, 2, 200, 300)
    planes[0, 0, 100, 150] = 1
    hider = make(small, tiny, dilation=5, feather=2)
    searched = torch.ones(1, dtype=torch.bool)
    found = Found(
        torch.zeros(1, 200, 300, 3), planes, torch.zeros(1, 2, 200, 300), hider.matcher.mask(planes), searched
    )
    alpha = hider._alpha(hider._weight(found))[0]
    assert int((alpha == 1).sum()) == 21 * 21
    assert float(alpha[100, 150 + 10 + 1]) < 1
    assert float(alpha[100, 150 + 10 + 1]) > 0
    assert float(alpha[100, 150 + 10 + 4 + 1]) == 0


def test_a_group_named_in_an_exception_is_honoured_or_refused(tmp_path: Path, tiny: Backbone) -> None:
    """`0.9,face=0.25` must not leave the face at 0.9 without a word."""
    picture = picture_entry(tmp_path, "one", patchwork((64, 80)))
    templates = [{"attribute": name, "picture": "one", "point": [9, 9]} for name in GROUPS["face"]]
    faces = TemplateLibrary.load(write_library(tmp_path, [picture], templates))
    options = {**TINY_SETTINGS, "library": faces, "network": tiny, "device": "cpu"}
    try:
        hider = Hider(["face"], threshold="0.9,face=0.25", **options)
    except AnonymotionError:
        return
    assert hider.matcher.thresholds.tolist() == [0.25] * 4


def test_the_network_is_a_setting_like_any_other() -> None:
    """`--backbone NAME` arrives as a keyword of that name."""
    with pytest.raises(SettingsError, match=r"'vgg'.*dino-vits8"):
        Hider("hair", backbone="vgg", device="cpu")
    with pytest.raises(WeightsError, match="--backbone-weights"):
        Hider("hair", backbone="dino-vits8", short_side=224, stride=8, device="cpu")


def test_a_network_that_is_not_the_one_of_the_settings_is_refused_before_any_frame(
    small: TemplateLibrary, tiny: Backbone
) -> None:
    tiny.name = "dino-vits8"
    with pytest.raises(SettingsError):
        make(small, tiny)


@pytest.mark.parametrize("kept", [(), ("torso",)], ids=["alone", "keep"])
@pytest.mark.parametrize("enough", [0, 1, 3])
def test_what_has_no_room_in_memory_at_once_is_matched_in_parts_or_one_sentence(
    small: TemplateLibrary,
    tiny: Backbone,
    frames: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    enough: int,
    kept: tuple[str, ...],
) -> None:
    def run() -> HiddenChunk:
        options: dict[str, Any] = {**TINY_SETTINGS, "seed": 3, "device": "cpu"}
        hider = Hider("hair", library=small, network=tiny, policy=Policy(keep=kept), **options)
        return explained(hider, frames)

    expected, extract, passes = run(), tiny.extract, []

    def limited(images: torch.Tensor, specs: Any) -> Any:
        if len(images) > enough:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80 GiB")
        passes.append(len(images))
        return extract(images, specs)

    monkeypatch.setattr(tiny, "extract", limited)
    if enough == 0:
        with pytest.raises(DeviceError, match=r"no memory left for a frame of \d+x\d+: use a smaller --short-side"):
            run()
        return
    found = run()
    assert sum(passes) == len(frames)
    assert max(passes) <= enough
    assert torch.allclose(found.saliency, expected.saliency, atol=1e-5)
    assert ((found.output.int() - expected.output.int()).abs() > 1).float().mean() < 0.001


def test_another_size_in_the_middle_is_an_error(
    small: TemplateLibrary, tiny: Backbone, frames: list[np.ndarray]
) -> None:
    for at in (1, 5, 8):
        stream = make(small, tiny).hide([*(frames * 2)[:at], frames[0][:-1]])
        with pytest.raises(SettingsError, match="one size"):
            list(stream)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros(SIZE, np.uint8),
        np.zeros((*SIZE, 4), np.uint8),
        np.zeros((*SIZE, 3), np.float32),
        np.zeros((*SIZE, 3), np.uint16),
        np.zeros((3, *SIZE), np.uint8),
        np.zeros((2, *SIZE, 3), np.uint8),
        torch.zeros(3, *SIZE, dtype=torch.uint8),
        np.zeros((0, 10, 3), np.uint8),
    ],
    ids=lambda bad: f"{tuple(bad.shape)} {bad.dtype}",
)
def test_what_is_no_frame_is_refused(small: TemplateLibrary, tiny: Backbone, bad: Any) -> None:
    with pytest.raises(SettingsError, match="uint8"):
        list(make(small, tiny).hide([bad]))


def test_an_endless_input_streams(small: TemplateLibrary, tiny: Backbone) -> None:
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        for number in count():
            taken += 1
            yield np.full((*SIZE, 3), number % 256, np.uint8)

    stream = make(small, tiny).hide(endless())
    assert taken == 0, "nothing is read before the first frame is asked for"
    assert len(list(islice(stream, 12))) == 12
    assert taken <= 12 + memory.MAX_CHUNK_FRAMES


def test_large_frames_come_in_smaller_chunks(
    small: TemplateLibrary, tiny: Backbone, frames: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "CHUNK_PIXELS", 2 * SIZE[0] * SIZE[1])
    hider = make(small, tiny, look_ahead=0)
    assert [len(chunk.frames) for chunk in hider.explain(frames)] == [2, 2, 2, 1]
    assert max(len(chunk.frames) for chunk in make(small, tiny).explain(frames)) == 2
    monkeypatch.setattr(memory, "CHUNK_PIXELS", 1)
    assert [len(chunk.frames) for chunk in hider.explain(frames)] == [1] * 7


def test_runs_of_one_hider_are_independent(small: TemplateLibrary, tiny: Backbone, frames: list[np.ndarray]) -> None:
    seeded, secret = make(small, tiny), make(small, tiny, seed=None)
    one, two = explained(seeded, frames[:2]), explained(seeded, frames[:2])
    assert torch.equal(one.output, two.output)
    one, two = explained(secret, frames[:2]), explained(secret, frames[:2])
    assert torch.equal(one.alpha, two.alpha)
    assert not (one.noise == two.noise).all(-1).any()


def test_attributes_by_text_by_list_and_by_group(small: TemplateLibrary, tiny: Backbone) -> None:
    options = {**TINY_SETTINGS, "library": small, "network": tiny, "device": "cpu"}
    assert Hider("torso, Hair,torso", **options).attributes == ("torso", "hair")
    assert Hider(["hair"], **options).attributes == ("hair",)


def test_a_misspelt_attribute_is_found_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("a network was loaded first")

    monkeypatch.setattr(Backbone, "load", load)
    monkeypatch.setattr(pipeline, "load_flow", load)
    with pytest.raises(UnknownAttributeError, match="did you mean 'hair'"):
        Hider("hairr", device="cpu")
    with pytest.raises(UnknownAttributeError, match="did you mean 'torso'"):
        Hider("hair", threshold="0.5,torsso=0.4", device="cpu")
    with pytest.raises(SettingsError):
        Hider("hair", threshold=7, device="cpu")


def test_the_paper_preset_without_weights_or_connection_names_both_flags_at_once() -> None:
    with pytest.raises(WeightsError, match=r"ANONYMOTION_OFFLINE.*--backbone-weights.*--flow-weights.*paper-debiased"):
        Hider("hair", "paper", device="cpu")


def test_every_preset_but_paper_needs_no_file(library: TemplateLibrary, embedded_backbone: Backbone) -> None:
    for name in set(PRESETS) - {"paper"}:
        assert PRESETS[name].backbone == embedded_backbone.name
        assert not PRESETS[name].flow.startswith("raft")


def test_flow_that_fails_stops_the_run_instead_of_hiding_with_it(
    small: TemplateLibrary, tiny: Backbone, frames: list[np.ndarray]
) -> None:
    class Broken(FlowEstimator):
        name = "broken"

        def between(self, current: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
            return torch.full((2, *current.shape[:2]), torch.nan)

    hider = make(small, tiny)
    hider.flow = Broken()
    with pytest.raises(FlowError, match="broken"):
        list(hider.hide(frames))


def test_coverage_counts_what_was_hidden(small: TemplateLibrary, tiny: Backbone, frames: list[np.ndarray]) -> None:
    hider = make(small, tiny, threshold=0.6, dilation=0.0, feather=0.0)
    coverage = Coverage(hider.attributes)
    found = explained(hider, frames)
    for chunk in hider.explain(frames):
        hider.measure(chunk, coverage)
    content = coverage.as_json()
    assert coverage.frames == len(frames)
    assert content["hidden_share_mean"] == pytest.approx(float((found.alpha == 1).float().mean()), abs=1e-4)
    assert content["hidden_share_max"] == pytest.approx(
        float((found.alpha == 1).float().mean(dim=(1, 2)).max()), abs=1e-4
    )
    for number, name in enumerate(hider.attributes):
        share = float((found.saliency[:, number] >= 0.6).float().mean())
        assert content["attributes"][name] == pytest.approx(share, abs=1e-4)


@pytest.mark.gpu
def test_cpu_and_gpu_hide_the_same_pixels(small: TemplateLibrary, frames: list[np.ndarray], tiny: Backbone) -> None:
    on_cpu = explained(make(small, tiny), frames)
    network = Backbone(tiny.name, tiny._network, tiny.patch_size, tiny.fingerprint, torch.device("cuda"))
    on_gpu = explained(make(small, network, device="cuda"), frames)
    assert torch.allclose(on_cpu.saliency, on_gpu.saliency.cpu(), atol=1e-2)
    assert ((on_cpu.alpha == 1) == (on_gpu.alpha.cpu() == 1)).float().mean() > 0.98
    assert torch.equal(on_cpu.noise, on_gpu.noise.cpu())
