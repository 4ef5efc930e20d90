"""What reading and writing alone costs: `python benchmarks/round_trip.py CLIP...`.

Each clip is decoded, written to mp4 at the default quality with nothing hidden, and decoded again.  Prints, per clip,
the mean and the worst frame's PSNR in RGB (dB), the largest difference of a time stamp (ms), and the size of the
result relative to the source.  It does not measure what is inside a mask.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from anonymotion import video


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    """Peak signal to noise ratio of two uint8 pictures, in dB."""
    error = float(np.mean((first.astype(np.float32) - second.astype(np.float32)) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def main() -> None:
    """Measure every clip; print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    for clip in parser.parse_args().clips:
        with tempfile.TemporaryDirectory() as folder:
            written = Path(folder) / "written.mp4"
            with (
                video.open_source(clip) as source,
                video.open_sink(written, source.info, source=clip, audio="drop") as sink,
            ):
                for frame in source:
                    sink.write(frame.image, frame)
                sink.commit()
            ratios, delays = [], []
            with video.open_source(clip) as before, video.open_source(written) as after:
                for one, other in zip(before, after, strict=True):
                    ratios.append(psnr(one.image, other.image))
                    delays.append(abs(one.time_seconds - other.time_seconds))
            quality = f"PSNR mean {np.mean(ratios):5.1f}  worst {min(ratios):5.1f} dB"
            size = f"size x{size_of(written) / size_of(clip):.2f}"
            name = f"{clip.stem[:40]:40} {len(ratios):4} frames"
            print(f"{name}  {quality}  time {1000 * max(delays):.2f} ms  {size}", flush=True)


if __name__ == "__main__":
    main()
