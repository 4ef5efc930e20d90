"""Features of whole clips from what needs no training: the package's frozen backbone, and optical flow.

A clip gives (F, D): one vector per sampled frame, or a single one for its flow.  They are computed from the video that
is given, nothing else: on an obfuscated copy also the person's place is looked for in the obfuscated pictures.  Each
clip's features are kept in a file named after the content of its video, its span and the extractor's settings, so that
a changed copy or setting never meets old features.

Not here: what is learned from features (probes), decoding (clips).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from anonymotion.errors import InputError, SettingsError
from anonymotion.flow import load_flow
from anonymotion.registry import FeatureSpec, backbone_entry

if TYPE_CHECKING:
    from anonymotion.backbone import Backbone
    from anonymotion.research.datasets import Clip, Dataset

BACKBONE = "dinov2-vits14-embedded"
# The span of a clip's differences from its own median picture that counts as the person who moves.
PERSON_DIFFERENCE = 24.0  # grey levels
PERSON_MARGIN = 0.25  # of the box's longer side
FLOW_DIRECTIONS, FLOW_ROWS, FLOW_COLUMNS = 8, 4, 4
FLOW_FRAMES = 50  # at most, of the middle of a clip
FLOW_LAGS = range(1, 21)  # frames
FLOW_SLOW, FLOW_FAST = 0.25, 2.0  # pixels per frame at a short side of 144


@dataclass(frozen=True)
class Extractor:
    """How a clip becomes vectors.

    compute: (T, H, W, 3) uint8 frames, backbone -> (F, D) float32.  version: raised when `compute` changes.
    needs_backbone: whether a backbone has to be loaded for it.
    """

    compute: Callable[[np.ndarray, Backbone | None], np.ndarray]
    version: int = 1
    needs_backbone: bool = True


def evenly(frames: int, count: int) -> np.ndarray:
    """`count` indices spread evenly over `frames` frames, each in the middle of its part; all of them if fewer."""
    if frames <= count:
        return np.arange(frames)
    places: np.ndarray = ((np.arange(count) + 0.5) * frames / count).astype(int)
    return places


def whole_frames(clip: np.ndarray, backbone: Backbone | None, *, count: int = 3, short_side: int = 112) -> np.ndarray:
    """Mean patch token of the last block for `count` frames: (F, D) float32."""
    return _pooled(clip[evenly(len(clip), count)], backbone, short_side)


def person_crops(clip: np.ndarray, backbone: Backbone | None, *, count: int = 3, side: int = 112) -> np.ndarray:
    """The same of a square around what moves near each of `count` frames: (F, D) float32."""
    import cv2

    crops = []
    for box, index in zip(moving_boxes(clip, count), evenly(len(clip), count), strict=True):
        x0, y0, x1, y1 = box
        crops.append(cv2.resize(clip[index, y0:y1, x0:x1], (side, side), interpolation=cv2.INTER_LINEAR))
    return _pooled(np.stack(crops), backbone, side)


def moving_boxes(clip: np.ndarray, count: int) -> list[tuple[int, int, int, int]]:
    """Squares (x0, y0, x1, y1) around what differs from the clip's median picture, cut off at the frame's edge.

    For each of `count` evenly spread frames: what differs in at least 2 of the 7 frames around it, with a margin; the
    whole frame where nothing does.  Of a person who stays in place only what moves is seen.
    """
    height, width = clip.shape[1:3]
    median = np.median(clip[evenly(len(clip), 25)], axis=0)
    boxes = []
    for index in evenly(len(clip), count):
        near = clip[max(0, index - 3) : index + 4].astype(np.float32)
        different = (np.abs(near - median).max(axis=3) > PERSON_DIFFERENCE).sum(axis=0) >= min(2, len(near))
        rows, columns = (np.flatnonzero(different.sum(axis=axis) >= 2) for axis in (1, 0))
        if not len(rows) or not len(columns):
            boxes.append((0, 0, width, height))
            continue
        # percentiles: single specks far away must not widen the box
        y0, y1 = np.percentile(rows, [2, 98])
        x0, x1 = np.percentile(columns, [2, 98])
        half = (0.5 + PERSON_MARGIN) * max(y1 - y0, x1 - x0, height / 6)
        x, y = (x0 + x1 + 1) / 2, (y0 + y1 + 1) / 2
        corners = (max(0, x - half), max(0, y - half), min(width, x + half), min(height, y + half))
        boxes.append(tuple(round(value) for value in corners))
    return boxes


def _pooled(images: np.ndarray, backbone: Backbone | None, short_side: int) -> np.ndarray:
    if backbone is None:
        raise ValueError("this extractor needs a backbone")
    spec = FeatureSpec(
        backbone=backbone.name, layer=backbone_entry(backbone.name).depth - 1, facet="token", short_side=short_side
    )
    tokens = backbone.extract(torch.from_numpy(np.ascontiguousarray(images)), [spec])[spec].descriptors
    pooled: np.ndarray = tokens.mean(dim=(1, 2)).cpu().numpy()
    return pooled


def flow_statistics(clip: np.ndarray, backbone: Backbone | None = None) -> np.ndarray:
    """How a clip moves, and how its mirror image does: (2, D) float32.

    Per cell of a 4x4 grid laid on the middle of the motion: a histogram of directions weighted by length, and the
    shares of slow and fast pixels; their means over the clip, their standard deviations, and how alike the whole is
    to itself some frames later.  Flow is DIS between neighbouring frames of at most 50 in the middle of the clip, at a
    short side of 144, less its median (the camera).
    """
    import cv2

    scale = 144 / min(clip.shape[1:3])
    size = (max(32, round(clip.shape[2] * scale)), max(32, round(clip.shape[1] * scale)))
    start = max(0, (len(clip) - FLOW_FRAMES) // 2)
    middle = clip[start : start + FLOW_FRAMES]
    small = [torch.from_numpy(cv2.resize(frame, size, interpolation=cv2.INTER_AREA)) for frame in middle]
    estimator = load_flow("dis", torch.device("cpu"))
    flows = [estimator.between(now, before) for before, now in pairwise(small)]
    field = torch.stack(flows or [torch.zeros(2, size[1], size[0])]).permute(0, 2, 3, 1).numpy()
    field = field - np.median(field, axis=(1, 2), keepdims=True)
    cells = np.stack([_cells(flow) for flow in field])
    # left becomes right: columns swap, and a direction's bin with the one of its mirror image
    mirrored = cells[:, :, ::-1]
    bins = [(FLOW_DIRECTIONS // 2 - 1 - place) % FLOW_DIRECTIONS for place in range(FLOW_DIRECTIONS)]
    mirrored = mirrored[..., [*bins, FLOW_DIRECTIONS, FLOW_DIRECTIONS + 1]]
    return np.stack([_summary(cells), _summary(mirrored)])


def _summary(cells: np.ndarray) -> np.ndarray:
    """(T, rows, columns, K) -> (D,) float32."""
    whole = cells.mean(axis=(1, 2))
    whole = whole - whole.mean(axis=0)
    power = (whole**2).sum() / len(whole) + 1e-12
    alike = [
        (whole[lag:] * whole[:-lag]).sum() / (len(whole) - lag) / power if len(whole) > lag else 0.0
        for lag in FLOW_LAGS
    ]
    # square roots: a few fast pixels must not be all that is seen
    parts = (np.sqrt(cells.mean(axis=0)).ravel(), np.sqrt(cells.std(axis=0)).ravel(), alike)
    joined: np.ndarray = np.concatenate(parts).astype(np.float32)
    return joined


def _cells(flow: np.ndarray) -> np.ndarray:
    """(rows, columns, directions + 2) of one flow field (H, W, 2), around where most of its motion is."""
    height, width = flow.shape[:2]
    length = np.hypot(flow[..., 0], flow[..., 1])
    weight = length * (length > FLOW_SLOW)
    total = weight.sum()
    middle = width / 2 if not total else float((weight.sum(axis=0) * np.arange(width)).sum() / total)
    # as wide as the frame is high, moved so that the motion is in its middle column
    columns = ((np.arange(width) - middle) / height + 0.5) * FLOW_COLUMNS
    column = np.broadcast_to(columns.astype(int).clip(0, FLOW_COLUMNS - 1), (height, width))
    row = np.broadcast_to((np.arange(height) * FLOW_ROWS // height)[:, None], (height, width))
    angle = np.arctan2(flow[..., 1], flow[..., 0]) / (2 * np.pi) + 0.5
    direction = (angle * FLOW_DIRECTIONS).astype(int) % FLOW_DIRECTIONS
    place = (row * FLOW_COLUMNS + column).ravel()
    cells = FLOW_ROWS * FLOW_COLUMNS
    histogram = np.bincount(place * FLOW_DIRECTIONS + direction.ravel(), weight.ravel(), cells * FLOW_DIRECTIONS)
    shares = [np.bincount(place, (length > least).ravel(), cells) for least in (FLOW_SLOW, FLOW_FAST)]
    found = np.concatenate((histogram.reshape(cells, FLOW_DIRECTIONS), np.stack(shares, axis=1)), axis=1)
    per_pixel: np.ndarray = found / (height * height / len(found))
    return per_pixel.reshape(FLOW_ROWS, FLOW_COLUMNS, -1)


EXTRACTORS: dict[str, Extractor] = {
    "dinov2": Extractor(whole_frames),
    "dinov2-person": Extractor(person_crops),
    "flow": Extractor(flow_statistics, needs_backbone=False),
}


def extractor_entry(name: str) -> Extractor:
    """The extractor of that name; SettingsError names the known ones."""
    if name not in EXTRACTORS:
        raise SettingsError(f"features {name!r} are not known: use one of {', '.join(EXTRACTORS)}")
    return EXTRACTORS[name]


class FeatureStore:
    """Features of clips on the disk, computed when they are first asked for.

    folder: `<extractor>/<digest>.npy` below it.  device: of the backbone, which is loaded when it is first needed.
    together: extractors that will be asked for as well: a clip is read once for all of them, which takes longer than
    most of what is computed of it.  computed: how many clips had to be read.
    """

    def __init__(
        self,
        folder: Path,
        device: torch.device,
        read: Callable[[Clip, Path], np.ndarray],
        together: Sequence[str] = (),
    ) -> None:
        self.folder, self.device, self.together, self.computed = folder, device, tuple(together), 0
        self._read = read
        self._backbone: Backbone | None = None
        self._digests: dict[Path, str] = {}

    def of(self, name: str, dataset: Dataset, clips: Sequence[str]) -> np.ndarray:
        """(N, F, D) float32 of clips by id, in that order; clips with fewer frames repeat theirs."""
        found = [self._one(name, dataset, dataset.clip(clip)) for clip in clips]
        longest = max(len(features) for features in found)
        return np.stack([features[np.arange(longest) * len(features) // longest] for features in found])

    def _one(self, name: str, dataset: Dataset, clip: Clip) -> np.ndarray:
        path = self._file(name, dataset, clip)
        if not path.exists():
            frames = self._read(clip, dataset.root)
            self.computed += 1
            for other in dict.fromkeys((name, *self.together)):
                if not (file := self._file(other, dataset, clip)).exists():
                    self._keep(file, extractor_entry(other).compute(frames, self._backbone_for(other)))
        try:
            return np.asarray(np.load(path, allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{path} is damaged: delete it, and it is computed again") from error

    def _file(self, name: str, dataset: Dataset, clip: Clip) -> Path:
        backbone = self._backbone_for(name)
        weights = "none" if backbone is None else backbone.fingerprint
        span = f"{clip.first}:{clip.last}"
        content = f"{name} {extractor_entry(name).version} {weights} {span} {self._digest(dataset.root / clip.path)}"
        return self.folder / name / f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.npy"

    def _keep(self, path: Path, features: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        with partial.open("wb") as stream:
            np.save(stream, features)
        os.replace(partial, path)

    def _backbone_for(self, name: str) -> Backbone | None:
        if not extractor_entry(name).needs_backbone:
            return None
        if self._backbone is None:
            from anonymotion.backbone import Backbone

            self._backbone = Backbone.load(BACKBONE, self.device)
        return self._backbone

    def _digest(self, path: Path) -> str:
        """SHA-256 of a video's content; of a folder, that of its files' names and contents."""
        if path not in self._digests:
            digest = hashlib.sha256()
            try:
                files = sorted(path.iterdir()) if path.is_dir() else [path]
                for file in files:
                    digest.update(file.name.encode())
                    digest.update(file.read_bytes())
            except OSError as error:
                raise InputError(f"{path} cannot be read ({error.strerror}): check the data set") from error
            self._digests[path] = digest.hexdigest()
        return self._digests[path]
