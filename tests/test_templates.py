"""The built-in library, broken libraries, and descriptors kept between runs."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import TINY, patchwork, picture_entry, tiny_backbone, tiny_library, write_library

from anonymotion import template_bank
from anonymotion.backbone import Backbone
from anonymotion.descriptor_cache import DescriptorCache, user_cache_folder, write_packaged
from anonymotion.errors import TemplateError, UnknownAttributeError
from anonymotion.presets import DEBIASING_MEAN
from anonymotion.registry import ATTRIBUTES, GROUPS, FeatureSpec
from anonymotion.template_bank import build_bank, compute_vectors, template_descriptor
from anonymotion.templates import Picture, Template, TemplateLibrary

POINT = {"attribute": "hair", "picture": "one", "point": [3, 4]}


def spec(**changes: Any) -> FeatureSpec:
    return FeatureSpec(**{"backbone": TINY, "layer": 2, "short_side": 56, **changes})


# The built-in library


def test_every_picture_is_the_recorded_one_and_says_where_it_is_from(library: TemplateLibrary) -> None:
    for picture in library.pictures.values():
        image = picture.read()
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert picture.licence
        assert picture.source
    files = {picture.path for picture in library.pictures.values()}
    assert files == set((library.folder / "pictures").iterdir()), "a file without an entry, or two entries of one file"


def test_every_template_lies_inside_its_picture(library: TemplateLibrary) -> None:
    sizes = {name: picture.read().shape[:2] for name, picture in library.pictures.items()}
    for template in library.templates:
        height, width = sizes[template.picture]
        x0, y0, x1, y1 = template.box or (*(template.point or ()), *(template.point or ()))
        assert 0 <= x0 <= x1 <= width - (template.box is None), template
        assert 0 <= y0 <= y1 <= height - (template.box is None), template
        assert library.pictures[template.picture].kind != "background", template


def test_nobody_is_in_the_backgrounds_and_there_are_some(library: TemplateLibrary) -> None:
    assert sum(picture.kind == "background" for picture in library.pictures.values()) >= 3


def test_all_nine_attributes_have_exemplars_the_first_on_a_photograph(library: TemplateLibrary) -> None:
    assert library.attributes[:9] == ATTRIBUTES
    assert len(ATTRIBUTES) == 9
    for attribute in ATTRIBUTES:
        exemplars = library.exemplars(attribute)
        assert len(exemplars) >= 3, attribute
        assert not any(template.negative for template in exemplars)
        assert library.pictures[exemplars[0].picture].kind == "photograph", attribute
        assert len({library.pictures[t.picture].subject.split(",")[0] for t in exemplars}) >= 2, (
            "one person is no class"
        )


# Names


def test_groups_expand_in_order_without_duplicates(library: TemplateLibrary) -> None:
    assert library.expand(["face"]) == ("forehead", "eyes", "cheek", "lips")
    assert library.expand(["body"]) == ("torso", "arm", "leg", "hand")
    assert library.expand(["person"]) == ATTRIBUTES
    assert library.expand(["lips", " Face ", "HAIR", "lips"]) == ("lips", "forehead", "eyes", "cheek", "hair")
    assert set(GROUPS) == {"face", "body", "person"}


def test_an_unknown_attribute_is_answered_with_the_nearest_and_all_known(library: TemplateLibrary) -> None:
    with pytest.raises(UnknownAttributeError, match="did you mean 'forehead'") as caught:
        library.expand(["hair", "forhead"])
    assert all(name in str(caught.value) for name in (*ATTRIBUTES, *GROUPS))
    with pytest.raises(UnknownAttributeError, match="'qqqqqq'"):
        library.expand(["qqqqqq"])


@pytest.mark.parametrize("names", [[], [""], [" "]])
def test_no_attribute_is_an_error(library: TemplateLibrary, names: list[str]) -> None:
    with pytest.raises(UnknownAttributeError):
        library.expand(names)


def test_a_group_needs_all_its_attributes(tmp_path: Path) -> None:
    with pytest.raises(UnknownAttributeError):
        tiny_library(tmp_path).expand(["person"])


# Broken libraries


def library_of(
    folder: Path, picture: dict[str, Any] | None = None, template: dict[str, Any] | None = None, **kwargs: Any
) -> Path:
    entry = picture_entry(folder, "one", patchwork((60, 70)))
    entry = {key: value for key, value in {**entry, **(picture or {})}.items() if value is not None}
    return write_library(folder, [entry], [{**POINT, **(template or {})}], **kwargs)


def refused(folder: Path) -> str:
    with pytest.raises(TemplateError) as caught:
        TemplateLibrary.load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_helper_writes_a_library_that_loads(tmp_path: Path) -> None:
    loaded = TemplateLibrary.load(library_of(tmp_path))
    assert loaded.templates == (Template("hair", "one", (3.0, 4.0)),)


def test_no_library(tmp_path: Path) -> None:
    assert "library.toml" in refused(tmp_path)
    assert "library.toml" in refused(tmp_path / "absent")


@pytest.mark.parametrize("content", [b"schema_version = ", b"\xff\xfe", b"[[picture]\n", b"\x00"])
def test_broken_toml(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "library.toml").write_bytes(content)
    assert "TOML" in refused(tmp_path)


@pytest.mark.parametrize("version", [2, 0, "1"])
def test_another_schema_version(tmp_path: Path, version: object) -> None:
    assert "schema_version" in refused(library_of(tmp_path, version=version))


def test_no_entries(tmp_path: Path) -> None:
    (tmp_path / "library.toml").write_text("schema_version = 1\n")
    assert "[[picture]]" in refused(tmp_path)
    write_library(tmp_path, [picture_entry(tmp_path, "one", patchwork((20, 20)))], [])
    assert "[[template]]" in refused(tmp_path)
    (tmp_path / "library.toml").write_text("schema_version = 1\npicture = [1, 2]\n")
    refused(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"file": "../one.png"},
        {"file": "/etc/passwd"},
        {"file": 3},
        {"file": None},
        {"sha256": None},
        {"kind": "painting"},
    ],
)
def test_a_picture_entry_that_is_not_usable(tmp_path: Path, change: dict[str, Any]) -> None:
    (tmp_path / "library").mkdir()
    assert "[[picture]] number 1" in refused(library_of(tmp_path / "library", picture=change))


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "library"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(b"x")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    assert "outside" in refused(library_of(folder, picture={"file": "link.png"}))


def test_two_pictures_of_one_name(tmp_path: Path) -> None:
    entry = picture_entry(tmp_path, "one", patchwork((20, 20)))
    assert "one" in refused(write_library(tmp_path, [entry, entry], [POINT]))


@pytest.mark.parametrize(
    "change",
    [
        {"picture": "two"},
        {"point": [1]},
        {"point": []},
        {"point": "ab"},
        {"point": 5},
        {"box": [1, 2, 3, 4]},
        {"point": [1, 2], "box": [1, 2, 3, 4]},
    ],
)
def test_a_template_entry_that_is_not_usable(tmp_path: Path, change: dict[str, Any]) -> None:
    refused(library_of(tmp_path, template=change))


@pytest.mark.parametrize("box", [[5, 5, 5, 9], [5, 9, 8, 9], [9, 5, 5, 9], [1, 2, 3]])
def test_an_empty_or_short_box(tmp_path: Path, box: list[int]) -> None:
    entry = picture_entry(tmp_path, "one", patchwork((20, 20)))
    template = {"attribute": "hair", "picture": "one", "box": box}
    refused(write_library(tmp_path, [entry], [template]))


def test_a_template_is_either_a_point_or_a_box() -> None:
    with pytest.raises(TemplateError, match="either a point or a box"):
        Template("hair", "one")
    with pytest.raises(TemplateError, match="either a point or a box"):
        Template("hair", "one", (1, 2), (1, 2, 3, 4))


def test_a_missing_and_a_damaged_picture(tmp_path: Path) -> None:
    loaded = TemplateLibrary.load(library_of(tmp_path))
    (tmp_path / "one.png").write_bytes((tmp_path / "one.png").read_bytes()[:-3] + b"abc")
    with pytest.raises(TemplateError, match=r"one\.png"):
        loaded.pictures["one"].read()
    (tmp_path / "one.png").unlink()
    with pytest.raises(TemplateError, match=r"one\.png"):
        loaded.pictures["one"].read()


def test_a_file_that_is_no_picture(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"no picture").hexdigest()
    loaded = TemplateLibrary.load(library_of(tmp_path, picture={"sha256": digest}))
    (tmp_path / "one.png").write_bytes(b"no picture")
    with pytest.raises(TemplateError, match=r"one\.png"):
        loaded.pictures["one"].read()


@pytest.mark.parametrize("template", [{"point": [70, 5]}, {"point": [5, 60]}, {"point": [-1, 5]}])
def test_a_point_outside_its_picture_is_an_error(tmp_path: Path, tiny: Backbone, template: dict[str, Any]) -> None:
    loaded = TemplateLibrary.load(library_of(tmp_path, template=template))
    with pytest.raises(TemplateError, match="outside"):
        build_bank(loaded, tiny, spec(), ["hair"])


# Descriptors


def test_a_point_is_its_cell_and_a_box_the_mean_of_its_cells(tiny: Backbone) -> None:
    image = torch.from_numpy(patchwork((56, 70)))[None]
    features = tiny.extract(image, [spec()])[spec()]
    point = template_descriptor(Template("hair", "one", point=(30, 45)), features)
    assert torch.equal(point, features.descriptors[0, 3, 2])
    box = template_descriptor(Template("hair", "one", box=(15, 14, 55, 42)), features)
    assert torch.allclose(box, features.descriptors[0, 1:3, 1:4].flatten(0, 1).mean(0), atol=1e-6)
    everything = template_descriptor(Template("hair", "one", box=(0, 0, 70, 56)), features)
    assert torch.allclose(everything, features.descriptors[0].flatten(0, 1).mean(0), atol=1e-6)


def test_a_bank_holds_the_exemplars_asked_for_in_the_order_of_the_attributes(tmp_path: Path, tiny: Backbone) -> None:
    loaded = tiny_library(tmp_path)

    def descriptor(number: int) -> torch.Tensor:
        template = loaded.templates[number]
        image = torch.from_numpy(loaded.pictures[template.picture].read().copy())[None]
        return template_descriptor(template, tiny.extract(image, [spec()])[spec()])

    bank = build_bank(loaded, tiny, spec(), ["torso", "hair"])
    assert bank.attributes == ("torso", "hair")
    assert bank.attribute_index.tolist() == [0, 0, 1, 1], "the negative exemplar is not among them"
    assert torch.allclose(bank.descriptors, torch.stack([descriptor(i) for i in (1, 3, 0, 2)]), atol=1e-5)
    first = build_bank(loaded, tiny, spec(), ["torso", "hair"], exemplars="first")
    assert torch.allclose(first.descriptors, torch.stack([descriptor(1), descriptor(0)]), atol=1e-5)
    swapped = build_bank(loaded, tiny, spec(), ["torso", "hair"], exemplars="two")
    assert torch.allclose(swapped.descriptors, torch.stack([descriptor(1), descriptor(2)]), atol=1e-5)


def test_exemplars_of_one_source_picture_include_its_crops(library: TemplateLibrary) -> None:
    found = library.exemplars("eyes", "hopper")
    assert found
    assert {template.picture for template in found} <= {"hopper", "hopper_face"}
    assert set(found) < set(library.exemplars("eyes"))
    with pytest.raises(
        TemplateError, match=r"eyes has no template in 'coffee': use all, first, or one of .*hopper_face"
    ):
        library.exemplars("eyes", "coffee")


def test_raw_first_exemplars_need_only_their_own_pictures(
    tmp_path: Path, tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of preset paper, where a picture takes seconds: `two` is not looked at for `hair`."""
    loaded = tiny_library(tmp_path)
    whole = build_bank(loaded, tiny, spec(), ["hair"])
    read: list[str] = []
    original = Picture.read
    monkeypatch.setattr(Picture, "read", lambda picture: read.append(picture.id) or original(picture))
    first = build_bank(loaded, tiny, spec(), ["hair"], exemplars="first")
    assert read == ["one"]
    assert torch.allclose(first.descriptors, whole.descriptors[:1], atol=1e-5)


