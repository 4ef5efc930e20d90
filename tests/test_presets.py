"""Settings: every bad value is one sentence, and the presets are the method's."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest
import torch

from anonymotion.errors import SettingsError
from anonymotion.noise import make_noise
from anonymotion.presets import PRESETS, PerAttribute, Settings, settings_for
from anonymotion.registry import AGGREGATIONS, BACKBONES, FACETS, FLOWS, NOISES


@pytest.mark.parametrize(
    "bad",
    [
        {"backbone": "vgg"},
        {"facet": "keys"},
        {"layer": 12},
        {"layer": -1},
        {"layer": "10,torso=12"},
        {"layer": "ten"},
        {"layer": 10.5},
        {"stride": -1},
        {"stride": 15},
        {"stride": 3.5},
        {"short_side": 100},
        {"short_side": 0},
        {"exemplar_aggregation": "median"},
        {"attribute_aggregation": "median"},
        {"threshold": 0},
        {"threshold": 1.01},
        {"threshold": float("nan")},
        {"threshold": "0.5,hair=0"},
        {"threshold": "0.5,0.6"},
        {"threshold": "0.5;hair=0.4"},
        {"threshold": ""},
        {"dilation": -0.1},
        {"dilation": 26},
        {"dilation": float("nan")},
        {"look_ahead": -1},
        {"look_ahead": 31},
        {"look_ahead": 2.0},
        {"motion_dilation": -0.1},
        {"motion_dilation": 4.1},
        {"motion_dilation": float("nan")},
        {"feather": -1},
        {"feather": 11},
        {"flow": "farneback"},
        {"flow": "raft-small", "flow_iterations": 0},
        {"flow": "raft-small", "flow_iterations": 101},
        {"flow": "raft-small", "flow_iterations": 12.0},
        {"flow_iterations": 20},
        {"flow_scale": 0},
        {"flow_scale": 0.09},
        {"flow_scale": 8.1},
        {"flow_scale": float("nan")},
        {"flow_scale": "large"},
        {"noise": "pink"},
        {"noise_mean": 1.1},
        {"noise_mean": 0.2},
        {"noise_std": 0},
        {"noise_std": 0.6},
        {"noise_std": float("nan")},
        {"composite": "add"},
        {"no_such_setting": 1},
    ],
    ids=str,
)
def test_a_bad_value_is_one_sentence(bad: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as caught:
        settings_for(**bad)
    message = str(caught.value)
    assert "\n" not in message
    assert 10 < len(message) < 500


def test_an_unknown_preset_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="strict, paper, paper-debiased"):
        settings_for("lenient")


def test_every_noise_that_settings_allow_can_be_made(cpu: torch.device) -> None:
    for mean in range(1, 100):
        for std in range(1, 51):
            try:
                settings = Settings(noise_mean=mean / 100, noise_std=std / 100)
            except SettingsError:
                continue
            made = make_noise(
                "iid", (1, 1), mean=settings.noise_mean, std=settings.noise_std, device=torch.device("cpu")
            )
            assert made.next(torch.zeros(2, 1, 1)).min() >= 0


def test_per_attribute_values_are_parsed_and_printed() -> None:
    value = PerAttribute.parse("0.5, Hair=0.25,torso = 0.75", float)
    assert (value["hair"], value["torso"], value["leg"]) == (0.25, 0.75, 0.5)
    assert value.values() == (0.5, 0.25, 0.75)
    assert PerAttribute.parse(str(value), float) == value
    assert PerAttribute.parse("7", int)["anything"] == 7


def test_a_value_for_one_attribute_leaves_the_others_as_the_preset_has_them() -> None:
    base = PerAttribute(0.5, (("face", 0.4), ("eyes", 0.3), ("hand", 0.2)))
    value = PerAttribute.parse("hand=0.6", float, base)
    assert [value[name] for name in ("hair", "lips", "eyes", "hand")] == [0.5, 0.4, 0.3, 0.6]
    value = PerAttribute.parse("face=0.7", float, base)
    assert [value[name] for name in ("hair", "lips", "eyes", "hand")] == [0.5, 0.7, 0.7, 0.2]
    assert PerAttribute.parse("0.9,hand=0.6", float, base)["eyes"] == 0.9
    with pytest.raises(SettingsError, match="no default"):
        PerAttribute.parse("hand=0.6", float)
    changed = settings_for("strict", threshold="hair=0.4").threshold
    assert (changed["hair"], changed["arm"]) == (0.4, Settings().threshold["arm"])


def test_overrides_change_a_preset_and_none_changes_nothing() -> None:
    assert settings_for("strict") == PRESETS["strict"] == Settings()
    assert settings_for("paper", layer=None, flow=None) == PRESETS["paper"]
    changed = settings_for("strict", threshold=0.25, layer="9,torso=11", flow="dis-fast", stride=7)
    assert changed.threshold["hair"] == 0.25
    assert (changed.layer["hair"], changed.layer["torso"]) == (9, 11)
    assert changed.spec_of("torso").layer == 11
    assert changed.spec_of("hair").stride == 7
    assert changed.names_per_attribute() == {"torso", "face", "body", "hair"}, "the others: the preset's contrast"
    assert PRESETS["strict"] == Settings(), "presets are not changed by overrides"


def test_the_paper_preset_is_the_published_setting() -> None:
    """Section 1 and 2 of the method: DINO ViT-S/8 at stride 4 and short side 224, keys of block 11, eq. 1 to 5."""
    paper = PRESETS["paper"]
    assert BACKBONES[paper.backbone].architecture == "vit_small_patch8_224"
    assert (paper.stride, paper.short_side, paper.facet.values()) == (4, 224, ("key",))
    assert paper.layer.values() == (11,)
    assert not paper.debias
    assert paper.spec_of("hair").mean is None
    assert paper.flow == "raft-large"
    assert (paper.exemplars, paper.exemplar_aggregation, paper.attribute_aggregation) == ("first", "mean", "mean")
    assert (paper.noise, paper.composite) == ("first-frame", "blend")
    assert (paper.dilation, paper.feather, paper.look_ahead, paper.motion_dilation) == (0, 0, 0, 0)


def test_paper_debiased_is_the_same_equations_on_what_is_in_the_package() -> None:
    paper, debiased = PRESETS["paper"].as_json(), PRESETS["paper-debiased"].as_json()
    assert {name for name in paper if paper[name] != debiased[name]} == {
        "preset", "backbone", "stride", "short_side", "debias", "flow",
    }  # fmt: skip
    assert PRESETS["paper-debiased"].debias
    assert BACKBONES[PRESETS["paper-debiased"].backbone].embedded_file
    assert PRESETS["paper-debiased"].flow == "dis"


def test_strict_hides() -> None:
    strict = PRESETS["strict"]
    assert (strict.composite, strict.noise) == ("replace", "accumulated")
    assert strict.exemplar_aggregation in ("max", "noisy-or"), "a template more must never hide less"
    assert strict.dilation > 0
    assert strict.look_ahead >= 3, "a matcher that drops out for three frames leaks nothing"
    assert BACKBONES[strict.backbone].embedded_file


def test_presets_know_their_own_name() -> None:
    assert all(settings.preset == name for name, settings in PRESETS.items())


def test_every_setting_explains_itself_and_names_its_choices() -> None:
    helps = {item.name: item.metadata.get("help", "") for item in fields(Settings) if item.name != "preset"}
    assert all(helps.values()), [name for name, text in helps.items() if not text]
    for name, choices in (
        ("backbone", BACKBONES),
        ("facet", FACETS),
        ("flow", FLOWS),
        ("noise", NOISES),
        ("exemplar_aggregation", AGGREGATIONS),
    ):
        assert all(choice in helps[name] for choice in choices), name


def test_settings_survive_json() -> None:
    settings = settings_for("strict", threshold="0.5,hair=0.25", layer="10,torso=11")
    content = json.loads(json.dumps(settings.as_json()))
    assert settings_for(content.pop("preset"), **content) == settings
