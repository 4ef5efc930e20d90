"""Rebuild the pictures of the README: `python scripts/make_readme_pictures.py`.

`docs/pictures/before_saliency_after.jpg`: a public-domain portrait, where `face` and `hair` are found in it, and
what `hide` makes of it.  The templates taken from this person are left out, so it is matched by other people's.
`docs/pictures/templates.jpg`: the built-in library, as `anonymotion template show --sheet` draws it.

It does not use anything that is not in the package.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

import anonymotion as am
from anonymotion import overlays
from anonymotion.exports import write_template_sheet
from anonymotion.templates import TemplateLibrary

PICTURES = Path(__file__).parents[1] / "docs/pictures"
SUBJECT = "hopper"
PANEL_WH = (400, 400)


def without_subject(library: TemplateLibrary, subject: str) -> TemplateLibrary:
    """The library without the exemplars of one person; its digest differs, so no cache confuses the two."""
    kept = tuple(template for template in library.templates if not template.picture.startswith(subject))
    return replace(library, templates=kept, digest=f"{library.digest} without {subject}")


def main() -> None:
    """Write both pictures."""
    library = TemplateLibrary.load()
    PICTURES.mkdir(parents=True, exist_ok=True)
    before = library.pictures[SUBJECT].read().copy()
    hider = am.Hider(["face", "hair"], library=without_subject(library, SUBJECT))
    ((_, planes),) = hider.saliency([before])
    (after,) = hider.hide([before])
    panels = [
        overlays.captioned(overlays.fit(image, *PANEL_WH), caption)
        for image, caption in (
            (before, "before"),
            (overlays.heat_map(before, np.max(planes, axis=0)), "saliency of face and hair"),
            (after, "after: hide --attributes face,hair"),
        )
    ]
    Image.fromarray(overlays.sheet(panels, columns=3)).save(PICTURES / "before_saliency_after.jpg", quality=88)
    sheet = PICTURES / "templates.png"
    write_template_sheet(library, library.attributes, sheet, force=True)
    with Image.open(sheet) as image:
        smaller = image.convert("RGB").resize((image.width * 4 // 5, image.height * 4 // 5), Image.Resampling.LANCZOS)
        smaller.save(sheet.with_suffix(".jpg"), quality=72)
    sheet.unlink()


if __name__ == "__main__":
    main()
