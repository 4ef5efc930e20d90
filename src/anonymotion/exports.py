"""What a run can leave beside its video: masks (`--export-masks`) and the full dump (`--dump`).

Both are folders that appear when they are complete: files are written to a hidden folder beside the target,
readable by its owner only, which is renamed at the end and removed after any failure.

A dump holds clean frames: it is for checking, never for release.

Not here: the video itself (video), heat maps (overlays).
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anonymotion.errors import OutputError
from anonymotion.pipeline import HiddenChunk

if TYPE_CHECKING:
    from PIL import Image

    from anonymotion.templates import TemplateLibrary


class StagedFolder(AbstractContextManager["StagedFolder"]):
    """A new folder that appears at `target` by `commit()`, whole, or not at all.

    Raises OutputError at once if the target exists and is not empty (unless `force`), or if the folder it
    lies in is missing or not writable.  With `force` an existing folder is replaced at commit.
    """

    def __init__(self, target: Path, *, force: bool = False, mode: int = 0o700) -> None:
        self._target, self._mode = target, mode
        if target.exists() and not target.is_dir():
            raise OutputError(f"{target} is a file: give a folder that does not exist yet")
        if target.is_dir() and any(target.iterdir()) and not force:
            raise OutputError(f"folder {target} is not empty: give another one, or --force to replace it")
        try:
            self.path = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
        except OSError as error:
            raise OutputError(
                f"folder {target.parent} cannot be written to ({error.strerror}): choose another"
            ) from error

    def commit(self) -> None:
        """Let the folder appear."""
        try:
            self.path.chmod(self._mode)
            if self._target.is_dir():
                shutil.rmtree(self._target)
            self.path.rename(self._target)
        except OSError as error:
            raise OutputError(f"folder {self._target} cannot be put in place ({error.strerror})") from error

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def save_picture(picture: Image.Image, path: Path) -> None:
    """Save a PIL picture; raises OutputError, e.g. on a full disk."""
    try:
        picture.save(path)
    except OSError as error:
        raise OutputError(
            f"picture {path.name} cannot be written ({error.strerror or error}): free some space"
        ) from error


class MaskWriter:
    """`%06d.png` per frame from 0: 8 bit grey, 255 where the pixel was replaced, less on the soft rim."""

    def __init__(self, folder: StagedFolder) -> None:
        self._folder, self._index = folder, 0

    def write(self, chunk: HiddenChunk) -> None:
        """Write the masks of a chunk.  Raises OutputError, e.g. on a full disk."""
        from PIL import Image

        # Rounding down: 255 means replaced, and nothing else does.
        for mask in (chunk.alpha * 255).floor().byte().cpu().numpy():
            save_picture(Image.fromarray(mask), self._folder.path / f"{self._index:06d}.png")
            self._index += 1


class DumpWriter:
    """`%06d.npz` per frame from 0, and `attributes.json`.

    Arrays: image, output (H, W, 3) uint8 RGB, before encoding; saliency (A, H, W) and mask (H, W) float32 in
    [0, 1], mask being the alpha that was used; flow (2, H, W) float32 pixels, (dx, dy) to the previous frame,
    zeros in frame 0; noise (H, W, 3) float32 in 0..255.
    """

    def __init__(self, folder: StagedFolder, attributes: Iterable[str], settings: dict[str, Any]) -> None:
        self._folder, self._index = folder, 0
        content = {
            "attributes": list(attributes),
            "settings": settings,
            "warning": "This folder holds clean frames. It is for checking, not for release.",
        }
        (folder.path / "attributes.json").write_text(json.dumps(content, indent=2) + "\n")

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
            }
            path = self._folder.path / f"{self._index:06d}.npz"
            try:
                np.savez_compressed(path, **{name: tensor.cpu().numpy() for name, tensor in arrays.items()})  # type: ignore[arg-type]
            except OSError as error:
                raise OutputError(f"the dump cannot be written ({error.strerror or error}): free some space") from error
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
    partial = path.with_name(f".{path.name}.partial")
    try:
        Image.fromarray(overlays.sheet(panels, columns=8)).save(partial, format="PNG")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f"{path} cannot be written ({error.strerror or error}): choose another place") from error
