"""Attack the output of every method: `python benchmarks/attacks.py --clips CLIP... --out DIR`.

Each clip is masked once in its own size, scaled to a short side of 224 (the paper's scale), hidden by every method
under the same mask, and attacked before encoding and after the default encoder.  What is done is kept per clip and
method in DIR, and a run that was interrupted goes on there.  `--train` trains an inverting network per method on the
clips of the other half, `--faces` asks a face network who it is, `--averaging` runs only the attacks that get better
with more frames, `--repeats` hides each clip again with new noise, `--tables` writes `attacks.csv`, `attacks.md` and
a sheet of recovered crops per method, of all that is in DIR.

DIR shows the clips: it is not for release.

Not here: the attacks (anonymotion.attacks), the face network (instrument_scripts/faces.py).
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from attacking import faces, repeats, tables, training
from attacking.cells import METHODS, STAGES, Cell, path_of, save
from attacking.clips import concealment_of, name_of, prepared, scene_of, stretch_of, whole_frame
from instruments import default_folder

from anonymotion.attacks import evidence
from anonymotion.attacks.chance import Concealment, Unrelated
from anonymotion.attacks.evidence import Scene, View
from anonymotion.attacks.examine import judged, scores_of
from anonymotion.attacks.inverter import pair_of, what_it_sees
from anonymotion.attacks.recovery import Attack, attacks_for
from anonymotion.attacks.scores import Score

CROP_SIDE = 112  # less than in the command: fifty outputs of every method and clip are made
TRAINING_PAIRS = 10
NOTHING_DONE = "none (as it is)"
OF_MANY_FRAMES = (*tables.AVERAGES, "average, non-local means", "average, total variation")


def attacks_of(concealment: Concealment, scene: Scene, arguments: argparse.Namespace) -> dict[str, Attack]:
    """The attacks on a method's output that were asked for."""
    attacks = attacks_for(concealment.settings.method, scene.frame_hw)
    return {name: attacks[name] for name in (NOTHING_DONE, *OF_MANY_FRAMES)} if arguments.averaging else attacks


def repeated(clip: Path, method: str, kept: dict[str, np.ndarray], arguments: argparse.Namespace) -> None:
    """Hide a clip again and again, and attack all outputs."""
    scene = scene_of(kept, stretch_of(kept), METHODS[method].weights)
    concealment = concealment_of(method)
    path, attacks = repeats.path_of(arguments.out, name_of(clip), method), attacks_of(concealment, scene, arguments)
    if concealment.settings.composite == "replace":
        attacks.update(repeats.WITHOUT_RIM)
    repeats.run(path, name_of(clip), method, scene, concealment, attacks, arguments.repeats)


def attacked(clip: Path, method: str, kept: dict[str, np.ndarray], arguments: argparse.Namespace) -> None:
    """Attack one clip hidden by one method, before and after encoding; write what came back."""
    if path_of(arguments.out, name_of(clip), method).exists():
        return
    started = time.monotonic()
    scene = scene_of(kept, stretch_of(kept), METHODS[method].weights)
    concealment = concealment_of(method)
    noise = concealment.noise(scene) if concealment.uses_noise else None
    hidden = concealment.hide(scene.original, scene, noise)
    known = None if noise is None or not concealment.seed_is_known else noise[scene.reference]
    content = Unrelated(seed=3)
    before = concealment.view(scene, hidden, known, content)
    views = {"before": before, "after": View(scene, concealment.encoded(hidden), before.noise, before.others)}
    attacks = attacks_of(concealment, scene, arguments)
    chance: dict[str, dict[str, list[Score]]] = {"before": {}, "after": {}}
    seen: dict[str, list[np.ndarray]] = {"before": [], "after": []}
    pairs = {stage: [pair_of(view, scene.original[scene.reference])] for stage, view in views.items()}
    for outputs in concealment.by_chance(scene, content, arguments.nulls):
        for stage, view in zip(STAGES, outputs[:2], strict=True):
            assert view is not None  # noqa: S101 - SUFFIX is set
            for name, value in scores_of(view, attacks).items():
                chance[stage].setdefault(name, []).append(value)
            seen[stage].append(what_it_sees(view))
            if len(pairs[stage]) <= TRAINING_PAIRS:
                pairs[stage].append(pair_of(view, outputs[2][scene.reference]))
    stages = {stage: judged(view, attacks, chance[stage]) for stage, view in views.items()}
    cell = Cell(
        clip=name_of(clip),
        method=method,
        stages=stages,
        seen={stage: [what_it_sees(views[stage]), *seen[stage]] for stage in views},
        pairs=pairs,
        truth=scene.truth,
        core=scene.core,
        uncovered=scene.uncovered_share,
        colour={
            "original": scene.original[scene.reference],
            **{stage: view.hidden[scene.reference] for stage, view in views.items()},
        },
    )
    save(cell, arguments.out)
    worst = stages["after"].best
    print(
        f"{cell.clip} {method}: {len(stages['after'].recovered)} attacks recover something after encoding, best "
        f"{worst.attack} {worst.score.ncc:.2f}, {time.monotonic() - started:.0f} s",
        flush=True,
    )


