"""Maps kept of a video give, for any subset and threshold, what matching anew gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TINY_SETTINGS, explained, nine_attributes

from anonymotion.backbone import Backbone
from anonymotion.errors import DatasetError, SettingsError
from anonymotion.pipeline import Hider
from anonymotion.presets import Settings, settings_for
from anonymotion.research.maps import FIELDS, MapHider, MapMaker, MapStore
from anonymotion.templates import TemplateLibrary

CONTRAST = "0.05,face=0.1,hair=0.02"


@pytest.fixture
def nine(tmp_path: Path) -> TemplateLibrary:
    return nine_attributes(tmp_path / "nine")


def settings(**changes: object) -> Settings:
    fields = {**TINY_SETTINGS, "contrast": CONTRAST, "threshold": "0.5,hair=0.2,eyes=0.3,leg=0.3", **changes}
    return settings_for("strict", **{"close_up": 0, **fields, "layer": "2,face=1,hair=2,body=1"})


@pytest.mark.parametrize("names", [("hair",), ("forehead", "cheek", "torso"), ("hair", "eyes", "hand", "leg")])
def test_any_subset_of_kept_maps_is_hidden_as_if_it_were_matched(
    tiny: Backbone, nine: TemplateLibrary, frames: list[np.ndarray], names: tuple[str, ...]
) -> None:
    maker = MapMaker(settings(), tiny, nine)
    kept = MapHider(maker.look(np.stack(frames)), names, settings(), nine, seed=3)
    fields = {name: value for name, value in settings().as_json().items() if name != "preset"}
    anew = Hider(names, network=tiny, library=nine, seed=3, device="cpu", **fields)
    assert kept.settings == anew.settings
    one, other = explained(kept, frames), explained(anew, frames)
    # the probe's classes come in another order, so probabilities agree to rounding
    torch.testing.assert_close(one.saliency, other.saliency, atol=2e-3, rtol=0)
    assert torch.equal(one.flow, other.flow)
    assert float((one.alpha != other.alpha).float().mean()) < 0.01
    assert 0 < float(one.alpha.mean()) < 1


def test_asking_for_more_never_weakens_what_was_found(
    tiny: Backbone, nine: TemplateLibrary, frames: list[np.ndarray]
) -> None:
    maps = MapMaker(settings(), tiny, nine).look(np.stack(frames))
    few = explained(MapHider(maps, ("hair",), settings(), nine, seed=0), frames).saliency[:, 0]
    more = explained(MapHider(maps, ("hair", "leg", "torso"), settings(), nine, seed=0), frames).saliency[:, 0]
    assert (more >= few - 1e-6).all()
    assert (more > few + 1e-4).any()


def test_maps_are_looked_for_once_and_a_damaged_file_is_named(
    tiny: Backbone, nine: TemplateLibrary, frames: list[np.ndarray], tmp_path: Path
) -> None:
    video, clip = Path("walk/ann.avi"), np.stack(frames)
    store = MapStore(tmp_path / "maps", MapMaker(settings(), tiny, nine))
    first = store.of(video, clip)
    again = MapStore(tmp_path / "maps", MapMaker(settings(dilation=3.0), tiny, nine))
    second = again.of(video, clip)
    assert (store.computed, again.computed) == (1, 0)
    for name in FIELDS:
        assert torch.equal(getattr(first, name), getattr(second, name))
    assert MapStore(tmp_path / "maps", MapMaker(settings(short_side=70), tiny, nine)).folder != store.folder
    with pytest.raises(DatasetError, match="of another video"):
        again.of(video, clip[:-1])
    (file,) = store.folder.rglob("*.npz")
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DatasetError, match="cannot be read"):
        store.of(video, clip)


@pytest.mark.parametrize("preset", ["paper-debiased", "strict"])
def test_settings_for_which_maps_mean_nothing_are_refused(tiny: Backbone, nine: TemplateLibrary, preset: str) -> None:
    fields = {**TINY_SETTINGS, "every": "2"} if preset == "strict" else TINY_SETTINGS
    with pytest.raises(SettingsError, match="use strict"):
        MapMaker(settings_for(preset, **fields), tiny, nine)
