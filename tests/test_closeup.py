"""A second look at heads: squares, what they show enlarged, and what comes back to the frame."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import TINY_SETTINGS, nine_attributes, patchwork
from torch import Tensor

from anonymotion import closeup
from anonymotion.backbone import Backbone
from anonymotion.closeup import HEAD, CloseUp, enlarge_library, joined
from anonymotion.matcher import Matcher
from anonymotion.presets import PRESETS, settings_for
from anonymotion.registry import GROUPS
from anonymotion.squares import LEAST_SIDE, MARGIN, Square, enlarged, only_in, put_back, squares
from anonymotion.templates import TemplateLibrary

PLACES = st.tuples(st.integers(-30, 60), st.integers(-30, 60), st.integers(LEAST_SIDE, 80)).map(lambda at: Square(*at))


def ramp(height: int, width: int) -> Tensor:
    """(H, W, 3) uint8 in which red is the column and green the row."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([columns, rows, torch.zeros_like(rows)], dim=-1).to(torch.uint8)


def test_squares_lie_around_islands_the_tallest_first() -> None:
    mask = torch.zeros(100, 200, dtype=torch.bool)
    mask[10:50, 20:40] = True
    mask[70:75, 150:190] = True
    left_half = torch.zeros_like(mask)
    left_half[:, :30] = True
    first, second = squares(mask, left_half)
    assert first == (Square.around(30, 30, MARGIN * 40), 0.5)
    assert second == (Square.around(170, 72.5, MARGIN * 40), 0.0)
    nothing = torch.zeros(8, 8, dtype=torch.bool)
    assert squares(nothing, ~nothing) == []
    dots = torch.zeros(100, 200, dtype=torch.bool)
    dots[::20, ::20] = True
    assert len(squares(dots, dots)) == 5 * 10
    assert {(square.side, share) for square, share in squares(dots, dots)} == {(LEAST_SIDE, 1.0)}


@given(PLACES)
def test_an_enlarged_square_shows_what_lies_there_and_the_edge_beyond_the_border(square: Square) -> None:
    picture = ramp(50, 60)
    shown = enlarged(picture, square, 112)
    assert shown.shape == (112, 112, 3)
    assert shown.dtype == torch.uint8
    at = (torch.arange(112) + 0.5) / 112 * square.side - 0.5
    away = 2 + square.side / 16  # the filter rounds the corner where the edge begins to go on
    for axis, (start, length) in enumerate(((square.x, 60), (square.y, 50))):
        expected = (start + at).clamp(0, length - 1)
        got = shown[56, :, 0].float() if axis == 0 else shown[:, 56, 1].float()
        inside = ((start + at - 0).abs() > away) & ((start + at - length + 1).abs() > away)
        assert (got - expected)[inside].abs().max() <= 1 if inside.any() else True