def test_the_pictures_behind_the_mean_are_those_of_its_version(library: TemplateLibrary) -> None:
    """Whoever changes the pictures must give the mean another id: descriptors of two means are never compared."""
    text = "\n".join(sorted(picture.sha256 for picture in library.pictures.values()))
    assert (DEBIASING_MEAN, hashlib.sha256(text.encode()).hexdigest()[:16]) == ("library-2", "f450ebee5dbda0ac")


def test_the_mean_is_the_mean_over_pictures_of_their_means(tmp_path: Path, tiny: Backbone) -> None:
    loaded = tiny_library(tmp_path)
    debiased = spec(mean="library-1")
    means = []
    for picture in loaded.pictures.values():
        image = torch.from_numpy(picture.read().copy())[None]
        means.append(tiny.extract(image, [spec()])[spec()].descriptors[0].flatten(0, 1).mean(0))
    bank = build_bank(loaded, tiny, debiased, ["hair"])
    assert bank.mean is not None
    assert torch.allclose(bank.mean, torch.stack(means).mean(0), atol=1e-5)
    assert build_bank(loaded, tiny, spec(), ["hair"]).mean is None


def test_a_bank_of_an_unknown_attribute(tmp_path: Path, tiny: Backbone) -> None:
    with pytest.raises(UnknownAttributeError):
        build_bank(tiny_library(tmp_path), tiny, spec(), ["leg"])


