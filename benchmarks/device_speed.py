"""The pipeline without files: `python benchmarks/device_speed.py [--device cuda] [--sizes SIZE ...] [--json FILE]`.

Frames are generated on the device and `Hider.explain` takes them there, so nothing is decoded or encoded and PyAV is
not needed.  Rows: preset strict with one attribute and with four at each size, and preset paper at the published
setting with random weights.  Printed: frames per second, milliseconds per frame of each stage, and for the backbone
how many operations per second that was (multiplications and additions of its matrix products, counted); in the JSON
also the peak memory of the device.

Not here: files (speed.py), what the published pipeline would cost (reference_cost.py).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from reference_cost import finished, random_backbone, random_raft

from anonymotion.backbone import PatchGrid
from anonymotion.pipeline import Hider


def moving_frames(count: int, size_hw: tuple[int, int], device: torch.device) -> torch.Tensor:
    """(T, H, W, 3) uint8: smooth random colours that move two pixels per frame."""
    height, width = size_hw
    torch.manual_seed(0)
    ground = torch.rand(1, 3, height // 16 + 2, (width + 2 * count) // 16 + 2)
    wide = F.interpolate(ground, size=(height, width + 2 * count), mode="bicubic").clamp(0, 1)[0].permute(1, 2, 0) * 255
    wide = wide.to(device, torch.uint8)
    return torch.stack([wide[:, 2 * i : 2 * i + width] for i in range(count)])


def operations(hider: Hider, size_hw: tuple[int, int]) -> float:
    """Multiplications and additions of one frame's pass over the blocks."""
    backbone: Any = hider.backbone
    specs = [bank.spec for bank in hider.matcher.banks]
    grid = PatchGrid.of(size_hw, backbone.patch_size, specs[0])
    width, tokens = backbone._network.embed_dim, grid.rows * grid.columns + backbone._network.num_prefix_tokens
    blocks = max(spec.layer for spec in specs)
    return float(blocks * (24 * tokens * width**2 + 4 * tokens**2 * width) + len(specs) * 2 * tokens * width**2)


def measure(hider: Hider, frames: torch.Tensor, name: str) -> dict[str, Any]:
    """One row; a few frames are shown before the clock runs."""
    device = frames.device
    for _ in hider.explain(frames[: min(8, len(frames))]):
        pass
    hider.stopwatch.seconds.clear()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = finished(device)
    for _ in hider.explain(frames):
        pass
    seconds = finished(device) - start
    match = hider.stopwatch.seconds["match"]
    size_hw = (frames.shape[1], frames.shape[2])
    return {
        "row": name,
        "size": f"{size_hw[1]}x{size_hw[0]}",
        "attributes": len(hider.attributes),
        "frames": len(frames),
        "frames_per_second": len(frames) / seconds,
        "ms_per_frame": {stage: 1000 * value / len(frames) for stage, value in hider.stopwatch.seconds.items()},
        "peak_mb": torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else None,
        "backbone_gflop_per_frame": operations(hider, size_hw) / 1e9,
        "backbone_tflops": operations(hider, size_hw) * len(frames) / match / 1e12,
        "engine": hider.networks["backbone"]["engine"],
        "flow": hider.networks["flow"],
    }


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
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    rows = []

    def add(hider: Hider, size: str, frames: int, name: str) -> None:
        width, height = (int(part) for part in size.split("x"))
        rows.append(measure(hider, moving_frames(frames, (height, width), device), name))
        stages = ", ".join(f"{stage} {ms:.2f}" for stage, ms in rows[-1]["ms_per_frame"].items())
        print(
            f"{name} {size} x{rows[-1]['attributes']}: {rows[-1]['frames_per_second']:.1f} frames/s; ms: {stages}; "
            f"{rows[-1]['backbone_tflops']:.2f} TFLOP/s",
            flush=True,
        )

    for attributes in arguments.attributes:
        hider = Hider(attributes, device=arguments.device)
        for size in arguments.sizes:
            add(hider, size, arguments.frames, "strict")
    with tempfile.TemporaryDirectory() as folder:
        paper = Hider(
            "hair,torso,arm,leg",
            "paper",
            device=arguments.device,
            network=random_backbone(device, "torch"),
            flow=arguments.paper_flow,
            flow_weights=random_raft(Path(folder), arguments.paper_flow),
            short_side=arguments.short_side,
        )
        add(paper, arguments.paper_size, arguments.paper_frames, "paper")
    document = {"device": paper.device.name, "torch": torch.__version__, "rows": rows}
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
