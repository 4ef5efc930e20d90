"""Where things are in a clip and how it moves, computed once, for all methods that differ only in what they put there.

A look is what decides the mask: attributes and all settings but those of the noise and the method.  Several looks
share one pass of the backbone, and what they found can be kept in a store, from which any noise or fill is made without
matching again; the result is the same to the bit (a test compares it with `Hider.hide`).

Not here: what takes the place of pixels (obfuscate), the pipeline itself (pipeline).
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, tee
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anonymotion.backbone import Backbone, PatchFeatures
from anonymotion.chunks import HiddenChunk
from anonymotion.errors import DatasetError
from anonymotion.flow import FlowEstimator
from anonymotion.pipeline import Hider
from anonymotion.registry import FeatureSpec
from anonymotion.research.archives import load_arrays, save_arrays
from anonymotion.results import library_versions

# What is put into a mask, which a look is the same for.
COVER_SETTINGS = ("preset", "noise", "noise_mean", "noise_std", "noise_grain", "method", "at_native")
REMEMBERED_BATCHES = 12
# Of frames: looks hold back up to `look_ahead`, and read in chunks, so that one may be as far behind another.
REMEMBERED_FLOWS = 64
CHUNK_FRAMES = 32


class OnePass(Backbone):
    """A backbone that remembers its last batches, so that Hiders that see the same frames share its work.

    `expect` says what will be asked for: the first question about a batch computes all that is wanted at its size.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._expected: tuple[FeatureSpec, ...] = ()
        self._batches: OrderedDict[bytes, dict[FeatureSpec, PatchFeatures]] = OrderedDict()
        self.passes = 0

    def expect(self, specs: Iterable[FeatureSpec]) -> None:
        """What will be asked of every batch from now on."""
        self._expected = tuple(dict.fromkeys(spec.raw for spec in specs))
        self._batches.clear()

    def extract(self, images: Tensor, specs: Sequence[FeatureSpec]) -> dict[FeatureSpec, PatchFeatures]:
        """As `Backbone.extract`; for frames that were seen a moment ago, what was computed then."""
        raw = [spec.raw for spec in specs]
        if not set(raw) <= set(self._expected):
            return super().extract(images, specs)
        sizes = {spec.short_side for spec in raw}
        content = repr((tuple(images.shape), sorted(sizes))).encode() + images.cpu().numpy().tobytes()
        key = hashlib.blake2b(content, digest_size=16).digest()
        if key not in self._batches:
            self._batches[key] = super().extract(images, [s for s in self._expected if s.short_side in sizes])
            self.passes += 1
            while len(self._batches) > REMEMBERED_BATCHES:
                self._batches.popitem(last=False)
        return {spec: self._batches[key][spec.raw] for spec in specs}


class OneFlow(FlowEstimator):
    """An estimator of flow that remembers its last answers, so that Hiders that see the same frames share its work."""

    def __init__(self, estimator: FlowEstimator) -> None:
        self.name = estimator.name
        self._estimator = estimator
        self._flows: OrderedDict[bytes, Tensor] = OrderedDict()
        self.asked = 0

    def between(self, current: Tensor, previous: Tensor) -> Tensor:
        """See FlowEstimator.between; of two frames that were compared a moment ago, what was found then."""
        digest = hashlib.blake2b(repr(tuple(current.shape)).encode(), digest_size=16)
        for frame in (current, previous):
            digest.update(frame.cpu().numpy().tobytes())
        key = digest.digest()
        if key not in self._flows:
            self._flows[key] = self._estimator.between(current, previous)
            self.asked += 1
            while len(self._flows) > REMEMBERED_FLOWS:
                self._flows.popitem(last=False)
        return self._flows[key].clone()

    def working_bytes(self, size_hw: tuple[int, int], pairs: int) -> int:
        """See FlowEstimator.working_bytes: pairs are compared one by one."""
        return self._estimator.working_bytes(size_hw, 1)


