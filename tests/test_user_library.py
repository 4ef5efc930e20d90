"""A user's own templates: joined to the built-in ones, added, removed, and never half of either."""

from __future__ import annotations

import os
import stat
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import TINY, patchwork, picture_entry, tiny_library, write_library

from anonymotion import template_bank, user_library
from anonymotion.backbone import Backbone
from anonymotion.descriptor_cache import user_cache_folder
from anonymotion.errors import TemplateError, UnknownAttributeError
from anonymotion.registry import FeatureSpec
from anonymotion.template_bank import build_bank, compute_vectors
from anonymotion.template_crop import Mark, cut
from anonymotion.templates import Picture, Template, TemplateLibrary
from anonymotion.user_library import UserLibrary, library_text, load_library, short_id

SPEC = FeatureSpec(TINY, 2, "key", 14, 56, "library-1")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UserLibrary:
    """The default folder of a user who has no templates and nothing cached yet."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return UserLibrary.at()


def add(own: UserLibrary, attribute: str = "logo", seed: int = 0, x: float = 30, negative: bool = False) -> str:
    crop = cut(patchwork((48, 80), seed), Mark(point=(x, 20)))
    ((name, _),) = own.add(crop, attribute, negative=negative).templates.items()
    return name


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but the lock."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


# Reading


def test_without_own_templates_there_are_the_built_in_ones(own: UserLibrary, library: TemplateLibrary) -> None:
    joined = load_library()
    assert joined.templates == library.templates
    assert joined.own_templates == ()
    assert not own.folder.exists(), "looking creates nothing"


@pytest.mark.parametrize("by_variable", [True, False])
def test_a_folder_that_was_named_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_variable: bool
) -> None:
    if by_variable:
        monkeypatch.setenv("ANONYMOTION_LIBRARY", str(tmp_path / "mine"))
    folder = None if by_variable else tmp_path / "mine"
    with pytest.raises(TemplateError, match="template add"):
        load_library(folder)
    add(UserLibrary.at(folder))
    assert (tmp_path / "mine" / "library.toml").is_file()
    assert "logo" in load_library(folder).attributes


def test_own_attributes_and_further_exemplars_are_joined(own: UserLibrary, library: TemplateLibrary) -> None:
    add(own, "logo")
    add(own, "hair", seed=1)
    joined = load_library()
    assert joined.attributes == (*library.attributes, "logo")
    assert len(joined.exemplars("hair")) == len(library.exemplars("hair")) + 1
    assert joined.exemplars("hair")[0] == library.exemplars("hair")[0], "the built-in ones come first"
    assert joined.expand(["logo", "face"])[0] == "logo"
    assert all(joined.pictures[t.picture].read().dtype == np.uint8 for t in joined.own_templates)


def test_two_pictures_of_one_id_cannot_be_joined(tmp_path: Path, library: TemplateLibrary) -> None:
    entry = picture_entry(tmp_path, "hopper", patchwork((40, 40)))
    folder = write_library(tmp_path, [entry], [{"attribute": "logo", "picture": "hopper", "point": [3, 4]}])
    with pytest.raises(TemplateError, match="'hopper'"):
        library.join(TemplateLibrary.load(folder))


@pytest.mark.parametrize("name", ["../x", "a/b", "", "person", "Face", "x" * 41, "-a", "a b", "a=b"])
def test_a_library_with_a_name_that_would_be_unsafe(tmp_path: Path, name: str) -> None:
    """Names become parts of file names."""
    entry = picture_entry(tmp_path, "one", patchwork((40, 40)))
    folder = write_library(tmp_path, [entry], [{"attribute": name, "picture": "one", "point": [3, 4]}])
    with pytest.raises(TemplateError, match=r"\[\[template\]\] number 1"):
        TemplateLibrary.load(folder)


# Adding


def test_a_template_is_kept_privately_and_found_again(own: UserLibrary) -> None:
    image = patchwork((48, 80), 5)
    change = own.add(cut(image, Mark(box=(20, 10, 40, 30))), " Logo ", subject='a "logo"\nof ünïcode')
    ((name, template),) = change.templates.items()
    loaded = TemplateLibrary.load(own.folder)
    assert loaded.templates == (template,)
    assert short_id(loaded, template) == name
    assert template.attribute == "logo"
    (picture,) = loaded.pictures.values()
    assert picture.subject == 'a "logo"\nof ünïcode'
    assert picture.licence == "private: not for redistribution"
    assert template.box is not None
    x0, y0, x1, y1 = (int(v) for v in template.box)
    assert (picture.read()[y0:y1, x0:x1] == image[10:30, 20:40]).all()
    for path in (own.folder, own.folder / "pictures"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for path in (picture.path, own.folder / "library.toml"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_two_marks_in_one_crop_share_its_file(own: UserLibrary) -> None:
    image = patchwork((48, 48))
    for x in (10, 20):
        own.add(cut(image, Mark(point=(x, 20))), "logo")
    assert len(list((own.folder / "pictures").iterdir())) == 1
    assert len(load_library().exemplars("logo")) == 2


@pytest.mark.parametrize(
    ("attribute", "changes", "expected"),
    [
        ("face", {}, "group"),
        ("a,b", {}, "cannot be used"),
        ("", {}, "cannot be used"),
        ("logo", {"negative": True}, "already"),
        ("logo", {}, "already"),
        ("plate", {"negative": True}, "no template yet"),
        ("plate", {"subject": "x" * 501}, "501 characters"),
        ("plate", {"licence": "\udcff"}, "not valid text"),
    ],
)
def test_what_cannot_be_added_changes_nothing(own: UserLibrary, attribute: str, changes: dict, expected: str) -> None:
    add(own)
    before = content(own.folder)
    crop = cut(patchwork((48, 80)), Mark(point=(30, 20)))
    with pytest.raises(TemplateError, match=expected) as caught:
        own.add(crop, attribute, **changes)
    assert "\n" not in str(caught.value)
    assert content(own.folder) == before


def test_a_refused_first_template_leaves_no_folder(own: UserLibrary) -> None:
    with pytest.raises(TemplateError):
        own.add(cut(patchwork((48, 80)), Mark(point=(30, 20))), "person")
    assert not own.folder.exists()


@pytest.mark.parametrize("step", [1, 2])
def test_a_disk_that_is_full_leaves_the_library_as_it_was(
    own: UserLibrary, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    add(own)
    before = content(own.folder)
    steps = iter(range(1, 9))
    replace_file = os.replace

    def fail(*paths: Path) -> None:
        if next(steps) == step:
            raise OSError(28, "No space left on device")
        replace_file(*paths)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", fail)
        with pytest.raises(TemplateError, match="disk is full"):
            add(own, seed=1)
    assert content(own.folder) == before
    add(own, seed=1)


def test_an_interrupt_between_picture_and_list_leaves_no_picture(
    own: UserLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(own)
    before = content(own.folder)
    write_file = user_library._write_file

    def interrupted(path: Path, data: bytes) -> None:
        if path.name == "library.toml":
            raise KeyboardInterrupt
        write_file(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(user_library, "_write_file", interrupted)
        with pytest.raises(KeyboardInterrupt):
            add(own, seed=1)
    assert content(own.folder) == before


def test_what_a_killed_process_left_goes_with_the_next_change_and_nothing_else(own: UserLibrary) -> None:
    add(own)
    pictures = own.folder / "pictures"
    left = [pictures / f"{'0' * 16}.png", pictures / ".a.png.12345678.partial", own.folder / ".library.toml.1.partial"]
    kept = [pictures / "mine.png", own.folder / "notes.txt"]
    for path in left + kept:
        path.write_bytes(b"x")
    add(own, seed=1)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)


def test_changes_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    """Locks belong to open files, so that threads wait for each other as processes do."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: add(UserLibrary(tmp_path / "own", named=True), f"logo{seed}", seed), range(8)))
    loaded = TemplateLibrary.load(tmp_path / "own")
    assert sorted(loaded.attributes) == [f"logo{i}" for i in range(8)]
    assert all(picture.read().size for picture in loaded.pictures.values())


