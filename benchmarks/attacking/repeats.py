"""The same clip hidden again and again: what is in every score, and what is the chance of one run.

One output's score is mostly chance: grains leave few independent pixels.  The mean over outputs of the same clip with
new noise each shows what an attack gets out of the source itself.

Not here: scores beside their null distribution (attacks.py).
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anonymotion.attacks.chance import Concealment, Unrelated
from anonymotion.attacks.evidence import Scene, View
from anonymotion.attacks.examine import scores_of
from anonymotion.attacks.recovery import Attack
from anonymotion.attacks.scores import Grey

FILE = "repeats.csv"
WHOLLY = 0.999
HEAD = ("method", "clip", "stage", "attack", "output", "ncc", "unrelated")


def path_of(folder: Path, clip: str, method: str) -> Path:
    """Where the scores of one clip and method are kept."""
    return folder / f"{clip}.{method.replace(', ', '-')}.{FILE}"


def average_without_rim(view: View) -> Grey:
    """The mean along the true motion where a place is wholly hidden: nothing that shines through a soft rim."""
    return _mean(view.aligned, view.scene.tracks.aligned(view.scene.alpha) >= WHOLLY, view.frame)


def temporal_mean_without_rim(view: View) -> Grey:
    """The mean at the same pixel where it is wholly hidden."""
    return _mean(view.frames, view.scene.alpha >= WHOLLY, view.frame)


def _mean(frames: Grey, there: NDArray[np.bool_], otherwise: Grey) -> Grey:
    count = there.sum(0)
    mean = (frames * there).sum(0) / np.maximum(count, 1)
    return np.where(count > 0, mean, otherwise).astype(np.float32)


WITHOUT_RIM: dict[str, Attack] = {
    "average of all, rim left out": average_without_rim,
    "temporal mean, rim left out": temporal_mean_without_rim,
}
"""No attacks but controls, for methods that replace: what they lack came through the rim, not through the noise."""


def run(
    path: Path,
    clip: str,
    method: str,
    scene: Scene,
    concealment: Concealment,
    attacks: Mapping[str, Attack],
    count: int,
) -> None:
    """Write the NCC of `count` outputs of the clip, and of as many of unrelated content, if they are not there yet."""
    if path.exists():
        return
    rows = []
    content = Unrelated(seed=5)
    for number in range(count):
        for frames, unrelated in ((scene.original, False), (content.under_the_mask(scene), True)):
            noise = concealment.noise(scene) if concealment.uses_noise else None
            hidden = concealment.hide(frames, scene, noise)
            known = None if noise is None or not concealment.seed_is_known else noise[scene.reference]
            before = concealment.view(scene, hidden, known, content)
            views = {"before": before, "after": View(scene, concealment.encoded(hidden), before.noise, before.others)}
            for stage, view in views.items():
                for name, score in scores_of(view, attacks).items():
                    rows.append((method, clip, stage, name, number, round(score.ncc, 5), int(unrelated)))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEAD)
        writer.writerows(rows)
    print(f"{clip} {method}: hidden {count} times more", flush=True)


def table_rows(folder: Path, stages: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """Per method, stage and attack: clips, outputs, mean NCC with its standard error, mean |NCC|, that of chance.

    The standard error is that of the mean over clips of each clip's mean over its outputs.
    """
    found: dict[tuple[str, str, str], dict[str, dict[bool, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: {False: [], True: []})
    )
    for path in sorted(folder.glob(f"*.{FILE}")):
        with path.open() as file:
            for row in csv.DictReader(file):
                of = found[row["method"], row["stage"], row["attack"]][row["clip"]]
                of[row["unrelated"] == "1"].append(float(row["ncc"]))
    for (method, stage, attack), clips in found.items():
        own, chance = ([np.array(of[unrelated]) for of in clips.values()] for unrelated in (False, True))
        error = np.sqrt(sum(scores.var(ddof=1) / len(scores) for scores in own)) / len(own)
        mean, size, by_chance = (
            float(np.mean([measure(scores).mean() for scores in of]))
            for measure, of in ((np.asarray, own), (np.abs, own), (np.abs, chance))
        )
        outputs = str(sum(len(scores) for scores in own))
        numbers = (f"{mean:+.3f} ± {error:.3f}", f"{size:.3f}", f"{by_chance:.3f}")
        yield method, stages[stage], attack, str(len(own)), outputs, *numbers
