"""Frames per second and milliseconds per stage: `python benchmarks/speed.py [--frames N] [--sizes 640x360 ...]`.

Runs `hide_video` on a generated clip (a virtual camera over a public-domain portrait) at each size and preset and
prints one Markdown table: frames per second from file to file, milliseconds of processor time and of each stage per
frame, for each of `--attributes` and `--every`, how many frames were looked at, how many of their patches went through
the network, and peak memory.  `--lengths` adds rows with clips of so many frames, at the first size.  `--clip FILE`
takes frames of that video in the place of the portrait.
`--deface N` runs deface 1.5, in an environment of its own (instruments.py), and `anonymotion hide`, both as whole
processes, N times in turn on the same clip, and prints the medians and their ratio.  `--json` writes the figures.

Stages overlap, so theirs is the time of the clock that each was at work for, not what the run took.  Processor time is
that of all threads: it depends least on what else the machine does, and N cores can make at most 1000 N / ms frames per
second of it.  Each row is a process of its own, so that peak memory is that row's.  Compare ratios within one run:
machines differ, and so does one machine from hour to hour.

Not here: a graphics card without files (device_speed.py), the published pipeline (reference_cost.py).
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice, product
from pathlib import Path
from typing import Any
from unittest import mock

from instruments import INSTRUMENTS, default_folder, make_environment
from measuring.options import settings_from

FOUR = "face,hair,torso,hand"
NINE = "hair,forehead,eyes,cheek,lips,hand,arm,torso,leg"
STAGES = ("decode", "match", "flow", "mask", "noise", "composite", "encode", "verify")


def measure(clip: Path, preset: str, attributes: str, every: str, options: dict[str, Any]) -> dict[str, Any]:
    """One run in this process: frames per second and processor time after the first chunk, stages, peak memory."""
    from anonymotion.results import Progress
    from anonymotion.run import FileOptions, hide_video

    start = (0, time.perf_counter(), time.process_time())
    first: list[tuple[int, float, float]] = []

    def note(progress: Progress) -> None:
        # what is loaded and compiled for the first frames is not what a frame costs
        if not first and progress.done != progress.total:
            first.append((progress.done, time.perf_counter(), time.process_time()))

    with tempfile.TemporaryDirectory() as folder, patches_spared() as spared:
        files = FileOptions(allow_empty=True)
        result = hide_video(
            clip, Path(folder) / "hidden.mp4", attributes, preset, files=files, progress=note, every=every, **options
        )
    done, clock, processor = first[0] if first else start
    frames = result.frames - done
    seconds = time.perf_counter() - clock
    return {
        "preset": preset,
        "attributes": attributes,
        "every": every,
        "frames": result.frames,
        "searched": result.coverage["frames_searched"],
        "patches_computed": 1 - sum(spared) / max(1, result.coverage["frames_searched"]),
        "backbone": result.backbone["name"],
        "engine": result.backbone["engine"],
        "flow": result.flow,
        "device": result.device["name"],
        "ms_per_frame": {name: 1000 * result.seconds.get(name, 0.0) / result.frames for name in STAGES},
        "frames_per_second": frames / seconds,
        "processor_ms": 1000 * (time.process_time() - processor) / frames,
        "load_seconds": result.seconds["load"],
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


@contextmanager
def patches_spared() -> Iterator[list[float]]:
    """Of each look inside that is compared with a reference, the share of patches that is not computed again."""
    from anonymotion.reuse import Reference

    original, spared = Reference.to_compute, list[float]()

    def noted(self: Reference, tokens: Any, limit: float) -> Any:
        cells = original(self, tokens, limit)
        spared.append(0.0 if cells is None else 1 - len(cells) / len(self.matter))
        return cells

    with mock.patch.object(Reference, "to_compute", noted):
        yield spared


def make_clip(path: Path, size_wh: tuple[int, int], frames: int, source: Path | None) -> None:
    """A clip of the given size, from `source` or from the package's own sample."""
    import cv2
    import numpy as np

    from anonymotion import video
    from anonymotion.sample import make_sample

    if source is None:
        source = path.with_name("small.mp4")
        make_sample(source, frames=frames, force=True)
    with video.open_source(source) as pictures:
        info = video.VideoInfo(
            width=size_wh[0],
            height=size_wh[1],
            frame_rate=Fraction(25),
            time_base=pictures.info.time_base,
            pixel_format="yuv420p",
        )
        with video.open_sink(path, info, source=None, force=True) as sink:
            for frame in islice(pictures, frames):
                image = cv2.resize(frame.image, size_wh, interpolation=cv2.INTER_CUBIC).astype(np.uint8, copy=False)
                sink.write(image, frame)
            sink.commit()