def test_waiting_for_another_change_has_an_end(own: UserLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")
    add(own)
    before = content(own.folder)
    monkeypatch.setattr(user_library, "LOCK_SECONDS", 0.1)
    with (own.folder / ".lock").open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TemplateError, match="another process"):
            add(own, seed=1)
    assert content(own.folder) == before
    add(own, seed=1)


# Removing


def test_removed_templates_take_their_unused_pictures_and_descriptors_along(
    own: UserLibrary, tiny: Backbone, tmp_path: Path
) -> None:
    first, second = add(own, "logo"), add(own, "logo", seed=1)
    joined = tiny_library(tmp_path / "base").join(TemplateLibrary.load(own.folder))
    build_bank(joined, tiny, SPEC, ["logo"])
    cached = user_cache_folder() / "own"
    assert len(list(cached.iterdir())) == 2
    assert list(own.remove([first]).templates) == [first]
    assert [short_id(load_library(), t) for t in load_library().own_templates] == [second]
    assert len(list((own.folder / "pictures").iterdir())) == 1
    assert len(list(cached.iterdir())) == 1
    own.remove([second])
    assert content(own.folder) == {}
    assert list(cached.iterdir()) == []
    assert "logo" not in load_library().attributes


def test_negatives_go_with_the_last_of_what_they_took_from(own: UserLibrary) -> None:
    first = add(own, "logo")
    negative = add(own, "logo", seed=1, negative=True)
    add(own, "hair", seed=2, negative=True)
    assert set(own.remove([first]).templates) == {first, negative}
    assert [t.attribute for t in load_library().own_templates] == ["hair"], "hair still has its built-in exemplars"


