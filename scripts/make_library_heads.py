"""Rebuild `library/heads.toml`: `python scripts/make_library_heads.py`.

Squares around what the matcher takes for a head in the library's pictures, false ones included, because frames are
looked at in the same way.  Run it after any change of the library's pictures or of how faces are matched, and
`make_library_descriptors.py` after it.
"""

from __future__ import annotations

import torch

from anonymotion.backbone import Backbone
from anonymotion.closeup import FOUND, HEADS_FILE, MOST, head_finder
from anonymotion.presets import PRESETS
from anonymotion.saliency import attribute_saliency, upsample
from anonymotion.squares import squares
from anonymotion.templates import TemplateLibrary


def main() -> None:
    """Look for heads in all pictures, write the file."""
    library = TemplateLibrary.load()
    settings = PRESETS["strict"]
    backbone = Backbone.load(settings.backbone, torch.device("cpu"))
    finder = head_finder(library, backbone, settings)
    title = "# Squares around what looks like a head, x, y and side in pixels: scripts/make_library_heads.py"
    lines = [title, "[heads]"]
    for picture in library.pictures.values():
        features = backbone.extract(torch.from_numpy(picture.read().copy())[None], [finder.spec])[finder.spec]
        saliency = attribute_saliency(features, finder, settings.exemplar_aggregation).amax(dim=1, keepdim=True)
        found = upsample(saliency, features.grid)[0, 0] >= FOUND
        around = [list(square) for square, _ in squares(found, found)[:MOST]]
        if around:
            lines.append(f"{picture.id} = {around}")
    HEADS_FILE.write_text("\n".join(lines) + "\n")
    print(f"{HEADS_FILE.name}: {len(lines) - 2} of {len(library.pictures)} pictures")


if __name__ == "__main__":
    main()
