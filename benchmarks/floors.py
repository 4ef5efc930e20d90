"""What a run cannot be faster than on a device: operations and bytes, counted, over what the device does, measured.

Peak operations per second are those of a large matrix product, in the precision of the work; bandwidth is that of a
copy.  Operations are the multiplications and additions of matrix products and convolutions.  Bytes are those of each
plane that one stage hands to the next: written once, read once.

Not here: what is measured beside it (device_speed.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from anonymotion.flow.raft import RAFTFlow
from anonymotion.patch_grid import PatchGrid
from anonymotion.pipeline import Hider


def dtype_of(engine: str) -> str:
    """What an engine multiplies in."""
    return "bfloat16" if engine.endswith("bf16") else "float32"


def finished(device: torch.device) -> float:
    """The time once the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def least_seconds(work: Callable[[], Any], device: torch.device, repeat: int = 5) -> float:
    """Seconds of `work`, the least of some tries, after one that does not count."""
    work()
    seconds = []
    for _ in range(repeat):
        start = finished(device)
        work()
        seconds.append(finished(device) - start)
    return min(seconds)


def device_limits(device: torch.device, side: int, copied: int) -> dict[str, float]:
    """Operations per second by dtype, of products of square matrices of `side`; bytes per second of a copy."""
    limits = {}
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.randn(side, side, device=device).to(dtype)
        seconds = least_seconds(lambda matrix=matrix: matrix @ matrix, device)  # type: ignore[misc]
        limits[f"{str(dtype).removeprefix('torch.')}_tflops"] = 2 * side**3 / seconds / 1e12
    # convolutions of float32 are rounded so on a graphics card, unless they are told not to
    torch.set_float32_matmul_precision("high")
    matrix = torch.randn(side, side, device=device)
    limits["tf32_tflops"] = 2 * side**3 / least_seconds(lambda: matrix @ matrix, device) / 1e12
    torch.set_float32_matmul_precision("highest")
    plane = torch.zeros(copied, dtype=torch.uint8, device=device)
    other = torch.empty_like(plane)
    limits["copy_gb_per_second"] = 2 * copied / least_seconds(lambda: other.copy_(plane), device) / 1e9
    return limits


def backbone_operations(hider: Hider, size_hw: tuple[int, int]) -> float:
    """Of one frame's pass over the blocks; not of second looks at heads, which not every frame has."""
    backbone: Any = hider.backbone
    specs = [bank.spec for bank in hider.matcher.banks]
    grid = PatchGrid.of(size_hw, backbone.patch_size, specs[0])
    width, tokens = backbone.stem.width, grid.rows * grid.columns + backbone.stem.prefix_tokens
    blocks = max(spec.layer for spec in specs)
    return float(blocks * (24 * tokens * width**2 + 4 * tokens**2 * width) + len(specs) * 2 * tokens * width**2)


def flow_operations(hider: Hider, frames: torch.Tensor) -> float:
    """Of RAFT for one frame more: its features once, one pair; 0 for DIS, which runs on the CPU."""
    flow: Any = hider.flow
    if not isinstance(flow, RAFTFlow):
        return 0.0
    counts = []
    for length in (2, 3):
        flow._last = []
        with FlopCounterMode(display=False) as counter:
            flow.over(frames[:length])
        counts.append(counter.get_total_flops())
    return float(counts[1] - counts[0])


def bytes_handed_on(hider: Hider, size_hw: tuple[int, int]) -> int:
    """Of one frame: itself, flow, saliency, mask, alpha, noise, output, each written once and read once."""
    planes = 3 + 8 + 4 * len(hider.attributes) + 1 + 4 + 12 + 3
    return 2 * planes * size_hw[0] * size_hw[1]


def floor_ms(hider: Hider, frames: torch.Tensor, limits: dict[str, float]) -> dict[str, float]:
    """Milliseconds of one frame of `frames`, (T, H, W, 3) uint8 with T from 3, that no order of the stages can save."""
    size_hw = (frames.shape[1], frames.shape[2])
    dtype = dtype_of(hider.networks["backbone"]["engine"])
    return {
        "match": backbone_operations(hider, size_hw) / limits[f"{dtype}_tflops"] / 1e9,
        "flow": flow_operations(hider, frames) / limits["tf32_tflops"] / 1e9,
        "planes": bytes_handed_on(hider, size_hw) / limits["copy_gb_per_second"] / 1e6,
    }
