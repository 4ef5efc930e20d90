"""What a run can leave beside its video: masks (`--export-masks`) and the full dump (`--dump`).

Both are folders that appear when they are complete (`target.HiddenFolder`).

A dump holds clean frames: it is for checking, never for release.

Not here: the video itself (video), heat maps (overlays).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from anonymotion.chunks import HiddenChunk
from anonymotion.errors import OutputError
from anonymotion.target import HiddenFolder, reason, whole_file

if TYPE_CHECKING:
    from PIL import Image

    from anonymotion.presets import Settings
    from anonymotion.templates import TemplateLibrary


DUMP_FILES = re.compile(r"\d+\.npz|attributes\.json")
HEAT_MAP_FILES = re.compile(r".+_\d+\.png")


def save_picture(picture: Image.Image, path: Path) -> None:
    """Save a PIL picture; raises OutputError, e.g. on a full disk."""
    try:
        picture.save(path, "PNG")  # a file without a name has no suffix either
    except OSError as error:
        raise OutputError(
            f"picture {path.name} cannot be written ({error.strerror or error}): free some space"
        ) from error


class ChunkWriter(Protocol):
    """Whatever takes the chunks of a run, in order."""

    def write(self, chunk: HiddenChunk) -> None:
        """Take the next chunk."""
        ...


class MaskWriter:
    """`%06d.png` per frame from 0: 8 bit grey, 255 where the pixel was replaced, less on the soft rim."""

    def __init__(self, folder: HiddenFolder) -> None:
        self._folder, self._index = folder, 0

    def write(self, chunk: HiddenChunk) -> None:
        """Write the masks of a chunk.  Raises OutputError, e.g. on a full disk."""
        from PIL import Image

        # Rounding down: 255 means replaced, and nothing else does.
        for mask in (chunk.alpha * 255).floor().byte().cpu().numpy():
            save_picture(Image.fromarray(mask), self._folder.partial / f"{self._index:06d}.png")
            self._index += 1


class DumpWriter:
    """`%06d.npz` per frame from 0, and `attributes.json`.

    Arrays: image, output (H, W, 3) uint8 RGB, before encoding; saliency (A, H, W) and mask (H, W) float32 in
    [0, 1], mask being the alpha that was used; flow (2, H, W) float32 pixels, (dx, dy) to the previous frame,
    zeros in frame 0; noise (H, W, 3) float32 in 0..255: with a comparison method what it put in its place (and
    where it covered the whole frame: no saliency planes, a mask of ones, zero flow); searched () bool: whether the
    frame itself was matched (`every`); where it was not, saliency is zero.
    """

    def __init__(self, folder: HiddenFolder, attributes: Iterable[str], settings: Settings) -> None:
        self._folder, self._index = folder, 0
        names = list(attributes)
        content = {
            "attributes": names,
            "thresholds": {name: settings.threshold[name] for name in names},
            "layers": {name: settings.layer[name] for name in names},
            "contrasts": {name: settings.contrast[name] for name in names},
            "settings": settings.as_json(),
            "warning": "This folder holds clean frames. It is for checking, not for release.",
        }
        (folder.partial / "attributes.json").write_text(json.dumps(content, indent=2) + "\n")

    def write(self, chunk: HiddenChunk) -> None:
        """Write everything that decided the pixels of a chunk.  Raises OutputError, e.g. on a full disk."""
        for t in range(len(chunk.frames)):
            arrays = {
                "image": chunk.frames[t],
                "output": chunk.output[t],
                "saliency": chunk.saliency[t],
                "mask": chunk.alpha[t],
                "flow": chunk.flow[t],
                "noise": chunk.noise[t],
                "searched": chunk.searched[t],
            }
            path = self._folder.partial / f"{self._index:06d}.npz"
            try:
                np.savez_compressed(path, **{name: tensor.cpu().numpy() for name, tensor in arrays.items()})  # type: ignore[arg-type]
            except OSError as error:
                raise OutputError(f"the dump cannot be written ({reason(error)})") from error
            self._index += 1


def write_template_sheet(
    library: TemplateLibrary, attributes: Sequence[str], path: Path, *, force: bool = False
) -> None:
    """A picture of the exemplars of `attributes`, each a crop around its point or box (Figure 3), as PNG.

    Raises OutputError if the path cannot be written, or exists and `force` is not set.
    """
    from PIL import Image

    from anonymotion import overlays

    if path.exists() and not force:
        raise OutputError(f"{path} exists: give another name, or --force to replace it")
    panels = []
    for name in attributes:
        for template in library.exemplars(name):
            image = library.pictures[template.picture].read()
            x, y = template.centre
            half = max(60, min(image.shape[:2]) // 4)
            left, top = max(0, round(x) - half), max(0, round(y) - half)
            crop = overlays.crosses(image, [(x, y)])[top : round(y) + half, left : round(x) + half]
            panels.append(overlays.captioned(overlays.fit(crop, 150, 150), f"{name}: {template.picture}"[:24]))
    with whole_file(path, force=force) as partial:
        save_picture(Image.fromarray(overlays.sheet(panels, columns=8)), partial)