def test_all_of_an_attribute_are_removed_at_once(own: UserLibrary, library: TemplateLibrary) -> None:
    for seed in range(3):
        add(own, "logo" if seed else "hair", seed)
    assert len(own.remove(attribute="logo").templates) == 2
    assert len(own.remove(attribute="hair").templates) == 1
    assert load_library().exemplars("hair") == library.exemplars("hair")


def test_what_cannot_be_removed_changes_nothing(own: UserLibrary, library: TemplateLibrary) -> None:
    mine = add(own)
    before = content(own.folder)
    built_in = short_id(library, library.templates[0])
    for ids, attribute, expected in (
        ([mine, built_in], None, "built in"),
        ([mine, "00000000"], None, "not in the library"),
        ([], "hair", "built in"),
        ([], "lgo", "did you mean 'logo'"),
        ([], None, "either"),
        ([mine], "logo", "either"),
    ):
        with pytest.raises(TemplateError, match=expected):
            own.remove(ids, attribute)
        assert content(own.folder) == before


def test_nothing_is_removed_from_a_library_that_is_not_there(own: UserLibrary) -> None:
    with pytest.raises(TemplateError):
        own.remove(attribute="logo")
    assert not own.folder.exists()


def test_pictures_somewhere_else_in_the_folder_stay_where_they_are(tmp_path: Path) -> None:
    """A folder that a person made by hand can be added to."""
    tiny_library(tmp_path / "own")
    own = UserLibrary.at(tmp_path / "own")
    name = add(own)
    assert len(load_library(own.folder).own_templates) == 6
    own.remove([name])
    assert len(load_library(own.folder).own_templates) == 5
    assert (own.folder / "one.png").exists()


# Descriptors


def test_own_templates_change_neither_mean_nor_background_nor_what_is_built_in(
    own: UserLibrary, tiny: Backbone, tmp_path: Path
) -> None:
    base = tiny_library(tmp_path / "base")
    contrast = {"hair": 0.1}
    before = build_bank(base, tiny, SPEC, ["hair"], contrast=contrast)
    add(own, "logo")
    add(own, "logo", seed=1, negative=True)
    joined = base.join(TemplateLibrary.load(own.folder))
    after = build_bank(joined, tiny, SPEC, ["hair"], contrast=contrast)
    assert torch.equal(after.descriptors, before.descriptors)
    assert before.mean is not None
    assert after.mean is not None
    assert torch.equal(after.mean, before.mean)
    assert before.rivals is not None
    assert after.rivals is not None
    same = torch.equal(after.rivals.probe.weight, before.rivals.probe.weight)
    assert same, "an own attribute is no rival unasked"
    assert len(after.rivals.negatives) == 0


