"""RAFT-small against DIS on real clips: `python benchmarks/flows.py --clips DIR --flow-weights FILE [--pairs N]`.

Takes N pairs of neighbouring frames, evenly spread over each clip in a folder (and the folders in it), estimates the
flow to the previous frame with each estimator, and prints one Markdown table:

    difference     mean length of the difference to RAFT-small's flow, in pixels, over all pixels of all pairs
    moving         the same over moving pixels: those where RAFT-small's flow is longer than 1 pixel
    inconsistent   percent of pixels whose round trip does not come back (flow.occlusion)
    ms             median processor time of one estimate, one thread: other work on the machine hardly changes it

There is no ground truth here: a difference says that two estimates differ, not which is right.  `--pictures DIR` writes
a picture per pair for looking at: the two frames and each flow in Middlebury's colours; it shows clean frames.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from anonymotion import overlays, video
from anonymotion.flow import FlowEstimator, load_flow, occlusion

REFERENCE = "raft-small"
OTHERS = ("dis", "dis-fast")
NAMES = (REFERENCE, *OTHERS)
MOVING_PX = 1.0
SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".gif")


@dataclass
class Sums:
    """What is added up over the pairs of a clip."""

    pixels: int = 0
    moving: int = 0
    difference: dict[str, float] = field(default_factory=lambda: dict.fromkeys(OTHERS, 0.0))
    difference_moving: dict[str, float] = field(default_factory=lambda: dict.fromkeys(OTHERS, 0.0))
    inconsistent: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES, 0))
    seconds: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in NAMES})


def pairs_of(clip: Path, count: int) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Up to `count` (number of the frame, previous, frame), at evenly spaced places of the clip."""
    with video.open_source(clip, allow_truncated=True) as source:
        frames = sum(1 for _ in source)
    wanted = {int(n) for n in np.linspace(1, frames - 1, min(count, frames - 1)).round()}
    pairs = []
    with video.open_source(clip, allow_truncated=True) as source:
        previous: np.ndarray | None = None
        for number, frame in enumerate(source):
            if number in wanted and previous is not None:
                pairs.append((number, previous, frame.image))
            previous = frame.image
    return pairs


def timed(estimator: FlowEstimator, current: torch.Tensor, previous: torch.Tensor, into: list[float]) -> torch.Tensor:
    """The flow, and its seconds of processor time noted in `into`."""
    start = time.process_time()
    flow = estimator.between(current, previous)
    into.append(time.process_time() - start)
    return flow


def add(sums: Sums, estimators: dict[str, FlowEstimator], current: torch.Tensor, previous: torch.Tensor) -> np.ndarray:
    """Add one pair to the sums; the flows, (names, 2, H, W)."""
    flows = {}
    for name, estimator in estimators.items():
        flows[name] = timed(estimator, current, previous, sums.seconds[name])
        backward = timed(estimator, previous, current, sums.seconds[name])
        sums.inconsistent[name] += int(occlusion(flows[name], backward).sum())
    moving = flows[REFERENCE].norm(dim=0) > MOVING_PX
    sums.pixels += moving.numel()
    sums.moving += int(moving.sum())
    for name in OTHERS:
        difference = (flows[name] - flows[REFERENCE]).norm(dim=0)
        sums.difference[name] += float(difference.sum())
        sums.difference_moving[name] += float(difference[moving].sum())
    return np.stack([flows[name].cpu().numpy() for name in NAMES])


def picture(previous: np.ndarray, current: np.ndarray, flows: np.ndarray, max_px: float) -> np.ndarray:
    """The two frames and each flow in colours of the same scale."""
    coloured = [overlays.flow_colours(flow, max_px) for flow in flows]
    names = ("previous", "frame", *(f"{name}, full colour {max_px:.1f} px" for name in NAMES))
    panels = [
        overlays.captioned(overlays.fit(panel, 360, 270), name)
        for name, panel in zip(names, (previous, current, *coloured), strict=True)
    ]
    return overlays.sheet(panels, columns=len(panels))


def row(name: str, size: str, sums: Sums) -> str:
    """One line of the table."""
    cells = [name, size, f"{100 * sums.moving / sums.pixels:.1f}"]
    for other in OTHERS:
        overall = sums.difference[other] / sums.pixels
        moving = f"{sums.difference_moving[other] / sums.moving:.2f}" if sums.moving else "-"
        cells.append(f"{overall:.2f} / {moving}")
    cells += [f"{100 * sums.inconsistent[one] / sums.pixels:.1f}" for one in NAMES]
    cells += [f"{1000 * float(np.median(sums.seconds[one])):.0f}" for one in NAMES]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure every clip; print a row for each as it is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--flow-weights", type=Path, help="of RAFT-small; without it they are downloaded")
    parser.add_argument("--pairs", type=int, default=8, help="pairs of frames per clip")
    parser.add_argument("--pictures", type=Path, help="folder for a picture of each pair")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    cpu = torch.device("cpu")
    estimators = {name: load_flow(name, cpu, arguments.flow_weights) for name in NAMES}
    if arguments.pictures:
        arguments.pictures.mkdir(parents=True, exist_ok=True, mode=0o700)

    heads = ["clip", "size", "moving %", *(f"{name} to {REFERENCE}, px: all / moving" for name in OTHERS)]
    heads += [*(f"{name} inconsistent %" for name in NAMES), *(f"{name} ms" for name in NAMES)]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|", flush=True)
    clips = sorted(path for path in arguments.clips.rglob("*") if path.suffix.lower() in SUFFIXES)
    for clip in clips:
        sums, size = Sums(), ""
        for number, previous, current in pairs_of(clip, arguments.pairs):
            size = f"{current.shape[1]}x{current.shape[0]}"
            flows = add(sums, estimators, torch.from_numpy(current), torch.from_numpy(previous))
            if arguments.pictures:
                max_px = max(2.0, float(np.quantile(np.hypot(flows[0, 0], flows[0, 1]), 0.99)))
                path = arguments.pictures / f"{clip.stem}_{number:05d}.png"
                Image.fromarray(picture(previous, current, flows, max_px)).save(path)
        print(row(clip.stem, size, sums), flush=True)


if __name__ == "__main__":
    main()
