"""What did each step of the matcher buy?  `python benchmarks/matching_study.py --clips CLIPS... --out FILE.md`.

The steps are ways to score a patch: eq. 1 with one exemplar, all of them, without and with the de-biasing mean,
weighed by the probe, another block or facet.  Each is judged at its own best threshold, one for all clips: the highest
at which the attribute's goals for recall and missed frames (goals.toml) are reached.  What it then masks needlessly is
its price.  So the figures compare steps; how good the calibrated defaults are is told by coverage.py.  The last row
is what `strict` sees in a frame, with presence and the second look at heads.  `--curves` draws recall against that
price for all thresholds of that row.

Masks are those of single frames, on a grid of four by four per patch and grown by two of its cells (about what the
default dilation is), so that a step costs seconds and no pixel of a clip is kept.

Not here: continuity over time (coverage.py with --set look_ahead=0), pictures of saliency (saliency_study.py).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from coverage import HERE, clips_of, name_of, windows_of
from instruments import default_folder
from measuring import controls, findings
from measuring.marks import excluded, is_clip, read_exclusions, read_points
from measuring.masks import Runs
from measuring.measures import MISSED_BELOW
from measuring.regions import read_frame
from measuring.rows import marked
from measuring.tables import Goals, mean, percent, read_goals, table
from torch.nn import functional

from anonymotion.backbone import Backbone, PatchFeatures
from anonymotion.presets import PerAttribute, Settings, settings_for
from anonymotion.registry import ATTRIBUTES, GROUPS, FeatureSpec
from anonymotion.saliency import attribute_saliency
from anonymotion.template_bank import build_bank
from anonymotion.templates import TemplateLibrary

PER_PATCH = 4
GROWN_CELLS = 2
THRESHOLDS = 200
CURVE_POINTS = 30
FACTORS = (0.8, 1.0, 1.1, 1.2, 1.4)


@dataclass(frozen=True)
class Step:
    """A way to score patches; `changes` are settings on top of `strict`, `per` those that depend on the attribute."""

    name: str
    changes: dict[str, str | float | bool]


PLAIN: dict[str, str | float | bool] = {"contrast": 0.0, "layer": 11, "facet": "key"}
STEPS = (
    Step("eq. 1, raw keys of block 11, one exemplar", {**PLAIN, "exemplars": "first", "debias": False}),
    Step("+ de-biasing mean", {**PLAIN, "exemplars": "first"}),
    Step("+ all exemplars, the best one counts", PLAIN),
    Step("+ probe against rivals (contrast 0.3)", {**PLAIN, "contrast": 0.3}),
    Step("block 10 instead of 11", {**PLAIN, "contrast": 0.3, "layer": 10}),
    Step("block 9 instead of 11", {**PLAIN, "contrast": 0.3, "layer": 9}),
    Step("values of block 9", {**PLAIN, "contrast": 0.3, "layer": 9, "facet": "value"}),
    Step("the first look of strict", {}),
)
STRICT = "**strict, as it is**"


@dataclass
class Seen:
    """One frame: descriptors of every spec, and where an attribute must be (`sure`) and may not be (`needless`).

    (4 rows, 4 columns) bool each, by attribute; without one where it is not measured.  oval: the rest of the face's
    oval.  outside: everything but the grown person, the same for all attributes.
    strict: what `strict` sees, by attribute, (4 rows, 4 columns) float32: saliency over its threshold.
    """

    clip: str
    features: dict[FeatureSpec, PatchFeatures]
    sure: dict[str, np.ndarray]
    needless: dict[str, np.ndarray]
    oval: dict[str, np.ndarray]
    outside: dict[str, np.ndarray]
    strict: dict[str, np.ndarray]


def sampled(plane: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A (H, W) plane at the centres of `shape` cells."""
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) / n * length).astype(int), length - 1)
        for n, length in zip(shape, plane.shape, strict=True)
    )
    cells: np.ndarray = plane[rows][:, columns]
    return cells


