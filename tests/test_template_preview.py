"""The preview of an attribute in one picture: its numbers, and a picture that shows them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import TINY_SETTINGS, patchwork, tiny_library

from anonymotion.backbone import Backbone
from anonymotion.errors import OutputError, SettingsError
from anonymotion.overlays import boxes, outline
from anonymotion.pipeline import Hider
from anonymotion.template_crop import Mark, cut
from anonymotion.template_preview import check_preview_path, preview_picture
from anonymotion.templates import TemplateLibrary
from anonymotion.user_library import UserLibrary


@pytest.fixture
def joined(tmp_path: Path) -> TemplateLibrary:
    """The small library, and `logo`: a box and a negative point in the picture that is previewed."""
    own = UserLibrary(tmp_path / "own", named=True)
    own.add(cut(patchwork((64, 96), 7), Mark(box=(30, 20, 50, 40))), "logo")
    own.add(cut(patchwork((64, 96), 7), Mark(point=(80, 50))), "logo", negative=True)
    return tiny_library(tmp_path / "base").join(TemplateLibrary.load(own.folder))


def test_the_numbers_are_those_of_the_saliency_and_the_picture_shows_them(
    joined: TemplateLibrary, tiny: Backbone, tmp_path: Path
) -> None:
    image, path = patchwork((64, 96), 7), tmp_path / "preview.png"
    options = {"library": joined, "network": tiny, "device": "cpu", **TINY_SETTINGS}
    found = preview_picture(image, "Logo", path, **options)
    ((_, planes),) = Hider(["logo"], **options).saliency([image])
    assert found.attribute == "logo"
    assert found.highest == pytest.approx(float(planes.max()))
    assert planes[0, found.at[1], found.at[0]] == planes.max()
    assert found.threshold == 0.5
    assert found.share == pytest.approx(float((planes >= 0.5).mean()))
    with Image.open(path) as picture:
        assert picture.size[0] > 2 * 320, "the picture, and its heat map beside it"
        assert picture.size[1] > 64 * 320 // 96 + 150, "with the templates below"
    before = path.read_bytes()
    with pytest.raises(OutputError, match="--force"):
        check_preview_path(path, tmp_path / "x.png", force=False)
    with pytest.raises(OutputError):
        preview_picture(image, "logo", path, **options)
    assert path.read_bytes() == before


def test_a_group_has_no_preview(joined: TemplateLibrary, tiny: Backbone) -> None:
    with pytest.raises(SettingsError, match="preview one of hair, forehead"):
        preview_picture(patchwork((64, 96)), "person", library=TemplateLibrary.load(), network=tiny)


def test_an_outline_follows_the_border_of_a_mask_and_a_frame_that_of_a_box() -> None:
    image = np.full((40, 50, 3), 100, np.uint8)
    mask = np.zeros((40, 50), bool)
    mask[10:30, 15:35] = True
    for drawn in (outline(image, mask), boxes(image, [(15, 10, 35, 30)])):
        changed = (drawn != image).any(axis=2)
        assert changed[10, 15:35].all()
        assert changed[10:30, 15].all()
        assert not changed[16:24, 21:29].any(), "what is inside can still be seen"
        assert not changed[:6].any()
        assert not changed[:, 42:].any()
    assert (outline(image, np.zeros((40, 50), bool)) == image).all()
