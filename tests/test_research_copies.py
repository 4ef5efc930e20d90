"""Obfuscated copies: what is in them, that they are what `hide` makes, resumed and never mixed; controls."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import miniatures
import numpy as np
import pytest
import torch
from synthetic import make_clip
from tiny import TINY, TINY_SETTINGS, nine_attributes, patchwork, tiny_network

from anonymotion.backbone import Backbone
from anonymotion.backbone_openvino import choose_engine
from anonymotion.errors import AnonymotionError, DatasetError, OutputError, SettingsError
from anonymotion.pipeline import Hider
from anonymotion.research import obfuscate
from anonymotion.research.clips import read_clip
from anonymotion.research.controls import NEUTRAL, Controlled, PersonRemover, main_parts, replace_background
from anonymotion.research.datasets import Dataset, open_dataset
from anonymotion.research.features import BACKBONE
from anonymotion.research.looks import Look, LookStore, OnePass, look_at
from anonymotion.research.obfuscate import CopyResult, make_copies
from anonymotion.research.variants import RECIPES, Variant, make_variant, make_variants
from anonymotion.templates import TemplateLibrary

# With the random network little is at the usual thresholds.
LOW: dict[str, Any] = {**TINY_SETTINGS, "threshold": 0.3, "contrast": 0.0}


@pytest.fixture
def network(tiny: Backbone) -> OnePass:
    """The tiny network, remembering its last batches; as `OnePass.load` would give it."""
    return OnePass(TINY, tiny_network(), tiny.patch_size, tiny.fingerprint, tiny.device)


@pytest.fixture
def make(network: OnePass, small: TemplateLibrary) -> Callable[..., Variant]:
    """`make_variant` with the tiny network and a library of `hair` and `torso`."""

    def build(name: str, **options: Any) -> Variant:
        given: dict[str, Any] = {"attributes": "hair,torso", "settings": LOW, "networks": {TINY: network}, **options}
        return make_variant(name, "folder", library=small, **given)

    return build


@pytest.fixture
def person_is_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small library has no `person`: its two attributes are one."""
    monkeypatch.setattr("anonymotion.research.variants.PERSON_ATTRIBUTES", "hair,torso")
    monkeypatch.setattr("anonymotion.research.variants.PERSON_LOOK", {**LOW, "dilation": 0, "look_ahead": 0})


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Two videos of 20 and 13 frames, in which parts of a library picture move."""
    root = tmp_path / "data"
    root.mkdir()
    for name, count in (("one", 20), ("two", 13)):
        ground = patchwork((120, 140), seed=9)
        ground[20:84, 30:110] = patchwork((64, 80), seed=1)
        images = [ground[n : n + 72, n : n + 96] for n in range(count)]
        make_clip(root / f"{name}.mkv", images=images, size=(96, 72), options={"crf": "5"})
    miniatures.table(root / "labels.csv", [("file", "action"), ("one.mkv", "run"), ("two.mkv", "sit")])
    return open_dataset("folder", root)


def copied(dataset: Dataset, folder: Path, *variants: Variant, store: LookStore | None = None) -> CopyResult:
    return make_copies(dataset, {v.name: folder / v.name for v in variants}, variants, store=store)


def frames_in(folder: Path, clip: str = "one") -> np.ndarray:
    copy = open_dataset("folder", folder)
    return read_clip(copy.clip(clip), copy.root)


# Looks


def test_a_stored_look_gives_what_hide_gives_to_the_bit(
    dataset: Dataset, tmp_path: Path, make: Callable[..., Variant], small: TemplateLibrary, network: OnePass
) -> None:
    store = LookStore(tmp_path / "looks")
    names = ["strict", "iid", "first-frame", "paper-debiased", "person-mean", "black", "pixelate-4"]
    copied(dataset, tmp_path / "out", make("strict", test_key=1), store=store)  # fills the store
    passes = network.passes
    variants = [make(name, test_key=7) for name in names]
    copied(dataset, tmp_path / "out2", *variants, store=store)
    assert network.passes > passes  # paper-debiased looks elsewhere
    source = list(read_clip(dataset.clip("one"), dataset.root))
    for variant in variants:
        assert variant.hider is not None
        seed = variant.seed_of(Path("one.mkv"))
        fresh = Hider(
            "hair,torso",
            library=small,
            network=network,
            seed=seed,
            **{k: v for k, v in variant.hider.settings.as_json().items() if k != "preset"},
        )
        expected = np.stack(list(fresh.hide(source)))
        np.testing.assert_array_equal(frames_in(tmp_path / "out2" / variant.name), expected, err_msg=variant.name)
        assert (expected != np.stack(source)).any()


def test_looks_of_one_video_share_every_pass(dataset: Dataset, network: OnePass, make: Callable[..., Variant]) -> None:
    variants = [make("strict"), make("paper-debiased"), make("strict", settings={**LOW, "look_ahead": 0})]
    looks = [v.look for v in variants if v.look is not None]
    assert len({look.digest for look in looks}) == 3
    frames = list(read_clip(dataset.clip("one"), dataset.root))
    before = network.passes
    seen = list(look_at(looks, frames))
    assert network.passes - before == 3  # batches of 8, 8 and 4 frames
    assert sum(len(part.frames) for part in seen) == 20
    np.testing.assert_array_equal(torch.cat([part.frames for part in seen]).numpy(), np.stack(frames))
    for look in looks:
        alone = torch.cat([chunk.alpha for chunk in look.hider.explain(frames)])
        assert torch.equal(torch.cat([part.alphas[look.digest] for part in seen]), alone)
        assert 0 < float(alone.mean()) < 1


def test_what_is_put_there_is_no_part_of_a_look(make: Callable[..., Variant]) -> None:
    digests = {name: make(name).look for name in ("strict", "iid", "first-frame", "black", "paper-debiased")}
    by_name = {name: look.digest for name, look in digests.items() if look is not None}
    assert len({by_name[name] for name in ("strict", "iid", "first-frame", "black")}) == 1
    assert by_name["paper-debiased"] != by_name["strict"]
    other = make("strict", settings={**LOW, "dilation": 3.0}).look
    fewer = make("strict", attributes="hair").look
    assert other is not None
    assert fewer is not None
    assert len({by_name["strict"], other.digest, fewer.digest}) == 3


def test_a_damaged_or_foreign_store_is_refused(dataset: Dataset, tmp_path: Path, make: Callable[..., Variant]) -> None:
    store = LookStore(tmp_path / "looks")
    variant = make("strict")
    assert variant.look is not None
    store.save(variant.look, Path("one.mkv"), np.zeros((5, 72, 96), np.float32), np.zeros((5, 2, 72, 96), np.float32))
    store.save(variant.look, Path("two.mkv"), np.zeros((1, 72, 96), np.float32), np.zeros((1, 2, 72, 96), np.float32))
    (store.folder / variant.look.digest / "two.mkv.npz").write_bytes(b"cut")
    result = copied(dataset, tmp_path / "out", variant, store=store)
    assert "found in other frames" in result.failed["one.mkv"]
    assert "remove it" in result.failed["two.mkv"]
    assert not (tmp_path / "out" / "strict" / "frames" / "one").exists()


@pytest.mark.parametrize("share", [0, 0.02, 0.5, 0.99])
def test_a_look_that_was_cut_anywhere_is_named(tmp_path: Path, make: Callable[..., Variant], share: float) -> None:
    store, look = LookStore(tmp_path / "looks"), make("strict").look
    assert look is not None
    noise = np.random.default_rng(0).random((3, 2, 24, 32), np.float32)
    store.save(look, Path("one.mkv"), noise[:, 0], noise)
    alpha, flow = store.load(look, Path("one.mkv"))
    assert torch.equal(flow, torch.from_numpy(noise))
    assert torch.equal(alpha, flow[:, 0])
    file = store.folder / look.digest / "one.mkv.npz"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DatasetError, match=r"one.mkv.npz cannot be read .*: remove it, and it is computed again"):
        store.load(look, Path("one.mkv"))


# Copies


def test_noise_is_secret_unless_a_test_key_is_given(
    dataset: Dataset, tmp_path: Path, make: Callable[..., Variant]
) -> None:
    for folder, key in (("a", None), ("b", None), ("c", 5), ("d", 5), ("e", 6)):
        copied(dataset, tmp_path / folder, make("strict", test_key=key))
    clips = {folder: frames_in(tmp_path / folder / "strict") for folder in "abcde"}
    assert (clips["c"] == clips["d"]).all()
    for pair in ("ab", "ac", "ce"):
        assert (clips[pair[0]] != clips[pair[1]]).any()
    key = make("strict", test_key=5)
    assert key.seed_of(Path("one.mkv")) != key.seed_of(Path("two.mkv"))
    index = json.loads((tmp_path / "c" / "strict" / "copy.json").read_text())
    assert any("test key" in reason for reason in index["not_for_release"])
    assert json.loads((tmp_path / "a" / "strict" / "copy.json").read_text())["not_for_release"] == []


def test_a_copy_has_the_clips_and_splits_of_its_source(tmp_path: Path, make: Callable[..., Variant]) -> None:
    root = miniatures.weizmann(tmp_path / "data")
    source = open_dataset("weizmann", root)
    (tmp_path / "out").mkdir()
    variant = make("source")
    make_copies(source, {"source": tmp_path / "out"}, [variant])
    copy = open_dataset("weizmann", tmp_path / "out")
    assert copy.splits == source.splits
    assert [replace(clip, path=Path()) for clip in copy.clips] == [replace(clip, path=Path()) for clip in source.clips]
    clip = source.clip("ben_walk.late")
    np.testing.assert_array_equal(read_clip(copy.clip(clip.id), copy.root), read_clip(clip, root))
    with pytest.raises(DatasetError, match="is a copy of weizmann, not of kth"):
        open_dataset("kth", tmp_path / "out")


def test_a_killed_run_goes_on_where_it_was(
    dataset: Dataset, tmp_path: Path, make: Callable[..., Variant], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = obfuscate._copy_video
    variant = make("iid", test_key=3)

    def killed(root: Path, path: Path, *rest: Any) -> int:
        if path.name == "two.mkv":
            raise KeyboardInterrupt
        return whole(root, path, *rest)

    monkeypatch.setattr(obfuscate, "_copy_video", killed)
    with pytest.raises(KeyboardInterrupt):
        copied(dataset, tmp_path, variant)
    with pytest.raises(DatasetError, match="is not finished"):
        open_dataset("folder", tmp_path / "iid")
    before = (tmp_path / "iid" / "frames" / "one" / "000000.png").stat().st_mtime_ns
    monkeypatch.setattr(obfuscate, "_copy_video", whole)
    result = copied(dataset, tmp_path, variant)
    assert (result.made, result.there, result.frames) == (1, 1, 13)
    assert (tmp_path / "iid" / "frames" / "one" / "000000.png").stat().st_mtime_ns == before
    assert len(frames_in(tmp_path / "iid", "two")) == 13
    assert copied(dataset, tmp_path, variant).made == 0


def test_a_changed_setting_is_refused_and_not_mixed(
    dataset: Dataset, tmp_path: Path, make: Callable[..., Variant]
) -> None:
    copied(dataset, tmp_path, make("strict"))
    before = {path: path.read_bytes() for path in (tmp_path / "strict").rglob("*") if path.is_file()}
    for other in (
        make("strict", settings={**LOW, "dilation": 2.0}),
        make("strict", attributes="hair"),
        make("strict", test_key=1),
    ):
        with pytest.raises(DatasetError, match="was made with other settings"):
            copied(dataset, tmp_path, other)
    with pytest.raises(DatasetError, match=r"method\.settings\.dilation: 1\.5, now 2\.0"):
        copied(dataset, tmp_path, make("strict", settings={**LOW, "dilation": 2.0}))
    make_clip(dataset.root / "two.mkv", frames=13, size=(96, 72))
    with pytest.raises(DatasetError, match=r"source: .*, now"):
        copied(dataset, tmp_path, make("strict"))
    assert {path: path.read_bytes() for path in before} == before


def test_a_clip_that_fails_is_named_and_the_others_are_made(
    dataset: Dataset, tmp_path: Path, make: Callable[..., Variant]
) -> None:
    (dataset.root / "one.mkv").write_bytes(b"no video")
    result = copied(dataset, tmp_path / "out", make("strict"), make("source"))
    assert list(result.failed) == ["one.mkv"]
    assert result.made == 2
    assert copied(dataset, tmp_path / "out", make("iid")).failed
    assert len(json.loads((tmp_path / "out" / "iid" / "copy.json").read_text())["failed"]) == 1
    copy = open_dataset("folder", tmp_path / "out" / "strict")
    assert "one.mkv could not be copied" in copy.notes[0]
    assert len(frames_in(tmp_path / "out" / "strict", "two")) == 13
    with pytest.raises(DatasetError, match="is not there"):
        frames_in(tmp_path / "out" / "strict", "one")


def test_what_would_fail_every_video_ends_the_run(
    dataset: Dataset, tmp_path: Path, make: Callable[..., Variant], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OutputError("the disk is full")

    monkeypatch.setattr(obfuscate, "_copy_video", full)
    with pytest.raises(OutputError, match="the disk is full"):
        copied(dataset, tmp_path / "out", make("source"))
    with pytest.raises(DatasetError, match="is not finished"):
        open_dataset("folder", tmp_path / "out" / "source")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError, match="cannot be made"):
        make_copies(dataset, {"source": tmp_path / "file" / "copy"}, [make("source")])


def test_folders_that_are_something_else(dataset: Dataset, tmp_path: Path, make: Callable[..., Variant]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    for folder, message in ((tmp_path / "full", "is not empty"), (dataset.root / "out", "lies in the data set")):
        with pytest.raises(DatasetError, match=message):
            make_copies(dataset, {"source": folder}, [make("source")])
    assert not (dataset.root / "out").exists()


# Variants


def test_names_and_keys_that_are_wrong(make: Callable[..., Variant]) -> None:
    with pytest.raises(SettingsError, match="variant 'stric' is not known: use some of source, strict"):
        make("stric")
    with pytest.raises(SettingsError, match="test key -1"):
        make("strict", test_key=-1)
    with pytest.raises(SettingsError, match="says itself which preset"):
        make("strict", preset="paper")
    with pytest.raises(SettingsError, match="says itself which preset"):
        make("iid", settings={**LOW, "noise": "accumulated"})
    with pytest.raises(SettingsError, match="give each name once"):
        make_variants(["source", "source"], "folder")


def test_a_name_may_say_which_attributes_are_hidden(
    dataset: Dataset, tmp_path: Path, make: Callable[..., Variant], person_is_all: None
) -> None:
    both, hair, torso = (make(name) for name in ("strict@hair+torso", "strict@hair", "iid@torso+neutral"))
    assert [set(v.hider.attributes) for v in (both, hair, torso) if v.hider] == [{"hair", "torso"}, {"hair"}, {"torso"}]
    assert both.describe() == make("strict").describe()
    assert hair.base != both.base
    assert (torso.neutral, torso.recipe) == (True, "iid")
    copied(dataset, tmp_path / "out", hair)
    assert frames_in(tmp_path / "out" / "strict@hair").shape == (20, 72, 96, 3)
    for name, message in (
        ("source@hair", "'source@hair' names attributes, and source hides none: leave @hair out"),
        ("strict@tail", "tail"),
        ("strict@", "attribute"),
        ("stric@hair", "variant 'stric' is not known"),
    ):
        with pytest.raises(AnonymotionError, match=message):
            make(name)


def test_copies_are_found_by_the_engine_that_hides(tmp_path: Path) -> None:
    """The fastest that is there unless one is asked for; masks of two engines differ a little, and are not mixed."""
    device = torch.device("cpu")
    expected = {"auto": choose_engine("auto", device, BACKBONE).name, "torch": "torch"}
    digests = {}
    for engine, name in expected.items():
        (variant,) = make_variants(["strict"], "weizmann", device="cpu", engine=engine)
        assert variant.look is not None
        assert variant.look.key["backbone"]["engine"] == name
        assert variant.describe()["method"]["backbone"]["engine"] == name
        digests[name] = variant.look.digest
    assert len(set(digests.values())) == len(digests)


def test_every_recipe_has_what_it_needs(network: OnePass, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those whose networks are in the package; `paper` needs weights."""
    monkeypatch.setattr("anonymotion.research.variants.PERSON_LOOK", {**TINY_SETTINGS, "dilation": 0})
    names = [name for name in RECIPES if name != "paper"]
    library = nine_attributes(tmp_path / "library")
    options: dict[str, Any] = {"networks": {TINY: network}, "library": library, "settings": TINY_SETTINGS}
    made = [make_variant(name, "weizmann", **options) for name in names]
    for variant in made:
        assert (variant.hider is None) == (RECIPES[variant.recipe].preset is None)
        assert variant.describe() == json.loads(json.dumps(variant.describe()))
    attributes = {v.name: v.hider.attributes for v in made if v.hider is not None}
    assert set(attributes["strict"]) == {"torso", "arm", "leg", "hair"} == set(attributes["black"])
    assert attributes["pixelate-4"] == ()
    person = {v.person.digest for v in made if v.person is not None}
    assert len(person) == 1
    assert set(make_variant("strict", "ipn", **options).describe()["method"]["attributes"]) == {
        *("cheek", "eyes", "forehead", "hair")
    }


