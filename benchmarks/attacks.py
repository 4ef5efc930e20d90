"""Attack the output of every method: `python benchmarks/attacks.py --clips CLIP... --out DIR`.

Each clip is masked once in its own size, scaled to a short side of 224 (the paper's scale), hidden by every method
under the same mask, and attacked before encoding and after the default encoder.  What is done is kept per clip and
method in DIR, and a run that was interrupted goes on there.  `--train` trains an inverting network per method on the
clips of the other half, `--faces` asks a face network who it is, `--tables` writes `attacks.csv`, `attacks.md` and a
sheet of recovered crops per method, of all that is in DIR.

DIR shows the clips: it is not for release.

Not here: the attacks (anonymotion.attacks), the face network (instrument_scripts/faces.py).
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from attacking import faces, tables, training
from attacking.cells import METHODS, STAGES, Cell, path_of, save
from instruments import default_folder

from anonymotion import video
from anonymotion.attacks import evidence
from anonymotion.attacks.chance import Concealment, Unrelated
from anonymotion.attacks.evidence import Box, Scene, View, core_of
from anonymotion.attacks.examine import judged, scores_of, silhouette_overlap
from anonymotion.attacks.files import MaskFolder, Stretch, choose_stretch
from anonymotion.attacks.inverter import pair_of, what_it_sees
from anonymotion.attacks.recovery import attacks_for
from anonymotion.attacks.scores import Score
from anonymotion.attacks.tracks import chain
from anonymotion.flow import load_flow
from anonymotion.pipeline import Hider
from anonymotion.presets import settings_for

SHORT_SIDE = 224
SUFFIX = ".mp4"
CROP_SIDE = 112  # less than in the command: fifty outputs of every method and clip are made
TRAINING_PAIRS = 10


def name_of(clip: Path) -> str:
    """A short name of a clip: of a folder of pictures, its parent's."""
    return clip.parent.name if clip.is_dir() else clip.stem


class Planes(list[np.ndarray]):
    """Masks in memory, as `files.choose_stretch` wants them."""

    def plane(self, index: int) -> np.ndarray:
        """(H, W) float32."""
        return self[index]


def frames_of(clip: Path, first: int, count: int) -> list[np.ndarray]:
    """`count` frames from `first`, in their own size."""
    with video.open_source(clip) as source:
        return [frame.image for frame in islice(source, first, first + count)]


def scaled(plane: np.ndarray) -> np.ndarray:
    """A picture or weights at a short side of SHORT_SIDE."""
    height, width = plane.shape[:2]
    scale = SHORT_SIDE / min(height, width)
    size = (round(width * scale), round(height * scale))
    small = cv2.resize(plane, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    # what was replaced as a whole stays so, in spite of rounding
    return small if small.dtype == np.uint8 else np.where(small > 1 - 1e-4, np.float32(1), small)


def weights_of(clip: Path, images: list[np.ndarray], preset: str, arguments: argparse.Namespace) -> np.ndarray:
    """(T, H, W) float32, at SHORT_SIDE, as `preset` gives them; of strict as `--masks` has them, if it has."""
    folder = arguments.masks / name_of(clip) if arguments.masks and preset == "strict" else None
    if folder is not None and folder.is_dir():
        exported = MaskFolder(folder)
        planes = [exported.plane(arguments.first + index) for index in range(len(images))]
    else:
        chunks = Hider(arguments.attributes, preset, device="cpu").explain(images)
        planes = [alpha for chunk in chunks for alpha in chunk.alpha.numpy()]
    return np.stack([scaled(plane) for plane in planes])


def prepared(clip: Path, arguments: argparse.Namespace) -> dict[str, np.ndarray]:
    """Frames, flow in both directions, and the weights of preset strict and of the blend; kept in DIR."""
    path = arguments.out / f"{name_of(clip)}.prepared.npz"
    if path.exists():
        with np.load(path) as arrays:
            return dict(arrays)
    whole = frames_of(clip, arguments.first, arguments.frames)
    images = [scaled(image) for image in whole]
    flow = load_flow("dis", torch.device("cpu"))
    tensors = [torch.from_numpy(image) for image in images]
    nothing = np.zeros((2, *images[0].shape[:2]), np.float32)
    kept = {
        "images": np.stack(images),
        "strict": weights_of(clip, whole, "strict", arguments),
        "blend": weights_of(clip, whole, "paper-debiased", arguments),
        "backward": np.stack([nothing, *(flow.between(two, one).numpy() for one, two in pairwise(tensors))]),
        "forward": np.stack([*(flow.between(one, two).numpy() for one, two in pairwise(tensors)), nothing]),
    }
    np.savez(path, **kept)  # type: ignore[arg-type]
    print(f"{name_of(clip)}: {len(images)} frames masked", flush=True)
    return kept


def scene_of(kept: dict[str, np.ndarray], stretch: Stretch, weights: str) -> Scene:
    """The crop of a clip with the weights of one kind; the core is always that of preset strict."""
    box, reference = stretch.box, stretch.reference

    def cut(name: str) -> np.ndarray:
        return np.stack([box.cut(part) for part in kept[name]])

    alpha = cut(weights).astype(np.float32)
    flows = {
        name: np.stack([box.cut(np.moveaxis(part, 0, 2)) for part in kept[name]]) for name in ("backward", "forward")
    }
    tracks = chain(flows["backward"], flows["forward"], reference)
    backward = np.ascontiguousarray(np.moveaxis(flows["backward"], 3, 1))
    frame_hw = kept["images"].shape[1:3]
    core = core_of(np.asarray(box.cut(kept["strict"][reference])))
    return Scene(cut("images"), alpha, backward, tracks, frame_hw, box, core)


def concealment_of(method: str, rate: Fraction) -> Concealment:
    """How a method of the table hides; noise of the paper's presets is that of a known seed, as in its code."""
    entry = METHODS[method]
    settings = settings_for(entry.preset, **entry.settings)
    return Concealment(settings, rate, SUFFIX, None, seed_is_known=entry.seed_is_known)


def attacked(clip: Path, method: str, kept: dict[str, np.ndarray], arguments: argparse.Namespace) -> None:
    """Attack one clip hidden by one method, before and after encoding; write what came back."""
    if path_of(arguments.out, name_of(clip), method).exists():
        return
    started = time.monotonic()
    stretch = choose_stretch(Planes(kept["strict"]), arguments.frames)
    scene = scene_of(kept, stretch, METHODS[method].weights)
    concealment = concealment_of(method, Fraction(25))
    noise = concealment.noise(scene) if concealment.uses_noise else None
    hidden = concealment.hide(scene.original, scene, noise)
    known = None if noise is None or not concealment.seed_is_known else noise[scene.reference]
    content = Unrelated(seed=3)
    before = concealment.view(scene, hidden, known, content)
    views = {"before": before, "after": View(scene, concealment.encoded(hidden), before.noise, before.others)}
    attacks = attacks_for(concealment.settings.method, scene.frame_hw)
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
        silhouette=silhouette_overlap(views["after"]),
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
    height, width = kept["images"].shape[1:3]
    stretch = replace(choose_stretch(Planes(kept["strict"]), arguments.frames), box=Box(0, 0, width, height))
    scene, concealment = scene_of(kept, stretch, METHODS[method].weights), concealment_of(method, Fraction(25))
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
        kept = prepared(clip, arguments)
        for method in arguments.methods:
            attacked(clip, method, kept, arguments)
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
