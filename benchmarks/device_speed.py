"""The pipeline without files: `python benchmarks/device_speed.py [--device cuda] [--sizes SIZE ...] [--json FILE]`.

Frames are generated on the device and `Hider.explain` takes them there, so nothing is decoded or encoded and PyAV is
not needed.  Rows: preset strict with one attribute and with four, at each size and with each engine, and preset paper
at the published setting with random weights.  Each row has frames per second, stages overlapping as in `hide`; from a
second run, in which the device is waited for after each stage, milliseconds per frame of each; beside them the floor
(floors.py), and which share of the time it is.  `flow` of DIS is time of the CPU, which has no floor here.  In the JSON
also versions, precision, what the device does at most, and the peak of its memory.

Not here: files (speed.py), what the published pipeline would cost (reference_cost.py).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from floors import (
    backbone_operations,
    bytes_handed_on,
    device_limits,
    dtype_of,
    finished,
    floor_ms,
    flow_operations,
)
from reference_cost import random_backbone, random_raft

from anonymotion.backbone_openvino import installed_version
from anonymotion.pipeline import Hider
from anonymotion.results import Stopwatch


def moving_frames(count: int, size_hw: tuple[int, int], device: torch.device) -> torch.Tensor:
    """(T, H, W, 3) uint8: smooth random colours that move two pixels per frame."""
    height, width = size_hw
    torch.manual_seed(0)
    ground = torch.rand(1, 3, height // 16 + 2, (width + 2 * count) // 16 + 2)
    wide = F.interpolate(ground, size=(height, width + 2 * count), mode="bicubic").clamp(0, 1)[0].permute(1, 2, 0) * 255
    wide = wide.to(device, torch.uint8)
    return torch.stack([wide[:, 2 * i : 2 * i + width] for i in range(count)])


class Waiting(Stopwatch):
    """A stopwatch that waits for the device before and after each stage."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """See Stopwatch."""
        finished(self._device)
        with super().__call__(stage):
            yield
            finished(self._device)


def consumed(hider: Hider, frames: torch.Tensor, *, overlap: bool) -> float:
    """Seconds of a run over `frames`; nothing of it is kept."""
    start = finished(frames.device)
    for _ in hider.explain(frames, overlap=overlap):
        pass
    return finished(frames.device) - start


def measure(hider: Hider, frames: torch.Tensor, name: str, limits: dict[str, float]) -> dict[str, Any]:
    """One row; a chunk of frames is shown before the clock runs."""
    device, size_hw = frames.device, (frames.shape[1], frames.shape[2])
    consumed(hider, frames[: hider.room.frames(size_hw)], overlap=False)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = consumed(hider, frames, overlap=True)
    peak = torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else None
    hider.stopwatch = Waiting(device)
    consumed(hider, frames, overlap=False)
    stages = {stage: 1000 * value / len(frames) for stage, value in hider.stopwatch.seconds.items()}
    floor = floor_ms(hider, frames, limits)
    engine = hider.networks["backbone"]["engine"]
    return {
        "row": name,
        "size": f"{size_hw[1]}x{size_hw[0]}",
        "attributes": len(hider.attributes),
        "frames": len(frames),
        "frames_at_a_time": hider.room.frames(size_hw),
        "engine": engine,
        "dtype": dtype_of(engine),
        "flow": hider.networks["flow"],
        "frames_per_second": len(frames) / seconds,
        "frames_per_second_without_flow": 1000 / sum(ms for stage, ms in stages.items() if stage != "flow"),
        "ms_per_frame": stages,
        "floor_ms_per_frame": floor,
        "floor_share": len(frames) * sum(floor.values()) / 1000 / seconds,
        "backbone_gflop_per_frame": backbone_operations(hider, size_hw) / 1e9,
        "flow_gflop_per_frame": flow_operations(hider, frames) / 1e9,
        "mb_per_frame": bytes_handed_on(hider, size_hw) / 1e6,
        "peak_mb": peak,
        "estimated_mb": hider.room.needed(size_hw, hider.room.frames(size_hw)) / 1e6,
    }


def told(row: dict[str, Any]) -> str:
    """A row as a line."""
    stages = ", ".join(f"{stage} {ms:.2f}" for stage, ms in row["ms_per_frame"].items())
    floor = ", ".join(f"{what} {ms:.2f}" for what, ms in row["floor_ms_per_frame"].items())
    return (
        f"{row['row']} {row['size']} x{row['attributes']} {row['engine']} {row['flow']}: "
        f"{row['frames_per_second']:.1f} frames/s; ms: {stages}; floor: {floor} ({row['floor_share']:.1%})"
    )


def main() -> None:
    """Print the rows, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", nargs="+", default=["640x360", "1280x720", "1920x1080"])
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--attributes", nargs="+", default=["hair", "hair,torso,arm,leg"])
    parser.add_argument("--paper-size", default="320x240")
    parser.add_argument("--paper-frames", type=int, default=32)
    parser.add_argument("--paper-flow", default="raft-large", choices=("raft-small", "raft-large"))
    parser.add_argument("--short-side", type=int, default=224, help="of preset paper")
    parser.add_argument("--engines", nargs="+", default=["torch-bf16", "torch"])
    parser.add_argument("--strict-engines", nargs="+", help="other ones for preset strict")
    parser.add_argument("--matrix", type=int, default=8192, help="side of the matrices that measure the device")
    parser.add_argument("--copied", type=int, default=2**30, help="bytes that measure its memory")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    limits = device_limits(device, arguments.matrix, arguments.copied)
    print(", ".join(f"{name} {value:.1f}" for name, value in limits.items()), flush=True)
    rows: list[dict[str, Any]] = []

    def add(hider: Hider, size: str, frames: int, name: str) -> None:
        width, height = (int(part) for part in size.split("x"))
        rows.append(measure(hider, moving_frames(frames, (height, width), device), name, limits))
        print(told(rows[-1]), flush=True)

    for engine in arguments.strict_engines or arguments.engines:
        for attributes in arguments.attributes:
            hider = Hider(attributes, device=arguments.device, engine=engine)
            for size in arguments.sizes:
                add(hider, size, arguments.frames, "strict")
    with tempfile.TemporaryDirectory() as folder:
        weights = random_raft(Path(folder), arguments.paper_flow)
        for engine in arguments.engines:
            paper = Hider(
                "hair,torso,arm,leg",
                "paper",
                device=arguments.device,
                network=random_backbone(device, engine),
                flow=arguments.paper_flow,
                flow_weights=weights,
                short_side=arguments.short_side,
            )
            add(paper, arguments.paper_size, arguments.paper_frames, "paper")
    versions = {name: installed_version(name) for name in ("torch", "torchvision", "timm", "anonymotion")}
    document = {
        "device": paper.device.name,
        "versions": {**versions, "cuda": torch.version.cuda},
        "limits": limits,
        "rows": rows,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
