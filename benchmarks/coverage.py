"""Are the masks where they must be?  `python benchmarks/coverage.py --clips DIR... --out DIR`.

Compares our masks with what mediapipe is sure of (face oval, eyes, lips, forehead, cheeks, hands, limbs, torso,
person) and, for hair, with hand-marked points, per clip, frame and attribute: recall, excess, outside, flicker.  Every
attribute is a run of its own.  Writes `rows.csv`, `tables.md`, `summary.json` and sheets of the worst frames into
`--out`, which shows the input and is not for release.  Ctrl-C ends early with a report of the clips that are done.
docs/coverage.md defines the measures and says what they cannot see.

Not here: settings of the instrument (measuring/regions.py), its environments (instruments.py).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from instruments import InstrumentError, default_folder
from measuring import controls, findings, measures, tables
from measuring.marks import Exclusion, MarksError, Points, excluded, is_clip, read_exclusions, read_points
from measuring.masks import ExportedMasks, MaskedFrame, Runs, dilated
from measuring.options import settings_from
from measuring.regions import FrameRegions, read_frame
from measuring.rows import OURS, WHOLE, FaceRow, People, Row, face_rows, marked, row_of
from measuring.sheets import WorstFrames
from measuring.sweep import Sweep

from anonymotion.errors import AnonymotionError
from anonymotion.presets import settings_for

HERE = Path(__file__).resolve().parent
NAMES = ("face", "eyes", "lips", "forehead", "cheek", "hand", "torso", "arm", "leg", "hair", "person")
SUFFIXES = {".mp4", ".mkv", ".mov", ".avi", ".webm", ".gif"}


@dataclass
class Collected:
    """Everything that the clips give."""

    rows: list[Row] = field(default_factory=list)
    faces: list[FaceRow] = field(default_factory=list)
    frames: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, Counter[str]] = field(default_factory=dict)
    by_hand: Counter[tuple[str, str]] = field(default_factory=Counter)
    worst: WorstFrames = field(default_factory=WorstFrames)
    sweep: Sweep | None = None


def clips_of(paths: Sequence[Path]) -> list[Path]:
    """Files as they are, folders of pictures as one clip, other folders as the videos below them."""
    found: list[Path] = []
    for path in paths:
        videos = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES) if path.is_dir() else []
        if not path.exists():
            raise MarksError(f"clip {path} is not there")
        found += videos or [path]
    return found


def name_of(clip: Path) -> str:
    """A short name: the folder's and the file's."""
    return f"{clip.resolve().parent.name}/{clip.stem}"


class Measurement:
    """One pass over clips with the settings of the command line."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.points = read_points(arguments.points) if arguments.points else []
        self.exclusions: list[Exclusion] = read_exclusions(arguments.exclude) if arguments.exclude else []
        self.settings = settings_from(arguments.set)
        self.chosen = settings_for(arguments.preset, **self.settings)
        self.source: Runs | ExportedMasks = (
            ExportedMasks(arguments.masks, arguments.attributes, self.chosen.flow)
            if arguments.masks
            else Runs(arguments.attributes, arguments.preset, arguments.device, arguments.engine, **self.settings)
        )
        self.collected = Collected()
        if arguments.sweep and isinstance(self.source, Runs):
            self.collected.sweep = Sweep(self.source)

    def run(self, clip: Path) -> None:
        """Measure the frames of a clip."""
        started, name = time.monotonic(), name_of(clip)
        points = [point for point in self.points if is_clip(clip, point.clip)]
        number, length = self.arguments.windows
        runs = findings.windows(findings.frame_count(clip), number, length, [point.frame for point in points])
        found = findings.find(clip, runs, self.arguments.cache, self.arguments.environments, "mediapipe")
        looked = time.monotonic()
        self.collected.reasons[name], people = Counter(), People()
        for run in runs:
            previous: dict[str, Any] = {}
            for frame, masked in zip(run, self._masked(clip, run), strict=True):
                regions = read_frame(masked.image, findings.of_frame(found, frame))
                self.collected.reasons[name] += regions.reasons
                left_out = excluded(self.exclusions, clip, frame)
                self.collected.by_hand.update((name, measure) for measure in left_out)
                self._measure(name, frame, masked, regions, marked(points, frame), left_out, previous)
                self.collected.faces += face_rows(name, frame, masked.image, regions, masked.masks, people)
                previous = {**masked.masks, WHOLE: dilated(regions.person_seen, self.chosen.dilation)}
        count = self.collected.frames[name] = sum(map(len, runs))
        seconds = time.monotonic() - looked
        print(f"{name}: {count} frames, instrument {looked - started:.0f} s, masks {seconds:.0f} s", flush=True)

    def forget_unfinished(self) -> None:
        """Drop what belongs to a clip that was not measured to its end."""
        collected = self.collected
        collected.rows = [row for row in collected.rows if row.clip in collected.frames]
        collected.faces = [face for face in collected.faces if face.clip in collected.frames]
        collected.reasons = {clip: found for clip, found in collected.reasons.items() if clip in collected.frames}

    def _masked(self, clip: Path, run: range) -> Iterator[MaskedFrame]:
        frames = findings.frames_of(clip, run)
        if isinstance(self.source, ExportedMasks):
            return self.source.masked(frames, name_of(clip), run.start)
        return self.source.masked(frames, keep_saliency=self.collected.sweep is not None)

    def _measure(
        self,
        clip: str,
        frame: int,
        masked: MaskedFrame,
        regions: FrameRegions,
        points: Points | None,
        left_out: set[str],
        previous: dict[str, Any],
    ) -> None:
        """A row for each attribute, of our mask and of the whole person."""
        person = dilated(regions.person_seen, self.chosen.dilation)
        for attribute, mask in masked.masks.items():
            for kind, tested, before in (
                (OURS, mask, previous.get(attribute)),
                (WHOLE, person, previous.get(WHOLE)),
            ):
                steady = math.nan
                if before is not None and masked.flow is not None:
                    steady = measures.steadiness(tested, before, masked.flow)
                row = row_of((clip, frame, attribute, kind), tested, regions, points, left_out, steady)
                self.collected.rows.append(row)
                if kind == OURS:
                    region = regions.sure.get(attribute)
                    shown = points if attribute == "hair" else None
                    self.collected.worst.offer(row, masked.image, mask, region, regions.person, shown)
        if self.collected.sweep is not None:
            self.collected.sweep.add(clip, frame, masked.saliency, regions, points, left_out)