def of_strict(name: str, frame: Seen) -> np.ndarray:
    """What `strict` sees of an attribute in a frame, as a Scorer gives it."""
    return frame.strict[name]


def grown(plane: torch.Tensor) -> np.ndarray:
    """(rows, columns) float32 cells, each as high as the highest around it."""
    side = 2 * GROWN_CELLS + 1
    cells: np.ndarray = functional.max_pool2d(plane[None], side, stride=1, padding=GROWN_CELLS)[0].numpy()
    return cells


def at_points(points: Sequence[Sequence[int]], size_hw: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """The cells in which (x, y) pixels lie."""
    cells = np.zeros(shape, bool)
    for x, y in points:
        cells[y * shape[0] // size_hw[0], x * shape[1] // size_hw[1]] = True
    return cells


class Reader:
    """Reads frames of clips with the instrument's regions, one frame of each window."""

    def __init__(self, arguments: argparse.Namespace, backbone: Backbone, specs: Sequence[FeatureSpec]) -> None:
        self.arguments, self.backbone, self.specs = arguments, backbone, list(specs)
        self.strict = Runs(arguments.attributes, "strict", "cpu")
        self.points = read_points(HERE / "points.toml")
        self.exclusions = read_exclusions(HERE / "coverage.toml")

    def look(self, name: str, image: np.ndarray) -> Seen:
        """One picture, without any regions."""
        image = np.ascontiguousarray(image)
        features = self.backbone.extract(torch.from_numpy(image)[None], self.specs)
        grid = next(iter(features.values())).grid
        shape = (PER_PATCH * grid.rows, PER_PATCH * grid.columns)
        strict = {
            attribute: grown(torch.from_numpy(sampled(self.strict.strength(attribute, image), shape)))
            for attribute in self.strict.names
        }
        return Seen(name, features, {}, {}, {}, {}, strict)

    def read(self, clip: Path) -> Iterator[Seen]:
        """The frames of a clip."""
        points = [point for point in self.points if is_clip(clip, point.clip)]
        number, length = self.arguments.windows
        runs = findings.windows(findings.frame_count(clip), number, length, [point.frame for point in points])
        found = findings.find(clip, runs, self.arguments.cache, self.arguments.environments, "mediapipe")
        for run in runs:
            for frame, image in zip(run, findings.frames_of(clip, run), strict=True):
                marks = marked(points, frame)
                if frame != run.start and marks is None:
                    continue
                regions = read_frame(image, findings.of_frame(found, frame))
                left_out = excluded(self.exclusions, clip, frame)
                seen = self.look(name_of(clip), image)
                shape = next(iter(seen.strict.values())).shape
                for name, region in regions.sure.items():
                    if name not in left_out:
                        seen.sure[name] = sampled(region, shape)
                if regions.person is not None and "excess" not in left_out:
                    for name, allowed in regions.allowed.items():
                        seen.needless[name] = sampled(regions.person & ~allowed, shape)
                if regions.person is not None and "outside" not in left_out:
                    seen.outside = dict.fromkeys((*ATTRIBUTES, *GROUPS), sampled(~regions.person_wide, shape))
                for name, allowed in regions.parts_allowed.items():
                    if name in seen.sure:
                        seen.oval[name] = sampled(regions.oval & ~allowed, shape)
                if marks is not None:
                    size_hw = (image.shape[0], image.shape[1])
                    seen.sure["hair"] = at_points(marks.hair, size_hw, shape)
                    seen.needless["hair"] = at_points(marks.not_hair, size_hw, shape)
                yield seen


def specs_of(settings: Settings) -> dict[str, FeatureSpec]:
    """The spec of every attribute."""
    return {name: settings.spec_of(name) for name in ATTRIBUTES}


class Scorer:
    """Scores frames for one attribute or group by one step."""

    def __init__(self, settings: Settings, name: str, library: TemplateLibrary, backbone: Backbone) -> None:
        self.settings = settings
        members = GROUPS.get(name, (name,))
        contrast: PerAttribute[float] | None = settings.contrast if settings.weighs_rivals else None
        asked = None if contrast is None else {member: contrast[member] for member in members}
        groups: dict[FeatureSpec, list[str]] = {}
        for member in members:
            groups.setdefault(settings.spec_of(member), []).append(member)
        self.banks = [
            build_bank(library, backbone, spec, names, exemplars=settings.exemplars, contrast=asked)
            for spec, names in groups.items()
        ]

    def __call__(self, frame: Seen) -> np.ndarray:
        """(4 rows, 4 columns) float32: the strongest of the members, grown."""
        planes = [
            attribute_saliency(frame.features[bank.spec.raw], bank, self.settings.exemplar_aggregation).amax(dim=1)
            for bank in self.banks
        ]
        fine = functional.interpolate(torch.stack(planes).amax(dim=0)[:, None], scale_factor=PER_PATCH, mode="bilinear")
        return grown(fine[0, 0])


def reached(scored: Sequence[tuple[str, np.ndarray]], recall: float, missed: float) -> float:
    """The highest threshold at which mean recall and share of missed frames over (clip, values) are as wanted."""
    every = np.concatenate([values for _, values in scored])
    for threshold in np.unique(np.quantile(every, np.linspace(0, 0.5, THRESHOLDS)))[::-1]:
        recalls = np.array([(values >= threshold).mean() for _, values in scored])
        if recalls.mean() >= recall and (recalls < MISSED_BELOW).mean() <= missed:
            return float(threshold)
    return float(every.min())


class Judge:
    """Scores of all frames for one attribute by one step, held against what the instrument is sure of."""

    def __init__(self, score: Callable[[Seen], np.ndarray], name: str, frames: Sequence[Seen]) -> None:
        self.name, self.score, self.frames = name, score, frames
        self.planes = [score(frame) for frame in frames]
        both = list(zip(frames, self.planes, strict=True))
        self.scored = [(frame.clip, plane[frame.sure[name]]) for frame, plane in both if has(frame.sure, name)]

    def recalls(self, threshold: float) -> list[float]:
        """Of each frame in which the attribute is."""
        return [float((values >= threshold).mean()) for _, values in self.scored]

    def share(self, where: str, threshold: float) -> float:
        """Masked share of `needless`, `oval` or `outside`, mean over the frames that have it."""
        found = [(getattr(frame, where), plane) for frame, plane in zip(self.frames, self.planes, strict=True)]
        name = self.name
        return mean([float((plane[at[name]] >= threshold).mean()) for at, plane in found if has(at, name)])

    def cells(self, empty: Sequence[Seen], bounds: dict[str, float]) -> list[str]:
        """Of the table: recall, worst clip, missed, outside, excess, that of the oval, pictures with nobody."""
        if not self.scored:
            return ["-"] * 7
        threshold = reached(self.scored, bounds["recall"], bounds.get("missed", 0.05))
        nobody = mean([float((self.score(picture) >= threshold).mean()) for picture in empty])
        return [percent(value) for value in (*self.at(threshold, ("outside", "needless", "oval")), nobody)]

    def at(self, threshold: float, shares: Sequence[str]) -> list[float]:
        """Mean recall, that of the worst clip, share of missed frames, and `shares`."""
        recalls = self.recalls(threshold)
        by_clip: dict[str, list[float]] = {}
        for (clip, _), value in zip(self.scored, recalls, strict=True):
            by_clip.setdefault(clip, []).append(value)
        return [
            mean(recalls),
            min(mean(of_clip) for of_clip in by_clip.values()),
            mean([float(value < MISSED_BELOW) for value in recalls]),
            *(self.share(where, threshold) for where in shares),
        ]

    def curve(self, where: str) -> tuple[list[float], list[float]]:
        """Percent of `where`, and recall in percent, over all thresholds."""
        every = np.concatenate([values for _, values in self.scored])
        thresholds = np.unique(np.quantile(every, np.linspace(0, 0.6, CURVE_POINTS)))
        shares = [100 * self.share(where, threshold) for threshold in thresholds]
        return shares, [100 * mean(self.recalls(threshold)) for threshold in thresholds]


def scaled(judges: dict[str, Judge]) -> str:
    """A table of what `strict` would have with every threshold multiplied by one of FACTORS."""
    rows = [
        [name, *(" / ".join(map(percent, judge.at(factor, ("needless", "oval")))) for factor in FACTORS)]
        for name, judge in judges.items()
    ]
    return table(["attribute", *(f"x {factor}" for factor in FACTORS)], rows)


def draw(curves: dict[str, Judge], path: Path) -> None:
    """Recall against what is masked needlessly, a line for each attribute."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5.5), layout="constrained")
    titles = {"needless": "excess of the person", "oval": "excess of the oval", "outside": "outside"}
    for axis, (where, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
        for name, judge in curves.items():
            x, y = judge.curve(where)
            if np.isfinite(x).any():
                axis.plot(x, y, marker=".", label=name)
        axis.set(xlabel=f"{title}, %", ylabel="mean recall, %", title=title)
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=100)


def has(masks: dict[str, np.ndarray], name: str) -> bool:
    """Whether there is anything to measure."""
    return name in masks and bool(masks[name].any())


def study(arguments: argparse.Namespace) -> str:
    """The tables as Markdown."""
    library, device = TemplateLibrary.load(), torch.device("cpu")
    settings = [settings_for("strict", **step.changes) for step in STEPS]
    specs = list(dict.fromkeys(spec.raw for each in settings for spec in specs_of(each).values()))
    backbone = Backbone.load(settings[0].backbone, device, engine="auto")
    reader = Reader(arguments, backbone, specs)
    frames: list[Seen] = []
    for clip in clips_of(arguments.clips):
        frames += reader.read(clip)
        print(f"{name_of(clip)}: {len(frames)} frames", file=sys.stderr, flush=True)
    pictures = controls.empty_pictures(arguments.environments).items()
    empty = [reader.look(name, picture) for name, picture in pictures if not controls.of_the_library(name, library)]
    goals: Goals = read_goals(HERE / "goals.toml")
    heads = ["step", "recall", "worst clip", "missed", "outside", "excess", "excess of the oval", "nobody there"]
    parts = [f"{len(frames)} frames, {len(empty)} pictures with nobody in them that the library does not have.\n"]
    curves: dict[str, Judge] = {}
    for name in arguments.attributes:
        lines = []
        for step, chosen in zip(STEPS, settings, strict=True):
            judge = Judge(Scorer(chosen, name, library, backbone), name, frames)
            lines.append([step.name, *judge.cells(empty, goals[name])])
        curves[name] = Judge(partial(of_strict, name), name, frames)
        lines.append([STRICT, *curves[name].cells(empty, goals[name])])
        parts.append(f"### {name}\n\n" + table(heads, lines))
        print(f"{name} is done", file=sys.stderr, flush=True)
    measured = {name: judge for name, judge in curves.items() if judge.scored}
    parts.append("### The thresholds of strict, times a factor\n\n" + scaled(measured))
    if arguments.curves:
        draw(measured, arguments.curves)
    return "\n".join(parts)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True, help="a Markdown file")
    parser.add_argument("--curves", type=Path, help="a PNG")
    parser.add_argument(
        "--attributes", nargs="+", default=["face", *GROUPS["face"], "hand", "torso", "arm", "leg", "hair"]
    )
    parser.add_argument("--windows", type=windows_of, default=(5, 2))
    parser.add_argument("--environments", type=Path, default=default_folder())
    parser.add_argument("--cache", type=Path, default=default_folder() / "findings")
    arguments = parser.parse_args()
    text = study(arguments)
    arguments.out.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
