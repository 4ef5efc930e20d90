"""Processor time of everything but matching: `python benchmarks/stages.py --clip FILE [--size 640x360] [--frames N]`.

Runs the stages of preset strict one after the other, chunk by chunk, with one thread, and prints milliseconds per frame
for each.  In the place of what the backbone finds there are planes of one disc per attribute, drawn on cells.  Stages
take turns as in a run, so that none finds all it needs in a cache; the first chunk does not count.

Not here: matching (engines.py), whole runs (speed.py), a graphics card (device_speed.py).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import torch
from speed import make_clip

from anonymotion import masks, video
from anonymotion.chunks import HiddenChunk, hidden_shares
from anonymotion.compositor import composite
from anonymotion.continuity import Continuity, Found, dilate_with_motion
from anonymotion.flow import flow_to_previous, load_flow
from anonymotion.memory import CHUNK_PIXELS, MAX_CHUNK_FRAMES
from anonymotion.noise import make_noise
from anonymotion.patch_grid import PatchGrid
from anonymotion.presets import Settings
from anonymotion.saliency import upsample

ATTRIBUTES = ("forehead", "eyes", "cheek", "lips", "hair", "torso", "hand")
CPU = torch.device("cpu")


class Clock:
    """Seconds of processor time per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add what is spent inside to `stage`."""
        start = time.process_time()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.process_time() - start


def discs(grid: PatchGrid) -> torch.Tensor:
    """(A, rows, columns) float32: a disc for each attribute, 1 in its middle and 0 a third of the short side away."""
    rows, columns = torch.arange(grid.rows)[:, None], torch.arange(grid.columns)
    radius = min(grid.rows, grid.columns) / 3
    planes = []
    for number in range(len(ATTRIBUTES)):
        x, y = grid.columns * (0.3 + 0.06 * number), grid.rows * (0.3 + 0.06 * number)
        planes.append((1 - torch.hypot(rows - y, columns - x) / radius).clamp(min=0))
    return torch.stack(planes)


class Stages:
    """The stages of a run over frames of (H, W), with what they carry along."""

    def __init__(self, size_hw: tuple[int, int], clock: Clock, settings: Settings) -> None:
        self.clock, self.settings = clock, settings
        spec = settings.spec_of("face")
        self.grid = PatchGrid.of(size_hw, spec.stride, spec)
        self.planes = discs(self.grid)
        self.thresholds = torch.tensor([settings.threshold[name] for name in ATTRIBUTES])
        self.estimator = load_flow(settings.flow, CPU)
        self.continuity = Continuity(settings.look_ahead)
        self.noise = make_noise(
            settings.noise,
            size_hw,
            mean=settings.noise_mean,
            std=settings.noise_std,
            device=CPU,
            grain=settings.grain_px(size_hw),
        )
        self.previous: torch.Tensor | None = None

    def chunk(self, frames: torch.Tensor) -> list[HiddenChunk]:
        """Take (T, H, W, 3) uint8 frames; what is ready."""
        with self.clock("flow"):
            flow = flow_to_previous(self.estimator, frames, self.previous)
        with self.clock("saliency at full size"):
            saliency = upsample(self.planes.expand(len(frames), -1, -1, -1), self.grid).clamp_(0, 1)
        with self.clock("threshold"):
            mask = masks.threshold_union(saliency, self.thresholds)
        self.previous = frames[-1]
        searched = torch.ones(len(frames), dtype=torch.bool)
        with self.clock("masks over time"):
            ready = self.continuity.push(Found(frames, saliency, flow, mask, searched))
        return [self.hidden(found) for found in ready]

    def hidden(self, found: Found) -> HiddenChunk:
        """From the mask that is final to the hidden frames, and their shares."""
        short, settings = min(found.mask.shape[1:]), self.settings
        with self.clock("growth with motion"):
            mask = dilate_with_motion(found.mask, found.flow, settings.motion_dilation)
        with self.clock("dilation, rim"):
            mask = masks.dilate(mask, round(settings.dilation * short / 100))
            alpha = masks.soft_rim(mask, round(settings.feather * short / 100))
        with self.clock("noise"):
            noise = self.noise.chunk(found.flow)
        with self.clock("composite"):
            output = composite(found.frames, alpha, noise)
        chunk = HiddenChunk(found.frames, output, found.saliency, alpha, found.flow, noise, found.searched)
        with self.clock("shares"):
            hidden_shares(chunk, settings, ATTRIBUTES)
        return chunk


def measure(clip: Path, clock: Clock) -> int:
    """Hide the clip; how many frames count."""
    counted = first = 0
    with tempfile.TemporaryDirectory() as folder, video.open_source(clip) as source:
        stages = Stages((source.info.height, source.info.width), clock, Settings())
        with video.open_sink(Path(folder) / "hidden.mp4", source.info, source=None) as sink:
            writer = video.HiddenWriter(sink, source.info, must_differ=True)
            waiting: deque[video.Frame] = deque()
            frames = iter(source)
            size = max(1, min(MAX_CHUNK_FRAMES, CHUNK_PIXELS // (source.info.height * source.info.width)))
            while True:
                with clock("decode"):
                    batch = [frame for _, frame in zip(range(size), frames, strict=False)]
                if not batch:
                    break
                waiting.extend(batch)
                chunks = stages.chunk(torch.stack([torch.from_numpy(frame.image) for frame in batch]))
                with clock("encode"):
                    for chunk in chunks:
                        for image, mask in zip(chunk.output.numpy(), chunk.alpha.numpy(), strict=True):
                            writer.write(image, waiting.popleft(), mask)
                del chunks
                if not counted:
                    clock.seconds.clear()
                    first = len(batch)
                counted += len(batch)
            for found in stages.continuity.flush():
                chunk = stages.hidden(found)
                for image, mask in zip(chunk.output.numpy(), chunk.alpha.numpy(), strict=True):
                    writer.write(image, waiting.popleft(), mask)
            with clock("decode again and compare"):
                writer.verify()
    return max(1, counted - first)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, help="a video in the place of the package's portrait")
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--frames", type=int, default=64)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    width, height = (int(part) for part in arguments.size.split("x"))
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        make_clip(clip, (width, height), arguments.frames, arguments.clip)
        frames = measure(clip, clock)
    print("| stage | processor ms per frame |\n|---|---|")
    for stage, seconds in clock.seconds.items():
        print(f"| {stage} | {1000 * seconds / frames:.1f} |")
    print(f"| all | {1000 * sum(clock.seconds.values()) / frames:.1f} |")


if __name__ == "__main__":
    main()
