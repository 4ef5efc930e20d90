"""A data set of nine clips in Weizmann's layout for tests of the harness: coloured squares that move.

Who it is, is the colour; what they do, is the motion.  A copy without colours hides who it is.

This file does not test anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from anonymotion.research.datasets import open_dataset
from anonymotion.research.layouts import copies

COLOURS = {"ann": (230, 30, 30), "bob": (30, 220, 30), "cat": (40, 40, 240)}
STEPS = {"jump": (0, 3), "run": (4, 0), "stay": (0, 0)}
SIZE_HW = (40, 48)
FRAMES = 12

PEOPLE_SPLITS = [f"person-fold-{number}" for number in range(3)]
IDENTITY_SPLITS = [f"identity-fold-{number}" for number in range(3)]
STATIC_ONLY = 'threats = ["static"]\n'


def experiment(
    title: str,
    dataset: str,
    columns: Mapping[str, tuple[Sequence[str], Sequence[str]]],
    methods: Sequence[str],
    *,
    seeds: Sequence[int] = (0,),
    head: str = "",
) -> str:
    """An experiment's file.  columns: splits and networks by the task, which is also the name.  head: more of TOML."""
    first = [f'title = "{title}"', f'dataset = "{dataset}"', 'needs = "nothing"', 'takes = "a minute"']
    text = "\n".join([*first, f"seeds = {list(seeds)}", head])
    for task, (splits, networks) in columns.items():
        text += f'\n[[column]]\nname = "{task}"\ntask = "{task}"\n'
        text += f"splits = {json.dumps(list(splits))}\nnetworks = {json.dumps(list(networks))}\n"
    ours = {"strict": "ours = true\n"}
    return text + "".join(f'\n[[method]]\nname = "{name}"\n{ours.get(name, "")}' for name in methods)


EXPERIMENT = (
    experiment(
        "squares",
        "weizmann",
        {"action": (PEOPLE_SPLITS, ["flow-linear", "small-3d"]), "identity": (IDENTITY_SPLITS, ["small-3d-whole"])},
        ["source"],
        seeds=(0, 1),
        head="""privacy_frames = 2

[training]
batch = 4
max_epochs = 2
patience = 5
workers = 0
tensorboard = false

[input]
frames = 4
crop = 16
""",
    )
    + """
[[method]]
name = "grey"
ours = true

[[method]]
name = "noise"
columns = ["identity"]
control = true

[[method]]
name = "grey-dagger"
of = "grey"
label = "grey †"
only = ["flow-linear"]

[[quoted]]
label = "somebody"
values = { action = 90, identity = 30 }
"""
)


def squares(person: str, action: str, kind: str = "source") -> list[np.ndarray]:
    """The frames of one clip: `source`, `grey` without the person's colour, or nothing but `noise`."""
    random = np.random.default_rng(0)
    ground = random.integers(90, 140, (*SIZE_HW, 3)).astype(np.uint8)
    dress = random.integers(0, 60, (14, 10, 1)).astype(np.uint8)
    colour = np.array((128, 128, 128) if kind == "grey" else COLOURS[person])
    x_step, y_step = STEPS[action]
    frames = []
    for number in range(FRAMES):
        image = random.integers(0, 255, ground.shape).astype(np.uint8) if kind == "noise" else ground.copy()
        x, y = 4 + x_step * number % 30, 4 + y_step * number % 20
        if kind != "noise":
            image[y : y + 14, x : x + 10] = np.clip(colour - dress, 0, 255)
        frames.append(image)
    return frames


def make_world(root: Path, kind: str = "source") -> Path:
    """The data set with frames in folders, and its labels.csv."""
    rows = ["file,person,action,frames"]
    for person in COLOURS:
        for action in STEPS:
            folder = root / action / f"{person}_{action}"
            folder.mkdir(parents=True)
            for number, image in enumerate(squares(person, action, kind)):
                Image.fromarray(image).save(folder / f"{number:06d}.png")
            rows.append(f"{action}/{person}_{action},{person},{action},{FRAMES}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root


def index_copy(root: Path) -> Path:
    """What `make_world` made, as a finished copy: its frames below `frames`, and an index."""
    dataset = open_dataset("weizmann", root)
    index = {"schema_version": 1, "finished": True, "failed": {}, "made_with": root.name, **copies.describe(dataset)}
    (root / copies.FRAMES).mkdir()
    for action in STEPS:
        (root / action).rename(root / copies.FRAMES / action)
    (root / copies.INDEX).write_text(json.dumps(index))
    return root


def make_bench(folder: Path) -> tuple[Path, Path, Path]:
    """The data set, a folder with its copies `grey` and `noise`, and the experiment's file."""
    for kind in ("grey", "noise"):
        index_copy(make_world(folder / "copies" / kind, kind))
    file = folder / "squares.toml"
    file.write_text(EXPERIMENT)
    return make_world(folder / "data"), folder / "copies", file