@pytest.mark.parametrize("name", ["source", "strict", "iid", "pixelate-4", "source+neutral", "person-removed"])
def test_a_transform_shows_what_the_copy_shows(
    dataset: Dataset, tmp_path: Path, make: Callable[..., Variant], person_is_all: None, name: str
) -> None:
    variant = make(name, test_key=4)
    copied(dataset, tmp_path, variant)
    frames = read_clip(dataset.clip("two"), dataset.root)
    shown = variant.apply(frames, dataset.clip("two"))
    np.testing.assert_array_equal(shown, frames_in(tmp_path / name, "two"))
    assert (shown == frames).all() == (name == "source")


# Controls


def test_a_neutral_background_leaves_the_person_alone(
    dataset: Dataset, tmp_path: Path, make: Callable[..., Variant], person_is_all: None
) -> None:
    names = ("source", "strict", "source+neutral", "strict+neutral", "person-mask", "person-removed")
    variants = [make(name) for name in names]
    copied(dataset, tmp_path, *variants)
    clips = {name: frames_in(tmp_path / name) for name in names}
    person = clips["person-mask"][..., 0] == 255
    assert set(np.unique(clips["person-mask"])) == {0, 255}
    assert 0 < person.mean() < 1
    for name in ("source", "strict"):
        assert (clips[f"{name}+neutral"][~person] == NEUTRAL).all()
        # the same noise too: it was drawn once for both
        assert (clips[f"{name}+neutral"][person] == clips[name][person]).all()
    removed = clips["person-removed"]
    assert (removed[person] == NEUTRAL).all()
    changed = (removed != clips["source"]).any(axis=3)
    assert changed.mean() < 1 or person.mean() > 0.5
    masks = open_dataset("folder", tmp_path / "person-mask")
    clip = dataset.clip("one")
    source = clips["source"]
    assert (Controlled(masks)(source, clip) == clips["source+neutral"]).all()
    assert (Controlled(masks, keep="background")(source, clip) == removed).all()
    with pytest.raises(SettingsError, match="use person or background"):
        Controlled(masks, keep="both")  # type: ignore[arg-type]


