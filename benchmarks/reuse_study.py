"""What looking less changes: `python benchmarks/reuse_study.py --clips FILE... [--noise 2 4 8] [--second-looks]`.

Looks at frames of each clip, so many frames apart as key frames are, once with all patches and once with each amount of
noise that a patch may change by.  Prints a Markdown table: the share of patches that went through the network, and for
each attribute the share of its mask that is still found (over all frames, and in the worst one), and what is found
besides.  Masks of single frames, before anything is joined over time: two whole looks at neighbouring frames differ by
more than that.  With `--second-looks` it prints how many squares are enlarged if islands that are hardly heads and are
hidden anyway are looked at again too, and if not; and what that takes from the mask of all attributes together, and
adds.

Not here: coverage of what must be hidden (coverage.py), time (speed.py).
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path
from unittest import mock

import torch
from speed import FOUR, patches_spared
from torch import Tensor

from anonymotion import closeup, squares, video
from anonymotion.pipeline import Hider
from anonymotion.reuse import Reuse

# Of a mask with fewer pixels a share says nothing.
LEAST_PIXELS = 50


def main() -> None:
    """Look, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", nargs="+", type=Path, required=True)
    parser.add_argument("--attributes", default=FOUR)
    parser.add_argument("--noise", nargs="+", type=float, default=[2.0, 4.0, 8.0])
    parser.add_argument("--looks", type=int, default=12)
    parser.add_argument("--step", type=int, default=4, help="frames from look to look")
    parser.add_argument("--second-looks", action="store_true", help="compare these, not --noise")
    arguments = parser.parse_args()
    hider = Hider(arguments.attributes, device="cpu", seed=0)
    names = "all, squares | squares | lost % | in the worst frame | besides %"
    if not arguments.second_looks:
        names = f"noise | patches % | {' | '.join(hider.attributes)}"
    print(f"| clip | {names} |")
    print("|---" * (2 + names.count("|")) + "|")
    for clip in arguments.clips:
        with video.open_source(clip, allow_truncated=True) as source:
            images = islice(source, 0, arguments.looks * arguments.step, arguments.step)
            frames = [torch.from_numpy(frame.image.copy()) for frame in images]
        if arguments.second_looks:
            print(f"| {clip.stem} | {second_looks(hider, frames)} |", flush=True)
            continue
        whole, _ = looked(hider, frames, 0.0)
        for noise in arguments.noise:
            found, computed = looked(hider, frames, noise)
            cells = [compared(found[:, number], whole[:, number]) for number in range(len(hider.attributes))]
            print(f"| {clip.stem} | {noise:g} | {100 * computed:.0f} | {' | '.join(cells)} |", flush=True)


def looked(hider: Hider, frames: list[Tensor], noise: float) -> tuple[Tensor, float]:
    """Masks of every attribute, (T, A, H, W) bool, frame by frame; and the share of patches that were computed."""
    reuse, limits = Reuse(noise), hider.matcher.thresholds[:, None, None]
    with patches_spared() as spared:
        masks = torch.cat([hider.matcher.find(frame[None], reuse).saliency >= limits for frame in frames])
    return masks, 1 - sum(spared) / len(frames)


def second_looks(hider: Hider, frames: list[Tensor]) -> str:
    """Squares and masks with all second looks, and with those that are taken."""
    counts, masks = [], []
    for limit in (float("inf"), closeup.HIDDEN_ANYWAY):
        with (
            mock.patch.object(closeup, "HIDDEN_ANYWAY", limit),
            mock.patch.object(closeup, "enlarged", wraps=squares.enlarged) as enlarged,
        ):
            masks.append(torch.cat([hider.matcher.find(frame[None]).mask for frame in frames]))
            counts.append(enlarged.call_count)
    all_of_it, taken = masks
    pixels, lost = (mask.flatten(1).sum(dim=1).float() for mask in (all_of_it, all_of_it & ~taken))
    shares = lost.sum() / pixels.sum(), (lost / pixels.clamp(min=1)).max(), (taken & ~all_of_it).sum() / pixels.sum()
    return " | ".join((*map(str, counts), *(f"{100 * float(share):.1f}" for share in shares)))


def compared(found: Tensor, whole: Tensor) -> str:
    """Of two (T, H, W) masks: what is found of the second, in all frames and in the worst one; and what besides."""
    pixels, both = (mask.flatten(1).sum(dim=1).float() for mask in (whole, whole & found))
    if not (enough := pixels >= LEAST_PIXELS).any():
        return "-"
    besides = float(found.sum() - both.sum()) / float(pixels.sum())
    worst = float((both / pixels)[enough].min())
    return f"{100 * float(both.sum() / pixels.sum()):.1f} ({100 * worst:.0f}) +{100 * besides:.1f}"


if __name__ == "__main__":
    main()
