"""Patch descriptors of frames, computed once: for the page and for every run of the same frames.

They are found again by what is in the frame, not by its number, so a run after a correction computes nothing anew.
Descriptors are derived from clean frames: they are as private as those, and lie only in the session's folder.

Not here: what descriptors are compared with (seeing, run), when the folder goes (session).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anonymotion.backbone import Backbone, PatchFeatures
from anonymotion.patch_grid import PatchGrid
from anonymotion.registry import FeatureSpec
from anonymotion.template_bank import TemplateBank, build_bank
from anonymotion.templates import TemplateLibrary

FREE_BYTES = 2 << 30
"""So much of the disk stays free, whatever the budget."""

IN_MEMORY = 24
BANKS = 24


class FeatureStore:
    """Arrays by key in a folder, at most `budget` bytes in all; the last few are in memory as well.

    Several processes may use one folder.  What does not fit is not kept, and computed again when it is needed.
    """

    def __init__(self, folder: Path, budget: int) -> None:
        self.folder, self.budget = folder, budget
        folder.mkdir(mode=0o700, exist_ok=True)
        self._recent: OrderedDict[str, Tensor] = OrderedDict()
        self._bytes = self._writes = 0

    def read(self, key: str) -> Tensor | None:
        """The array of `key`, float32, or None."""
        if key in self._recent:
            self._recent.move_to_end(key)
            return self._recent[key]
        try:
            tensor = torch.from_numpy(np.load(self.folder / f"{key}.npy", allow_pickle=False))
        except (OSError, ValueError, EOFError):  # absent, or half written by a process that was killed
            return None
        self._remember(key, tensor)
        return tensor

    def write(self, key: str, tensor: Tensor) -> None:
        """Keep an array, if there is room for it."""
        self._remember(key, tensor)
        if self._writes % 64 == 0:  # another process writes as well
            self._bytes = self._used()
        self._writes += 1
        if self._bytes + tensor.nbytes > self.budget or shutil.disk_usage(self.folder).free < FREE_BYTES:
            return
        partial = self.folder / f".{secrets.token_hex(6)}.partial"
        with contextlib.suppress(OSError):  # a full disk costs time, nothing else
            try:
                descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "wb") as stream:
                    np.save(stream, tensor.numpy())
                os.replace(partial, self.folder / f"{key}.npy")
                self._bytes += tensor.nbytes
            finally:
                partial.unlink(missing_ok=True)

    def _used(self) -> int:
        total = 0
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    total += entry.stat().st_size
        return total

    def _remember(self, key: str, tensor: Tensor) -> None:
        self._recent[key] = tensor
        self._recent.move_to_end(key)
        while len(self._recent) > IN_MEMORY:
            self._recent.popitem(last=False)


class RememberingBackbone(Backbone):
    """A backbone that looks into a store first.

    also: specs to compute and keep along with those that are asked for, since a pass gives them for little more.
    computed, reused: numbers of pictures since the last `restart_counting`.
    """

    def __init__(self, inner: Backbone, store: FeatureStore) -> None:
        super().__init__(inner.name, inner._network, inner.patch_size, inner.fingerprint, inner.device, inner.engine)
        self._store = store
        self.also: tuple[FeatureSpec, ...] = ()
        self.restart_counting()

    @property
    def takes_parts(self) -> bool:
        """No: what is in the store is whole frames, and whoever asks again has all of them."""
        return False

    def restart_counting(self) -> None:
        """Set `computed` and `reused` to zero."""
        self.computed = self.reused = 0

    def extract(self, images: Tensor, specs: Sequence[FeatureSpec]) -> dict[FeatureSpec, PatchFeatures]:
        """As of `Backbone.extract`; only pictures that are not in the store go through the network."""
        raw = list(dict.fromkeys(spec.raw for spec in specs))
        more = [spec.raw for spec in self.also if spec.backbone == self.name]
        if not set(raw) & set(more):
            more = []  # not a frame: a square of it that is looked at again
        digests = [hashlib.sha256(image.cpu().numpy().tobytes()).hexdigest() for image in images]
        shape = f"{images.shape[1]}x{images.shape[2]}"
        keys = [{spec: self._key(digest, shape, spec) for spec in raw} for digest in digests]
        found = [{spec: self._store.read(key) for spec, key in row.items()} for row in keys]
        missing = [i for i, row in enumerate(found) if any(tensor is None for tensor in row.values())]
        self.computed, self.reused = self.computed + len(missing), self.reused + len(images) - len(missing)
        if missing:
            fresh = super().extract(images[missing], list(dict.fromkeys((*raw, *more))))
            for place, i in enumerate(missing):
                for spec, features in fresh.items():
                    tensor = features.descriptors[place].cpu().clone()
                    found[i][spec] = tensor
                    self._store.write(self._key(digests[i], shape, spec), tensor)
        size_hw = (images.shape[1], images.shape[2])
        result = {}
        for spec in specs:
            stacked = torch.stack([row[spec.raw] for row in found]).to(self.device)  # type: ignore[misc]  # all found
            result[spec] = PatchFeatures(stacked, spec.raw, PatchGrid.of(size_hw, self.patch_size, spec))
        return result

    def has(self, image: Tensor, specs: Sequence[FeatureSpec]) -> bool:
        """Whether nothing would have to be computed for `image`, (H, W, 3) uint8."""
        digest = hashlib.sha256(image.cpu().numpy().tobytes()).hexdigest()
        shape = f"{image.shape[0]}x{image.shape[1]}"
        return all(self._store.read(self._key(digest, shape, spec.raw)) is not None for spec in specs)

    def _key(self, digest: str, shape: str, spec: FeatureSpec) -> str:
        network = {"weights": self.fingerprint, "engine": self.engine.name}
        content = {**asdict(spec), "picture": digest, "shape": shape, **network}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:40]


class BankShelf:
    """`build_bank`, with the last few banks kept: a slider asks for the same ones again and again."""

    def __init__(self) -> None:
        self._banks: OrderedDict[str, TemplateBank] = OrderedDict()

    def __call__(
        self,
        library: TemplateLibrary,
        backbone: Backbone,
        spec: FeatureSpec,
        attributes: Sequence[str],
        *,
        exemplars: str = "all",
        contrast: Mapping[str, float] | None = None,
        siblings_count: bool = True,
    ) -> TemplateBank:
        """As of `build_bank`."""
        content: list[Any] = [library.digest, backbone.fingerprint, asdict(spec), list(attributes), exemplars]
        key = json.dumps([*content, None if contrast is None else list(contrast.items()), siblings_count])
        if key not in self._banks:
            self._banks[key] = build_bank(
                library,
                backbone,
                spec,
                attributes,
                exemplars=exemplars,
                contrast=contrast,
                siblings_count=siblings_count,
            )
        self._banks.move_to_end(key)
        while len(self._banks) > BANKS:
            self._banks.popitem(last=False)
        return self._banks[key]