@dataclass(frozen=True)
class Look:
    """A Hider, of which only the mask and the flow are used, and what identifies them.

    library: digest of the library of templates that it was made with.
    """

    hider: Hider
    library: str

    @property
    def key(self) -> dict[str, Any]:
        """Everything that decides mask and flow, but for the video: plain values."""
        settings = self.hider.settings.as_json()
        return {
            "attributes": list(self.hider.attributes),
            "library": self.library,
            "settings": {name: value for name, value in settings.items() if name not in COVER_SETTINGS},
            "backbone": self.hider.networks["backbone"],
            "flow": self.hider.networks["flow"],
            "mask": self.hider.mask_source,
            "version": library_versions()["anonymotion"],
        }

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that stand for `key`."""
        return hashlib.sha256(json.dumps(self.key, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Seen:
    """T frames, and what each look found in them, on the CPU.

    frames: (T, H, W, 3) uint8.  flow: (T, 2, H, W) float32 pixels to the previous frame.
    alphas: digest of a look -> (T, H, W) float32 in [0, 1], the weight with which a pixel is replaced.
    """

    frames: Tensor
    flow: Tensor
    alphas: Mapping[str, Tensor]


def look_at(looks: Sequence[Look], frames: Iterable[np.ndarray]) -> Iterator[Seen]:
    """What `looks` find in `frames`, (H, W, 3) uint8 RGB of one size, in order; holds back as the slowest look does.

    All looks must have the same flow, which is estimated once.  With a `OnePass` backbone in all of them each frame
    passes it once.  Without any look the flow is zero.
    """
    if not looks:
        for images in chunks_of(frames):
            yield Seen(images, torch.zeros(len(images), 2, *images.shape[1:3]), {})
        return
    digests = [look.digest for look in looks]
    _expect([look.hider for look in looks])
    _share_flow([look.hider for look in looks])
    taken = [0] * len(looks)
    streams = [
        look.hider.explain(_counted(copy, taken, number))
        for number, (look, copy) in enumerate(zip(looks, tee(frames, len(looks)), strict=True))
    ]
    waiting: list[deque[HiddenChunk]] = [deque() for _ in looks]
    running = set(range(len(looks)))
    while running:
        # the one that has read least: then all of them read the same batches at nearly the same time
        number = min(running, key=lambda index: taken[index])
        chunk = next(streams[number], None)
        if chunk is None:
            running.discard(number)
            continue
        waiting[number].append(chunk)
        while all(waiting):
            yield _aligned(waiting, digests)
    if any(waiting):
        raise AssertionError("looks gave different numbers of frames")


def chunks_of(frames: Iterable[np.ndarray]) -> Iterator[Tensor]:
    """Frames, (H, W, 3) uint8, as (T, H, W, 3) tensors of at most `CHUNK_FRAMES`.

    Raises DatasetError if their sizes differ.
    """
    iterator = iter(frames)
    while chunk := list(islice(iterator, CHUNK_FRAMES)):
        if len({frame.shape for frame in chunk}) > 1:
            raise DatasetError("its frames have different sizes: all frames of a video must have one")
        yield torch.from_numpy(np.stack(chunk))


def _expect(hiders: Sequence[Hider]) -> None:
    specs = [spec for hider in hiders for spec in hider.matcher.specs]
    specs += [looked.bank.spec for hider in hiders if (looked := hider.matcher.close_up) is not None]
    for hider in hiders:
        if isinstance(hider.backbone, OnePass):
            hider.backbone.expect(spec for spec in specs if spec.backbone == hider.settings.backbone)


def _share_flow(hiders: Sequence[Hider]) -> None:
    """The first Hider's estimator for all of them, in whose place it stays: it answers the same."""
    flow = hiders[0].flow
    if flow is not None and len(hiders) > 1:
        shared = flow if isinstance(flow, OneFlow) else OneFlow(flow)
        for hider in hiders:
            hider.flow = hider.flow and shared


def _counted(frames: Iterable[np.ndarray], taken: list[int], number: int) -> Iterator[np.ndarray]:
    for frame in frames:
        taken[number] += 1
        yield frame


def _aligned(waiting: Sequence[deque[HiddenChunk]], digests: Sequence[str]) -> Seen:
    """As many frames as every look has ready, taken from what is waiting."""
    count = min(len(chunks[0].frames) for chunks in waiting)
    alphas = {}
    first = waiting[0][0]
    for digest, chunks in zip(digests, waiting, strict=True):
        chunk = chunks.popleft()
        alphas[digest] = chunk.alpha[:count].cpu()
        if len(chunk.frames) > count:
            chunks.appendleft(_rest(chunk, count))
    return Seen(first.frames[:count].cpu(), first.flow[:count].cpu(), alphas)


def _rest(chunk: HiddenChunk, start: int) -> HiddenChunk:
    names = ("frames", "output", "saliency", "alpha", "flow", "noise", "searched")
    return replace(chunk, **{name: getattr(chunk, name)[start:] for name in names})


class LookStore:
    """What looks found in whole videos, on the disk: `<digest>/<video>.npz` and `<digest>/look.json`.

    For data sets of short clips: alpha and flow of a video are held in memory, and take 12 bytes per pixel.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _file(self, digest: str, video: Path) -> Path:
        return self.folder / digest / video.with_name(f"{video.name}.npz")

    def has(self, look: Look, video: Path) -> bool:
        """Whether it is known what `look` finds in `video`."""
        return self._file(look.digest, video).is_file()

    def save(self, look: Look, video: Path, alpha: np.ndarray, flow: np.ndarray) -> None:
        """Keep (T, H, W) float32 and (T, 2, H, W) float32; the file appears whole or not at all."""
        path = self._file(look.digest, video)
        save_arrays(path, {"alpha": alpha, "flow": flow}, compressed=True)
        description = self.folder / look.digest / "look.json"
        if not description.exists():
            description.write_text(json.dumps(look.key, indent=2) + "\n", encoding="utf-8")

    def load(self, look: Look, video: Path) -> tuple[Tensor, Tensor]:
        """Alpha and flow as they were kept.  Raises DatasetError if the file cannot be read."""
        alpha, flow = load_arrays(self._file(look.digest, video), ("alpha", "flow"))
        return alpha, flow
