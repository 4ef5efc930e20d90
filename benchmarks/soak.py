"""Flat memory over a long video: `python benchmarks/soak.py [--frames 20000]`.

Makes a clip of small generated frames and hides it with masks and a report beside it, in this process; every 1,000
frames it notes the resident memory and the number of open files, and prints them.  The network is the tests' tiny one
(tiny_hide.py): what is watched is everything around it.

Exit status 1 if memory after the first tenth grew by more than 10 %, or a file stayed open.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import tiny_hide
from synthetic import picture
from tiny import TINY_SETTINGS

from anonymotion import video
from anonymotion.results import Progress
from anonymotion.run import FileOptions, hide_video

SIZE_WH = (96, 64)


def make_long_clip(path: Path, frames: int) -> None:
    """`frames` small pictures at 25 per second."""
    info = video.VideoInfo(*SIZE_WH, frame_rate=Fraction(25), time_base=Fraction(1, 25), pixel_format="yuv420p")
    pictures = [picture(number, *SIZE_WH) for number in range(60)]
    with video.open_sink(path, info, source=None) as sink:
        for index in range(frames):
            image = pictures[index % 60]
            sink.write(image, video.Frame(index, image, index, info.time_base, 1))
        sink.commit()


def resident_mb() -> float:
    """Resident memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def main() -> None:
    """Make the clip, hide it, print a line per 1,000 frames."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=20_000)
    arguments = parser.parse_args()
    tiny_hide.prepare()
    samples: list[tuple[int, float, int]] = []

    def note(progress: Progress) -> None:
        if progress.done // 1000 > len(samples):
            samples.append((progress.done, resident_mb(), len(os.listdir("/proc/self/fd"))))
            print(f"{samples[-1][0]:6} frames  {samples[-1][1]:7.1f} MB  {samples[-1][2]} open files", flush=True)

    with tempfile.TemporaryDirectory() as scratch_name:
        scratch = Path(scratch_name)
        make_long_clip(scratch / "in.mp4", arguments.frames)
        open_before = len(os.listdir("/proc/self/fd"))
        start = time.monotonic()
        files = FileOptions(masks=scratch / "masks", report=scratch / "report.json")
        result = hide_video(
            scratch / "in.mp4",
            scratch / "hidden.mp4",
            "hair",
            files=files,
            progress=note,
            threshold=0.01,
            **TINY_SETTINGS,
        )
        seconds, end_mb = time.monotonic() - start, resident_mb()
        open_after = len(os.listdir("/proc/self/fd"))
        stages = ", ".join(f"{name} {1000 * value / result.frames:.2f}" for name, value in result.seconds.items())
    settled = samples[len(samples) // 10][1]
    most = max(mb for _, mb, _ in samples)
    print(f"{result.frames} frames in {seconds:.0f} s; ms per frame: {stages}")
    print(
        f"memory in MB: after a tenth {settled:.1f}, most {most:.1f} ({most / settled:.3f} x), at the end {end_mb:.1f}"
    )
    print(f"open files before {open_before}, after {open_after}")
    sys.exit(most > 1.1 * settled or open_after > open_before)


if __name__ == "__main__":
    main()
