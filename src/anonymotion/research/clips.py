"""From a clip on the disk to what a network is fed: frames, which of them, and how they are cut and normalised.

At test time everything is decided by the clip alone; in training one draw per clip decides for all of its frames.

Not here: which clips there are (datasets), what is hidden in them (obfuscate), networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from anonymotion import video
from anonymotion.errors import DatasetError
from anonymotion.research.datasets import Clip
from anonymotion.video.pictures import PICTURE_SUFFIXES, natural_key

# Where a folder has pictures of this name, only those are frames: SBU keeps depth maps beside them.
COLOUR_PREFIX = "rgb_"
PRIVACY_FRAMES = {"ipn": 32, "kth": 32, "sbu": 16}
SLOWFAST_RATIO = 4
# What PyTorchVideo's networks were trained with.
KINETICS_MEAN, KINETICS_STD = 0.45, 0.225


def frame_files(folder: Path) -> list[Path]:
    """The frames of a folder, in the order of their numbers.  Raises DatasetError if there are none."""
    files = [path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES and path.name[0] != "."]
    colour = [path for path in files if path.name.startswith(COLOUR_PREFIX)]
    if not files:
        raise DatasetError(f"{folder} holds no frames: expected pictures (*{', *'.join(PICTURE_SUFFIXES)})")
    return sorted(colour or files, key=lambda path: natural_key(path.name))


def frames_of(path: Path, first: int = 0, last: int | None = None) -> Iterator[np.ndarray]:
    """Frames `first` to `last` (one past, None: the end) of a video or a folder of pictures, (H, W, 3) uint8 RGB.

    Streams, and reads no further than needed.  Raises DatasetError if the path is not there, InputError if it cannot
    be read; fewer frames than asked for are not an error here.
    """
    if path.is_dir():
        for file in frame_files(path)[first:last]:
            image = _copied_picture(file) if file.stem.isdigit() and file.suffix == ".png" else None
            if image is not None:
                yield image
                continue
            with video.open_source(file) as picture:
                yield from (frame.image for frame in picture)
    elif path.exists():
        with video.open_source(path) as source:
            yield from (frame.image for frame in islice(source, first, last))
    else:
        raise DatasetError(f"{path} is not there: copy it again, or run `anonymotion data check` to see what else is")


def _copied_picture(file: Path) -> np.ndarray | None:
    """A plain PNG as copies have them, in a third of the time that a video's decoder takes for the same pixels.

    None for any other picture, or if it cannot be read: then the usual way says why.
    """
    import cv2

    image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        return None
    rgb: np.ndarray = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return rgb


def read_clip(clip: Clip, root: Path) -> np.ndarray:
    """All frames of a clip of the data set at `root`: (T, H, W, 3) uint8 RGB.

    Raises DatasetError if the video is missing or shorter than the clip's span, InputError if it cannot be read.
    """
    path = Path(root) / clip.path
    frames = list(frames_of(path, clip.first, clip.last))
    wanted = 1 if clip.last is None else clip.last - clip.first
    if len(frames) < wanted:
        raise DatasetError(
            f"clip {clip.id} is frames {clip.first} to {clip.last} of {path}, which ends after "
            f"{clip.first + len(frames)}: the list and the video do not belong together"
        )
    if len({frame.shape for frame in frames}) > 1:
        raise DatasetError(f"the frames of {path} have different sizes: all pictures of a clip must have one")
    return np.stack(frames)


def sample(
    frames: int, window: int, stride: int, *, training: bool, generator: torch.Generator | None = None
) -> np.ndarray:
    """Which frames of a clip of `frames` a network sees: min(window, frames) rising indices, int64, all different.

    `window` frames `stride` apart, from the middle, or in training from a place drawn from `generator` (None: torch's
    global one).  A clip too short for that stride is spread over evenly; one shorter than the window is taken whole.
    """
    if min(frames, window, stride) < 1:
        raise DatasetError(f"{window} frames {stride} apart of a clip of {frames}: all three must be at least 1")
    if frames <= window:
        return np.arange(frames)
    span = (window - 1) * stride + 1
    if frames < span:
        return np.linspace(0, frames - 1, window).round().astype(np.int64)
    room = frames - span
    start = int(torch.randint(room + 1, (), generator=generator)) if training else room // 2
    return start + stride * np.arange(window)


def privacy_indices(frames: int, count: int) -> np.ndarray:
    """The frames whose outputs are averaged for privacy: min(count, frames) of them, evenly spaced, int64."""
    if min(frames, count) < 1:
        raise DatasetError(f"{count} of {frames} frames were asked for: both must be at least 1")
    count = min(count, frames)
    return ((np.arange(count) + 0.5) * frames / count).astype(np.int64)


def slowfast_pack(clip: Tensor, ratio: int = SLOWFAST_RATIO) -> list[Tensor]:
    """(..., 3, T, H, W) -> [slow, fast]: every `ratio`-th frame, evenly spaced from the first to the last, and all."""
    frames = clip.shape[-3]
    index = torch.linspace(0, frames - 1, max(1, frames // ratio), device=clip.device).long()
    return [clip.index_select(-3, index), clip]


@dataclass(frozen=True)
class ClipTransform:
    """Frames to the input of a network: resized, cut square, maybe mirrored, normalised.

    crop: pixels, a side of the square.  short_side: of the resized frame, in training drawn from it to `largest`.
    flip: whether training mirrors half of the clips; leave it off where left and right are classes (IPN's gestures).
    mean, std: of values in 0..1, all channels alike or one for each.
    At test time the middle is cut and nothing is mirrored.
    """

    crop: int
    short_side: int
    largest: int | None = None
    flip: bool = True
    training: bool = False
    mean: float | tuple[float, float, float] = KINETICS_MEAN
    std: float | tuple[float, float, float] = KINETICS_STD

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= self.short_side <= (self.largest or self.short_side):
            raise DatasetError(
                f"crop {self.crop}, short side {self.short_side} to {self.largest}: expected crop <= short side <= "
                "largest"
            )

    def __call__(self, frames: np.ndarray, generator: torch.Generator | None = None) -> Tensor:
        """(T, H, W, 3) uint8 RGB -> (3, T, crop, crop) float32; `generator` is drawn from in training only."""
        clip = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255
        draw = torch.rand(4, generator=generator).tolist() if self.training else [0.0, 0.5, 0.5, 1.0]
        short = self.short_side + round(draw[0] * ((self.largest or self.short_side) - self.short_side))
        height, width = clip.shape[2:]
        scale = short / min(height, width)
        size = (max(self.crop, round(height * scale)), max(self.crop, round(width * scale)))
        clip = F.interpolate(clip, size=size, mode="bilinear", align_corners=False, antialias=True)
        top, left = (round(share * (length - self.crop)) for share, length in zip(draw[1:3], size, strict=True))
        clip = clip[:, :, top : top + self.crop, left : left + self.crop]
        if self.training and self.flip and draw[3] < 0.5:
            clip = clip.flip(3)
        mean, std = (torch.as_tensor(value, dtype=torch.float32).reshape(-1, 1, 1) for value in (self.mean, self.std))
        return ((clip - mean) / std).permute(1, 0, 2, 3).contiguous()
