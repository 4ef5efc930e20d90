"""How much of a soft blend comes back: eq. 5 solved for the picture, by somebody who knows the noise.

A blend with weight S < 1 leaves (1 - S) I in the output.  Who knows N, because the seed is known or N was estimated
from other clips, has I = (O - S N) / (1 - S) up to the rounding of O.  The score is measured on every run that blends,
and said with its result.

Not here: attacks without that knowledge, and on the encoded file (attacks).
"""

from __future__ import annotations

import torch
from torch import Tensor

from anonymotion.chunks import HiddenChunk

LEAST_REMAINDER = 1 / 32
"""Of 1 - S: what is left of the picture below it is lost in the rounding of the output."""

_BRIGHTNESS = (0.299, 0.587, 0.114)


def inverted(output: Tensor, alpha: Tensor, noise: Tensor) -> Tensor:
    """(T, H, W, 3) float32: (O - S N) / (1 - S); O itself where S leaves less than LEAST_REMAINDER.

    output: (T, H, W, 3) uint8.  alpha: (T, H, W) float32 in [0, 1].  noise: (T, H, W, 3) float32 in 0..255.
    """
    left = (1 - alpha)[..., None]
    seen = output.float()
    solved = (seen - alpha[..., None] * noise) / left.clamp(min=LEAST_REMAINDER)
    return torch.where(left >= LEAST_REMAINDER, solved, seen)


class InversionScore:
    """The mean over frames of the correlation of brightness with the original, where the frame is hidden most.

    That is where the weight is at least half of the frame's largest.  `as_it_is`: of the output itself.
    """

    def __init__(self) -> None:
        self._frames = 0
        self._inverted = self._as_it_is = 0.0

    def write(self, chunk: HiddenChunk) -> None:
        """Take a chunk before it is encoded."""
        weights = torch.tensor(_BRIGHTNESS, device=chunk.alpha.device)
        truth = chunk.frames.float() @ weights
        solved = inverted(chunk.output, chunk.alpha, chunk.noise) @ weights
        seen = chunk.output.float() @ weights
        for t, alpha in enumerate(chunk.alpha):
            region = alpha >= (alpha.max() / 2).clamp(min=1e-6)
            if int(region.sum()) >= 64:
                self._frames += 1
                self._inverted += correlation(solved[t][region], truth[t][region])
                self._as_it_is += correlation(seen[t][region], truth[t][region])

    @property
    def sentence(self) -> str | None:
        """One line for a person, or None if nothing was hidden."""
        if not self._frames:
            return None
        return (
            f"measured inversion score: whoever knows the noise gets the original back with a correlation of "
            f"{self._inverted / self._frames:.2f} where it is hidden most, before encoding "
            f"({self._as_it_is / self._frames:.2f} without doing anything)"
        )


def correlation(one: Tensor, other: Tensor) -> float:
    """Of two flat float tensors, in -1..1; 0 where either is constant."""
    a, b = one.double() - one.double().mean(), other.double() - other.double().mean()
    norm = float((a @ a).sqrt() * (b @ b).sqrt())
    return float(a @ b) / norm if norm > 1e-9 * len(a) else 0.0
