"""The published pipeline's work beside preset paper: `python benchmarks/reference_cost.py [--frames 2] [--repeat 1]`.

Both sides have the same random weights, at the published setting: ViT-S/8 at stride 4 and a short side of 224,
RAFT-large with 12 updates, four templates.  The reference does per frame what the published code does: for each
template a pass of the whole backbone, one frame at a time, last block included, attention as softmax of a matrix that
is kept; RAFT on each pair from scratch; the noise moved and blended.  Ours is `Hider` with preset paper.  The sides
take turns.

Printed: seconds per frame for matching and in all, their ratios (medians), the largest difference of the saliency, and
how many times as long matching with all templates takes as with one, in --turns turns.
Exit status 1 if that is more than --limit, 1/255: then the work was not the same.

Not here: the quality of anything (the weights are random), reading and writing files.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from floors import finished
from safetensors.torch import save_file
from torch import Tensor

from anonymotion.backbone import Backbone, samples_of
from anonymotion.backbone_torch import TorchEngine
from anonymotion.flow import source_positions
from anonymotion.flow.raft import RAFTFlow
from anonymotion.matcher import Matcher
from anonymotion.networks import create, whole
from anonymotion.patch_grid import PatchGrid
from anonymotion.pipeline import Hider
from anonymotion.presets import PUBLISHED_FLOW_ITERATIONS
from anonymotion.registry import backbone_entry
from anonymotion.saliency import upsample

NAME = "dino-vits8"


def random_backbone(device: torch.device, engine: str) -> Backbone:
    """ViT-S/8 with random weights, always the same ones, with attention sharp enough to depend on the picture."""
    torch.manual_seed(0)
    network: Any = create(backbone_entry(NAME))
    for block in network.blocks:
        torch.nn.init.normal_(block.attn.qkv.weight, std=0.08)
    backbone = Backbone(NAME, network, 8, "random", device)
    if engine == "torch-bf16":
        backbone.engine = TorchEngine(network, bfloat16=True)
    elif engine != "torch":
        from anonymotion.backbone_openvino import OpenVINOEngine

        backbone.engine = OpenVINOEngine(engine, network, "random", partial(samples_of, NAME, network))
    return backbone


def random_raft(folder: Path, name: str) -> Path:
    """A file of random weights for RAFT."""
    from torchvision.models import optical_flow

    torch.manual_seed(1)
    network = getattr(optical_flow, name.replace("-", "_"))(weights=None, progress=False)
    save_file(network.state_dict(), folder / "raft.safetensors")
    return folder / "raft.safetensors"


@torch.inference_mode()
def published_keys(backbone: Backbone, image: Tensor, grid: PatchGrid) -> Tensor:
    """(rows * columns, D) keys of the last block, from a pass through all of it."""
    network: Any = whole(backbone._network)
    tokens = backbone.stem.tokens(image[None], grid)
    keys = tokens
    for block in network.blocks:
        attention = block.attn
        size, heads = tokens.shape[1], attention.num_heads
        projected = attention.qkv(block.norm1(tokens))
        query, key, value = projected.reshape(1, size, 3, heads, -1).permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(dim=-1)
        tokens = tokens + attention.proj((weights @ value).transpose(1, 2).reshape(1, size, -1))
        tokens = tokens + block.mlp(block.norm2(tokens))
        keys = key.transpose(1, 2).reshape(size, -1)
    network.norm(tokens)
    return keys[1:]


class Reference:
    """The published pipeline's work on one frame after the other."""

    def __init__(self, backbone: Backbone, flow_weights: Path, hider: Hider, frames: Tensor) -> None:
        self._backbone = backbone
        self._raft: Any = RAFTFlow(hider.settings.flow, flow_weights, frames.device)._network
        (bank,) = hider.matcher.banks
        self._templates = bank.descriptors
        self._grid = PatchGrid.of((frames.shape[1], frames.shape[2]), backbone.patch_size, bank.spec)
        self._noise = torch.rand(frames.shape[1:], device=frames.device)

    def match(self, image: Tensor) -> Tensor:
        """(H, W) saliency."""
        planes = []
        for template in self._templates:
            keys = published_keys(self._backbone, image, self._grid)
            cosine = F.cosine_similarity(keys, template[None], dim=-1).clamp(min=0)
            planes.append(upsample(cosine.reshape(1, 1, self._grid.rows, self._grid.columns), self._grid)[0, 0])
        return torch.stack(planes).mean(dim=0)

    @torch.inference_mode()
    def flow(self, image: Tensor, previous: Tensor) -> Tensor:
        """(2, H, W): torchvision's own pass on a pair, from scratch."""
        height, width = image.shape[:2]
        right, bottom = (max(128, -(-length // 8) * 8) - length for length in (width, height))
        pair = torch.stack((image, previous)).permute(0, 3, 1, 2).float() / 127.5 - 1
        first, second = F.pad(pair, (0, right, 0, bottom), mode="replicate")[:, None]
        flow: Tensor = self._raft(first, second, num_flow_updates=PUBLISHED_FLOW_ITERATIONS)[-1][0]
        return flow[:, :height, :width]

    def blend(self, image: Tensor, previous: Tensor, saliency: Tensor) -> Tensor:
        """Flow, the noise moved along it, eq. 5."""
        height, width = image.shape[:2]
        x, y = source_positions(self.flow(image, previous)).round().long()
        noise = self._noise[y.clamp(0, height - 1), x.clamp(0, width - 1)]
        return torch.lerp(image.float() / 255, noise, saliency[..., None])


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Both sides in turn, `--repeat` times."""
    device = torch.device(arguments.device)
    width, height = (int(part) for part in arguments.size.split("x"))
    weights, backbone = random_raft(folder, arguments.flow), random_backbone(device, arguments.engine)
    settings = {"flow": arguments.flow, "short_side": arguments.short_side, "stride": arguments.stride}
    hider = Hider(
        arguments.attributes, "paper", device=arguments.device, network=backbone, flow_weights=weights, **settings
    )
    torch.manual_seed(2)
    small = torch.rand(arguments.frames + 1, 3, height // 16, width // 16)
    frames = (F.interpolate(small, size=(height, width), mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)
    frames = frames.permute(0, 2, 3, 1).contiguous().to(device)
    reference = Reference(backbone, weights, hider, frames)
    times: dict[str, list[float]] = {"match": [], "all": [], "reference match": [], "reference all": []}
    worst = 0.0
    for number in range(arguments.repeat):
        hider.stopwatch.seconds.clear()
        start = finished(device)
        chunks = list(hider.explain(frames))
        times["all"].append((finished(device) - start) / len(frames))
        times["match"].append(hider.stopwatch.seconds["match"] / len(frames))
        ours = torch.cat([chunk.alpha for chunk in chunks])
        matching = 0.0
        start = finished(device)
        # every frame but the first has a flow on both sides
        for index in range(1, len(frames)):
            before = finished(device)
            saliency = reference.match(frames[index])
            matching += finished(device) - before
            reference.blend(frames[index], frames[index - 1], saliency)
            if number == 0:
                worst = max(worst, float((saliency - ours[index]).abs().max()))
        times["reference all"].append((finished(device) - start) / (len(frames) - 1))
        times["reference match"].append(matching / (len(frames) - 1))
    alone = Hider(
        arguments.attributes.split(",")[0],
        "paper",
        device=arguments.device,
        network=backbone,
        flow_weights=weights,
        **settings,
    )
    seconds = {name: statistics.median(values) for name, values in times.items()}
    return {
        "size": arguments.size,
        "templates": len(reference._templates),
        "tokens": reference._grid.rows * reference._grid.columns,
        "flow": arguments.flow,
        "engine": arguments.engine,
        "device": hider.device.name,
        "seconds_per_frame": seconds,
        "times_matching": seconds["reference match"] / seconds["match"],
        "times_in_all": seconds["reference all"] / seconds["all"],
        "times_one_template": in_turns(hider.matcher, alone.matcher, frames[:1], arguments.turns),
        "largest_difference": worst,
    }


def in_turns(matcher: Matcher, other: Matcher, frames: Tensor, turns: int) -> float:
    """How many times as long the one takes for `frames` as the other, the median of `turns` pairs."""
    ratios = []
    for _ in range(turns):
        seconds = []
        for each in (matcher, other):
            start = finished(frames.device)
            each.find(frames)
            seconds.append(finished(frames.device) - start)
        ratios.append(seconds[0] / seconds[1])
    return statistics.median(ratios)


def main() -> None:
    """Print the figures; exit as above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=2, help="with a flow; one more is shown first")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--turns", type=int, default=5, help="of all templates and one")
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--short-side", type=int, default=224)
    parser.add_argument("--stride", type=int, default=4)
    parser.add_argument("--flow", default="raft-large", choices=("raft-small", "raft-large"))
    parser.add_argument("--attributes", default="hair,torso,arm,leg")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--engine", default="torch", help="what runs ours: torch, torch-bf16, openvino, ...")
    parser.add_argument("--limit", type=float, default=1 / 255, help="of the difference of the saliency")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        row = measure(arguments, Path(folder))
    for name, value in row["seconds_per_frame"].items():
        print(f"{name:16} {value:8.3f} s per frame")
    print(
        f"{row['templates']} templates, {row['tokens']} patches, {row['flow']}, {row['engine']} on {row['device']}: "
        f"matching {row['times_matching']:.2f} x, in all {row['times_in_all']:.2f} x; largest difference of the "
        f"saliency {255 * row['largest_difference']:.3f} / 255; {row['templates']} templates take "
        f"{row['times_one_template']:.2f} times as long as one"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(row, indent=2) + "\n")
    sys.exit(row["largest_difference"] > arguments.limit)


if __name__ == "__main__":
    main()
