"""What is kept of a marked picture: never more than needed, always with the mark in it."""

from __future__ import annotations

import hashlib
import io
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny import patchwork

from anonymotion.errors import TemplateError
from anonymotion.template_crop import LARGEST_RATIO, LARGEST_SHORT_SIDE, Mark, as_png, crop_place, cut, is_uniform

SIDES = st.integers(16, 3000)


@st.composite
def marked(draw: st.DrawFn) -> tuple[tuple[int, int], Mark]:
    """A picture size and a mark in it."""
    size = draw(SIDES), draw(SIDES)
    x0, y0 = (draw(st.floats(0, length - 1, width=32)) for length in size)
    if draw(st.booleans()):
        return size, Mark(point=(x0, y0))
    x1, y1 = (draw(st.floats(low + 1, length, width=64)) for low, length in zip((x0, y0), size, strict=True))
    return size, Mark(box=(x0, y0, x1, y1))


@given(marked())
def test_a_crop_holds_its_mark_keeps_the_scale_and_is_no_larger_than_needed(
    case: tuple[tuple[int, int], Mark],
) -> None:
    size, mark = case
    mark.check(size)
    left, top, right, bottom = crop_place(size, mark)
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    assert min(right - left, bottom - top) == min(size), "the backbone scales by the shorter side"
    x0, y0, x1, y1 = mark.extent
    for first, last, low, high in ((left, right, x0, x1), (top, bottom, y0, y1)):
        assert first <= low
        assert min(high, size[0] if first == left else size[1]) <= last or mark.point is not None
        assert last - first <= max(min(size), np.ceil(high) - np.floor(low)), "no more than the square, or the box"
    if mark.point is not None:
        assert left <= x0 < right
        assert top <= y0 < bottom


@given(marked())
def test_a_crop_is_centred_unless_a_border_is_in_the_way(case: tuple[tuple[int, int], Mark]) -> None:
    size, mark = case
    left, top, right, bottom = crop_place(size, mark)
    x0, y0, x1, y1 = mark.extent
    for first, last, low, high, length in ((left, right, x0, x1, size[0]), (top, bottom, y0, y1, size[1])):
        if first > 0 and last < length:
            assert abs((first + last) / 2 - (low + high) / 2) <= 1


def test_the_mark_shows_the_same_pixels_in_the_crop() -> None:
    image = patchwork((48, 120), seed=3)
    for x, y in ((0, 0), (119, 47), (60, 20), (3.5, 40.25)):
        crop = cut(image, Mark(point=(x, y)))
        assert crop.image.shape == (48, 48, 3)
        assert crop.mark.point is not None
        column, row = (int(v) for v in crop.mark.point)
        assert (crop.image[row, column] == image[int(y), int(x)]).all()
    crop = cut(image, Mark(box=(10, 5, 100, 30)))
    assert crop.image.shape == (48, 90, 3)
    assert crop.mark.box == (0, 5, 90, 30)
    assert (crop.image == image[:, 10:100]).all()


def test_a_large_picture_is_scaled_down_and_the_mark_with_it() -> None:
    image = np.zeros((2 * LARGEST_SHORT_SIDE, 2 * LARGEST_SHORT_SIDE + 501, 3), np.uint8)
    image[1000:1100, 400:600] = 255
    crop = cut(image, Mark(box=(400, 1000, 600, 1100)))
    assert min(crop.image.shape[:2]) == LARGEST_SHORT_SIDE
    assert crop.mark.box is not None
    x0, y0, x1, y1 = (round(v) for v in crop.mark.box)
    assert (x1 - x0, y1 - y0) == (100, 50)
    assert crop.image[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2].min() > 240
    assert crop.image[: y0 - 2].max() < 15
    corner = cut(image, Mark(point=(image.shape[1] - 0.01, image.shape[0] - 0.01)))
    corner.mark.check((corner.image.shape[1], corner.image.shape[0]))
    tiny = cut(image, Mark(box=(10, 10, 11, 11)))
    assert tiny.mark.point is not None, "less than a pixel is left of it"


@pytest.mark.parametrize(
    ("mark", "expected"),
    [
        (Mark(point=(120, 10)), "120x48"),
        (Mark(point=(5, 48)), "outside"),
        (Mark(point=(-0.5, 10)), "outside"),
        (Mark(box=(0, 0, 121, 10)), "120x48"),
        (Mark(box=(-1, 0, 20, 10)), "outside"),
        (Mark(box=(20, 0, 20, 10)), "empty"),
        (Mark(box=(20, 9, 30, 8)), "empty"),
        (Mark(box=(20, 9, 20.5, 30)), "smaller than a pixel"),
    ],
)
def test_a_mark_that_is_not_in_the_picture(mark: Mark, expected: str) -> None:
    with pytest.raises(TemplateError, match=expected):
        cut(patchwork((48, 120)), mark)


def test_a_mark_is_one_place() -> None:
    for places in ({}, {"point": (1, 2), "box": (1, 2, 3, 4)}):
        with pytest.raises(TemplateError, match="either a point"):
            Mark(**places)  # type: ignore[arg-type]


def test_a_box_too_long_to_be_matched() -> None:
    image = patchwork((20, 200))
    longest = int(LARGEST_RATIO * 20)
    assert cut(image, Mark(box=(0, 0, longest, 20))).image.shape == (20, longest, 3)
    with pytest.raises(TemplateError, match="cannot be matched"):
        cut(image, Mark(box=(0, 0, longest + 1, 20)))


def test_a_uniform_place_is_told_from_a_textured_one() -> None:
    random = np.random.default_rng(0)
    image = np.full((320, 480, 3), 90.0)
    image[:, 240:] = patchwork((320, 240))
    image += random.normal(0, 2, image.shape)  # the grain of a camera
    image = image.clip(0, 255).astype(np.uint8)
    assert is_uniform(cut(image, Mark(point=(100, 100))))
    assert is_uniform(cut(image, Mark(box=(20, 20, 200, 300))))
    assert not is_uniform(cut(image, Mark(point=(400, 100))))
    assert not is_uniform(cut(image, Mark(point=(240, 100)))), "an edge is something to see"
    assert not is_uniform(cut(image, Mark(box=(200, 20, 280, 300))))


def test_the_png_is_lossless_and_has_no_metadata() -> None:
    image = patchwork((20, 30))
    data = as_png(image)
    with Image.open(io.BytesIO(data)) as picture:
        assert (np.asarray(picture) == image).all()
        assert picture.info == {}
    assert hashlib.sha256(as_png(image)).digest() == hashlib.sha256(data).digest()
    chunks = [b"IHDR", b"IDAT", b"IEND"]
    places = [data.index(chunk) for chunk in chunks]
    assert all(first < second for first, second in pairwise(places))
    assert not any(chunk in data for chunk in (b"tEXt", b"iTXt", b"zTXt", b"eXIf", b"tIME"))