def probes(name: str, method: str, arguments: argparse.Namespace) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The whole frame that was attacked, and that frame hidden by a method, as it is seen and as it is recovered."""
    with np.load(arguments.out / f"{name}.prepared.npz") as arrays:
        kept = dict(arrays)
    scene, concealment = scene_of(kept, whole_frame(kept), METHODS[method].weights), concealment_of(method)
    noise = concealment.noise(scene) if concealment.uses_noise else None
    hidden = concealment.hide(scene.original, scene, noise)
    known = None if noise is None or not concealment.seed_is_known else noise[scene.reference]
    before = concealment.view(scene, hidden, known, Unrelated(seed=3))
    after = View(scene, concealment.encoded(hidden), before.noise, before.others)
    found = faces.probes_of("before", before, concealment)
    return scene.original[scene.reference], {**found, **faces.probes_of("after", after, concealment)}


def main() -> None:
    """Attack, train, compare faces, write tables and sheets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, nargs="+", required=True, metavar="CLIP")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--attributes", default="face,hair")
    parser.add_argument("--masks", type=Path, metavar="DIR", help="DIR/CLIP as hide --export-masks wrote it, if there")
    parser.add_argument("--first", type=int, default=0, help="first frame of each clip")
    parser.add_argument("--frames", type=int, default=60, help="frames of each clip")
    parser.add_argument("--nulls", type=int, default=50)
    parser.add_argument("--averaging", action="store_true", help="only the attacks that get better with more frames")
    parser.add_argument("--repeats", type=int, default=0, help="further outputs of each clip, with new noise each")
    parser.add_argument("--train", action="store_true", help="train an inverting network per method")
    parser.add_argument("--steps", type=int, default=400, help="of that training")
    parser.add_argument("--gallery", type=Path, nargs="*", default=[], metavar="CLIP", help="further clips with faces")
    parser.add_argument("--faces", action="store_true", help="ask a face network who it is")
    parser.add_argument("--tables", action="store_true", help="write tables and sheets of all that is there")
    parser.add_argument("--environments", type=Path, default=default_folder(), metavar="DIR")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    evidence.MOST_SIDE = CROP_SIDE
    for clip in arguments.clips:
        weights = {METHODS[method].weights: METHODS[method].preset for method in arguments.methods}
        kept = prepared(clip, arguments, weights)
        for method in arguments.methods:
            attacked(clip, method, kept, arguments)
            if arguments.repeats:
                repeated(clip, method, kept, arguments)
    names = [name_of(clip) for clip in arguments.clips]
    if arguments.train:
        training.run(arguments.out, names, arguments.methods, arguments.steps)
    if arguments.faces:
        gallery = {name_of(clip): clip for clip in (*arguments.clips, *arguments.gallery)}
        known = faces.gallery(gallery, arguments.frames, arguments.environments)
        hidden = partial(probes, arguments=arguments)
        faces.run(arguments.out, names, arguments.methods, known, hidden, arguments.environments)
    if arguments.tables:
        tables.write(arguments.out, names, arguments.methods)


if __name__ == "__main__":
    main()
