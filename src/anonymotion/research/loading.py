"""Labelled clips as a network wants them: decoded, sampled, cut, normalised; with flow colours where E2S asks for them.

Flow is computed from the pictures that are given, after they were cut: obfuscated video gives obfuscated flow, and a
mirrored clip mirrored flow.

Not here: which frames and how they are cut (clips), training (train).
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from anonymotion.flow import FlowEstimator, load_flow
from anonymotion.overlays import flow_colours
from anonymotion.research.clips import ClipTransform, privacy_indices, read_clip, sample
from anonymotion.research.datasets import Dataset
from anonymotion.research.networks import WHOLE_CLIP, NetworkEntry
from anonymotion.stem import IMAGENET_MEAN, IMAGENET_STD

# As SlowFast and X3D are trained and tested: a short side of 256 to 320 for a crop of 224, tested at 256.
SHORT_SIDE, LARGEST = 256 / 224, 320 / 224
# The flow that has full colour, as a share of the crop: 14 pixels at 224.
FULL_COLOUR = 1 / 16
CACHE_BYTES = 3 << 30


class ClipCache:
    """Decoded clips, the latest used, as uint8: up to 3 GB or a quarter of the machine's memory."""

    def __init__(self, limit_bytes: int | None = None) -> None:
        self._clips: OrderedDict[tuple[Path, str, int], np.ndarray] = OrderedDict()
        self._limit = _memory_limit() if limit_bytes is None else limit_bytes
        self._used = 0
        self._lock = threading.Lock()

    def read(self, dataset: Dataset, clip: str, largest: int) -> np.ndarray:
        """All frames, (T, H, W, 3) uint8; made smaller if their short side is more than `largest`."""
        key = (dataset.root, clip, largest)
        with self._lock:
            if key in self._clips:
                self._clips.move_to_end(key)
                return self._clips[key]
        frames = _at_most(read_clip(dataset.clip(clip), dataset.root), largest)
        with self._lock:
            if key not in self._clips:
                self._clips[key] = frames
                self._used += frames.nbytes
            while self._used > self._limit and len(self._clips) > 1:
                self._used -= self._clips.popitem(last=False)[1].nbytes
        return frames


def _memory_limit() -> int:
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", ()):
        return min(CACHE_BYTES, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4)
    return CACHE_BYTES // 4


def _at_most(frames: np.ndarray, largest: int) -> np.ndarray:
    height, width = frames.shape[1:3]
    if min(height, width) <= largest:
        return frames
    import cv2

    scale = largest / min(height, width)
    size = (round(width * scale), round(height * scale))
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])


class ClipSet:
    """Clips of one copy of a data set with their labels, for one network.

    clips: ids.  labels: their classes.  seed: of the augmentation, with the epoch and the clip's place; only used in
    training.  privacy_frames: over how many frames an image network is averaged at test time; in training it sees one,
    drawn anew each epoch.  flip: whether training mirrors half of the clips.
    """

    def __init__(
        self,
        dataset: Dataset,
        clips: Sequence[str],
        labels: Sequence[int],
        entry: NetworkEntry,
        *,
        seed: int,
        training: bool,
        privacy_frames: int = 32,
        flip: bool = True,
        cache: ClipCache | None = None,
    ) -> None:
        self._dataset, self._clips, self._labels, self._entry = dataset, clips, labels, entry
        self._seed, self._training, self._privacy_frames = seed, training, privacy_frames
        self._cache = cache or ClipCache(limit_bytes=0)
        image = entry.family == "torchvision"
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if image else (0.45, 0.225)
        short, largest = round(entry.crop * SHORT_SIDE), round(entry.crop * LARGEST)
        self._largest = largest
        self._transform = ClipTransform(entry.crop, short, largest, flip, training, mean, std)

    def __len__(self) -> int:
        return len(self._clips)

    def item(self, index: int, epoch: int) -> tuple[Tensor, int]:
        """The clip as (channels, T, crop, crop) float32, and its class; T is the same for every clip."""
        generator = torch.Generator().manual_seed((self._seed * 1_000_003 + epoch) * 1_000_003 + index)
        frames = self._cache.read(self._dataset, self._clips[index], self._largest)
        chosen = self._choose(len(frames), generator)
        if self._entry.channels == 3:
            return self._transform(frames[chosen], generator), self._labels[index]
        before = np.maximum(chosen - 1, 0)
        both = self._transform(frames[np.concatenate((chosen, before))], generator)
        now, previous = both.chunk(2, dim=1)
        return torch.cat((now, self._flow(now, previous))), self._labels[index]

    def _choose(self, frames: int, generator: torch.Generator) -> np.ndarray:
        """Indices of the frames to show, always as many: those of a short clip are repeated, in order."""
        entry = self._entry
        if entry.family == "torchvision":
            if self._training:
                return torch.randint(frames, (1,), generator=generator).numpy()
            count = self._privacy_frames
            chosen = privacy_indices(frames, count)
        elif entry.stride == WHOLE_CLIP:
            count = entry.frames
            chosen = privacy_indices(frames, count)
        else:
            count = entry.frames
            chosen = sample(frames, count, entry.stride, training=self._training, generator=generator)
        return chosen[np.arange(count) * len(chosen) // count]

    def _flow(self, now: Tensor, previous: Tensor) -> Tensor:
        """Flow colours of normalised (3, T, H, W) clips, normalised in the same way."""
        mean, std = self._transform.mean, self._transform.std
        assert isinstance(mean, float) and isinstance(std, float)  # noqa: S101, PT018 - video networks have one for all
        pictures = [_pictures(one * std + mean) for one in (now, previous)]
        estimator, side = _estimator(), now.shape[-1]
        colours = []
        for after, before in zip(*pictures, strict=True):
            flow = estimator.between(after, before)
            colours.append(torch.from_numpy(flow_colours(flow.numpy(), side * FULL_COLOUR)))
        return (torch.stack(colours).permute(3, 0, 1, 2).float() / 255 - mean) / std


def _pictures(clip: Tensor) -> Tensor:
    """(3, T, H, W) in 0..1 -> (T, H, W, 3) uint8."""
    return (clip.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 3, 0).contiguous()


_local = threading.local()


def _estimator() -> FlowEstimator:
    """One per loading thread: OpenCV's keeps state while it computes."""
    if not hasattr(_local, "flow"):
        _local.flow = load_flow("dis", torch.device("cpu"))
    estimator: FlowEstimator = _local.flow
    return estimator