def test_the_box_of_a_person_is_filled_and_of_a_lost_one_stays() -> None:
    frames = torch.full((4, 20, 30, 3), 7, dtype=torch.uint8)
    person = torch.zeros(4, 20, 30, dtype=torch.bool)
    person[1, 8:10, 12:15] = True
    remover = PersonRemover()
    result = torch.cat([remover(frames[:2], person[:2]), remover(frames[2:], person[2:])])
    assert (result[0] == NEUTRAL).all()  # nobody was found yet: all of it
    box = torch.zeros(20, 30, dtype=torch.bool)
    box[4:14, 8:19] = True
    for index in (1, 2, 3):
        assert (result[index][box] == NEUTRAL).all()
        assert (result[index][~box] == 7).all()
    assert remover.frames_without_person == 3
    assert (frames == 7).all()
    assert (replace_background(frames, person)[1][~person[1]] == NEUTRAL).all()
    assert (replace_background(frames, person)[1][person[1]] == 7).all()


def test_specks_are_no_people() -> None:
    person = torch.zeros(3, 20, 30, dtype=torch.bool)
    person[0, 2:12, 2:12] = True  # 100 pixels
    person[0, 15:18, 20:23] = True  # 9: a speck
    person[1, 2:12, 2:12] = True
    person[1, 15:17, 20:25] = True
    person[1, 17, 20] = True  # 11 with these: just large enough
    person[1, 12, 12] = True  # touches at a corner
    kept = main_parts(person)
    assert kept[0].sum() == 100
    assert kept[1].sum() == 112
    assert not kept[2].any()
    assert not (kept & ~person).any()


def test_one_pass_still_answers_other_questions(network: OnePass, small: TemplateLibrary) -> None:
    hider = Hider("hair", library=small, network=network, **LOW)
    spec = hider.settings.spec_of("hair")
    images = torch.from_numpy(np.stack([patchwork((70, 84), seed=n) for n in range(3)]))
    plain = Backbone.extract(network, images, [spec])[spec].descriptors
    before = network.passes
    network.expect([spec])
    for _ in range(2):
        assert torch.equal(network.extract(images, [spec])[spec].descriptors, plain)
    assert network.passes - before == 1
    other = replace(spec, layer=1)
    assert network.extract(images, [other])[other].spec.layer == 1
    for seed in range(8):  # more batches than are remembered
        network.extract(torch.from_numpy(patchwork((70, 84), seed=seed)[None]), [spec])
    assert torch.equal(network.extract(images, [spec])[spec].descriptors, plain)
    assert Look(hider, small.digest).key["attributes"] == ["hair"]
    assert Look(hider, small.digest).digest != Look(hider, "another library").digest
