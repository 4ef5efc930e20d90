"""Read weight files safely: safetensors, or a torch state dict without executable pickles.

`provenance.toml` beside this file says where the embedded weights come from and under which licences.

Not here: which architecture the tensors belong to (backbone.py, flow), downloads (download.py), how the embedded file
is packed (planes.py).
"""

from __future__ import annotations

import hashlib
import tomllib
from functools import cache
from pathlib import Path

from torch import Tensor

from anonymotion.errors import WeightsError
from anonymotion.weights import planes

FOLDER = Path(__file__).parent


@cache
def provenance() -> dict[str, str]:
    """What is on record about the embedded weights: file, SHA-256, source package, licences, how to rebuild.

    The SHA-256 is that of the safetensors file that is packed in it (planes).
    """
    with (FOLDER / "provenance.toml").open("rb") as stream:
        return tomllib.load(stream)


def load_weights(path: Path | None, embedded_file: str | None = None) -> tuple[dict[str, Tensor], str]:
    """Return (tensors by name, float32) and the SHA-256 of the file they came from.

    Without a `path` the package's `embedded_file` is unpacked, and what was packed must have the recorded SHA-256.
    Raises WeightsError for a missing, damaged or unsafe file.
    """
    if path is None:
        if embedded_file is None:
            raise WeightsError("no weights were given, and the package embeds none for this network")
        path = FOLDER / embedded_file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"weights {path} cannot be read ({error.strerror}): check the path") from error
    if path.suffix == planes.SUFFIX:
        data = _unpacked(data, path)
    digest = hashlib.sha256(data).hexdigest()
    if path.parent == FOLDER and path.name == provenance()["file"] and digest != provenance()["sha256"]:
        raise _damaged(path, f"SHA-256 {digest[:12]}..., expected {provenance()['sha256'][:12]}...")
    whole = path.suffix in (".safetensors", planes.SUFFIX)
    tensors = _parse_safetensors(data, path) if whole else _parse_state_dict(path)
    return {name: tensor.float() for name, tensor in tensors.items()}, digest


def _unpacked(data: bytes, path: Path) -> bytes:
    try:
        return planes.unpack(data)
    except ValueError as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, why: str) -> WeightsError:
    return WeightsError(f"the embedded weights {path.name} are damaged ({why}): install the package again")


def _parse_safetensors(data: bytes, path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise WeightsError(f"weights {path.name} are not a whole safetensors file ({error}): get them again") from error


def _parse_state_dict(path: Path) -> dict[str, Tensor]:
    """A torch file, read with weights_only: a pickle that would run code is refused by torch."""
    import pickle  # only for the name of the exception that torch raises
    import struct

    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        # torch's reader lets whatever a damaged stream provokes escape
        pickle.UnpicklingError,
        struct.error,
        RuntimeError,
        EOFError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
        OSError,
    ) as error:
        reason = " ".join(str(error).split())[:160]
        raise WeightsError(f"weights {path.name} cannot be read safely as a torch state dict: {reason}") from error
    if isinstance(content, dict) and not all(isinstance(value, Tensor) for value in content.values()):
        # training checkpoints nest the weights one level down
        names = ("state_dict", "model_state", "model", "teacher")
        nested = [content[key] for key in names if isinstance(content.get(key), dict)]
        content = nested[0] if nested else content
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"weights {path.name} are not a state dict of tensors: convert them to safetensors")
    return {str(name).removeprefix("module."): value for name, value in content.items()}
