"""Whom a face network takes a hidden face for: rank 1 and margin against a gallery of all clips.

The gallery has one face per clip, from another frame than the one that was attacked.  A probe is the reference frame
of a cell, hidden or recovered, at the box of the original's face.  Clips without a face are untested, not safe.

Not here: the network (instrument_scripts/face_embeddings.py).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from instruments import run_instrument

from anonymotion import video
from anonymotion.attacks.page import shown
from attacking.cells import STAGES, load, path_of

RECOVERED = (
    "average of all",
    "average, non-local means",
    "known noise",
    "trained inversion",
    "Richardson-Lucy",
    "dictionary",
)
LOOKED_AT = 6  # frames of a clip in which a face for the gallery is looked for


def gallery_frames(clip: Path, apart_from: int) -> list[np.ndarray]:
    """A few frames of a clip, spread over it, not next to the one that was attacked."""
    with video.open_source(clip) as source:
        frames = [frame.image for frame in source if abs(frame.index - apart_from) >= 5]
    return [frames[round(at)] for at in np.linspace(0, len(frames) - 1, LOOKED_AT)]


def gallery(clips: dict[str, Path], attacked: dict[str, int], folder: Path) -> dict[str, np.ndarray]:
    """Name -> (128,) of the first frame in which a face is found; clips without one are left out."""
    found = {}
    for name, clip in clips.items():
        frames = gallery_frames(clip, attacked.get(name, -100))
        given = run_instrument("faces", {f"original_{n}": frame for n, frame in enumerate(frames)}, folder)
        embedding = next((given[f"embedding_{n}"] for n in range(len(frames)) if f"embedding_{n}" in given), None)
        if embedding is not None:
            found[name] = embedding
        print(f"gallery: {name}: {'a face' if embedding is not None else 'no face'}", flush=True)
    return found


def probes_of(cell: object) -> dict[str, np.ndarray]:
    """Name -> (h, w, 3) uint8: the frame of each stage, and what attacks made of it."""
    found = {}
    for stage in STAGES:
        found[f"{stage}|as it is"] = cell.colour[stage]  # type: ignore[attr-defined]
        pictures = cell.stages[stage].pictures  # type: ignore[attr-defined]
        for attack in RECOVERED:
            if attack in pictures:
                grey = shown(pictures[attack], cell.truth, cell.core)  # type: ignore[attr-defined]
                found[f"{stage}|{attack}"] = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return found


def run(folder: Path, names: Sequence[str], methods: Sequence[str], clips: dict[str, Path], environments: Path) -> None:
    """Write `faces.csv`: per clip, method and picture the rank of the true clip and its margin."""
    cells = {
        name: {method: load(folder, name, method) for method in methods if path_of(folder, name, method).exists()}
        for name in names
    }
    known = gallery(clips, dict.fromkeys(names, 20), environments)
    rows = []
    for name, by_method in cells.items():
        if name not in known:
            print(f"{name}: no face in the gallery: untested", flush=True)
            continue
        original = next(iter(by_method.values())).colour["original"]
        probes = {"original|original|as it is": original}
        for method, cell in by_method.items():
            probes.update({f"{method}|{key}": picture for key, picture in probes_of(cell).items()})
        order = list(probes)
        given = run_instrument(
            "faces",
            {"original_0": original, **{f"probe_0_{n}": probes[key] for n, key in enumerate(order)}},
            environments,
        )
        if not given["box_0"].size:
            print(f"{name}: no face in the frame that was attacked: untested", flush=True)
            continue
        for number, key in enumerate(order):
            method, stage, picture = key.split("|")
            rank, margin = placed(given[f"probe_0_{number}"], name, known)
            rows.append((name, method, stage, picture, rank, round(margin, 4), len(known)))
        print(f"{name}: {len(order)} pictures compared with {len(known)} faces", flush=True)
    with (folder / "faces.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("clip", "method", "stage", "picture", "rank", "margin", "gallery"))
        writer.writerows(rows)


def placed(probe: np.ndarray, name: str, known: dict[str, np.ndarray]) -> tuple[int, float]:
    """The rank of the true clip, from 1, and how much nearer it is than the nearest other (below 0: farther)."""
    distances = {other: float(np.linalg.norm(probe - embedding)) for other, embedding in known.items()}
    own = distances.pop(name)
    return 1 + sum(distance <= own for distance in distances.values()), min(distances.values()) - own


def interval(hits: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    z, share = 1.96, hits / of
    middle = share + z * z / (2 * of)
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return (middle - half) / (1 + z * z / of), (middle + half) / (1 + z * z / of)
