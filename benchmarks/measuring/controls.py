"""Negative controls: pictures with nobody in them, panned over, and how faces are covered by group.

Not here: masks (masks), the pictures (instrument_scripts/empty_pictures.py).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from instruments import run_instrument

from anonymotion.templates import TemplateLibrary
from measuring.masks import Runs
from measuring.measures import MISSED_BELOW, tone_group
from measuring.rows import FaceRow
from measuring.tables import mean, percent, table

PAN_FRAMES = 12
PAN_STEP = 4  # pixels per frame


def panned(picture: np.ndarray, frames: int = PAN_FRAMES, step: int = PAN_STEP) -> Iterator[np.ndarray]:
    """A window that moves right and down over a picture by `step` pixels per frame; even sides."""
    height, width = (length - (frames - 1) * step for length in picture.shape[:2])
    height, width = height - height % 2, width - width % 2
    for number in range(frames):
        start = number * step
        yield np.ascontiguousarray(picture[start : start + height, start : start + width])


def empty_pictures(environments: Path) -> dict[str, np.ndarray]:
    """name -> (H, W, 3) uint8 RGB of pictures in which there is nobody."""
    return run_instrument("pictures", {}, environments)


def of_the_library(name: str, library: TemplateLibrary) -> bool:
    """Whether the library's background pictures include this one: then it is no fair control."""
    return any(picture.source.endswith((f"/{name}.png", f"/{name}.jpg")) for picture in library.pictures.values())


def control_rows(runs: Runs, environments: Path) -> list[tuple[str, str, bool, float, float]]:
    """(picture, `face` or `person`, is it in the library, mean masked share, largest masked share) over a pan each."""
    library = TemplateLibrary.load()
    names = [name for name in ("face", "person") if name in runs.names]
    rows = []
    for name, picture in sorted(empty_pictures(environments).items()):
        shares: dict[str, list[float]] = defaultdict(list)
        for frame in runs.masked(panned(picture), names):
            for run, mask in frame.masks.items():
                shares[run].append(float(mask.mean()))
        known = of_the_library(name, library)
        rows += [(name, run, known, mean(values), max(values)) for run, values in shares.items()]
    return rows


def control_table(rows: Sequence[tuple[str, str, bool, float, float]]) -> str:
    """One line per picture, and the mean over those that the library does not have."""
    names = list(dict.fromkeys(run for _, run, *_ in rows))
    by_picture: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    known = {}
    for picture, run, in_library, average, largest in rows:
        by_picture[picture][run] = (average, largest)
        known[picture] = in_library
    lines = [
        [
            picture,
            "yes" if known[picture] else "no",
            *(f"{percent(found[n][0])} ({percent(found[n][1])})" for n in names),
        ]
        for picture, found in by_picture.items()
    ]
    fresh = [found for picture, found in by_picture.items() if not known[picture]]
    lines.append(["**mean of fresh pictures**", "no", *(percent(mean(found[n][0] for found in fresh)) for n in names)])
    return table(["picture", "in the library", *(f"`{name}` masked, % (worst frame)" for name in names)], lines)


def genders(faces: Sequence[FaceRow], environments: Path) -> dict[tuple[str, int], str]:
    """(clip, person) -> what a classifier reads in most of up to 8 of that person's faces."""
    chosen: dict[tuple[str, int], list[FaceRow]] = defaultdict(list)
    for face in faces:
        chosen[face.clip, face.person].append(face)
    if not chosen:
        return {}
    picked = [face for members in chosen.values() for face in members[:: max(1, len(members) // 8)][:8]]
    readings = run_instrument("gender", {"crops": np.stack([face.crop for face in picked])}, environments)
    votes: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
    for face, female in zip(picked, readings["female"].tolist(), strict=True):
        votes[face.clip, face.person]["female" if female else "male"] += 1
    return {who: vote.most_common(1)[0][0] for who, vote in votes.items()}


def group_table(faces: Sequence[FaceRow], gender_of: Mapping[tuple[str, int], str]) -> str:
    """Recall of the oval by tone of skin and by gender reading, with counts."""
    angles: dict[tuple[str, int], list[float]] = defaultdict(list)
    for face in faces:
        angles[face.clip, face.person].append(face.tone_angle)
    tone_of = {who: tone_group(float(np.median(values))) for who, values in angles.items()}
    lines = []
    for kind, group_of in (("skin", tone_of), ("gender reading", gender_of)):
        for group in sorted(set(group_of.values())):
            members = [face for face in faces if group_of.get((face.clip, face.person)) == group]
            people = {(face.clip, face.person) for face in members}
            cells = []
            for name in ("face", "person"):
                values = [face.recall[name] for face in members if name in face.recall]
                missed = sum(value < MISSED_BELOW for value in values)
                cells.append(f"{percent(mean(values))} ({missed} missed)" if values else "-")
            lines.append([kind, group, str(len(people)), str(len(members)), *cells])
    return table(["group", "", "people", "faces", "recall of `face`", "recall of `person` on the oval"], lines)
