"""A table of the registry's backbones: `python benchmarks/backbones.py [--repeat 5] [--json FILE]`.

Random weights: time, size and the agreement of keys with an independent implementation (transformers) do not depend on
training.  One image of 240x320 pixels is brought to 224x296 (224x294 for patches of 14), patches side by side; for
ViT-S/8 also at the published stride of 4.  `ms`: median over `--repeat` calls for keys of the last block, batch
of 1.  Needs transformers (extra `dev`).

Not here: how well a backbone matches anything: without trained weights there is nothing to see.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from backbone_reference import lively, native_side, reference_keys

from anonymotion.backbone import Backbone
from anonymotion.device import choose_device
from anonymotion.networks import create
from anonymotion.registry import BACKBONES, FeatureSpec


def parity_error(name: str, network: Any) -> float:
    """Largest difference of a key from transformers', at the native grid."""
    entry = BACKBONES[name]
    side = native_side(entry, network)
    image = torch.randint(0, 256, (1, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    spec = FeatureSpec(name, entry.depth - 1, "key", entry.patch_size, side)
    own = Backbone(name, network, entry.patch_size, "random", torch.device("cpu")).extract(image, [spec])[spec]
    return float((own.descriptors.flatten(1, 2) - reference_keys(name, network, image)).abs().max())


def milliseconds(name: str, network: Any, stride: int, device: torch.device, repeat: int) -> tuple[int, float]:
    """Tokens of a 240x320 image at a short side of 224, and the median time of their keys."""
    entry = BACKBONES[name]
    spec = FeatureSpec(name, entry.depth - 1, "key", stride, 224)
    backbone = Backbone(name, network, entry.patch_size, "random", device)
    image = torch.randint(0, 256, (1, 240, 320, 3), dtype=torch.uint8)
    times = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        features = backbone.extract(image, [spec])[spec]
        float(features.descriptors.sum())  # waits for the device
        times.append((time.perf_counter() - start) * 1000)
    return features.grid.rows * features.grid.columns, statistics.median(times[1:])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    print(f"device: {device.name}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print("| backbone | parameters, M | width | stride | tokens | ms per frame | keys against transformers | licence |")
    print("|---|---|---|---|---|---|---|---|")
    rows = []
    for name, entry in BACKBONES.items():
        network: Any = lively(create(entry))
        size = sum(parameter.numel() for parameter in network.parameters()) / 1e6
        error = parity_error(name, network)
        for stride in (entry.patch_size, 4) if name == "dino-vits8" else (entry.patch_size,):
            tokens, time_ms = milliseconds(name, network, stride, device.device, arguments.repeat)
            rows.append(
                {"backbone": name, "stride": stride, "tokens": tokens, "ms": round(time_ms, 1), "parity": error}
            )
            print(
                f"| {name} | {size:.1f} | {network.embed_dim} | {stride} | {tokens} | {time_ms:.0f} | {error:.1e} "
                f"| {entry.licence} |",
                flush=True,
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
