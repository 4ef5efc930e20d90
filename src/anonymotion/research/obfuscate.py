"""Copies of a data set in which something is hidden, written once, resumed after a kill, and never mixed.

A copy is lossless: every frame of every video is a PNG (`layouts.copies` says where).  A video appears when all of its
frames are on the disk.  The index of a copy says how it was made; running again with the same settings makes what is
missing, running with others is refused.  Noise is new and secret for each video, unless a test key is given.

A video that fails is named in the result and in the index; the others are still made.  What would fail them all (a
full disk, no memory, damaged weights) ends the run.

Not here: what a copy shows (variants), what is found (looks), printing.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anonymotion import video
from anonymotion.errors import AnonymotionError, DatasetError, DeviceError, OutputError, SettingsError, WeightsError
from anonymotion.research.clips import frame_files, frames_of
from anonymotion.research.datasets import Dataset
from anonymotion.research.layouts import copies
from anonymotion.research.looks import Look, LookStore, Seen, chunks_of, look_at
from anonymotion.research.variants import Variant
from anonymotion.results import Progress, ProgressCallback
from anonymotion.target import whole_file
from anonymotion.video.pictures import FolderSink

RATE = Fraction(25)  # of the pictures of a copy, which keep no times


@dataclass(frozen=True)
class CopyResult:
    """What a run did.

    made: videos written now, over all variants.  there: those that an earlier run had made.
    failed: video -> why; it is in none of the copies that lacked it.  seconds: wall time.
    """

    folders: Mapping[str, Path]
    made: int
    there: int
    failed: Mapping[str, str]
    frames: int
    seconds: float


def make_copies(
    dataset: Dataset,
    folders: Mapping[str, Path],
    variants: Sequence[Variant],
    *,
    store: LookStore | None = None,
    progress: ProgressCallback | None = None,
) -> CopyResult:
    """Write, or complete, a copy of `dataset` for each of `variants` in the folder of its name.

    All videos are gone through once; the looks of all variants share one pass.  `store` keeps and gives what looks
    found.  Raises DatasetError before anything is computed if a folder holds something else than this copy.
    """
    started = time.perf_counter()
    indexes = {variant.name: _open_index(dataset, folders[variant.name], variant) for variant in variants}
    looks = {look.digest: look for variant in variants for look in variant.looks}
    made = there = frames = 0
    failed: dict[str, str] = {}
    lacking: dict[str, list[str]] = {variant.name: [] for variant in variants}
    for number, path in enumerate(dataset.videos):
        inside = copies.folder_of(dataset, path)
        missing = [v for v in variants if not (folders[v.name] / inside).is_dir()]
        there += len(variants) - len(missing)
        if missing:
            needed = {look.digest: looks[look.digest] for variant in missing for look in variant.looks}
            try:
                targets = {variant.name: folders[variant.name] / inside for variant in missing}
                frames += _copy_video(dataset.root, path, missing, targets, list(needed.values()), store)
                made += len(missing)
            except (OutputError, DeviceError, WeightsError):
                raise  # the next video would fail as well
            except AnonymotionError as error:
                failed[path.as_posix()] = " ".join(str(error).split())
                for variant in missing:
                    lacking[variant.name].append(path.as_posix())
        if progress is not None:
            progress(Progress(number + 1, len(dataset.videos), "copy"))
    for variant in variants:
        of_this = {video: failed[video] for video in lacking[variant.name]}
        index = {**indexes[variant.name], "finished": True, "failed": of_this}
        _write_index(folders[variant.name], index)
    return CopyResult(dict(folders), made, there, failed, frames, time.perf_counter() - started)


def _open_index(dataset: Dataset, folder: Path, variant: Variant) -> dict[str, Any]:
    """The index of a copy that is to be made or completed.  Raises DatasetError if it is another one."""
    if folder.resolve() == dataset.root.resolve() or dataset.root.resolve() in folder.resolve().parents:
        raise DatasetError(f"{folder} lies in the data set itself: give a folder outside of {dataset.root}")
    index = {
        "schema_version": copies.SCHEMA_VERSION,
        "variant": variant.name,
        "made_with": {**variant.describe(), "source": _fingerprint(dataset)},
        "pictures": "PNG, lossless",
        "not_for_release": variant.not_for_release(),
        "finished": False,
        "failed": {},
        **copies.describe(dataset),
    }
    plain: dict[str, Any] = json.loads(json.dumps(index))
    if copies.is_copy(folder):
        before = copies.read_index(folder)["made_with"]
        changed = _differences(before, plain["made_with"])
        if changed:
            raise DatasetError(
                f"{folder} was made with other settings ({'; '.join(changed[:3])}): give another --out, or the same "
                "settings to go on with it"
            )
    elif folder.exists() and any(folder.iterdir()):
        raise DatasetError(f"{folder} is not empty and no copy of ours: give another --out")
    else:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder} cannot be made ({error.strerror}): give another --out") from error
        _write_index(folder, plain)
    return plain


def _write_index(folder: Path, index: Mapping[str, Any]) -> None:
    with whole_file(folder / copies.INDEX, force=True) as partial:
        partial.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def _differences(before: Any, now: Any, name: str = "") -> list[str]:
    """What is not the same in two trees of plain values, as `name: old, now new`."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = dict.fromkeys((*before, *now))
        return [d for key in keys for d in _differences(before.get(key), now.get(key), f"{name}.{key}".strip("."))]
    return [] if before == now else [f"{name}: {str(before)[:60]}, now {str(now)[:60]}"]


