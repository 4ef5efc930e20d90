"""The naive comparison methods: what each puts where, alone, in the pipeline, and from file to file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from synthetic import make_clip
from tiny import SIZE, TINY_SETTINGS, explained, nine_attributes, patchwork, tiny_library
from torch import Tensor

from anonymotion import memory, pipeline, video
from anonymotion.backbone import Backbone
from anonymotion.baselines import naive
from anonymotion.errors import NothingMatchedError, SettingsError, UnknownAttributeError, UnsupportedInputError
from anonymotion.methods import Method, load_method
from anonymotion.pipeline import Hider
from anonymotion.registry import ATTRIBUTES, METHODS
from anonymotion.run import FileOptions, hide_video
from anonymotion.templates import TemplateLibrary

NAIVE = tuple(name for name in METHODS if name != "noise")
SCALED = ("pixelate-4", "pixelate-16", "blur-weak", "blur-strong")
WHOLE = (*SCALED, "black")


def grey(rows: Any) -> Tensor:
    """One frame of three different channels from a literal: v, 100 + v, 255 - v."""
    plane = torch.tensor(rows, dtype=torch.uint8)
    return torch.stack([plane, 100 + plane, 255 - plane], dim=-1)[None]


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(patchwork((height, width), seed))[None]


def ones(frames: Tensor) -> Tensor:
    return torch.ones(frames.shape[:3])


def make(name: str) -> Method:
    method = load_method(name)
    assert method is not None
    return method


# What each puts there


def check_channels(found: Tensor, expected: Any) -> None:
    plane = torch.tensor(expected, dtype=torch.float32)
    assert torch.allclose(found[0, ..., 0], plane, atol=1e-4)
    assert torch.allclose(found[0, ..., 1], 100 + plane, atol=1e-4)
    assert torch.allclose(found[0, ..., 2], 255 - plane, atol=1e-4)


def test_pixelation_is_the_mean_of_each_block() -> None:
    frame = grey([[0, 4, 10, 10], [8, 12, 10, 30], [1, 1, 50, 0], [1, 2, 0, 0]])
    found = naive.pixelate(frame, ones(frame), True, block=2)
    a, b, c, d = 6, 15, 1.25, 12.5
    check_channels(found, [[a, a, b, b], [a, a, b, b], [c, c, d, d], [c, c, d, d]])


def test_blocks_that_the_border_cuts_are_means_of_the_pixels_they_have() -> None:
    frame = grey([[0, 4, 10], [8, 12, 30], [1, 2, 7]])
    found = naive.pixelate(frame, ones(frame), True, block=2)
    check_channels(found, [[6, 6, 20], [6, 6, 20], [1.5, 1.5, 7]])


def test_a_block_larger_than_the_frame_is_the_mean_of_the_frame() -> None:
    frame = grey([[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]])
    check_channels(naive.pixelate(frame, ones(frame), True, block=16), [[4.5] * 5] * 2)
    check_channels(naive.pixelate(frame, ones(frame), True, block=4), [[4, 4, 4, 4, 6.5]] * 2)


def test_eight_pixels_at_twice_the_paper_scale_are_one_block_of_four() -> None:
    """A short side of 448 is twice 224: a block of 4 there is one of 8 here."""
    frame = torch.arange(56, dtype=torch.uint8).repeat_interleave(8).view(1, 1, 448, 1).expand(1, 448, 448, 3)
    frame = frame.contiguous()
    found = naive.pixelate(frame, ones(frame), False, block=4)
    blocks = found.reshape(56, 8, 56, 8, 3)
    assert torch.equal(blocks, blocks[:, :1, :, :1].expand_as(blocks)), "blocks stay blocks"
    assert torch.allclose(blocks[0, 0, 1:-1, 0, 0], torch.arange(1.0, 55), atol=0.2)
    assert not torch.equal(found, naive.pixelate(frame, ones(frame), True, block=4))


@pytest.mark.parametrize("name", SCALED)
def test_at_a_short_side_of_224_both_scales_are_one(name: str) -> None:
    frame = picture(224, 301)
    paper, native = (make(name).replacement(frame, ones(frame), at_native) for at_native in (False, True))
    assert torch.allclose(paper, native, atol=1e-3)


@pytest.mark.parametrize(
    ("height", "width", "blocks"), [(101, 67, (85, 56)), (480, 640, (56, 75)), (360, 640, (56, 100))]
)
def test_as_many_blocks_as_at_the_paper_scale(height: int, width: int, blocks: tuple[int, int]) -> None:
    """Noise, so that neighbouring blocks differ; odd sizes give blocks of unequal numbers of pixels."""
    frame = torch.from_numpy(np.random.default_rng(5).integers(0, 256, (1, height, width, 3), dtype=np.uint8))
    found = naive.pixelate(frame, ones(frame), False, block=4)
    rows = int((found[0, 1:] != found[0, :-1]).flatten(1).any(1).sum()) + 1
    columns = int((found[0, :, 1:] != found[0, :, :-1]).any(2).any(0).sum()) + 1
    assert (rows, columns) == blocks


def test_mean_colour_is_one_mean_over_all_regions_of_a_frame() -> None:
    frame = grey([[10, 0, 0, 0], [20, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 90]])
    alpha = torch.tensor([[1, 0.5, 0, 0], [1, 0.5, 0, 0], [0, 0, 0, 0], [0, 0, 0.5, 1]])[None]
    check_channels(naive.mean_colour(frame, alpha, False), [[40.0] * 4] * 4)


def test_mean_colour_is_of_each_frame_and_black_where_nothing_is_covered() -> None:
    frames = torch.cat([torch.full((1, 8, 8, 3), value, dtype=torch.uint8) for value in (7, 200, 90)])
    alpha = torch.zeros(3, 8, 8)
    alpha[:2, 2:5, 3:7] = 1
    found = naive.mean_colour(frames, alpha, False)
    assert found.amin(dim=(1, 2, 3)).tolist() == found.amax(dim=(1, 2, 3)).tolist() == [7, 200, 0]


def test_mean_colour_of_a_large_frame_is_exact() -> None:
    frame = torch.full((1, 2160, 3840, 3), 201, dtype=torch.uint8)
    assert naive.mean_colour(frame, ones(frame), False).unique().tolist() == [201]


@pytest.mark.parametrize("kernel", [13, 21])
@pytest.mark.parametrize("size_hw", [(60, 41), (21, 21), (5, 4), (1, 9), (2, 1), (1, 1)])
def test_blur_is_the_gaussian_of_opencv_mirrored_at_the_edges(kernel: int, size_hw: tuple[int, int]) -> None:
    """Also where the frame is smaller than the kernel, and the mirror image has to be mirrored again."""
    frame = picture(*size_hw)
    expected = cv2.GaussianBlur(
        frame[0].float().numpy(), (kernel, kernel), sigmaX=10, sigmaY=10, borderType=cv2.BORDER_REFLECT_101
    )
    found = naive.blur(frame, ones(frame), True, kernel=kernel)[0].numpy()
    assert np.abs(found - expected.reshape(found.shape)).max() < 0.01


def test_the_strong_blur_is_stronger() -> None:
    frame = picture(120, 160)
    spread = [float(make(name).replacement(frame, ones(frame), False).std()) for name in ("blur-weak", "blur-strong")]
    assert float(frame.float().std()) > spread[0] + 5 > spread[0] > spread[1] + 1


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("at_native", [False, True])
def test_a_constant_stays_constant(name: str, at_native: bool) -> None:
    frame = torch.full((2, 45, 37, 3), 173, dtype=torch.uint8)
    found = make(name).replacement(frame, ones(frame), at_native)
    assert torch.allclose(found, torch.full_like(found, 173), atol=1e-3)


def test_black_is_black() -> None:
    frame = picture(9, 7)
    assert not naive.black(frame, ones(frame), False).any()


@pytest.mark.parametrize("name", NAIVE)
@pytest.mark.parametrize("at_native", [False, True])
@pytest.mark.parametrize("size_hw", [(1, 1), (1, 7), (3, 5), (101, 67), (224, 224), (240, 321)])
def test_a_picture_of_any_size_is_one_of_the_same_size(name: str, at_native: bool, size_hw: tuple[int, int]) -> None:
    frames = picture(*size_hw).repeat(2, 1, 1, 1)
    before = frames.clone()
    found = make(name).replacement(frames, ones(frames), at_native)
    assert found.shape == frames.shape
    assert found.dtype == torch.float32
    assert 0 <= float(found.min()) <= float(found.max()) <= 255
    assert torch.equal(frames, before)


@pytest.mark.parametrize("name", SCALED)
def test_a_strip_is_refused_at_the_paper_scale_and_done_at_its_own(name: str) -> None:
    strip = picture(2, 200)
    with pytest.raises(UnsupportedInputError, match="--at-native"):
        make(name).replacement(strip, ones(strip), False)
    assert make(name).replacement(strip, ones(strip), True).shape == strip.shape


@pytest.mark.parametrize("name", WHOLE)
def test_only_the_mean_colour_depends_on_the_mask(name: str) -> None:
    frame = picture(40, 50)
    some = torch.zeros(1, 40, 50)
    some[:, :20] = 1
    assert torch.equal(make(name).replacement(frame, some, False), make(name).replacement(frame, ones(frame), False))
    assert not torch.equal(naive.mean_colour(frame, some, False), naive.mean_colour(frame, ones(frame), False))


# How they are found


@pytest.mark.parametrize(
    ("name", "covers", "has_scale", "weakness"),
    [
        ("person-mean", ("person",), False, "mean of what it covers"),
        ("pixelate-4", (), True, "mean of every block"),
        ("pixelate-16", (), True, "mean of every block"),
        ("blur-weak", (), True, "inverted in part"),
        ("blur-strong", (), True, "inverted in part"),
        ("black", (), False, None),
    ],
)
def test_every_method_declares_itself(
    name: str, covers: tuple[str, ...], has_scale: bool, weakness: str | None
) -> None:
    method = make(name)
    assert (method.covers, method.has_scale) == (covers, has_scale)
    assert method.weakness is None if weakness is None else weakness in (method.weakness or "")


def test_the_rows_above_are_the_registry() -> None:
    assert set(METHODS) == {"noise", "person-mean", "black", *SCALED}
    assert load_method("noise") is None
    assert all(entry.help for entry in METHODS.values())


def test_the_core_loads_no_baseline_until_one_is_named() -> None:
    script = (
        "import sys, anonymotion.run, anonymotion.pipeline, anonymotion.methods as methods\n"
        "def loaded(): return any(name.startswith('anonymotion.baselines') for name in sys.modules)\n"
        "assert methods.load_method('noise') is None and not loaded()\n"
        "assert methods.load_method('black') and loaded()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("typed", "meant"), [("pixelate", "pixelate-4"), ("blur-wek", "blur-weak"), ("balck", "black")]
)
def test_a_misspelt_method_is_answered_with_the_nearest(typed: str, meant: str) -> None:
    with pytest.raises(SettingsError, match=f"did you mean '{meant}'.*person-mean"):
        Hider(method=typed, device="cpu")


@pytest.mark.parametrize("preset", ["paper", "paper-debiased"])
@pytest.mark.parametrize("name", NAIVE)
def test_a_comparison_method_is_not_blended(name: str, preset: str) -> None:
    with pytest.raises(SettingsError, match=r"eq. 5.*--composite replace"):
        Hider("hair", preset, method=name, device="cpu")


@pytest.mark.parametrize("preset", ["strict", "paper", "paper-debiased"])
def test_a_whole_frame_needs_no_weights_with_any_preset(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_networks(monkeypatch)
    (found,) = Hider(None, preset, method="black", composite="replace", device="cpu").hide([patchwork(SIZE)])
    assert not found.any()


@pytest.mark.parametrize("name", ["noise", "black", "person-mean"])
def test_a_scale_is_refused_where_it_means_nothing(name: str) -> None:
    with pytest.raises(SettingsError, match="at_native is for pixelate and blur"):
        Hider("hair", method=name, at_native=True, device="cpu")


def test_noise_needs_attributes() -> None:
    with pytest.raises(SettingsError, match="--attributes"):
        Hider(device="cpu")


# In the pipeline


def inside(library: TemplateLibrary, tiny: Backbone, name: str, **changes: Any) -> Hider:
    options: dict[str, Any] = {**TINY_SETTINGS, "threshold": 0.6, "seed": 3, "device": "cpu", **changes}
    return Hider(["hair", "torso"], method=name, library=library, network=tiny, **options)


def forbid_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("a network was loaded")

    monkeypatch.setattr(Backbone, "load", load)
    monkeypatch.setattr(pipeline, "load_flow", load)


@pytest.mark.parametrize("name", WHOLE)
def test_without_attributes_the_whole_frame_is_covered_and_no_network_loaded(
    name: str, frames: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_networks(monkeypatch)
    hider = Hider(None, method=name, device="cpu")
    found = explained(hider, frames)
    assert hider.attributes == ()
    assert found.saliency.shape == (7, 0, *SIZE)
    assert (found.alpha == 1).all()
    assert not found.flow.any()
    expected = make(name).replacement(found.frames, found.alpha, False)
    assert torch.equal(found.output, expected.round().to(torch.uint8))
    assert hider.mask_source == {"source": "whole frame"}


def test_at_native_reaches_the_method(frames: list[np.ndarray]) -> None:
    (native,) = Hider(method="pixelate-4", at_native=True, device="cpu").hide(frames[:1])
    assert np.array_equal(native[:4, :4], np.broadcast_to(native[0, 0], (4, 4, 3)))
    assert np.abs(native[0, 0] - frames[0][:4, :4].reshape(-1, 3).mean(0)).max() <= 0.5
    (paper,) = Hider(method="pixelate-4", device="cpu").hide(frames[:1])
    assert not np.array_equal(native, paper)


@pytest.mark.parametrize("name", NAIVE)
def test_inside_a_mask_the_rest_stays_as_it_is(
    name: str, small: TemplateLibrary, tiny: Backbone, frames: list[np.ndarray]
) -> None:
    found = explained(inside(small, tiny, name), frames)
    covered, outside = found.alpha == 1, found.alpha == 0
    assert covered.float().mean() > 0.02, "the test needs both kinds of pixels"
    assert outside.float().mean() > 0.02
    assert torch.equal(found.output[outside], found.frames[outside])
    assert torch.equal(found.output[covered], found.noise[covered].round().to(torch.uint8))
    assert torch.equal(found.noise, make(name).replacement(found.frames, found.alpha, False))
    assert not torch.equal(found.output[covered], found.frames[covered])


@pytest.mark.parametrize("name", NAIVE)
def test_the_mask_is_that_of_noise(name: str, small: TemplateLibrary, tiny: Backbone, frames: list[np.ndarray]) -> None:
    ours, other = (explained(inside(small, tiny, method), frames) for method in ("noise", name))
    assert torch.equal(ours.alpha, other.alpha)
    assert torch.equal(ours.flow, other.flow)
    assert not torch.equal(ours.output, other.output)


@pytest.mark.parametrize("name", NAIVE)
@pytest.mark.parametrize("masked", [False, True])
def test_chunking_does_not_change_the_result(
    name: str,
    masked: bool,
    small: TemplateLibrary,
    tiny: Backbone,
    frames: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not masked and load_method(name) == naive.PERSON_MEAN:
        small = nine_attributes(small.folder.parent / "nine")
    results = []
    for size in (1, 4):
        monkeypatch.setattr(memory, "MAX_CHUNK_FRAMES", size)
        hider = (
            inside(small, tiny, name)
            if masked
            else Hider(method=name, library=small, network=tiny, device="cpu", **TINY_SETTINGS)
        )
        results.append(torch.stack([torch.from_numpy(image) for image in hider.hide(frames)]))
    difference = (results[0].int() - results[1].int()).abs()
    assert (difference > 1).float().mean() < 0.001, "only a saliency on the very threshold may flip by rounding"


def test_the_mean_colour_covers_the_person_by_default(tiny: Backbone, tmp_path: Path, frames: list[np.ndarray]) -> None:
    options: dict[str, Any] = {**TINY_SETTINGS, "network": tiny, "device": "cpu", "method": "person-mean"}
    hider = Hider(library=nine_attributes(tmp_path / "nine"), threshold=0.6, **options)
    assert set(hider.attributes) == set(ATTRIBUTES)
    assert hider.mask_source == {"source": "templates"}
    found = explained(hider, frames)
    for frame, output, alpha in zip(found.frames, found.output, found.alpha, strict=True):
        covered = alpha == 1
        assert covered.any()
        assert torch.equal(output[covered].unique(dim=0), frame[covered].double().mean(0).round().to(torch.uint8)[None])
    with pytest.raises(UnknownAttributeError, match="person"):
        Hider(library=tiny_library(tmp_path / "two"), **options)


def test_where_a_whole_frame_is_covered_there_is_nothing_to_find(frames: list[np.ndarray]) -> None:
    with pytest.raises(SettingsError, match="whole frame"):
        next(Hider(method="black", device="cpu").saliency(frames))


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAIVE)
@pytest.mark.parametrize("at_native", [False, True])
def test_cpu_and_gpu_agree(name: str, at_native: bool) -> None:
    frames = picture(101, 134).repeat(2, 1, 1, 1)
    alpha = ones(frames)
    alpha[:, :30] = 0
    on_cpu = make(name).replacement(frames, alpha, at_native)
    on_gpu = make(name).replacement(frames.cuda(), alpha.cuda(), at_native)
    assert on_gpu.is_cuda
    # a pixel centre on the very border of two blocks may fall to either
    assert ((on_cpu - on_gpu.cpu()).abs() > 0.05).float().mean() < 0.001


# From file to file


def read(path: Path) -> np.ndarray:
    with video.open_source(path) as source:
        return np.stack([frame.image for frame in source])


@pytest.mark.parametrize("name", NAIVE)
def test_a_file_is_written_and_the_dump_recomputes_it(name: str, tiny: Backbone, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=4)
    files = FileOptions(dump=tmp_path / "dump", masks=tmp_path / "masks")
    options: dict[str, Any] = {**TINY_SETTINGS, "library": nine_attributes(tmp_path / "nine"), "network": tiny}
    result = hide_video(clip, tmp_path / "out.mp4", method=name, files=files, threshold=0.3, seed=1, **options)
    document = json.loads(json.dumps(result.as_json()))
    whole = name != "person-mean"
    assert document["settings"]["method"] == document["settings"]["changed_from_preset"]["method"] == name
    assert document["mask"] == {"source": "whole frame" if whole else "templates"}
    assert document["backbone"]["name"] == ("none" if whole else "dinov2-vits14-embedded")
    assert document["flow"] == ("none" if whole else "dis")
    assert document["attributes"] == ([] if whole else list(ATTRIBUTES))
    if whole:
        assert document["coverage"]["hidden_share_mean"] == 1
    assert not any("seed" in reason for reason in result.not_for_release), "nothing random was made"
    assert (make(name).weakness in result.not_for_release) == (name != "black")
    assert len(read(tmp_path / "out.mp4")) == 4
    paths = sorted((tmp_path / "dump").glob("*.npz"))
    assert len(paths) == 4
    for index, path in enumerate(paths):
        frame = dict(np.load(path))
        image, mask, put = (frame[key].astype(np.float64) for key in ("image", "mask", "noise"))
        assert mask.any()
        assert np.abs(image + mask[..., None] * (put - image) - frame["output"]).max() <= 0.5 + 1e-3
        with Image.open(tmp_path / "masks" / f"{index:06d}.png") as exported:
            assert np.array_equal(np.asarray(exported) == 255, mask == 1)


@pytest.mark.parametrize("name", NAIVE)
def test_a_mask_that_matches_nothing_writes_nothing(name: str, tiny: Backbone, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=3)
    options: dict[str, Any] = {**TINY_SETTINGS, "library": tiny_library(tmp_path / "two"), "network": tiny}
    options |= {"method": name, "threshold": 1.0}
    with pytest.raises(NothingMatchedError):
        hide_video(clip, tmp_path / "out.mp4", "hair", **options)
    assert not (tmp_path / "out.mp4").exists()
    result = hide_video(clip, tmp_path / "out.mp4", "hair", files=FileOptions(allow_empty=True), **options)
    assert result.coverage["frames_without_match"] == 3
    assert any("nothing matched" in reason for reason in result.not_for_release)


@pytest.mark.parametrize("name", WHOLE)
def test_the_smallest_picture_that_can_be_read_is_covered(name: str, tmp_path: Path) -> None:
    """16 pixels: fewer than the strong kernel is wide."""
    Image.fromarray(patchwork((17, 16))).save(tmp_path / "small.png")
    for at_native in {False, make(name).has_scale}:
        options: dict[str, Any] = {"method": name, "at_native": at_native}
        hide_video(tmp_path / "small.png", tmp_path / "out.png", files=FileOptions(force=True), **options)
        (expected,) = Hider(device="cpu", **options).hide([patchwork((17, 16))])
        assert np.array_equal(read(tmp_path / "out.png"), expected[None])
