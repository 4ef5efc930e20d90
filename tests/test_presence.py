"""Whether anybody is there: islands of saliency with nobody in them go, everything else stays as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from tiny import TINY_SETTINGS, patchwork, tiny_library
from torch import Tensor

from anonymotion.backbone import Backbone
from anonymotion.device import choose_device
from anonymotion.matcher import Matcher
from anonymotion.presence import Presence, level, reconstruct
from anonymotion.presets import PRESETS, settings_for
from anonymotion.probe import Probe
from anonymotion.registry import FeatureSpec
from anonymotion.templates import TemplateLibrary

GRID = (6, 9)
PLANE = hnp.arrays(np.float32, GRID, elements=st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8]))
SEEDS = hnp.arrays(np.bool_, GRID)
EIGHT = np.ones((3, 3), bool)


def somebody_at(seeds: Tensor, bound: tuple[bool, ...] = (True,)) -> tuple[Presence, Tensor]:
    """A presence and descriptors, for which exactly the cells of (rows, columns) `seeds` are surely somebody."""
    probe = Probe(torch.tensor([[10.0, 0.0], [-10.0, 0.0]]), torch.zeros(2))
    descriptors = torch.stack([torch.where(seeds, 1.0, -1.0), torch.zeros(GRID)], dim=-1)[None]
    return Presence(FeatureSpec(), probe, torch.zeros(2), 0.8, torch.tensor(bound)), descriptors


@given(PLANE, SEEDS, st.sampled_from([0.2, 0.4, 0.6, 0.8]))
def test_reconstruction_keeps_at_every_threshold_the_islands_that_hold_a_marker(
    ground: np.ndarray, seeds: np.ndarray, threshold: float
) -> None:
    marker = np.where(seeds, ground, 0)
    got = reconstruct(torch.from_numpy(marker)[None, None], torch.from_numpy(ground)[None, None])[0, 0].numpy()
    labels, _ = ndimage.label(ground >= np.float32(threshold), structure=EIGHT)
    held = np.setdiff1d(labels[seeds], [0])
    assert np.array_equal(got >= np.float32(threshold), np.isin(labels, held))


@given(PLANE, SEEDS)
def test_nothing_is_added_and_what_is_surely_somebody_stays(plane: np.ndarray, seeds: np.ndarray) -> None:
    planes = torch.from_numpy(plane)[None, None]
    presence, descriptors = somebody_at(torch.from_numpy(seeds))
    weighed = presence.weigh(planes, descriptors)
    assert (weighed <= planes).all()
    near = ndimage.binary_dilation(seeds, EIGHT)
    assert torch.equal(weighed[0, 0][near], planes[0, 0][near])
    if not seeds.any():
        assert not weighed.any()
    if seeds.all():
        assert torch.equal(weighed, planes)


def test_two_islands_of_which_one_holds_somebody() -> None:
    plane = torch.zeros(GRID)
    plane[1:3, 0:2], plane[1:3, 6:8] = 0.7, 0.6
    seeds = torch.zeros(GRID, dtype=torch.bool)
    seeds[1, 0] = True
    presence, descriptors = somebody_at(seeds)
    weighed = presence.weigh(plane[None, None], descriptors)[0, 0]
    assert torch.equal(weighed[:, :3], plane[:, :3])
    assert not weighed[:, 5:].any()
    # a gap of two cells is bridged, one of three is not
    plane[1:3, 4] = 0.7
    assert torch.equal(presence.weigh(plane[None, None], descriptors)[0, 0][:, :8], plane[:, :8])


def test_attributes_count_together_and_those_that_are_not_bound_stay() -> None:
    hair, face, logo = torch.zeros(GRID), torch.zeros(GRID), torch.zeros(GRID)
    hair[0, 0:3], face[1, 0:3], logo[5, 8] = 0.5, 0.9, 0.7
    seeds = torch.zeros(GRID, dtype=torch.bool)
    seeds[1, 2] = True
    presence, descriptors = somebody_at(seeds, (True, True, False))
    planes = torch.stack([hair, face, logo])[None]
    assert torch.equal(presence.weigh(planes, descriptors), planes), "hair lies beside a face"
    presence, descriptors = somebody_at(torch.zeros(GRID, dtype=torch.bool), (True, True, False))
    weighed = presence.weigh(planes, descriptors)[0]
    assert not weighed[:2].any()
    assert torch.equal(weighed[2], logo)


def test_a_library_of_which_nothing_is_sure_is_asked_for_less() -> None:
    probe = Probe(torch.tensor([[4.0, 0.0], [0.0, 0.0]]), torch.zeros(2))
    sure, unsure = torch.tensor([[1.0, 0.0]] * 20), torch.tensor([[0.0, 1.0]] * 20)
    assert level(probe, sure, 0.8) == 0.8
    assert level(probe, unsure, 0.8) == pytest.approx(0.5)
    assert level(probe, torch.cat([sure, unsure[:4]]), 0.8) == pytest.approx(0.5)


def _matcher(library: TemplateLibrary, tiny: Backbone, names: tuple[str, ...], **settings: float) -> Matcher:
    chosen = settings_for("strict", **{"backbone": tiny.name, **TINY_SETTINGS, **settings})
    device = choose_device("cpu").device
    return Matcher(chosen, library, names, (), backbone=tiny, person_mask=None, device=device)


def test_the_matcher_weighs_unless_it_is_told_not_to(tmp_path: Path, tiny: Backbone) -> None:
    library = tiny_library(tmp_path / "library")
    frames = torch.from_numpy(np.stack([patchwork((64, 80), seed=3)]))
    weighed, plain = (_matcher(library, tiny, ("hair",), presence=value) for value in (0.8, 0.0))
    assert plain.presence is None
    assert weighed.presence is not None
    found = tiny.extract(frames, weighed.specs)
    expected = weighed.presence.weigh(plain.planes(found), found[weighed.presence.spec].descriptors)
    assert torch.equal(weighed.planes(found), expected)
    assert _matcher(library, tiny, ("hair",), contrast=0.0).presence is None
    assert PRESETS["paper"].presence == PRESETS["paper-debiased"].presence == 0


def test_a_frame_of_gravel_has_no_person_in_it(library: TemplateLibrary, embedded_backbone: Backbone) -> None:
    names = library.expand(["person"])
    device = choose_device("cpu").device
    pictures = {name: library.pictures[name].read() for name in ("bg_gravel", "hopper")}
    shares = {}
    for presence in (0.0, 0.8):
        settings = settings_for("strict", presence=presence)
        matcher = Matcher(settings, library, names, (), backbone=embedded_backbone, person_mask=None, device=device)
        for name, picture in pictures.items():
            shares[name, presence] = float(matcher.find(torch.from_numpy(picture.copy())[None]).mask.float().mean())
    assert shares["bg_gravel", 0.8] == 0
    assert shares["bg_gravel", 0.0] > 0.5, "otherwise this shows nothing"
    assert shares["hopper", 0.8] > 0.95 * shares["hopper", 0.0] > 0.5
