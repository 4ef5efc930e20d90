"""Miniature copies of the data sets, in their original layouts, with lists in the published formats and tiny videos."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from synthetic import make_clip, picture

WEIZMANN_PEOPLE = ("ada", "ben", "cyn")
WEIZMANN_ACTIONS = ("bend", "run", "walk", "wave1")
SIZE = (64, 48)


def table(path: Path, rows: Sequence[Sequence[object]]) -> Path:
    """A CSV file of these rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def frames(folder: Path, pattern: str, count: int, first: int = 1) -> Path:
    """A folder of `count` pictures named `pattern % number`; their numbers can be read back (`synthetic.number_in`)."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(picture(number, *SIZE)).save(folder / (pattern % (first + number)), quality=95)
    return folder


def weizmann(root: Path, length: int = 20) -> Path:
    """3 people x 4 actions, `ACTION/PERSON_ACTION.avi`, `labels.csv`."""
    rows: list[Sequence[object]] = [("file", "person", "action", "frames", "width", "height", "fps")]
    for action in WEIZMANN_ACTIONS:
        (root / action).mkdir(parents=True, exist_ok=True)
        for person in WEIZMANN_PEOPLE:
            file = f"{action}/{person}_{action}.avi"
            make_clip(root / file, frames=length, size=SIZE)
            rows.append((file, person, action, length, *SIZE, 25.0))
    table(root / "labels.csv", rows)
    return root


def kth(root: Path, *, people: int = 2, in_folders: bool = True) -> Path:
    """`people` people x 2 actions x 4 scenarios; one is missing, as the published list says of another one."""
    lines = ["KTH sequences", "", "person01_boxing is described like this:", ""]
    for person in range(1, people + 1):
        for action in ("boxing", "walking"):
            for scenario in range(1, 5):
                name = f"person{person:02}_{action}_d{scenario}"
                if name == "person02_boxing_d3":
                    lines.append(f"{name}\t*missing*")
                    continue
                folder = root / action if in_folders else root
                folder.mkdir(parents=True, exist_ok=True)
                make_clip(folder / f"{name}_uncomp.avi", frames=16, size=SIZE)
                lines.append(f"{name}\t\tframes\t2-5, 6-9, 12-14")
    (root / "00sequences.txt").write_text("\n".join(lines) + "\n")
    return root


def sbu(root: Path) -> Path:
    """4 ordered pairs (3 unordered) x 2 interactions x 2 takes; depth maps beside the pictures."""
    for pair in ("s01s02", "s02s01", "s01s03", "s03s04"):
        for interaction in ("01", "08"):
            for take in ("001", "002"):
                folder = frames(root / pair / interaction / take, "rgb_%06d.png", 12)
                Image.new("I;16", SIZE).save(folder / "depth_000001.png")
                (folder / "skeleton_pos.txt").write_text("1,0.5\n")
    return root


def ipn(root: Path) -> Path:
    """4 people x 2 videos, of which one person tests; frames from 1, gestures and what is none."""
    people = {"1CM1_1_R": "W", "1CV12_3_R": "M", "4CM11_13_R": "W", "4CM42_20_R": "M"}
    metadata: list[Sequence[object]] = [("Video Name", "Frames", "Sex", "Hand")]
    lists: dict[str, list[Sequence[object]]] = {"Train": [], "Test": []}
    for number, (person, sex) in enumerate(people.items()):
        for take in range(2):
            video = f"{person}_#{200 + 2 * number + take}"
            frames(root / "frames" / video, f"{video}_%06d.jpg", 14)
            metadata.append((video, 14, sex, "Right"))
            rows = [(video, "D0X", 1, 1, 4, 4), (video, "G05", 8, 5, 9, 5), (video, "B0A", 2, 10, 14, 5)]
            lists["Test" if number == 3 else "Train"].extend(rows)
    table(root / "annotations" / "metadata.csv", metadata)
    for part, listed in lists.items():
        table(root / "annotations" / f"Annot_{part}List.txt", listed)
    return root


def folder(root: Path, *, with_split: bool = False) -> Path:
    """Videos and a folder of frames, 3 people, 3 actions, one more attribute, one span."""
    header = ["file", "action", "person", "room", "first", "last", *(["split"] if with_split else [])]
    rows: list[Sequence[object]] = [header]
    for number in range(9):
        person, action = f"p{number // 3}", f"act{number % 3}"
        if number == 4:
            frames(root / "clip 4", "%03d.png", 10)
            file = "clip 4"
        else:
            root.mkdir(parents=True, exist_ok=True)
            file = make_clip(root / f"clip{number}.mp4", frames=10, size=SIZE).name
        span = (2, 8) if number == 0 else ("", "")
        part = ("train", "test", "validation")[number // 3]
        rows.append([file, action, person, f"room{number % 2}", *span, *([part] if with_split else [])])
    table(root / "labels.csv", rows)
    return root


MINIATURES = {"weizmann": weizmann, "kth": kth, "sbu": sbu, "ipn": ipn, "folder": folder}
