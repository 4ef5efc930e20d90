"""Frames per second and milliseconds per stage: `python benchmarks/speed.py [--frames N] [--sizes 640x360 ...]`.

Runs `hide_video` on a generated clip (a virtual camera over a public-domain portrait) at each size and preset and
prints one Markdown table: frames per second end to end, milliseconds per frame of each stage, the cost of four
attributes against one, and peak memory.  `--json` writes the figures as well.

Each row is a process of its own, so that peak memory is that row's.  Compare ratios within one run: machines differ,
and so does one machine from hour to hour.  First version: no other tools, no GPU table.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

STAGES = ("decode", "match", "flow", "mask", "noise", "composite", "encode")


def measure(clip: Path, preset: str, attributes: str, device: str) -> dict[str, Any]:
    """One run in this process: frames, seconds per stage, peak memory in MB (start-up and loading not counted)."""
    from anonymotion.run import FileOptions, hide_video

    with tempfile.TemporaryDirectory() as folder:
        result = hide_video(
            clip,
            Path(folder) / "hidden.mp4",
            attributes,
            preset,
            device=device,
            files=FileOptions(allow_empty=True),
        )
    stages = {name: 1000 * result.seconds.get(name, 0.0) / result.frames for name in STAGES}
    return {
        "preset": preset,
        "attributes": attributes,
        "frames": result.frames,
        "backbone": result.backbone["name"],
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
    parser.add_argument("--sizes", nargs="+", default=["640x360", "1280x720"])
    parser.add_argument("--presets", nargs="+", default=["strict", "paper-debiased"])
    parser.add_argument("--attributes", nargs="+", default=["hair", "hair,torso,arm,leg"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("--row", nargs=3, metavar=("CLIP", "PRESET", "ATTRIBUTES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        clip, preset, attributes = arguments.row
        print(json.dumps(measure(Path(clip), preset, attributes, arguments.device)))
        return

    rows = []
    print(f"| size | preset | attributes | frames/s | {' | '.join(f'{s} ms' for s in STAGES)} | peak MB |")
    print("|---" * (len(STAGES) + 5) + "|")
    with tempfile.TemporaryDirectory() as folder:
        for size in arguments.sizes:
            width, height = (int(part) for part in size.split("x"))
            clip = Path(folder) / f"{size}.mp4"
            make_clip(clip, (width, height), arguments.frames)
            for preset in arguments.presets:
                for attributes in arguments.attributes:
                    command = [sys.executable, __file__, "--device", arguments.device, "--row"]
                    done = subprocess.run(
                        [*command, str(clip), preset, attributes], check=True, capture_output=True, text=True
                    )
                    row = {"size": size, **json.loads(done.stdout)}
                    rows.append(row)
                    stages = " | ".join(f"{row['ms_per_frame'][stage]:.1f}" for stage in STAGES)
                    count = len(attributes.split(","))
                    print(
                        f"| {size} | {preset} | {count} | {row['frames_per_second']:.2f} | {stages} "
                        f"| {row['peak_mb']:.0f} |",
                        flush=True,
                    )
    print(f"\n{rows[0]['backbone']}, {rows[0]['flow']}, on {rows[0]['device']}; {arguments.frames} frames per row.")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
