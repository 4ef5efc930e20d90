"""Arrays of a video on the disk: a file of them appears whole or not at all, and a damaged one is named.

Not here: what is in them (looks, maps), features of a clip (features).
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from anonymotion.errors import DatasetError
from anonymotion.target import whole_file


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray], *, compressed: bool = False) -> None:
    """Write arrays by name as .npz, with the folders above it, in the place of an older file.  Raises OutputError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, force=True) as partial, partial.open("wb") as file:
        (np.savez_compressed if compressed else np.savez)(file, **arrays)  # type: ignore[arg-type]  # no name is its own


def load_arrays(path: Path, names: Sequence[str]) -> list[Tensor]:
    """The arrays of those names, in that order.  Raises DatasetError if one cannot be read."""
    try:
        # opened here: numpy leaves a file open that is no archive
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return [torch.from_numpy(archive[name]) for name in names]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} cannot be read ({error}): remove it, and it is computed again") from error
