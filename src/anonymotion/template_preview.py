"""What a template would hide in one picture: the picture beside the heat map, and what was marked.

Not here: heat maps of whole videos (run), how a picture is drawn (overlays).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anonymotion import overlays
from anonymotion.errors import OutputError, SettingsError
from anonymotion.exports import save_picture
from anonymotion.pipeline import Hider
from anonymotion.target import check_target, whole_file
from anonymotion.templates import Template, TemplateLibrary

MOST_CROPS = 12
PANEL_WIDTH = 640
CROP_SIDE = 156


@dataclass(frozen=True)
class Preview:
    """What an attribute matches in one picture.

    highest: the largest saliency, in [0, 1]; at: (x, y) of it in pixels.  threshold: from which a pixel is hidden;
    share: of the pixels that reach it, before the mask grows.
    """

    attribute: str
    highest: float
    at: tuple[int, int]
    threshold: float
    share: float


def preview_picture(
    image: np.ndarray,
    attribute: str,
    path: Path | None = None,
    *,
    library: TemplateLibrary,
    force: bool = False,
    **options: Any,
) -> Preview:
    """Match `attribute` in `image`, (H, W, 3) uint8 RGB; with `path` write a PNG that shows what was found.

    `options` are those of `Hider`.  Raises UnknownAttributeError, SettingsError for a group, OutputError if the
    path cannot be written.
    """
    (name, *others) = library.expand([attribute])
    if others:
        raise SettingsError(f"{attribute!r} is a group: preview one of {', '.join((name, *others))}")
    hider = Hider([name], library=library, **options)
    ((_, planes),) = hider.saliency([image])
    plane, threshold = planes[0], hider.settings.threshold[name]
    y, x = np.unravel_index(int(plane.argmax()), plane.shape)
    found = Preview(name, float(plane.max()), (int(x), int(y)), threshold, float((plane >= threshold).mean()))
    if path is not None:
        write_preview(library, found, image, plane, path, force=force)
    return found


def write_preview(
    library: TemplateLibrary, found: Preview, image: np.ndarray, plane: np.ndarray, path: Path, *, force: bool = False
) -> None:
    """Write a PNG: `image` with the outline of what would be hidden, its heat map, and the templates below.

    It shows the input: it is not for release.  Raises OutputError.
    """
    from PIL import Image

    width = max(320, min(PANEL_WIDTH, image.shape[1]))
    size = (width, max(1, round(width * image.shape[0] / image.shape[1])))
    outlined = overlays.outline(image, plane >= found.threshold)
    texts = (
        f"{found.attribute}: {found.share:.1%} at or over {found.threshold:g}",
        f"highest {found.highest:.2f} at {found.at[0]},{found.at[1]}",
    )
    panels = [
        overlays.captioned(overlays.fit(shown, *size), text)
        for shown, text in zip((outlined, overlays.heat_map(image, plane)), texts, strict=True)
    ]
    rows = [overlays.sheet(panels, columns=2)]
    crops = [_marked(library, template) for template in _own_first(library, found.attribute)[:MOST_CROPS]]
    if crops:
        rows.append(overlays.sheet(crops, columns=max(1, rows[0].shape[1] // (CROP_SIDE + 8))))
    canvas = np.full((sum(len(row) for row in rows), max(row.shape[1] for row in rows), 3), 24, np.uint8)
    top = 0
    for row in rows:
        canvas[top : top + len(row), : row.shape[1]] = row
        top += len(row)
    with whole_file(path, force=force) as partial:
        save_picture(Image.fromarray(canvas), partial)


def check_preview_path(path: Path, source: Path, *, force: bool) -> None:
    """Raise OutputError unless `path` can become the preview of `source`, a PNG."""
    if path.suffix.lower() != ".png":
        raise OutputError(f"{path} does not end in .png: a preview is written as PNG")
    check_target(path, source, force=force)


def _own_first(library: TemplateLibrary, attribute: str) -> list[Template]:
    found = [template for template in library.templates if template.attribute == attribute]
    return sorted(found, key=lambda template: template not in library.own_templates)


def _marked(library: TemplateLibrary, template: Template) -> np.ndarray:
    """The part of a template's picture around its mark, marked."""
    image = library.pictures[template.picture].read()
    x, y = template.centre
    marked = overlays.crosses(image, [(x, y)]) if template.box is None else overlays.boxes(image, [template.box])
    half = max(60, min(image.shape[:2]) // 4)
    if template.box is not None:
        half = max(half, round(max(template.box[2] - template.box[0], template.box[3] - template.box[1]) * 0.6))
    left, top = max(0, round(x) - half), max(0, round(y) - half)
    crop = marked[top : round(y) + half, left : round(x) + half]
    sign = "not: " if template.negative else ""
    return overlays.captioned(overlays.fit(crop, CROP_SIDE, CROP_SIDE), sign + library.template_id(template)[:8])
