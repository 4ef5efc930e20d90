"""Clips: which frames are taken, how they are cut, and that nothing but the clip decides at test time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from miniatures import frames as write_frames
from PIL import Image
from synthetic import make_clip, number_in

from anonymotion import video
from anonymotion.errors import DatasetError, InputError
from anonymotion.research.clips import (
    ClipTransform,
    frames_of,
    privacy_indices,
    read_clip,
    sample,
    slowfast_pack,
)
from anonymotion.research.datasets import Clip


def clip(path: str, first: int = 0, last: int | None = None) -> Clip:
    return Clip("c", Path(path), first, last, "run", {}, "c")


@pytest.mark.parametrize("kind", ["v.mp4", "frames"])
def test_a_span_of_a_video_and_of_a_folder(tmp_path: Path, kind: str) -> None:
    if kind == "frames":
        write_frames(tmp_path / kind, "f_%d.png", 12)  # f_10 comes after f_9
    else:
        make_clip(tmp_path / kind, frames=12, size=(64, 48))
    assert [number_in(frame) for frame in read_clip(clip(kind), tmp_path)] == list(range(12))
    part = read_clip(clip(kind, 8, 11), tmp_path)
    assert [number_in(frame) for frame in part] == [8, 9, 10]
    assert part.dtype == np.uint8
    with pytest.raises(DatasetError, match="ends after 12"):
        read_clip(clip(kind, 5, 13), tmp_path)
    with pytest.raises(DatasetError, match="ends after 12"):
        read_clip(clip(kind, 12), tmp_path)


def test_pictures_of_copies_have_the_pixels_that_a_video_decoder_gives(tmp_path: Path) -> None:
    """Also grey and see-through ones; a damaged one is an error and not half a picture."""
    random = np.random.default_rng(0)
    for number, shape in enumerate(((40, 48, 3), (40, 48), (40, 48, 4))):
        folder = tmp_path / str(number)
        folder.mkdir()
        Image.fromarray(random.integers(0, 256, shape).astype(np.uint8)).save(folder / "000000.png")
        with video.open_source(folder / "000000.png") as picture:
            (expected,) = (frame.image for frame in picture)
        (found,) = frames_of(folder)
        assert found.dtype == np.uint8
        assert np.array_equal(found, expected)
    file = tmp_path / "0" / "000000.png"
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:2000] + b"xxxx" + whole[2004:], b""):
        file.write_bytes(damaged)
        with pytest.raises(InputError):
            list(frames_of(tmp_path / "0"))


def test_frames_that_do_not_belong_together(tmp_path: Path) -> None:
    write_frames(tmp_path / "f", "%d.png", 2)
    np.save(tmp_path / "f" / "notes.npy", np.zeros(1))  # no picture
    assert len(list(frames_of(tmp_path / "f"))) == 2
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="holds no frames"):
        read_clip(clip("empty"), tmp_path)
    with pytest.raises(DatasetError, match="is not there"):
        read_clip(clip("nowhere.mp4"), tmp_path)


@given(
    frames=st.integers(1, 200),
    window=st.integers(1, 40),
    stride=st.integers(1, 8),
    training=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_never_fewer_frames_than_there_are_or_are_asked_for(
    frames: int, window: int, stride: int, training: bool, seed: int
) -> None:
    index = sample(frames, window, stride, training=training, generator=torch.Generator().manual_seed(seed))
    assert len(index) == min(window, frames)
    assert len(set(index.tolist())) == len(index)
    assert (np.diff(index) > 0).all()
    assert index[0] >= 0
    assert index[-1] < frames
    if frames >= (window - 1) * stride + 1 and frames > window:
        assert (np.diff(index) == stride).all()


def test_the_middle_is_taken_at_test_time_and_every_place_in_training() -> None:
    assert sample(20, 4, 2, training=False).tolist() == [6, 8, 10, 12]
    assert sample(10, 32, 2, training=False).tolist() == list(range(10))
    assert sample(10, 4, 5, training=False).tolist() == [0, 3, 6, 9]
    generator = torch.Generator().manual_seed(0)
    starts = {int(sample(20, 4, 2, training=True, generator=generator)[0]) for _ in range(300)}
    assert starts == set(range(14))
    with pytest.raises(DatasetError, match="at least 1"):
        sample(0, 4, 2, training=False)


@given(frames=st.integers(1, 300), count=st.integers(1, 64))
def test_privacy_frames_are_evenly_spaced(frames: int, count: int) -> None:
    index = privacy_indices(frames, count)
    assert len(set(index.tolist())) == min(frames, count)
    assert index[0] >= 0
    assert index[-1] < frames
    gaps = np.diff(index)
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


def test_privacy_frames_of_the_paper() -> None:
    assert privacy_indices(64, 32).tolist() == list(range(1, 64, 2))
    assert privacy_indices(10, 16).tolist() == list(range(10))
    with pytest.raises(DatasetError, match="at least 1"):
        privacy_indices(0, 16)


def test_slowfast_has_a_quarter_of_the_frames_in_its_slow_path() -> None:
    moving = torch.arange(32.0).reshape(1, 1, 32, 1, 1).expand(2, 3, 32, 4, 4)
    slow, fast = slowfast_pack(moving)
    assert fast is moving
    assert slow.shape == (2, 3, 8, 4, 4)
    assert slow[0, 0, [0, -1], 0, 0].tolist() == [0, 31]
    assert slowfast_pack(moving[:, :, :3])[0].shape[2] == 1


def gradient(count: int = 5) -> np.ndarray:
    """Red rises to the right, green downwards, blue with time; wider than high."""
    y, x = np.mgrid[:40, :60]
    frame = np.stack([x * 4, y * 6, np.zeros_like(x)], axis=2).astype(np.uint8)
    clips = np.stack([frame] * count)
    clips[..., 2] = np.arange(count)[:, None, None] * 10
    return clips


def test_test_time_cuts_the_middle_and_normalises() -> None:
    transform = ClipTransform(crop=40, short_side=40, mean=0.0, std=1.0)
    result = transform(gradient())
    assert result.shape == (3, 5, 40, 40)
    assert result.dtype == torch.float32
    expected = torch.from_numpy(gradient()[:, :, 10:50]).permute(3, 0, 1, 2) / 255
    torch.testing.assert_close(result, expected)
    normal = ClipTransform(crop=40, short_side=40, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3))(gradient())
    torch.testing.assert_close(normal[2], (expected[2] - 0.3) / 0.3)
    assert ClipTransform(crop=32, short_side=36)(gradient()).shape == (3, 5, 32, 32)
    torch.testing.assert_close(transform(gradient(), torch.Generator().manual_seed(5)), result, rtol=0, atol=0)


def test_one_draw_decides_for_all_frames_of_a_clip() -> None:
    transform = ClipTransform(crop=32, short_side=36, largest=60, training=True, mean=0.0, std=1.0)
    still = np.repeat(gradient(1), 6, axis=0)
    generator = torch.Generator().manual_seed(0)
    mirrored = []
    for _ in range(20):
        result = transform(still, generator)
        assert result.shape == (3, 6, 32, 32)
        assert (result == result[:, :1]).all()
        mirrored.append(bool(result[0, 0, 0, 0] > result[0, 0, 0, -1]))
    assert 0 < sum(mirrored) < 20
    same = [transform(still, torch.Generator().manual_seed(3)) for _ in range(2)]
    torch.testing.assert_close(same[0], same[1], rtol=0, atol=0)
    upright = ClipTransform(crop=32, short_side=36, training=True, flip=False)
    for seed in range(10):
        result = upright(still, torch.Generator().manual_seed(seed))
        assert result[0, 0, 0, 0] < result[0, 0, 0, -1]


def test_a_crop_that_does_not_fit_is_refused() -> None:
    with pytest.raises(DatasetError, match="crop <= short side"):
        ClipTransform(crop=64, short_side=48)
