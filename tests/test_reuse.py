"""Patches that look as they did are taken from a reference: exactly those, and never what was found or has changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import (
    SIZE,
    TINY,
    TINY_DEPTH,
    TINY_ENTRY,
    TINY_SETTINGS,
    TINY_WIDTH,
    explained,
    patchwork,
    tiny_backbone,
    tiny_network,
)
from torch import Tensor

from anonymotion import backbone_openvino, reuse
from anonymotion.backbone import Backbone, PatchFeatures
from anonymotion.backbone_torch import TorchEngine
from anonymotion.blocks import Part, Wanted, attending
from anonymotion.descriptor_cache import user_cache_folder
from anonymotion.pipeline import Hider
from anonymotion.presets import settings_for
from anonymotion.registry import BACKBONES, FACETS, FeatureSpec
from anonymotion.reuse import LIMIT, LOOKS, MULTIPLE, Kept, Reuse, can_reuse
from anonymotion.templates import TemplateLibrary

EVERYTHING: Wanted = tuple((layer, facet) for layer in range(TINY_DEPTH) for facet in FACETS)
CPU = torch.device("cpu")
# 16 x 20 cells, of which MULTIPLE are a tenth
FRAME = (224, 280)
# Keys of the second block: what the others give to it are keys and values of the first, which are theirs alone.
SHALLOW = FeatureSpec(TINY, 1, "key", 14, 224)


def tokens(count: int, cells: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 1 + cells, TINY_WIDTH, generator=torch.Generator().manual_seed(seed))


def picture(seed: int = 0) -> Tensor:
    return torch.from_numpy(patchwork(FRAME, seed))


def nothing_found(found: Mapping[FeatureSpec, PatchFeatures]) -> Tensor:
    return torch.zeros(next(iter(found.values())).descriptors.shape[:3], dtype=torch.bool)


def found_in_a_corner(found: Mapping[FeatureSpec, PatchFeatures]) -> Tensor:
    matters = nothing_found(found)
    matters[:, -1, -1] = True
    return matters


class Counted:
    """An engine that notes how many cells of each frame it was given."""

    name, takes_parts = "counted", True

    def __init__(self) -> None:
        self._inner, self.cells = TorchEngine(tiny_network()), list[int]()

    def run(self, tokens: Tensor, wanted: Wanted, rotary: Tensor | None) -> tuple[Tensor, ...]:
        return self._inner.run(tokens, wanted, rotary)

    def run_part(self, part: Part, wanted: Wanted) -> tuple[tuple[Tensor, ...], Tensor | None]:
        self.cells.append(len(part[0]) - 1)
        return self._inner.run_part(part, wanted)


@pytest.fixture
def backbone(tiny: Backbone) -> Backbone:
    tiny.engine = Counted()
    return tiny


def looked(
    memory: Reuse,
    backbone: Backbone,
    frames: Tensor,
    spec: FeatureSpec = SHALLOW,
    matter: reuse.Matter = found_in_a_corner,
) -> Tensor:
    """Descriptors of frames, (T, rows, columns, D), the next ones of a run."""
    found, memory.kept = memory.extract(backbone, frames, [spec], matter)
    return found[spec].descriptors


# Blocks among what others left


@given(st.sets(st.integers(0, 19)), st.sampled_from([EVERYTHING, ((0, "key"),), ((1, "token"),), ((2, "value"),)]))
def test_some_tokens_among_all_others_of_their_frame_are_what_they_are_in_it(chosen: set[int], wanted: Wanted) -> None:
    engine, (whole,) = TorchEngine(tiny_network()), tokens(1, 20)
    right = engine.run(whole[None], wanted, None)
    all_of_it, context = engine.run_part((whole, torch.zeros(2 * attending(wanted), 0, TINY_WIDTH)), wanted)
    assert context is not None
    assert context.shape == (2 * attending(wanted), 21, TINY_WIDTH)
    taken = torch.tensor([True, *(cell in chosen for cell in range(20))])
    if len(chosen) < 20:
        some, none = engine.run_part((whole[taken], context[:, ~taken]), wanted)
        assert none is None or not attending(wanted)
    else:
        some = all_of_it
    for own, part, expected in zip(all_of_it, some, right, strict=True):
        assert torch.allclose(own, expected[0], atol=1e-4)
        assert torch.allclose(part, expected[0][taken[1:]], atol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_openvino_gives_the_same_of_parts_of_any_size(
    count: int, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    converted = backbone_openvino.OpenVINOEngine("openvino", tiny_network(), "tiny", lambda: [tokens(1, 20, 9)])
    engine = TorchEngine(tiny_network())
    nothing = torch.zeros(2 * attending(EVERYTHING), 0, TINY_WIDTH)
    _, context = engine.run_part((tokens(1, 20)[0], nothing), EVERYTHING)
    assert context is not None
    given = [(tokens(1, 3 + i, i)[0], context[:, i : 2 * i + 1] if i else nothing) for i in range(count)]
    for part in given:
        own, right = (which.run_part(part, EVERYTHING) for which in (converted, engine))
        for vectors, expected in zip((*own[0], own[1]), (*right[0], right[1]), strict=True):
            if vectors is None or expected is None:
                assert vectors is expected
            else:
                assert torch.allclose(vectors, expected, atol=1e-3 * float(expected.abs().max()))
    assert len(list((user_cache_folder() / "openvino").iterdir())) == 1  # of whole frames and of parts


# Which patches


def test_a_frame_that_is_the_same_takes_all_from_the_reference(backbone: Backbone) -> None:
    memory, frames = Reuse(4.0), torch.stack([picture()] * 3)
    found = looked(memory, backbone, frames)
    # the corner and what is beside it
    assert backbone.engine.cells == [320, MULTIPLE, MULTIPLE]
    assert torch.allclose(found[1], found[0], atol=1e-4)
    assert int((found[1] == found[0]).all(dim=-1).sum()) >= 320 - MULTIPLE


def test_a_frame_in_which_nothing_was_found_is_no_reference(backbone: Backbone) -> None:
    memory, frames = Reuse(4.0), torch.stack([picture()] * 3)
    looked(memory, backbone, frames, matter=nothing_found)
    assert backbone.engine.cells == [320, 320, 320]
    assert memory.kept == Kept()


def test_what_changed_is_computed_as_if_the_whole_frame_were(backbone: Backbone) -> None:
    memory, before, after = Reuse(4.0), picture(), picture()
    after[56:98, 70:140] = 255 - after[56:98, 70:140]
    found = looked(memory, backbone, torch.stack([before, after]))
    assert backbone.engine.cells == [320, MULTIPLE]
    right = backbone.extract(torch.stack([before, after]), [SHALLOW])[SHALLOW].descriptors
    changed = torch.zeros(16, 20, dtype=torch.bool)
    changed[4:7, 5:10] = True
    assert torch.allclose(found[1][changed], right[1][changed], atol=1e-4)
    unseen = (found[1] == found[0]).all(dim=-1)
    assert int(unseen.sum()) == 320 - MULTIPLE
    assert not unseen[changed].any()


@pytest.mark.parametrize(("noise", "computed"), [(2.0, MULTIPLE), (6.0, 320)])
def test_noise_is_told_from_change_by_its_grey_values(backbone: Backbone, noise: float, computed: int) -> None:
    frame = torch.full((*FRAME, 3), 128, dtype=torch.uint8)
    random = torch.randn(frame.shape, generator=torch.Generator().manual_seed(0))
    noisy = (frame + noise * random).round().clamp(0, 255).byte()
    looked(Reuse(4.0), backbone, torch.stack([frame, noisy]))
    assert backbone.engine.cells == [320, computed]


def test_where_something_was_found_and_beside_it_is_always_computed(backbone: Backbone) -> None:
    def in_one_cell(found: Mapping[FeatureSpec, PatchFeatures]) -> Tensor:
        matters = nothing_found(found)
        matters[:, 8, 9] = True
        return matters

    # something is found in it, which is asked for in whole frames alone
    spec = FeatureSpec(TINY, 2, "key", 14, 224)
    before, after = picture(), picture()
    after[0:56, 0:56] = 0
    memory = Reuse(4.0)
    found = looked(memory, backbone, torch.stack([before, after]), spec, in_one_cell)
    assert memory.kept.reference is not None
    around = torch.zeros(16, 20, dtype=torch.bool)
    around[7:10, 8:11] = True
    assert torch.equal(memory.kept.reference.matter.view(16, 20), around)
    assert (found[1] != found[0])[around].any(dim=-1).all()


def test_after_a_cut_all_is_computed_and_the_reference_is_another(backbone: Backbone) -> None:
    memory, frames = Reuse(4.0), torch.stack([picture(1), picture(2), picture(2)])
    found = looked(memory, backbone, frames)
    assert backbone.engine.cells == [320, 320, MULTIPLE]
    assert torch.allclose(found, backbone.extract(frames, [SHALLOW])[SHALLOW].descriptors, atol=1e-4)


def test_what_changes_slowly_is_compared_with_the_reference_and_not_with_the_frame_before(backbone: Backbone) -> None:
    frames = torch.stack([torch.full((*FRAME, 3), 60 + 2 * t, dtype=torch.uint8) for t in range(8)])
    found = looked(Reuse(4.0), backbone, frames)
    assert 320 in backbone.engine.cells[1:]
    right = backbone.extract(frames, [SHALLOW])[SHALLOW].descriptors
    steps = (right[1:] - right[:-1]).norm(dim=-1).amax()
    assert (found - right).norm(dim=-1).amax() < 4 * steps


def test_a_reference_serves_for_so_many_looks(backbone: Backbone) -> None:
    looked(Reuse(4.0), backbone, torch.stack([picture()] * (2 * LOOKS + 1)))
    assert [at for at, cells in enumerate(backbone.engine.cells) if cells == 320] == [0, LOOKS, 2 * LOOKS]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 99))
def test_how_many_frames_come_at_a_time_changes_nothing(lengths: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    frames = [picture(seed)]
    for _ in range(sum(lengths) - 1):
        frame = frames[-1].clone()
        if random.random() < 0.2:
            frame = picture(int(random.integers(1000)))
        y, x = random.integers(0, 200, 2)
        frame[y : y + 40, x : x + 60] = int(random.integers(256))
        frames.append(frame)
    one = tiny_backbone(name=TINY)
    together = looked(Reuse(4.0), one, torch.stack(frames))
    memory, start, apart = Reuse(4.0), 0, []
    for length in lengths:
        apart.append(looked(memory, one, torch.stack(frames[start : start + length])))
        start += length
    assert torch.equal(torch.cat(apart), together)


def test_never_more_than_the_limit_is_computed_in_part(backbone: Backbone) -> None:
    frames = [picture()]
    for height in range(14, 225, 14):
        frames.append(picture())
        frames[-1][:height] = 255 - frames[-1][:height]
    for frame in frames[1:]:
        memory = Reuse(4.0)
        looked(memory, backbone, torch.stack([frames[0], frame]))
        cells = backbone.engine.cells[-1]
        assert cells == 320 or (cells % MULTIPLE == 0 and cells <= LIMIT * 320)
    assert {cells for cells in backbone.engine.cells if cells < 320} == {32, 64, 96, 128, 160, 192}


# What does not reuse


def test_without_noise_nothing_is_remembered(backbone: Backbone) -> None:
    memory, frames = Reuse(0.0), torch.stack([picture()] * 2)
    assert torch.equal(looked(memory, backbone, frames), backbone.extract(frames, [SHALLOW])[SHALLOW].descriptors)
    assert memory.kept == Kept()
    assert backbone.engine.cells == []


def test_a_frame_of_another_grid_is_computed_whole(backbone: Backbone) -> None:
    memory = Reuse(4.0)
    looked(memory, backbone, picture()[None])
    looked(memory, backbone, picture()[None, :, :224].contiguous())
    looked(memory, backbone, picture()[None, :, :224].contiguous(), FeatureSpec(TINY, 1, "value", 14, 224))
    assert backbone.engine.cells == [320, 256, 256]


def test_where_it_saves_nothing_it_is_not_done(tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_reuse(tiny, [SHALLOW])
    assert not can_reuse(tiny, [FeatureSpec(TINY, 0, "key", 14, 224)])
    assert not can_reuse(tiny, [SHALLOW, FeatureSpec(TINY, 1, "key", 14, 448)])
    tiny.engine = TorchEngine(tiny_network(), bfloat16=True)
    assert not can_reuse(tiny, [SHALLOW])
    tiny.engine = TorchEngine(tiny_network())
    monkeypatch.setitem(BACKBONES, TINY, replace(TINY_ENTRY, positions="rotary"))
    assert not can_reuse(tiny, [SHALLOW])


# In a run


@pytest.fixture
def library(tmp_path: Any, tiny: Backbone) -> TemplateLibrary:
    from tiny import tiny_library

    return tiny_library(tmp_path / "library")


def hider(library: TemplateLibrary, backbone: Backbone, **changes: Any) -> Hider:
    settings = {
        **TINY_SETTINGS,
        "contrast": 0,
        "presence": 0,
        "short_side": 224,
        "reuse": 4.0,
        "threshold": 0.72,
        **changes,
    }
    return Hider("hair", library=library, network=backbone, device="cpu", seed=1, **settings)


def still(count: int) -> list[np.ndarray]:
    """A picture in which a small square moves."""
    frames = [patchwork(SIZE, 3) for _ in range(count)]
    for t, frame in enumerate(frames):
        frame[20:34, 10 + 3 * t : 24 + 3 * t] = 255
    return frames


def test_a_run_computes_parts_of_frames_and_hides_what_it_hides_without(
    library: TemplateLibrary, backbone: Backbone
) -> None:
    frames = still(12)
    with_it = explained(hider(library, backbone), frames)
    assert backbone.engine.cells[0] == max(backbone.engine.cells)
    assert min(backbone.engine.cells) < max(backbone.engine.cells)
    without = explained(hider(library, backbone, reuse=0), frames)
    hidden, right = (chunk.alpha == 1 for chunk in (with_it, without))
    assert right.any()
    assert (hidden & right).sum() >= 0.98 * right.sum()


@pytest.mark.parametrize("changes", [{"composite": "blend", "look_ahead": 0}, {"reuse": 0}])
def test_a_run_without_it(library: TemplateLibrary, backbone: Backbone, changes: dict[str, Any]) -> None:
    explained(hider(library, backbone, **changes), still(3))
    assert backbone.engine.cells == []


def test_what_must_stay_visible_is_looked_for_in_every_patch(library: TemplateLibrary, backbone: Backbone) -> None:
    from anonymotion.policy import Policy

    settings = {**TINY_SETTINGS, "contrast": 0, "presence": 0, "reuse": 4.0}
    policy = Policy(keep=("torso",))
    one = Hider("hair", policy=policy, library=library, network=backbone, device="cpu", seed=1, **settings)
    list(one.explain(still(3)))
    assert backbone.engine.cells == []


def test_work_that_fails_is_not_remembered(library: TemplateLibrary, backbone: Backbone) -> None:
    one = hider(library, backbone)
    memory = Reuse(4.0)
    frames = torch.from_numpy(np.stack(still(4)))
    one.matcher.find(frames[:2], memory)
    before = memory.kept

    def fails(*_: Any) -> Any:
        raise RuntimeError("no")

    one.matcher.mask = fails  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="no"):
        one.matcher.find(frames[2:], memory)
    assert memory.kept is before
    assert before.reference is not None


def test_the_papers_presets_compute_everything() -> None:
    assert settings_for("paper").reuse == settings_for("paper-debiased").reuse == 0
    assert settings_for("strict").reuse > 0


def test_somebody_who_appears_is_found_as_with_all_patches(embedded_backbone: Backbone) -> None:
    """Beside somebody who stays as they are, on whom nothing has to be computed but their face."""
    library = TemplateLibrary.load()
    one, other = (
        cv2.resize(library.pictures[name].read(), (224, 224), interpolation=cv2.INTER_AREA)
        for name in ("astronaut", "obama")
    )
    empty = np.full((224, 448, 3), 96, np.uint8)
    empty[:, :224] = one
    both = empty.copy()
    both[:, 224:] = other
    frames = torch.from_numpy(np.stack([empty, empty, both, both]))
    matcher = Hider("face", network=embedded_backbone, device="cpu", seed=1, close_up=0).matcher
    with_it, without = (matcher.find(frames, memory).mask for memory in (Reuse(4.0), None))
    assert without[2, :, 224:].sum() > 500
    assert without[1, :, 224:].sum() == 0
    assert (with_it & without).sum() >= 0.97 * without.sum()
    assert (with_it & without)[2, :, 224:].sum() >= 0.97 * without[2, :, 224:].sum()
