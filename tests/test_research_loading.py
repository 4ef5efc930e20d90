"""Clips as networks see them: deterministic, augmented once per clip, with flow of the pictures given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from bench_world import make_world

from anonymotion.research.datasets import Dataset, open_dataset
from anonymotion.research.loading import ClipCache, ClipSet
from anonymotion.research.networks import NETWORKS, NetworkEntry

SMALL = replace(NETWORKS["small-3d"], frames=5, stride=2, crop=24)
FLOW = replace(NETWORKS["e2s-x3d-s"], frames=4, stride=1, crop=32)
IMAGE = replace(NETWORKS["resnet-18"], crop=24)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset("weizmann", make_world(tmp_path_factory.mktemp("world") / "data"))


def clips(dataset: Dataset, entry: NetworkEntry, *names: str, training: bool = False, **options: object) -> ClipSet:
    labels = list(range(len(names)))
    return ClipSet(dataset, names, labels, entry, seed=0, training=training, **options)  # type: ignore[arg-type]


def test_a_clip_has_the_networks_shape_and_its_label(dataset: Dataset) -> None:
    found = clips(dataset, SMALL, "ann_run", "bob_jump")
    assert len(found) == 2
    clip, label = found.item(1, 0)
    assert (clip.shape, clip.dtype, label) == ((3, 5, 24, 24), torch.float32, 1)


@pytest.mark.parametrize("entry", [SMALL, FLOW, IMAGE], ids=["frames", "flow", "image"])
def test_a_test_clip_is_always_the_same_a_training_clip_only_within_its_epoch(
    dataset: Dataset, entry: NetworkEntry
) -> None:
    test = clips(dataset, entry, "ann_run")
    assert torch.equal(test.item(0, 0)[0], test.item(0, 5)[0])
    one, other = (clips(dataset, entry, "ann_run", training=True) for _ in range(2))
    assert torch.equal(one.item(0, 3)[0], other.item(0, 3)[0])
    assert not torch.equal(one.item(0, 3)[0], one.item(0, 4)[0])


def test_one_draw_serves_all_frames_of_a_clip(dataset: Dataset) -> None:
    """Nothing moves in this clip, so all frames are the same after one crop and one flip."""
    for epoch in range(5):
        clip, _ = clips(dataset, SMALL, "ann_stay", training=True).item(0, epoch)
        assert torch.equal(clip[:, :1].expand_as(clip), clip)


def test_short_clips_are_taken_whole_and_repeated(dataset: Dataset) -> None:
    long = replace(SMALL, frames=20)
    clip, _ = clips(dataset, long, "ann_run").item(0, 0)
    assert clip.shape[1] == 20
    different = {clip[:, place].numpy().tobytes() for place in range(20)}
    assert len(different) == 12


def test_an_image_network_sees_one_frame_in_training_and_many_at_test(dataset: Dataset) -> None:
    assert clips(dataset, IMAGE, "ann_run", training=True).item(0, 0)[0].shape == (3, 1, 24, 24)
    assert clips(dataset, IMAGE, "ann_run", privacy_frames=6).item(0, 0)[0].shape == (3, 6, 24, 24)
    assert clips(dataset, IMAGE, "ann_run", privacy_frames=32).item(0, 0)[0].shape == (3, 32, 24, 24)


def test_a_whole_clip_network_sees_its_beginning_and_its_end(dataset: Dataset) -> None:
    whole = replace(NETWORKS["small-3d-whole"], frames=12, crop=24)
    spread, _ = clips(dataset, whole, "ann_jump").item(0, 0)
    middle, _ = clips(dataset, replace(SMALL, stride=1), "ann_jump").item(0, 0)
    assert len({spread[:, place].numpy().tobytes() for place in range(12)}) > len(
        {middle[:, place].numpy().tobytes() for place in range(5)}
    )


def test_flow_colours_lie_behind_the_pictures_and_are_of_the_given_video(dataset: Dataset) -> None:
    moving, _ = clips(dataset, FLOW, "ann_run").item(0, 0)
    still, _ = clips(dataset, FLOW, "ann_stay").item(0, 0)
    assert moving.shape == still.shape == (6, 4, 32, 32)
    white = (1 - 0.45) / 0.225
    assert torch.allclose(still[3:], torch.full_like(still[3:], white), atol=0.05)
    assert (moving[3:] - white).abs().max() > 0.5


def test_the_colours_of_a_mirrored_clip_are_those_of_mirrored_motion(dataset: Dataset) -> None:
    """Mirroring comes before the flow: a square that runs to the right then has the colour of the left."""
    entry = replace(FLOW, crop=36)
    seen = []
    for epoch in range(12):
        clip, _ = clips(dataset, entry, "ann_run", training=True).item(0, epoch)
        colour = clip[3:, 1:]
        strongest = (colour - (1 - 0.45) / 0.225).abs().sum(dim=0).flatten().argmax()
        seen.append(colour.flatten(1)[:, strongest])
    red_minus_blue = [float(colour[0] - colour[2]) for colour in seen]
    assert max(red_minus_blue) > 0.5
    assert min(red_minus_blue) < -0.5


def test_decoded_clips_are_kept_up_to_a_limit(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    from anonymotion.research import loading

    reads = []
    original = loading.read_clip
    monkeypatch.setattr(loading, "read_clip", lambda clip, root: reads.append(clip.id) or original(clip, root))
    cache = ClipCache(limit_bytes=12 * 40 * 48 * 3 * 2)
    for name in ("ann_run", "bob_run", "ann_run", "cat_run", "ann_run", "bob_run"):
        cache.read(dataset, name, 100)
    assert reads == ["ann_run", "bob_run", "cat_run", "bob_run"]
    assert cache.read(dataset, "ann_run", 20).shape == (12, 20, 24, 3)
    assert np.array_equal(cache.read(dataset, "ann_run", 20), ClipCache(0).read(dataset, "ann_run", 20))
