"""The paper's naive methods: a person in its own mean colour, pixelation, Gaussian blur; and black.

Baselines, not protection.  A block mean and a blurred pixel are functions of what they cover: networks trained on
such pictures recognise faces in them (McPherson et al. 2016), a mosaic over a moving subject is undone from some
dozens of frames, and a Gaussian is in part inverted.  Only black keeps nothing of what it covers.

Each function gives a picture of the whole frame; where it is put, the mask and the compositor decide, so that
nothing outside a mask is smeared.  A block or a blurred pixel at the rim of a mask also averages pixels outside
of it, which stay visible anyway.

The paper works on a 224 crop.  Here the frame is brought to a short side of 224 (no crop), and the result back to
its own size; with `at_native` blocks and kernels are in pixels of the frame itself.

Not here: the mixing (compositor), masks (masks, person_masks), which names there are (registry).
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from anonymotion.errors import UnsupportedInputError
from anonymotion.methods import Method

PAPER_SHORT_SIDE = 224
# A strip of 64:1 at a short side of 224 is 3.2 million pixels: a longer one would fill the memory.
LONGEST_AT_PAPER_SCALE = 64 * PAPER_SHORT_SIDE
BLUR_SIGMA = 10.0


def mean_colour(frames: Tensor, alpha: Tensor, at_native: bool) -> Tensor:
    """Each frame all in one colour: the mean over the pixels of its mask, all regions of it together.

    frames: (T, H, W, 3) uint8.  alpha: (T, H, W) float32; the mask is where it is 1, without the soft rim.
    Returns (T, H, W, 3) float32 in 0..255; black for a frame without a mask, in which it is put nowhere.
    """
    mask = (alpha == 1)[..., None].double()
    total = (frames * mask).sum(dim=(1, 2), keepdim=True)
    mean = total / mask.sum(dim=(1, 2), keepdim=True).clamp(min=1)
    return mean.float().expand(frames.shape)


def pixelate(frames: Tensor, alpha: Tensor, at_native: bool, *, block: int) -> Tensor:
    """Means of `block` x `block` pixels, each back over its block.

    frames: (T, H, W, 3) uint8.  Blocks start at the top left corner; the last ones hold what is left, and are the
    means of that.  Returns (T, H, W, 3) float32 in 0..255.  Raises UnsupportedInputError as `to_paper_scale` does.
    """
    size_hw = frames.shape[1:3]
    pictures = _channels_first(frames)
    if not at_native:
        pictures = to_paper_scale(pictures)
    height, width = pictures.shape[2:]
    means = F.avg_pool2d(pictures, block, ceil_mode=True, count_include_pad=False)
    blocks = F.interpolate(means, scale_factor=block, mode="nearest")[..., :height, :width]
    # nearest, so that a block has one colour at any size
    return F.interpolate(blocks, size=size_hw, mode="nearest-exact").permute(0, 2, 3, 1)


def blur(frames: Tensor, alpha: Tensor, at_native: bool, *, kernel: int) -> Tensor:
    """A Gaussian of sigma 10 cut off at `kernel` x `kernel` pixels (so it is nearly a box); mirrored at the edges.

    frames: (T, H, W, 3) uint8.  Returns (T, H, W, 3) float32 in 0..255.  Raises UnsupportedInputError as
    `to_paper_scale` does.
    """
    from torchvision.transforms.v2.functional import gaussian_blur

    size_hw = frames.shape[1:3]
    pictures = _channels_first(frames)
    if not at_native:
        pictures = to_paper_scale(pictures)
    margin = kernel // 2
    blurred = _mirrored(pictures, margin)
    for shape in ([kernel, 1], [1, kernel]):  # torchvision does not separate it: ten times the work
        blurred = gaussian_blur(blurred, shape, [BLUR_SIGMA, BLUR_SIGMA])
    blurred = blurred[..., margin:-margin, margin:-margin]
    blurred = F.interpolate(blurred, size=size_hw, mode="bilinear", align_corners=False, antialias=True)
    return blurred.permute(0, 2, 3, 1).clamp(0, 255)


def black(frames: Tensor, alpha: Tensor, at_native: bool) -> Tensor:
    """Zeros, (T, H, W, 3) float32: what is covered leaves nothing but its outline."""
    return torch.zeros(frames.shape, device=frames.device)


def to_paper_scale(pictures: Tensor) -> Tensor:
    """(T, C, H, W) float32 resized to a short side of 224, bilinear with anti-aliasing.

    Raises UnsupportedInputError for a picture longer than 64 times its short side.
    """
    short = min(pictures.shape[2:])
    height, width = (round(length * PAPER_SHORT_SIDE / short) for length in pictures.shape[2:])
    if max(height, width) > LONGEST_AT_PAPER_SCALE:
        raise UnsupportedInputError(
            f"a picture of {pictures.shape[3]}x{pictures.shape[2]} pixels is {width}x{height} at the paper's scale "
            f"(at most {LONGEST_AT_PAPER_SCALE} long): crop it, or use --at-native"
        )
    return F.interpolate(pictures, size=(height, width), mode="bilinear", align_corners=False, antialias=True)


def _channels_first(frames: Tensor) -> Tensor:
    return frames.permute(0, 3, 1, 2).float()


def _mirrored(pictures: Tensor, margin: int) -> Tensor:
    """Continue (T, C, H, W) by `margin` pixels on every side, mirrored at the outermost pixel, as often as needed.

    torch's own reflection ends where the picture does, and a frame may be smaller than a kernel.
    """
    for dimension in (2, 3):
        last = pictures.shape[dimension] - 1
        position = torch.arange(-margin, last + 1 + margin, device=pictures.device).abs()
        folded = last - (last - position % max(2 * last, 1)).abs()
        pictures = pictures.index_select(dimension, folded)
    return pictures


_PIXELATION = (
    "pixelation keeps the mean of every block: people are recognised in it, and a moving subject can be restored from "
    "many frames; it is a comparison method"
)
_BLUR = "a blur can be inverted in part, and people are recognised in it; it is a comparison method"

PERSON_MEAN = Method(
    mean_colour,
    "the colour is the mean of what it covers, and changes with it; it is a comparison method",
    covers=("person",),
)
PIXELATE_4 = Method(partial(pixelate, block=4), _PIXELATION, has_scale=True)
PIXELATE_16 = Method(partial(pixelate, block=16), _PIXELATION, has_scale=True)
BLUR_WEAK = Method(partial(blur, kernel=13), _BLUR, has_scale=True)
BLUR_STRONG = Method(partial(blur, kernel=21), _BLUR, has_scale=True)
BLACK = Method(black, None)
