"""A data set in Weizmann's layout with the middle frames of every clip alone, for a machine without time for all.

    python benchmarks/middle_frames.py WEIZMANN SHORT [--frames 24] [--actions bend,jump,run]
    anonymotion data check weizmann SHORT

Frames are pictures, lossless.  What is measured on SHORT is measured on clips of that length, and says so.

Not here: what is measured on them (research).
"""

from __future__ import annotations

import argparse
import csv
import shutil
from fractions import Fraction
from pathlib import Path

from anonymotion import video
from anonymotion.research.motion import middle_frames
from anonymotion.video.pictures import FolderSink

RATE = Fraction(25)


def shorten(source: Path, target: Path, frames: int, actions: str | None = None) -> int:
    """Write the middle `frames` of every clip that `labels.csv` names; how many frames there are in all.

    actions: only these, with commas.
    """
    with (source / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if actions is None or row["action"] in actions.split(",")]
    total = 0
    for row in rows:
        images = middle_frames(source / row["file"], frames)
        folder = Path(row["file"]).with_suffix("")
        info = video.VideoInfo(images.shape[2], images.shape[1], RATE, 1 / RATE)
        (target / folder).parent.mkdir(parents=True, exist_ok=True)
        with FolderSink(target / folder, info, force=False) as sink:
            for number, image in enumerate(images):
                sink.write(image, video.Frame(number, image, number, info.time_base))
            sink.commit()
        row |= {"file": folder.as_posix(), "frames": str(len(images))}
        total += len(images)
    with (target / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    if (source / "README.md").is_file():
        shutil.copy(source / "README.md", target / "README.md")
    return total


def main() -> None:
    """As the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weizmann", type=Path)
    parser.add_argument("short", type=Path)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--actions", help="only these, with commas")
    given = parser.parse_args()
    total = shorten(given.weizmann, given.short, given.frames, given.actions)
    print(f"{given.short}: {total} frames")


if __name__ == "__main__":
    main()
