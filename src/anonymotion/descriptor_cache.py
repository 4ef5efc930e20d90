"""Descriptors of a library's pictures, kept between runs: they are the same for every video.

Two places: a file inside the package for the specs of the presets (so that the first run needs no extra
passes), and the user's cache folder for all others.  A key covers the library, the weights and the spec, so
stale entries are never found.  Only descriptors of library pictures are kept here; those of a user's own pictures lie
in a folder of their own, which goes when their template goes (`forget`).

Not here: how descriptors are computed (backbone, templates).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from anonymotion.registry import FeatureSpec

PACKAGED_FILE = Path(__file__).parent / "library" / "descriptors.safetensors"


# Raise it when what an entry holds changes, so that older entries are not found.
ENTRY_FORMAT = 3


def user_cache_folder() -> Path:
    """`$XDG_CACHE_HOME/anonymotion`, by default `~/.cache/anonymotion`."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "anonymotion"


def _own_folder(library_digest: str) -> Path:
    return user_cache_folder() / "own" / library_digest[:32]


def forget(library_digest: str) -> None:
    """Delete all descriptors of a user's library, or part of one, that has gone or changed."""
    shutil.rmtree(_own_folder(library_digest), ignore_errors=True)


@dataclass(frozen=True)
class DescriptorCache:
    """The entries that belong to one library and one set of weights (their SHA-256); own: of a user's own."""

    library_digest: str
    weights_fingerprint: str
    own: bool = False

    def key(self, spec: FeatureSpec) -> str:
        """Name of the entry of `spec`; the mean is part of every entry, so its id does not matter."""
        content = {
            **asdict(spec.raw),
            "format": ENTRY_FORMAT,
            "library": self.library_digest,
            "weights": self.weights_fingerprint,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]

    def read(self, spec: FeatureSpec) -> dict[str, Tensor] | None:
        """The tensors of the entry, or None if there is no usable one."""
        key = self.key(spec)
        return read_packaged(f"{key}.") or read_tensors(self._folder / f"{key}.safetensors")

    @property
    def _folder(self) -> Path:
        return _own_folder(self.library_digest) if self.own else user_cache_folder()

    def write(self, spec: FeatureSpec, vectors: Mapping[str, Tensor]) -> None:
        """Keep an entry in the user's cache; a folder that cannot be written only costs time later."""
        write_tensors(self._folder / f"{self.key(spec)}.safetensors", vectors)


def read_packaged(prefix: str) -> dict[str, Tensor] | None:
    """The tensors of the package's file whose names begin with `prefix`, by the rest of their names, float32."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(PACKAGED_FILE, framework="pt") as stream:
            names = [name for name in stream.keys() if name.startswith(prefix)]  # noqa: SIM118 - not a dict
            return {name.removeprefix(prefix): stream.get_tensor(name).float() for name in names} or None
    except (OSError, SafetensorError):
        return None


def read_tensors(path: Path) -> dict[str, Tensor] | None:
    """What `write_tensors` put into a file; None if that is absent or damaged: the caller computes it again."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as stream:
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a dict
            intact = (stream.metadata() or {}).get("sha256") == _sum(tensors)
    except (OSError, SafetensorError):
        return None
    return tensors if intact and tensors else None


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Keep tensors in a file of the user's cache; a folder that cannot be written only costs time later.

    With their SHA-256: one flipped bit could show what is to be hidden, without a word.
    """
    from safetensors.torch import save

    content = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, partial = tempfile.mkstemp(dir=path.parent, suffix=".partial")
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(save(content, metadata={"sha256": _sum(content)}))
        os.replace(partial, path)


def _sum(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()


def write_packaged(entries: Mapping[str, Mapping[str, Tensor]], path: Path = PACKAGED_FILE) -> None:
    """Write entries by their `DescriptorCache.key` to the file that ships with the package, as float16
    (scripts/make_library_descriptors.py).
    """
    from safetensors.torch import save_file

    save_file(
        {
            f"{key}.{name}": tensor.half().contiguous()
            for key, vectors in entries.items()
            for name, tensor in vectors.items()
        },
        path,
    )