def _fingerprint(dataset: Dataset) -> str:
    """Of names and sizes of the videos: another source, or a part of it exchanged, has another one."""
    lines = []
    for path in dataset.videos:
        place = dataset.root / path
        try:
            files = frame_files(place) if place.is_dir() else [place]
            size = sum(file.stat().st_size for file in files)
        except (OSError, DatasetError):
            size = -1  # missing: it fails when it is its turn
        lines.append(f"{path.as_posix()} {size}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _copy_video(
    root: Path,
    path: Path,
    variants: Sequence[Variant],
    targets: Mapping[str, Path],
    looks: Sequence[Look],
    store: LookStore | None,
) -> int:
    """Write the frames of one video for each of `variants`; how many it has.  Raises; then none of them is there."""
    painters = {variant.base: variant.painter(path) for variant in variants}
    count = 0
    with ExitStack() as stack:
        sinks: dict[str, FolderSink] = {}
        for seen in _seen(root / path, path, looks, store):
            height, width = seen.frames.shape[1:3]
            info = video.VideoInfo(width, height, RATE, 1 / RATE)
            painted = {base: paint(seen) for base, paint in painters.items()}
            for variant in variants:
                if variant.name not in sinks:
                    target = targets[variant.name]
                    target.parent.mkdir(parents=True, exist_ok=True)
                    sinks[variant.name] = stack.enter_context(FolderSink(target, info, force=False))
                for number, image in enumerate(variant.finish(seen, painted[variant.base]).numpy(), count):
                    sinks[variant.name].write(image, video.Frame(number, image, number, info.time_base))
            count += len(seen.frames)
        if not count:
            raise DatasetError(f"{root / path} holds no frame: copy it again")
        for sink in sinks.values():
            sink.commit()
    return count


def _seen(path: Path, name: Path, looks: Sequence[Look], store: LookStore | None) -> Iterator[Seen]:
    """What `looks` see in a video, from the store where it is known; what is new is put there."""
    frames = frames_of(path)
    if looks and store is not None and all(store.has(look, name) for look in looks):
        yield from _remembered(frames, {look.digest: store.load(look, name) for look in looks}, path)
    elif not looks or store is None:
        yield from look_at(looks, frames)
    else:
        found: list[Seen] = []
        for seen in look_at(looks, frames):
            found.append(seen)
            yield seen
        flow = torch.cat([seen.flow for seen in found]).cpu().numpy()
        for look in looks:
            store.save(look, name, torch.cat([s.alphas[look.digest] for s in found]).cpu().numpy(), flow)


def _remembered(
    frames: Iterable[np.ndarray], kept: Mapping[str, tuple[torch.Tensor, torch.Tensor]], path: Path
) -> Iterator[Seen]:
    start = 0
    flow = next(iter(kept.values()))[1]
    for chunk in chunks_of(frames):
        stop = start + len(chunk)
        alphas = {digest: alpha[start:stop] for digest, (alpha, _) in kept.items()}
        if any(alpha.shape != chunk.shape[:3] for alpha in alphas.values()):
            break
        yield Seen(chunk, flow[start:stop], alphas)
        start = stop
    if any(len(alpha) != start for alpha, _ in kept.values()):
        raise SettingsError(f"what is kept of {path} was found in other frames: remove the folder of looks")
