"""Whom a face network takes a hidden face for: rank 1 and margin against a gallery of all clips.

The gallery has one face per clip, from a frame after those that were attacked (of a clip without any, its last).  A
probe is the whole frame that was attacked, hidden or recovered, at the box of the original's face.  Clips without a
face are untested, not safe.

Not here: the network (instrument_scripts/face_embeddings.py).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from instruments import run_instrument

from anonymotion import video
from anonymotion.attacks.chance import Concealment
from anonymotion.attacks.evidence import View
from anonymotion.attacks.page import shown
from anonymotion.attacks.recovery import attacks_for

RECOVERED = ("known noise", "average of all", "average, non-local means", "dictionary", "Richardson-Lucy")
LOOKED_AT = 3  # frames of a clip in which a face for the gallery is looked for
GALLERY_SHORT_SIDE = 360


def gallery_frames(clip: Path, apart_from: int) -> list[np.ndarray]:
    """A few frames of a clip, spread over it, none of those that were attacked."""
    with video.open_source(clip) as source:
        frames = [frame.image for frame in source if frame.index >= apart_from]
    chosen = [frames[round(at)] for at in np.linspace(0, len(frames) - 1, LOOKED_AT)] if frames else []
    scale = [min(1.0, GALLERY_SHORT_SIDE / min(frame.shape[:2])) for frame in chosen]
    sizes = [(round(f.shape[1] * k), round(f.shape[0] * k)) for f, k in zip(chosen, scale, strict=True)]
    return [cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f, size in zip(chosen, sizes, strict=True)]


def gallery(clips: dict[str, Path], attacked: int, folder: Path) -> dict[str, np.ndarray]:
    """Name -> (128,) of the first frame after the `attacked` ones in which a face is found; of others none."""
    found = {}
    for name, clip in clips.items():
        frames = gallery_frames(clip, attacked) or gallery_frames(clip, 0)[-1:]
        given = run_instrument("faces", {f"original_{n}": frame for n, frame in enumerate(frames)}, folder)
        embedding = next((given[f"embedding_{n}"] for n in range(len(frames)) if f"embedding_{n}" in given), None)
        if embedding is not None:
            found[name] = embedding
        print(f"gallery: {name}: {'a face' if embedding is not None else 'no face'}", flush=True)
    return found


def probes_of(stage: str, view: View, concealment: Concealment) -> dict[str, np.ndarray]:
    """Name -> (h, w, 3) uint8: the hidden frame as it is, and what attacks made of it."""
    attacks = attacks_for(concealment.settings.method, view.scene.frame_hw)
    found = {f"{stage}|as it is": view.hidden[view.scene.reference]}
    for name in RECOVERED:
        estimate = attacks[name](view)
        if estimate is not None:
            grey = shown(estimate, view.scene.truth, view.scene.core)
            found[f"{stage}|{name}"] = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return found


Hidden = Callable[[str, str], tuple[np.ndarray, dict[str, np.ndarray]]]


def run(
    out: Path, names: Sequence[str], methods: Sequence[str], known: dict[str, np.ndarray], hidden: Hidden, folder: Path
) -> None:
    """Write `faces.csv`: per clip, method and picture the rank of the true clip and its margin.

    known: the gallery.  hidden: (clip, method) -> the original's whole frame, and probes by `STAGE|PICTURE`.
    """
    rows = []
    for name in names:
        if name not in known:
            print(f"{name}: no face in the gallery: untested", flush=True)
            continue
        probes: dict[str, np.ndarray] = {}
        for method in methods:
            original, by_method = hidden(name, method)
            probes["original|original|as it is"] = original
            probes.update({f"{method}|{key}": picture for key, picture in by_method.items()})
        order = list(probes)
        numbered = {f"probe_0_{number}": probes[key] for number, key in enumerate(order)}
        given = run_instrument("faces", {"original_0": probes["original|original|as it is"], **numbered}, folder)
        if not given["box_0"].size:
            print(f"{name}: no face in the frame that was attacked: untested", flush=True)
            continue
        for number, key in enumerate(order):
            rank, margin = placed(given[f"probe_0_{number}"], name, known)
            rows.append((name, *key.split("|"), rank, round(margin, 4), len(known)))
        print(f"{name}: {len(order)} pictures compared with {len(known)} faces", flush=True)
    with (out / "faces.csv").open("w", newline="") as file:
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
