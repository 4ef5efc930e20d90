"""What noise costs an encoder, and what is left of it: `python benchmarks/noise_bits.py --clips CLIP...`.

The first frames of each clip are masked once, in their own size, and hidden with grains of several sizes; the bytes at
the default quality are compared with those of the frames as they were, encoded alike.  `kept` is the correlation of
the noise inside the mask before and after the encoder.

Not here: what noise hides (attacks.py).
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from anonymotion import video
from anonymotion.attacks.files import MaskFolder
from anonymotion.compositor import composite
from anonymotion.flow import flow_to_previous, load_flow
from anonymotion.noise import make_noise
from anonymotion.pipeline import Hider
from anonymotion.presets import settings_for


def encoded(images: list[np.ndarray], frames: list[video.Frame], info: video.VideoInfo) -> tuple[int, np.ndarray]:
    """Bytes of the default encoder, and what it leaves, (T, H, W, 3)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bits.mp4"
        with video.open_sink(path, replace(info, audio=()), source=None) as sink:
            for image, frame in zip(images, frames, strict=True):
                sink.write(image, frame)
            sink.commit()
        with video.open_source(path) as source:
            return path.stat().st_size, np.stack([frame.image for frame in source])


def weights_of(clip: Path, images: list[np.ndarray], masks: Path | None, attributes: str) -> torch.Tensor:
    """(T, H, W) float32 of preset strict, from what was exported if it was."""
    folder = None if masks is None else masks / (clip.parent.name if clip.is_dir() else clip.stem)
    if folder is not None and folder.is_dir():
        exported = MaskFolder(folder)
        return torch.from_numpy(np.stack([exported.plane(index) for index in range(len(images))]))
    return torch.cat([chunk.alpha for chunk in Hider(attributes, device="cpu").explain(images)])


def measure(clip: Path, count: int, grains: list[float], attributes: str, masks: Path | None) -> None:
    """Print a row per grain."""
    with video.open_source(clip) as source:
        info, frames = source.info, []
        for frame in source:
            frames.append(frame)
            if len(frames) == count:
                break
    images = [frame.image for frame in frames]
    clean = torch.from_numpy(np.stack(images))
    alpha = weights_of(clip, images, masks, attributes)
    flow = flow_to_previous(load_flow("dis", torch.device("cpu")), clean, None)
    as_it_was, _ = encoded(images, frames, info)
    inside = (alpha == 1).numpy()
    for percent in grains:
        settings = settings_for(noise_grain=percent)
        size_hw = (clean.shape[1], clean.shape[2])
        grain = settings.grain_px(size_hw)
        noise = make_noise(
            settings.noise,
            size_hw,
            mean=settings.noise_mean,
            std=settings.noise_std,
            device=torch.device("cpu"),
            grain=grain,
        )
        parts = [
            composite(clean[at : at + 4], alpha[at : at + 4], noise.chunk(flow[at : at + 4]))
            for at in range(0, len(clean), 4)
        ]
        hidden = torch.cat(parts).numpy()
        size, left = encoded(list(hidden), frames, info)
        kept = np.corrcoef(hidden[inside].ravel(), left[inside].ravel())[0, 1]
        name = clip.parent.name if clip.is_dir() else clip.stem
        print(
            f"| {name} | {size_hw[1]}x{size_hw[0]} | {inside.mean():.0%} | {percent:g} % = {grain} | "
            f"{size / as_it_was:.2f} | {kept:.2f} |",
            flush=True,
        )


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, nargs="+", required=True, metavar="CLIP")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--grains", type=float, nargs="+", default=[0, 1, 2, 4, 5], help="percent of the short side")
    parser.add_argument("--masks", type=Path, metavar="DIR", help="DIR/CLIP as hide --export-masks wrote it, if there")
    parser.add_argument("--attributes", default="face,hair")
    arguments = parser.parse_args()
    print("| clip | size | hidden | grain, pixels | bits | kept |\n|---|---|---|---|---|---|", flush=True)
    for clip in arguments.clips:
        measure(clip, arguments.frames, arguments.grains, arguments.attributes, arguments.masks)


if __name__ == "__main__":
    main()