def test_a_bank_of_an_own_attribute_has_its_exemplars_and_negatives(
    own: UserLibrary, tiny: Backbone, tmp_path: Path
) -> None:
    base = tiny_library(tmp_path / "base")
    for seed, (attribute, negative) in enumerate(
        [("logo", False), ("hair", False), ("logo", True), ("hair", True), ("plate", False)]
    ):
        add(own, attribute, seed, negative=negative)
    joined = base.join(TemplateLibrary.load(own.folder))
    bank = build_bank(joined, tiny, SPEC, ["hair", "logo"], contrast={"hair": 0.1, "logo": 0.1})
    assert bank.attribute_index.tolist() == [0, 0, 0, 1]
    assert bank.rivals is not None
    assert bank.rivals.negative_index.tolist() == [1, 0]
    vectors = compute_vectors(TemplateLibrary.load(own.folder), tiny, [SPEC.raw])[SPEC.raw]["templates"]
    assert torch.allclose(bank.rivals.negatives, vectors[2:4], atol=1e-5)
    assert torch.allclose(bank.descriptors[[2, 3]], vectors[[1, 0]], atol=1e-5)
    assert build_bank(joined, tiny, SPEC, ["hair"], exemplars="first").attribute_index.tolist() == [0]


def test_a_new_template_leaves_the_descriptors_of_the_others_in_the_cache(
    own: UserLibrary, tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_library(tmp_path / "base")
    computed: list[int] = []

    def compute(library: TemplateLibrary, backbone: Backbone, specs: list[FeatureSpec]) -> dict:
        computed.append(len(library.pictures))
        return compute_vectors(library, backbone, specs)

    monkeypatch.setattr(template_bank, "compute_vectors", compute)
    add(own)
    for _ in range(2):
        build_bank(base.join(TemplateLibrary.load(own.folder)), tiny, SPEC, ["logo"])
        assert computed == [2, 1], "the base of two pictures, and the own one"
    add(own, "other", seed=9)
    build_bank(base.join(TemplateLibrary.load(own.folder)), tiny, SPEC, ["logo"])
    assert computed == [2, 1, 1]


def test_a_descriptor_that_is_not_finite_stops_the_run(
    own: UserLibrary, tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(own)
    joined = tiny_library(tmp_path / "base").join(TemplateLibrary.load(own.folder))

    def broken(library: TemplateLibrary, backbone: Backbone, specs: list[FeatureSpec]) -> dict:
        vectors = compute_vectors(library, backbone, specs)
        vectors[specs[0]]["templates"][0, 0] = float("nan")
        return vectors

    monkeypatch.setattr(template_bank, "compute_vectors", broken)
    with pytest.raises(TemplateError, match="not finite"):
        build_bank(joined, tiny, SPEC, ["logo"])


def test_an_own_attribute_is_unknown_without_its_library(own: UserLibrary, library: TemplateLibrary) -> None:
    add(own)
    with pytest.raises(UnknownAttributeError, match="logo"):
        library.expand(["logo"])


# The file

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
NUMBERS = st.floats(0, 4000, width=64)


@given(subject=TEXTS, licence=TEXTS, x=NUMBERS, y=NUMBERS, negative=st.booleans())
def test_any_text_and_number_is_read_back_as_it_was(
    subject: str, licence: str, x: float, y: float, negative: bool
) -> None:
    folder = Path("somewhere")
    picture = Picture("one", folder / "pictures" / "one.png", "own", subject, licence, "source", "00")
    templates = [Template("logo", "one", point=(x, y), negative=negative)]
    templates += [Template("logo", "one", box=(x, y, x + 1.5, y + 0.1))]
    text = library_text(folder, [picture], templates)
    assert tomllib.loads(text)["schema_version"] == 1
    loaded = TemplateLibrary.parse(text.encode(), folder / "library.toml")
    assert loaded.pictures == {"one": picture}
    assert loaded.templates == tuple(templates)