def parsed() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--sizes", nargs="+", default=["640x360", "1280x720", "1920x1080"])
    parser.add_argument("--presets", nargs="+", default=["strict", "paper-debiased"])
    parser.add_argument("--attributes", nargs="+", default=["hair", FOUR, NINE])
    parser.add_argument("--every", nargs="+", default=["auto"], help="for preset strict: 1, 2, auto, ...")
    parser.add_argument("--flow", default="dis", choices=("dis", "dis-fast"))
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="FIELD=VALUE", help="in the place of the preset's: short_side=224"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--clip", type=Path, help="a video in the place of the portrait")
    parser.add_argument("--lengths", type=int, nargs="*", default=[], help="frames of further clips of the first size")
    parser.add_argument("--deface", type=int, default=0, metavar="N", help="compare with deface, N times in turn")
    parser.add_argument("--environments", type=Path, default=default_folder(), help="of instruments.py")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("--row", nargs=4, metavar=("CLIP", "PRESET", "ATTRIBUTES", "EVERY"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure every row in a process of its own; print the table."""
    arguments = parsed()
    if arguments.row:
        clip, preset, attributes, every = arguments.row
        options: dict[str, Any] = {"device": arguments.device, "engine": arguments.engine, "flow": arguments.flow}
        options.update(settings_from(arguments.set))
        print(json.dumps(measure(Path(clip), preset, attributes, every, options)))
        return

    rows: list[dict[str, Any]] = []
    stages = " | ".join(f"{stage} ms" for stage in STAGES)
    looks = "looks | patches % | frames/s | processor ms"
    print(f"| size | frames | preset | attributes | every | {looks} | {stages} | peak MB |")
    print("|---" * (len(STAGES) + 10) + "|")
    with tempfile.TemporaryDirectory() as folder:
        cases = [(size, arguments.frames) for size in arguments.sizes]
        cases += [(arguments.sizes[0], frames) for frames in arguments.lengths]
        for size, frames in cases:
            width, height = (int(part) for part in size.split("x"))
            clip = Path(folder) / f"{size}-{frames}.mp4"
            make_clip(clip, (width, height), frames, arguments.clip)
            for preset, attributes, every in product(arguments.presets, arguments.attributes, arguments.every):
                if preset == "strict" or every == arguments.every[0]:
                    rows.append({"size": size, **measured_apart(arguments, clip, preset, attributes, every)})
                    print_row(rows[-1])
        if rows:
            print(f"\n{rows[0]['backbone']} ({rows[0]['engine']}), {rows[0]['flow']}, on {rows[0]['device']}.")
        compared = []
        if arguments.deface:
            clip = Path(folder) / f"{arguments.sizes[0]}-{arguments.frames}.mp4"
            compared = beside_deface(arguments, clip)
            print_compared(arguments, compared)
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows, "deface": compared}, indent=2) + "\n")


def measured_apart(
    arguments: argparse.Namespace, clip: Path, preset: str, attributes: str, every: str
) -> dict[str, Any]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--device", arguments.device, "--engine", arguments.engine]
    command += ["--flow", arguments.flow, "--row", str(clip), preset, attributes, every]
    command += ["--set", *arguments.set]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    row: dict[str, Any] = json.loads(done.stdout)
    return row


def print_row(row: dict[str, Any]) -> None:
    """A line of the table."""
    named = (row[name] for name in ("size", "frames", "preset"))
    cells = [*named, len(row["attributes"].split(",")), row["every"], row["searched"]]
    cells += [f"{100 * row['patches_computed']:.0f}", f"{row['frames_per_second']:.2f}", f"{row['processor_ms']:.0f}"]
    cells += [f"{row['ms_per_frame'][stage]:.1f}" for stage in STAGES] + [f"{row['peak_mb']:.0f}"]
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def beside_deface(arguments: argparse.Namespace, clip: Path) -> list[dict[str, Any]]:
    """Deface and `anonymotion hide`, by `--every`, in turn: medians of frames/s and of seconds of processor time.

    Start-up is included; times: frames/s as a multiple of deface's in the same turn.
    """
    python = make_environment(INSTRUMENTS["deface"], arguments.environments)
    output = str(clip.with_name("output.mp4"))
    hide = [
        sys.executable,
        "-m",
        "anonymotion",
        "hide",
        "--attributes",
        FOUR,
        "--allow-empty",
        "--flow",
        arguments.flow,
    ]
    hide += [f"--{name.replace('_', '-')}={value}" for name, value in (pair.split("=", 1) for pair in arguments.set)]
    hide += ["--device", arguments.device, "--engine", arguments.engine, "--force", "-o", output, str(clip)]
    commands = {"deface": [str(python), "-c", "from deface.deface import main; main()", str(clip), "-o", output]}
    commands.update({f"anonymotion, every {every}": [*hide, "--every", every] for every in arguments.every})
    speeds: dict[str, list[float]] = {name: [] for name in commands}
    processor: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(arguments.deface):
        for name, command in commands.items():
            before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            speeds[name].append(arguments.frames / (time.perf_counter() - start))
            processor[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return [
        {
            "name": name,
            "frames_per_second": statistics.median(values),
            "processor_seconds": statistics.median(processor[name]),
            "times": statistics.median(one / other for one, other in zip(values, speeds["deface"], strict=True)),
        }
        for name, values in speeds.items()
    ]


def print_compared(arguments: argparse.Namespace, compared: list[dict[str, Any]]) -> None:
    """What `beside_deface` found, as lines."""
    print(
        f"\nwhole processes, {arguments.frames} frames of {arguments.sizes[0]}, medians of {arguments.deface} in turn:"
    )
    for row in compared:
        print(
            f"{row['name']:24} {row['frames_per_second']:6.2f} frames/s, {row['times']:5.2f} x deface, "
            f"{row['processor_seconds']:6.1f} s of processor time"
        )


if __name__ == "__main__":
    main()
