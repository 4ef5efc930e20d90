"""Engines of the backbone against torch: `python benchmarks/engines.py [CLIP...] [--engines ...] [--json FILE]`.

For each clip (default: the real ones beside the checkout) some frames, evenly spaced, are matched by every engine in
turn with preset strict.  Printed per clip and engine: the mean and least cosine of descriptors with torch's, raw and
de-biased; the IoU with torch's masks over all frames, as they are matched and as they are hidden (dilated; without
continuity and motion); the share of what torch hides that is hidden too; and the median time per frame.  The engines
take turns frame by frame, so a busy machine slows all.

Exit status 1 if `auto` is an engine whose mean cosine is under 0.999 or whose IoU of what is hidden falls under 0.99.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from anonymotion import masks, video
from anonymotion.pipeline import Hider
from anonymotion.registry import ENGINES
from anonymotion.saliency import upsample

SHARED = Path(__file__).resolve().parents[2] / "shared" / "clips"
SUFFIXES = (".mp4", ".gif", ".avi", ".webm")
LEAST_COSINE, LEAST_IOU = 0.999, 0.99


def some_frames(clip: Path, count: int) -> list[np.ndarray]:
    """Up to `count` evenly spaced frames."""
    with video.open_source(clip, allow_truncated=True) as source:
        images = [frame.image for frame in source]
    return [images[i] for i in sorted({round(k * (len(images) - 1) / max(1, count - 1)) for k in range(count)})]


def matched(hider: Hider, frame: np.ndarray) -> tuple[list[torch.Tensor], torch.Tensor, float]:
    """Descriptors of each bank, the (2, H, W) masks as matched and as hidden, and the seconds that the former took."""
    image = torch.from_numpy(frame.copy())[None]
    start = time.perf_counter()
    assert hider.backbone is not None  # noqa: S101 - for type checkers
    found = hider.backbone.extract(image, hider.matcher.specs)
    seconds = time.perf_counter() - start
    features = [found[bank.spec] for bank in hider.matcher.banks]
    planes = upsample(hider.matcher.planes(found), features[0].grid)
    thresholds = torch.tensor([hider.settings.threshold[name] for name in hider.attributes])
    descriptors = [feature.descriptors.flatten(0, 2) for feature in features]
    mask = masks.threshold_union(planes, thresholds)
    radius = round(hider.settings.dilation * min(frame.shape[:2]) / 100)
    return descriptors, torch.cat([mask, masks.dilate(mask, radius)]), seconds


def compare(hiders: dict[str, Hider], frames: list[np.ndarray]) -> dict[str, dict[str, Any]]:
    """For every engine: cosines, IoU and milliseconds over `frames`."""
    cosines: dict[str, list[torch.Tensor]] = {name: [] for name in hiders}
    debiased: dict[str, list[torch.Tensor]] = {name: [] for name in hiders}
    overlaps: dict[str, list[torch.Tensor]] = {name: [] for name in hiders}
    times: dict[str, list[float]] = {name: [] for name in hiders}
    for number, frame in enumerate([frames[0], *frames]):
        expected, reference = [], torch.empty(0)
        for name, hider in hiders.items():
            found, mask, seconds = matched(hider, frame)
            if name == "torch":
                expected, reference = found, mask
            if number == 0:  # compiles
                continue
            for own, right, bank in zip(found, expected, hider.matcher.banks, strict=True):
                cosines[name].append(F.cosine_similarity(own, right, dim=-1))
                assert bank.mean is not None  # noqa: S101 - for mypy: every preset with these engines has one
                debiased[name].append(F.cosine_similarity(own - bank.mean, right - bank.mean, dim=-1))
            sums = [both.sum(dim=(1, 2)) for both in (mask & reference, mask | reference, reference)]
            overlaps[name].append(torch.stack(sums).float())
            times[name].append(seconds)
    total = {name: torch.stack(overlaps[name]).sum(dim=0).clamp(min=1) for name in hiders}
    return {
        name: {
            "cosine": float(torch.cat(cosines[name]).mean()),
            "least_cosine": float(torch.cat(cosines[name]).min()),
            "debiased_cosine": float(torch.cat(debiased[name]).mean()),
            "iou_matched": float(total[name][0, 0] / total[name][1, 0]),
            "iou_hidden": float(total[name][0, 1] / total[name][1, 1]),
            "hidden_too": float(total[name][0, 1] / total[name][2, 1]),
            "ms": 1000 * statistics.median(times[name]),
        }
        for name in hiders
    }


def main() -> None:
    """Print a table; exit as above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", type=Path)
    parser.add_argument("--engines", nargs="+", default=[name for name in ENGINES if name not in ("auto", "torch")])
    parser.add_argument("--attributes", default="face,hair,torso,hand")
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    clips = arguments.clips or sorted(path for path in SHARED.rglob("*") if path.suffix in SUFFIXES)
    hiders = {name: Hider(arguments.attributes, engine=name) for name in ["torch", *arguments.engines]}
    auto = Hider(arguments.attributes).networks["backbone"]["engine"]
    print(
        "| clip | frame | engine | cosine | least | de-biased | IoU matched | IoU hidden | hidden too "
        "| ms | times torch |"
    )
    print("|---" * 11 + "|")
    rows, failed = [], False
    for clip in clips:
        frames = some_frames(clip, arguments.frames)
        found = compare(hiders, frames)
        for name, row in found.items():
            size = f"{frames[0].shape[1]}x{frames[0].shape[0]}"
            rows.append({"clip": clip.name, "size": size, "engine": name, **row})
            failed |= name == auto and (row["cosine"] < LEAST_COSINE or row["iou_hidden"] < LEAST_IOU)
            print(
                f"| {clip.stem[:28]} | {size} | {name} | {row['cosine']:.5f} | {row['least_cosine']:.4f} "
                f"| {row['debiased_cosine']:.5f} | {row['iou_matched']:.4f} | {row['iou_hidden']:.4f} "
                f"| {row['hidden_too']:.4f} | {row['ms']:.0f} "
                f"| {found['torch']['ms'] / row['ms']:.2f} |",
                flush=True,
            )
    print(f"\nauto is {auto} here; {torch.get_num_threads()} threads")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