def report(measurement: Measurement, goals: tables.Goals, out: Path) -> str:
    """Write everything into `out`; the Markdown text."""
    arguments, collected = measurement.arguments, measurement.collected
    parts = ["## Overall, in percent\n\n" + tables.overall(collected.rows, goals)]
    parts.append("## Counts\n\n" + tables.counts(collected.frames, collected.reasons, collected.by_hand))
    if collected.faces:
        try:
            gender_of = controls.genders(collected.faces, arguments.environments)
        except InstrumentError as error:
            print(f"gender is not read: {error}", file=sys.stderr)
            gender_of = {}
        parts.append("## Faces by group\n\n" + controls.group_table(collected.faces, gender_of))
    if arguments.controls and isinstance(measurement.source, Runs):
        rows = controls.control_rows(measurement.source, arguments.environments)
        parts.append("## Pictures with nobody in them\n\n" + controls.control_table(rows))
    names = [name for name in arguments.attributes if any(row.attribute == name for row in collected.rows)]
    parts += [f"## {name}, by clip, in percent\n\n" + tables.per_clip(collected.rows, name) for name in names]
    text = "\n".join(parts)
    out.mkdir(parents=True, exist_ok=True)
    (out / "tables.md").write_text(text)
    tables.write_csv(collected.rows, out / "rows.csv")
    collected.worst.write(out)
    if collected.sweep is not None:
        collected.sweep.write(out)
    groups = tables.grouped(collected.rows, lambda row: (row.attribute, row.mask))
    content = {
        "settings": measurement.chosen.as_json(),
        "frames": collected.frames,
        "summary": {" / ".join(key): tables.summary(rows) for key, rows in groups.items()},
        "left_out": {clip: dict(reasons) for clip, reasons in collected.reasons.items()},
        "left_out_by_hand": {f"{clip}: {measure}": count for (clip, measure), count in collected.by_hand.items()},
    }
    (out / "summary.json").write_text(json.dumps(without_nan(content), indent=2) + "\n")
    return text


def without_nan(value: Any) -> Any:
    """The same with null for NaN: JSON has none."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def windows_of(text: str) -> tuple[int, int]:
    """`4x12` -> (4, 12); `all` -> (0, 0)."""
    if text == "all":
        return 0, 0
    number, _, length = text.partition("x")
    if not (number.isdigit() and length.isdigit() and int(number) and int(length)):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 4x12, nor `all`")
    return int(number), int(length)


def parsed(values: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", nargs="+", type=Path, required=True, help="videos, folders of them or of pictures")
    parser.add_argument("--out", type=Path, required=True, help="folder for tables and sheets, outside the repository")
    parser.add_argument("--attributes", nargs="+", default=list(NAMES), choices=NAMES, metavar="NAME")
    parser.add_argument("--windows", type=windows_of, default=(0, 0), help="NxM: N runs of M frames per clip; or all")
    parser.add_argument("--preset", default="strict")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="FIELD=VALUE", help="settings, as threshold=0.5,hair=0.4"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--engine", default="auto", help="what runs the backbone, as of `hide`")
    parser.add_argument("--masks", type=Path, help="measure DIR/CLIP/NAME/%%06d.png instead of running the pipeline")
    parser.add_argument("--points", type=Path, default=HERE / "points.toml")
    parser.add_argument("--exclude", type=Path, default=HERE / "coverage.toml")
    parser.add_argument("--goals", type=Path, default=HERE / "goals.toml")
    parser.add_argument("--controls", action="store_true", help="also pan over pictures with nobody in them")
    parser.add_argument("--sweep", action="store_true", help="also recall against excess over a factor on thresholds")
    parser.add_argument("--environments", type=Path, default=default_folder(), metavar="DIR")
    parser.add_argument("--cache", type=Path, default=default_folder() / "findings", metavar="DIR")
    arguments = parser.parse_args(values)
    if arguments.masks and (arguments.sweep or arguments.controls):
        parser.error("--sweep and --controls run the pipeline: they cannot be used with --masks")
    return arguments


def main() -> None:
    """Measure all clips, write the report, print its tables."""
    arguments = parsed()
    try:
        goals = tables.read_goals(arguments.goals)
        measurement = Measurement(arguments)
        clips = clips_of(arguments.clips)
        try:
            for clip in clips:
                measurement.run(clip)
        except KeyboardInterrupt:
            measurement.forget_unfinished()
            print(f"interrupted: {len(measurement.collected.frames)} of {len(clips)} clips", file=sys.stderr)
        print(report(measurement, goals, arguments.out))
    except (AnonymotionError, InstrumentError, MarksError, FileNotFoundError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
