"""Features and probes: shapes, what they see, that they are computed once and from what is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from bench_world import make_world, squares

from anonymotion.backbone import Backbone
from anonymotion.errors import InputError, SettingsError
from anonymotion.research import features as module
from anonymotion.research.clips import read_clip
from anonymotion.research.datasets import Clip, open_dataset
from anonymotion.research.features import (
    EXTRACTORS,
    Extractor,
    FeatureStore,
    evenly,
    extractor_entry,
    flow_statistics,
    moving_boxes,
    person_crops,
    whole_frames,
)
from anonymotion.research.probes import PROBES, Examples, Probe

CPU = torch.device("cpu")


def clip(person: str = "ann", action: str = "run", kind: str = "source") -> np.ndarray:
    return np.stack(squares(person, action, kind))


@pytest.mark.parametrize(("frames", "count"), [(1, 4), (4, 4), (5, 4), (100, 3)])
def test_evenly_spread_indices_are_different_and_inside(frames: int, count: int) -> None:
    found = evenly(frames, count).tolist()
    assert len(set(found)) == len(found) == min(frames, count)
    assert sorted(found) == found
    assert found[0] >= 0
    assert found[-1] < frames


def test_the_moving_square_is_in_its_box() -> None:
    frames = clip(action="run")
    for (x0, y0, x1, y1), index in zip(moving_boxes(frames, 4), evenly(len(frames), 4), strict=True):
        middle = 4 + 4 * index % 30 + 5
        assert x0 <= middle <= x1
        assert (y0, y1) != (0, 40) or (x0, x1) != (0, 48)


def test_a_clip_in_which_nothing_moves_is_taken_whole() -> None:
    assert moving_boxes(clip(action="stay"), 2) == [(0, 0, 48, 40)] * 2


def test_flow_statistics_tell_directions_apart_and_their_second_row_is_the_mirror_image() -> None:
    run, jump = (flow_statistics(clip(action=action)) for action in ("run", "jump"))
    assert run.shape == jump.shape == (2, 4 * 4 * 10 * 2 + 20)
    assert run.dtype == np.float32
    assert np.isfinite(run).all()
    assert np.abs(run[0] - jump[0]).max() > 0.1
    mirrored = flow_statistics(np.ascontiguousarray(clip(action="run")[:, :, ::-1]))
    # the flow of the mirrored pictures is not exactly the mirrored flow, but far nearer than the unmirrored one
    assert np.abs(mirrored[0] - run[1]).mean() < 0.5 * np.abs(mirrored[0] - run[0]).mean()


@pytest.mark.parametrize("frames", [1, 2])
def test_very_short_clips_have_flow_statistics_too(frames: int) -> None:
    assert np.isfinite(flow_statistics(clip()[:frames])).all()


def test_flow_statistics_see_no_colour() -> None:
    one, other = (flow_statistics(clip(person, "run", "grey")) for person in ("ann", "bob"))
    assert np.array_equal(one, other)


@pytest.mark.usefixtures("tiny")
def test_frozen_features_have_one_row_per_frame(tiny: Backbone) -> None:
    for compute in (whole_frames, person_crops):
        found = compute(clip(), tiny, count=3)
        assert found.shape == (3, 32)
        assert compute(clip()[:2], tiny, count=3).shape == (2, 32)


def test_the_person_is_looked_for_in_what_is_given(tiny: Backbone) -> None:
    """Of two clips that differ only outside of the box, the crops are the same and the whole frames are not."""
    frames = clip(action="run")
    x1 = max(box[2] for box in moving_boxes(frames, 3))
    other = frames.copy()
    other[:, 39:, :] = 100  # still: the same in every frame
    boxes = moving_boxes(frames, 3)
    assert x1 <= 48
    if all(box[3] <= 39 for box in boxes):
        assert np.array_equal(person_crops(frames, tiny, count=3), person_crops(other, tiny, count=3))
    assert not np.array_equal(whole_frames(frames, tiny, count=3), whole_frames(other, tiny, count=3))


def store(folder: Path) -> FeatureStore:
    return FeatureStore(folder / "features", CPU, read_clip)


def test_features_are_computed_once_per_content_and_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset("weizmann", make_world(tmp_path / "data"))
    ids = [item.id for item in dataset.clips if item.last is None]
    first = store(tmp_path)
    found = first.of("flow", dataset, ids)
    assert found.shape == (9, 2, 340)
    assert first.computed == 9
    again = store(tmp_path)
    assert np.array_equal(again.of("flow", dataset, ids), found)
    assert again.computed == 0
    picture = next((tmp_path / "data" / "run" / "ann_run").glob("*3.png"))
    picture.write_bytes(next((tmp_path / "data" / "run" / "ann_run").glob("*5.png")).read_bytes())
    changed = store(tmp_path)
    changed.of("flow", dataset, ids)
    assert changed.computed == 1
    monkeypatch.setitem(EXTRACTORS, "flow", Extractor(flow_statistics, version=2, needs_backbone=False))
    newer = store(tmp_path)
    newer.of("flow", dataset, ids)
    assert newer.computed == 9


def test_a_clip_is_read_once_for_all_that_will_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, power in (("means", 1), ("squares", 2)):
        monkeypatch.setitem(
            EXTRACTORS, name, Extractor(lambda frames, _, p=power: (frames / 255.0).mean(axis=(1, 2)) ** p, 1, False)
        )
    dataset = open_dataset("weizmann", make_world(tmp_path / "data"))
    read = []

    def spy(item: Clip, root: Path) -> np.ndarray:
        read.append(item.id)
        return read_clip(item, root)

    together = FeatureStore(tmp_path / "features", CPU, spy, together=("means", "squares"))
    means = together.of("means", dataset, ["ann_run", "bob_run"])
    assert np.allclose(together.of("squares", dataset, ["ann_run", "bob_run"]), means**2)
    assert read == ["ann_run", "bob_run"]
    alone = FeatureStore(tmp_path / "other", CPU, spy)
    alone.of("means", dataset, ["ann_run"])
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["means"]


def test_damaged_features_and_missing_videos_are_named(tmp_path: Path) -> None:
    dataset = open_dataset("weizmann", make_world(tmp_path / "data"))
    store(tmp_path).of("flow", dataset, ["ann_run"])
    (path,) = (tmp_path / "features" / "flow").iterdir()
    path.write_bytes(b"x")
    with pytest.raises(InputError, match="damaged: delete it"):
        store(tmp_path).of("flow", dataset, ["ann_run"])
    (tmp_path / "data" / "run" / "ann_run").rename(tmp_path / "gone")
    with pytest.raises(InputError, match="ann_run cannot be read"):
        store(tmp_path).of("flow", dataset, ["ann_run"])


def test_clips_of_different_numbers_of_frames_go_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def frame_means(frames: np.ndarray, backbone: Backbone | None) -> np.ndarray:
        return frames.mean(axis=(1, 2))

    monkeypatch.setitem(EXTRACTORS, "means", Extractor(frame_means, needs_backbone=False))
    dataset = open_dataset("weizmann", make_world(tmp_path / "data"))
    windows = ["ann_run", "ann_run.middle"]
    found = store(tmp_path).of("means", dataset, windows)
    assert found.shape == (2, 12, 3)
    assert len(np.unique(found[1], axis=0)) == 2


def test_the_pooled_layer_is_the_backbones_last(tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    original = Backbone.extract

    def spy(self: Backbone, images: torch.Tensor, specs: object) -> object:
        asked.extend(specs)  # type: ignore[arg-type]
        return original(self, images, specs)  # type: ignore[arg-type]

    monkeypatch.setattr(Backbone, "extract", spy)
    whole_frames(clip(), tiny)
    assert [(spec.layer, spec.facet) for spec in asked] == [(2, "token")]


def test_unknown_features_are_refused() -> None:
    with pytest.raises(SettingsError, match="dinov2, dinov2-person, flow"):
        extractor_entry("hog")
    assert {entry.features for entry in PROBES.values()} <= set(module.EXTRACTORS)


def examples(count: int, seed: int, classes: int = 3, spread: float = 0.3) -> Examples:
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = np.eye(classes, 6) * 2
    noise = random.normal(0, spread, (count, 4, 6))
    return Examples((centres[labels][:, None] + noise).astype(np.float32), labels)


@pytest.mark.parametrize("name", list(PROBES))
def test_a_probe_learns_what_can_be_learned(name: str) -> None:
    probe = Probe(PROBES[name], 3, examples(12, 0), examples(6, 1))
    test = examples(30, 2)
    scores = probe.scores(test.features)
    assert scores.shape == (30, 3)
    assert np.isfinite(scores).all()
    assert (scores.argmax(axis=1) == test.labels).mean() > 0.9


def test_a_linear_probe_gives_log_probabilities_averaged_over_frames() -> None:
    probe = Probe(PROBES["dinov2-linear"], 3, examples(12, 0), examples(6, 1))
    test = examples(2, 3).features
    single = [np.exp(probe.scores(test[:, [place]])) for place in range(4)]
    assert np.allclose(np.exp(probe.scores(test)), np.mean(single, axis=0))
    assert np.allclose(np.exp(probe.scores(test)).sum(axis=1), 1)


def test_a_rotation_into_the_span_of_the_examples_changes_nothing() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    random = np.random.default_rng(0)
    few = Examples(random.normal(size=(9, 1, 30)).astype(np.float32), np.arange(9) % 3)
    test = random.normal(size=(20, 1, 30)).astype(np.float32)
    probe = Probe(PROBES["dinov2-linear"], 3, few, Examples(np.zeros((0, 1, 30), np.float32), np.zeros(0, int)))
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    plain.fit(few.features[:, 0], few.labels)
    assert np.allclose(np.exp(probe.scores(test)), plain.predict_proba(test[:, 0]), atol=1e-3)


def test_clips_that_are_all_alike_are_guessed_without_a_warning() -> None:
    """What is left of three clips under a strong filter may be the same picture."""
    alike = Examples(np.ones((3, 1, 30), np.float32), np.arange(3))
    scores = np.exp(Probe(PROBES["dinov2-linear"], 3, alike, alike).scores(alike.features))
    assert np.allclose(scores, 1 / 3, atol=1e-6)


def test_the_validation_clips_choose_the_strength() -> None:
    """Where features say nothing, the strongest regularisation loses least; where they say all, the weakest."""
    noise = Examples(np.random.default_rng(0).normal(size=(30, 1, 40)).astype(np.float32), np.arange(30) % 3)
    other = Examples(np.random.default_rng(1).normal(size=(30, 1, 40)).astype(np.float32), np.arange(30) % 3)
    assert Probe(PROBES["dinov2-linear"], 3, noise, other).strength == 0.001
    clear = Probe(PROBES["dinov2-linear"], 3, examples(30, 0, spread=0.01), examples(30, 1, spread=0.01))
    assert clear.strength == 10.0
    empty = Examples(np.zeros((0, 4, 6), np.float32), np.zeros(0, int))
    assert Probe(PROBES["dinov2-linear"], 3, examples(12, 0), empty).strength == 0.1


def test_the_nearest_neighbour_is_of_the_direction_not_the_length() -> None:
    training = Examples(np.array([[[101.0, 100]], [[100, 101.0]]], np.float32), np.array([0, 1]))
    probe = Probe(PROBES["dinov2-nearest"], 2, training, training)
    scores = probe.scores(np.array([[[109.0, 101.0]], [[100.5, 100.6]], [[100.51, 100.5]]], np.float32))
    assert scores.argmax(axis=1).tolist() == [0, 1, 0]


def test_a_class_without_a_training_clip_is_refused() -> None:
    with pytest.raises(SettingsError, match="1 of 4 classes"):
        Probe(PROBES["dinov2-linear"], 4, examples(12, 0), examples(6, 1))
