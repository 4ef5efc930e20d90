"""What the instruments found in a clip: asked of them once, then kept as points and bits, never as pixels.

A clip's file in the cache carries the SHA-256 of the clip and the instrument's version; frames that are missing in it
are measured and added.  Frame numbers are those of `anonymotion.video.open_source`, from 0.

Not here: what is believed of it (regions), the environments (instruments.py).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from instruments import INSTRUMENTS, packed, run_instrument, unpacked

from anonymotion import video

# A batch of frames goes through a pipe and lies in memory twice.
BATCH_BYTES = 150_000_000

Findings = dict[str, np.ndarray]


def digest_of(clip: Path) -> str:
    """SHA-256 of a file, or of the names and contents of the pictures in a folder."""
    digest = hashlib.sha256()
    for file in sorted(clip.iterdir()) if clip.is_dir() else [clip]:
        if clip.is_dir():
            digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def frame_count(clip: Path) -> int:
    """Frames that decoding the clip gives."""
    with video.open_source(clip) as source:
        return sum(1 for _ in source)


def windows(count: int, number: int, length: int, marked: Sequence[int] = ()) -> list[range]:
    """`number` runs of `length` frames spread over a clip of `count`, and one around each marked frame; merged.

    `number` 0 stands for all frames in one run.
    """
    if not number or number * length >= count:
        return [range(count)]
    centres = [round((k + 0.5) / number * count) for k in range(number)] + list(marked)
    starts = sorted({min(max(0, centre - length // 2), count - length) for centre in centres})
    merged: list[range] = []
    for start in starts:
        if merged and start <= merged[-1].stop:
            merged[-1] = range(merged[-1].start, max(merged[-1].stop, start + length))
        else:
            merged.append(range(start, start + length))
    return merged


def frames_of(clip: Path, run: range) -> Iterator[np.ndarray]:
    """The frames of a run, (H, W, 3) uint8 RGB."""
    with video.open_source(clip) as source:
        for number, frame in enumerate(source):
            if number >= run.stop:
                return
            if number >= run.start:
                yield frame.image


def find(clip: Path, runs: Sequence[range], cache: Path, environments: Path, instrument: str) -> Findings:
    """The instrument's findings on the frames of `runs`, from the cache where it has them.

    `measured` lists the frame numbers that the rows of per-frame arrays belong to.
    """
    version = INSTRUMENTS[instrument].version
    key = hashlib.sha256(f"{digest_of(clip)} {version}".encode()).hexdigest()[:32]
    path = cache / f"{instrument}-{key}.npz"
    known = unpacked(path.read_bytes()) if path.exists() else {}
    have = set(known["measured"].tolist()) if known else set()
    missing = sorted(set().union(*runs) - have)
    for batch in _batches(clip, missing):
        numbers, frames = zip(*batch, strict=True)
        found = run_instrument(instrument, {"frames": np.stack(frames)}, environments)
        known = joined(known, renumbered(found, np.array(numbers, np.int32)))
        cache.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_bytes(packed(known))
        partial.replace(path)
    return known


def _batches(clip: Path, numbers: Sequence[int]) -> Iterator[list[tuple[int, np.ndarray]]]:
    """(frame number, frame) of the wanted frames, as many at a time as BATCH_BYTES allows."""
    wanted = set(numbers)
    batch: list[tuple[int, np.ndarray]] = []
    if wanted:
        with video.open_source(clip) as source:
            for number, frame in enumerate(source):
                if number in wanted:
                    batch.append((number, frame.image))
                if batch and (len(batch) + 1) * frame.image.nbytes > BATCH_BYTES:
                    yield batch
                    batch = []
    if batch:
        yield batch


def renumbered(found: Mapping[str, np.ndarray], numbers: np.ndarray) -> Findings:
    """Findings whose frame indices are those of a batch -> those of the clip; adds `measured`."""
    changed = {name: numbers[array] if name.endswith("_frame") else array for name, array in found.items()}
    return {**changed, "measured": numbers}


def joined(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> Findings:
    """Two sets of findings of one clip, one behind the other."""
    return {name: np.concatenate([first[name], array]) if first else array for name, array in second.items()}


def of_frame(findings: Mapping[str, np.ndarray], number: int) -> Findings:
    """The rows of one frame: of arrays with a `..._frame` index, and of those with one row per measured frame."""
    row = int(np.flatnonzero(findings["measured"] == number)[0])
    here: Findings = {}
    for name, array in findings.items():
        index = findings.get(f"{name.split('_')[0]}_frame")
        if index is not None:
            here[name] = array[index == number]
        elif name != "measured":
            here[name] = array[row]
    return here