# The cache

Counted = tuple[TemplateLibrary, list[FeatureSpec]]


@pytest.fixture
def counted(
    tmp_path: Path, tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> tuple[TemplateLibrary, list[FeatureSpec]]:
    """A library in an empty cache, and the specs that it has computed descriptors of so far."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    computed: list[FeatureSpec] = []

    def compute(library: TemplateLibrary, backbone: Backbone, specs: list[FeatureSpec]) -> dict:
        computed.extend(specs)
        return compute_vectors(library, backbone, specs)

    monkeypatch.setattr(template_bank, "compute_vectors", compute)
    return tiny_library(tmp_path / "library"), computed


def test_descriptors_are_computed_once_and_read_back_equal(counted: Counted, tiny: Backbone) -> None:
    loaded, computed = counted
    first = build_bank(loaded, tiny, spec(mean="library-1"), ["hair"])
    again = build_bank(loaded, tiny, spec(mean="library-1"), ["hair"])
    assert len(computed) == 1
    assert torch.equal(first.descriptors, again.descriptors)
    assert first.mean is not None
    assert again.mean is not None
    assert torch.equal(first.mean, again.mean)
    (entry,) = user_cache_folder().iterdir()
    assert entry.suffix == ".safetensors"
    raw = build_bank(loaded, tiny, spec(), ["hair"])
    assert len(computed) == 1, "raw and de-biased descriptors share an entry"
    assert torch.equal(raw.descriptors, first.descriptors)


@pytest.mark.parametrize("change", [{"layer": 1}, {"facet": "value"}, {"stride": 7}, {"short_side": 70}])
def test_an_entry_is_not_found_for_another_spec(counted: Counted, tiny: Backbone, change: dict[str, Any]) -> None:
    loaded, computed = counted
    build_bank(loaded, tiny, spec(), ["hair"])
    build_bank(loaded, tiny, spec(**change), ["hair"])
    assert computed == [spec(), spec(**change)]


def test_an_entry_is_not_found_for_other_weights_or_another_library(counted: Counted, tiny: Backbone) -> None:
    loaded, computed = counted
    build_bank(loaded, tiny, spec(), ["hair"])
    build_bank(loaded, tiny_backbone(seed=1), spec(), ["hair"])
    assert len(computed) == 2
    build_bank(replace(loaded, digest="another"), tiny, spec(), ["hair"])
    assert len(computed) == 3


@pytest.mark.parametrize("damage", [b"", b"xx", None])
def test_a_damaged_entry_is_computed_again_and_repaired(counted: Counted, tiny: Backbone, damage: bytes | None) -> None:
    loaded, computed = counted
    first = build_bank(loaded, tiny, spec(), ["hair"])
    (entry,) = user_cache_folder().iterdir()
    entry.write_bytes(entry.read_bytes()[:-7] if damage is None else damage)
    again = build_bank(loaded, tiny, spec(), ["hair"])
    assert len(computed) == 2
    assert torch.equal(first.descriptors, again.descriptors)
    build_bank(loaded, tiny, spec(), ["hair"])
    assert len(computed) == 2


def test_a_cache_that_cannot_be_written_only_costs_time(
    counted: Counted, tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, computed = counted
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        assert len(build_bank(loaded, tiny, spec(), ["hair"]).descriptors) == 2
    assert len(computed) == 2


def test_the_packaged_file_is_read_before_the_users_cache(
    counted: Counted, tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, computed = counted
    packaged = tmp_path / "packaged.safetensors"
    cache = DescriptorCache(loaded.digest, tiny.fingerprint)
    vectors = compute_vectors(loaded, tiny, [spec()])
    write_packaged({cache.key(each): entry for each, entry in vectors.items()}, packaged)
    monkeypatch.setattr("anonymotion.descriptor_cache.PACKAGED_FILE", packaged)
    computed.clear()
    bank = build_bank(loaded, tiny, spec(mean="library-1"), ["hair"])
    assert computed == []
    expected = vectors[spec()]["templates"][[0, 2]]
    assert torch.allclose(bank.descriptors, expected, rtol=1e-3, atol=1e-3)
    assert not user_cache_folder().exists()
    build_bank(loaded, tiny, spec(layer=1), ["hair"])
    assert computed == [spec(layer=1)]
