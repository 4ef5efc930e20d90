"""What a run carries from chunk to chunk.

Not here: how it is used (pipeline), what each part does (its module).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from anonymotion.continuity import Continuity
from anonymotion.editing import Editor
from anonymotion.keyframes import KeyFrames
from anonymotion.noise import NoiseField, make_noise
from anonymotion.presets import Settings
from anonymotion.reuse import Reuse


@dataclass
class RunState:
    """Frames held back, the last frame, and edits and noise of this run alone.

    needs_last: somebody has to know which frame is the last.  reuse: None where all of every frame is computed.
    kind: of array, that frames come as.
    """

    continuity: Continuity
    keys: KeyFrames
    needs_last: bool = False
    editor: Editor | None = None
    reuse: Reuse | None = None
    kind: type = np.ndarray
    previous: Tensor | None = None
    noise: NoiseField | None = None

    def noise_of(self, settings: Settings, frames: Tensor, seed: int | None) -> NoiseField:
        """The noise as it is after the last chunk; before the first one, a new field for these (T, H, W, 3) frames."""
        return self.noise or new_noise(settings, (frames.shape[1], frames.shape[2]), frames.device, seed)


def new_noise(settings: Settings, size_hw: tuple[int, int], device: torch.device, seed: int | None) -> NoiseField:
    """The noise field of one run over frames of (H, W); without a seed it is secret."""
    return make_noise(
        settings.noise,
        size_hw,
        mean=settings.noise_mean,
        std=settings.noise_std,
        device=device,
        seed=seed,
        grain=settings.grain_px(size_hw),
    )