@given(PLACES, st.integers(0, 3))
def test_what_is_put_back_replaces_the_square_and_nothing_else(square: Square, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    planes = torch.rand(3, 50, 60, generator=generator)
    result = planes.clone()
    put_back(result, [2, 0], [(square, torch.stack([torch.full((8, 8), 0.25), torch.full((8, 8), 0.75)]))])
    inside = torch.zeros(50, 60, dtype=torch.bool)
    inside[max(0, square.y) : max(0, square.y + square.side), max(0, square.x) : max(0, square.x + square.side)] = True
    assert torch.equal(result[:, ~inside], planes[:, ~inside])
    assert torch.equal(result[1], planes[1])
    assert torch.allclose(result[2, inside], torch.tensor(0.25))
    assert torch.allclose(result[0, inside], torch.tensor(0.75))


def test_the_largest_value_counts_where_squares_overlap() -> None:
    looks = [(Square(0, 0, 30), torch.full((1, 4, 4), 0.9)), (Square(10, 0, 30), torch.full((1, 4, 4), 0.1))]
    for order in (looks, looks[::-1]):
        result = torch.full((1, 40, 60), 0.5)
        put_back(result, [0], order)
        assert torch.allclose(result[0, 0, [5, 20, 35, 50]], torch.tensor([0.9, 0.9, 0.1, 0.5]))


def test_hair_that_reaches_into_a_head_ends_at_its_square_and_no_other_does() -> None:
    plane = torch.zeros(60, 80)
    plane[10:50, 20:30] = 0.6  # from the head down
    plane[10:20, 60:70] = 0.6  # somewhere else
    plane[50:55, 20:30] = 0.3  # below the threshold
    result = only_in(plane, [Square(15, 5, 24)], 0.4)
    assert torch.equal(result[:29], plane[:29])
    assert (result[29:50, 20:30] == 0).all()
    assert torch.equal(result[50:], plane[50:])
    assert torch.equal(only_in(plane, [Square(-30, -30, 24)], 0.4), plane)


def test_what_lies_between_the_parts_of_a_face_is_one_of_them() -> None:
    planes = torch.zeros(3, 9, 9)
    planes[0, 1:4, 1:8] = 0.6  # eyes, over a chin on the left and hair, which is no part, on the right
    planes[0, 4:8, 1:3] = 0.6
    planes[2, 7, 8] = 0.9
    planes[1, 8, 7] = 0.7  # an island of its own
    before, thresholds = planes.clone(), torch.tensor([0.5, 0.4, 0.4])
    joined(planes, thresholds, (0, 1), 1)
    assert torch.equal(planes[[0, 2]], before[[0, 2]])
    raised = planes[1] != before[1]
    assert (planes[1][raised] > 0.4).all()
    assert (planes[1][raised] < 0.401).all()
    assert raised[4, 5]
    assert raised[6, 3]
    assert not raised[7, 7]
    assert not raised[0].any()
    assert not raised[:, [0, 8]].any()
    joined(empty := torch.zeros(3, 9, 9), thresholds, (0, 1), 1)
    assert not empty.any()


def test_a_template_keeps_its_place_in_the_enlarged_library(library: TemplateLibrary) -> None:
    larger = enlarge_library(library, 336)
    assert len(larger.templates) == len(library.templates)
    assert larger.attributes == library.attributes
    for before, after in zip(library.templates[::7], larger.templates[::7], strict=True):
        assert (before.attribute, before.negative) == (after.attribute, after.negative)
        picture = larger.pictures[after.picture]
        square, (x, y) = picture.square, after.centre  # type: ignore[attr-defined]
        assert 0 <= x < 336
        assert 0 <= y < 336
        if before.point is not None:
            back = (square.x + x * square.side / 336, square.y + y * square.side / 336)
            assert back == pytest.approx(before.point)
    image = next(iter(larger.pictures.values())).read()
    assert image.shape == (336, 336, 3)
    assert sum(picture.kind == "background" for picture in larger.pictures.values()) >= 4 * sum(
        picture.kind == "background" for picture in library.pictures.values()
    )


def _matcher(library: TemplateLibrary, tiny: Backbone, names: tuple[str, ...], **options: Any) -> Matcher:
    chosen = settings_for(
        "strict", **{"backbone": tiny.name, **TINY_SETTINGS, "close_up": 56, "presence": 0.0, **options}
    )
    return Matcher(chosen, library, names, (), backbone=tiny, person_mask=None, device=torch.device("cpu"))


def test_only_parts_of_heads_are_looked_at_twice(tmp_path: Path, tiny: Backbone) -> None:
    library = nine_attributes(tmp_path)
    assert _matcher(library, tiny, ("arm", "torso")).close_up is None
    assert _matcher(library, tiny, GROUPS["person"]).close_up is None, "there is nothing to tell apart"
    assert _matcher(library, tiny, GROUPS["face"], close_up=0).close_up is None
    assert _matcher(library, tiny, GROUPS["face"], contrast=0.0).close_up is None
    assert PRESETS["paper"].close_up == PRESETS["paper-debiased"].close_up == 0
    frames = torch.from_numpy(np.stack([patchwork((96, 128), seed=1), patchwork((96, 128), seed=2)]))
    once = _matcher(library, tiny, ("arm", "eyes"), close_up=0, threshold=0.3).find(frames)
    twice = _matcher(library, tiny, ("arm", "eyes"), threshold=0.3).find(frames)
    assert torch.equal(once.saliency[:, 0], twice.saliency[:, 0])
    assert not torch.equal(once.saliency[:, 1], twice.saliency[:, 1])


@pytest.mark.parametrize(
    ("head", "believed_side", "enlargement", "stays"),
    [(True, 0, 0.0, True), (False, 0, 0.0, False), (False, 1000, 0.0, True), (False, 0, 9.0, True)],
)
def test_where_the_second_look_finds_nothing_the_first_one_stays_unless_there_surely_is_no_head(
    tmp_path: Path,
    tiny: Backbone,
    monkeypatch: pytest.MonkeyPatch,
    head: bool,
    believed_side: int,
    enlargement: float,
    stays: bool,
) -> None:
    """Surely: the square is large enough, and enlarged enough, for one to be seen."""
    monkeypatch.setattr(closeup, "BELIEVED_SIDE", believed_side)
    monkeypatch.setattr(closeup, "BELIEVED_ENLARGEMENT", enlargement)
    monkeypatch.setattr(CloseUp, "shows_head", lambda _, closer: torch.full((len(closer.descriptors),), head))
    library = nine_attributes(tmp_path)
    frames = torch.from_numpy(np.stack([patchwork((96, 128), seed=1)]))
    matcher = _matcher(library, tiny, GROUPS["face"], threshold=0.3)
    assert isinstance(matcher.close_up, CloseUp)
    once = _matcher(library, tiny, GROUPS["face"], close_up=0, threshold=0.3).find(frames)
    matcher.close_up = replace(matcher.close_up, thresholds=torch.full((4,), 2.0))
    assert torch.equal(matcher.find(frames).saliency, once.saliency) == stays


@pytest.mark.parametrize(
    ("hidden", "hardly", "looked_at"),
    [(True, 2.0, False), (False, 2.0, True), (None, 2.0, True), (True, 0.0, True)],
)
def test_what_is_hardly_a_head_and_hidden_anyway_is_not_looked_at_again(
    tmp_path: Path,
    tiny: Backbone,
    monkeypatch: pytest.MonkeyPatch,
    hidden: bool | None,
    hardly: float,
    looked_at: bool,
) -> None:
    """A probability is below 2, and not below 0."""
    monkeypatch.setattr(closeup, "HARDLY", hardly)
    everywhere = None if hidden is None else torch.full((1, 96, 128), hidden)
    monkeypatch.setattr(Matcher, "_hidden_anyway", lambda *_: everywhere)
    library = nine_attributes(tmp_path)
    frames = torch.from_numpy(np.stack([patchwork((96, 128), seed=1)]))
    enlargements = []

    def noted(*given: Any) -> Tensor:
        enlargements.append(given)
        return enlarged(*given)

    once = _matcher(library, tiny, ("arm", "eyes"), close_up=0, threshold=0.3).find(frames)
    monkeypatch.setattr(closeup, "enlarged", noted)
    matcher = _matcher(library, tiny, ("arm", "eyes"), threshold=0.3)
    enlargements.clear()  # those of the library's pictures
    found = matcher.find(frames)
    assert bool(enlargements) == looked_at
    if not looked_at:
        assert torch.equal(found.saliency, once.saliency)


def test_what_is_hidden_anyway_is_what_other_attributes_than_those_of_heads_hide(
    tmp_path: Path, tiny: Backbone
) -> None:
    library = nine_attributes(tmp_path)
    saliency = torch.rand(2, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    matcher = _matcher(library, tiny, ("arm", "eyes", "leg"), threshold=0.7)
    found = matcher._hidden_anyway(saliency)
    assert found is not None
    assert torch.equal(found, (saliency[:, [0, 2]] >= 0.7).any(dim=1))
    assert _matcher(library, tiny, ("eyes", "lips"))._hidden_anyway(saliency) is None
    assert _matcher(library, tiny, ("arm", "eyes"), composite="blend")._hidden_anyway(saliency) is None


def test_heads_are_heads_and_fists_and_shrubs_are_none(library: TemplateLibrary, embedded_backbone: Backbone) -> None:
    """Of all that the first look takes for heads in the library's pictures, on which the probe was fitted."""
    chosen = settings_for("strict")
    matcher = Matcher(
        chosen, library, ("lips",), (), backbone=embedded_backbone, person_mask=None, device=torch.device("cpu")
    )
    looks = matcher.close_up
    assert looks is not None
    eyes, others = [], []
    for picture, places in closeup._heads().items():
        image = torch.from_numpy(library.pictures[picture].read().copy())
        marked = [(t.attribute, t.centre) for t in library.templates if t.picture == picture and not t.negative]
        for square in places:
            held = {name for name, at in marked if square.holds(*at)}
            if "eyes" in held or (square.side >= 48 and not held & set(HEAD)):
                closer = embedded_backbone.extract(enlarged(image, square, chosen.close_up)[None], [looks.bank.spec])
                (eyes if "eyes" in held else others).append(bool(looks.shows_head(closer[looks.bank.spec])))
    assert len(eyes) > 7
    assert all(eyes)
    assert len(others) > 30
    assert sum(others) < 0.5 * len(others)


@pytest.mark.parametrize(("shown", "name", "other"), [("obama", "lips", "forehead"), ("astronaut", "hair", "eyes")])
def test_parts_of_a_head_are_told_apart(
    library: TemplateLibrary, embedded_backbone: Backbone, shown: str, name: str, other: str
) -> None:
    """What was asked for stays hidden, less of all else does, and what lies beside it in the head no longer."""
    picture = torch.from_numpy(library.pictures[shown].read().copy())[None]
    shares, covered = {}, {}
    for side in (0, 224):
        matcher = Matcher(
            settings_for("strict", close_up=side),
            library,
            (name,),
            (),
            backbone=embedded_backbone,
            person_mask=None,
            device=torch.device("cpu"),
        )
        mask = matcher.find(picture).mask
        shares[side] = float(mask.float().mean())
        for part in (name, other):
            places = [
                t.centre for t in library.templates if (t.picture, t.attribute, t.negative) == (shown, part, False)
            ]
            assert places
            covered[side, part] = sum(bool(mask[0, int(y), int(x)]) for x, y in places) / len(places)
    assert covered[224, name] == 1
    assert covered[224, other] == 0
    assert covered[0, other] > 0
    assert 0 < shares[224] < 0.7 * shares[0]
