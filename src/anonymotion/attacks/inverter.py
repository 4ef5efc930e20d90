"""A small U-Net that learns to see through: trained on clean and hidden pictures of other clips.

It sees what an adversary can compute without training: the hidden frame, the mean of 10 frames along the true motion
and that of all, and the mask.  It is as small as it is so that two CPU cores train it in a few minutes.

Not here: where pairs come from (chance; benchmarks/attacks.py), scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anonymotion.attacks.chance import Concealment, Unrelated
from anonymotion.attacks.evidence import Scene, View, grey
from anonymotion.attacks.recovery import Attack, average
from anonymotion.attacks.scores import Grey

CHANNELS = 4
WIDTHS = (16, 32, 64)
PATCH = 64
STEPS = 400
BATCH = 16
NAME = "trained inversion"


@dataclass(frozen=True)
class Pair:
    """What the network sees, (4, h, w) uint8, and what was there, (h, w) uint8; where it was hidden, (h, w) bool."""

    seen: NDArray[np.uint8]
    clean: NDArray[np.uint8]
    hidden: NDArray[np.bool_]


class SmallUNet(nn.Module):
    """(B, 4, h, w) in about -1..1 to (B, 1, h, w); h and w are multiples of 4."""

    def __init__(self) -> None:
        super().__init__()
        one, two, three = WIDTHS
        self.first, self.second, self.deep = _block(CHANNELS, one), _block(one, two), _block(two, three)
        self.back, self.last = _block(three + two, two), _block(two + one, one)
        self.out = nn.Conv2d(one, 1, 1)

    def forward(self, seen: Tensor) -> Tensor:
        """The picture that it imagines."""
        shrink = partial(nn.functional.avg_pool2d, kernel_size=2)
        grow = partial(nn.functional.interpolate, scale_factor=2.0, mode="nearest")
        fine = self.first(seen)
        middle = self.second(shrink(fine))
        coarse = self.deep(shrink(middle))
        middle = self.back(torch.cat((grow(coarse), middle), 1))
        result: Tensor = self.out(self.last(torch.cat((grow(middle), fine), 1)))
        return result


def _block(taken: int, given: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(taken, given, 3, padding=1),
        nn.GroupNorm(4, given),
        nn.ReLU(),
        nn.Conv2d(given, given, 3, padding=1),
        nn.ReLU(),
    )


def what_it_sees(view: View) -> NDArray[np.uint8]:
    """The four planes of a view, (4, h, w) uint8."""
    alpha = view.scene.alpha[view.scene.reference]
    planes = np.stack((view.frame, average(view, 10), average(view), alpha * 255))
    return np.asarray(np.clip(planes, 0, 255).round(), np.uint8)


def pair_of(view: View, clean: NDArray[np.uint8]) -> Pair:
    """A pair to train on; clean: (h, w, 3) uint8, what the reference frame showed."""
    scene = view.scene
    hidden = scene.alpha[scene.reference] >= 0.5 * float(scene.alpha[scene.reference][scene.core].min())
    return Pair(what_it_sees(view), np.clip(grey(clean), 0, 255).astype(np.uint8), hidden)


def train(pairs: Sequence[Pair], steps: int = STEPS, seed: int = 0) -> SmallUNet:
    """Train on patches of the pairs for `steps` steps; the loss counts hidden pixels only."""
    random = np.random.default_rng(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = SmallUNet()
        optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(steps):
            seen, clean, hidden = _batch(pairs, random)
            error = (network(seen)[:, 0] - clean).abs() * hidden
            loss = error.sum() / hidden.sum().clamp(min=1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval()


def _batch(pairs: Sequence[Pair], random: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    parts = []
    for _ in range(BATCH):
        pair = pairs[int(random.integers(len(pairs)))]
        rows, columns = np.nonzero(pair.hidden)
        at = random.integers(len(rows))
        height, width = pair.clean.shape
        y = int(np.clip(rows[at] - PATCH // 2, 0, max(0, height - PATCH)))
        x = int(np.clip(columns[at] - PATCH // 2, 0, max(0, width - PATCH)))
        stacked = np.concatenate((pair.seen, pair.clean[None], pair.hidden[None] * np.uint8(255)))
        patch = stacked[:, y : y + PATCH, x : x + PATCH]
        missing = [(0, PATCH - length) for length in patch.shape[1:]]
        patch = np.pad(patch, ((0, 0), *missing))
        parts.append(patch[:, :, ::-1] if random.random() < 0.5 else patch)
    batch = torch.from_numpy(np.stack(parts)).float()
    return batch[:, :CHANNELS] / 127.5 - 1, batch[:, CHANNELS] / 127.5 - 1, batch[:, CHANNELS + 1] / 255


@torch.inference_mode()
def imagined(network: SmallUNet, seen: NDArray[np.uint8]) -> Grey:
    """What the network makes of (4, h, w) uint8: (h, w) float32 in about 0..255."""
    height, width = seen.shape[1:]
    padded = np.pad(seen, ((0, 0), (0, -height % 4), (0, -width % 4)), mode="edge")
    result = network(torch.from_numpy(padded)[None].float() / 127.5 - 1)[0, 0]
    return np.asarray((result[:height, :width].numpy() + 1) * 127.5, np.float32)


def trained_attack(scene: Scene, concealment: Concealment, outputs: int = 24) -> Attack:
    """The attack of a network trained on `outputs` further outputs of unrelated content, hidden alike."""
    content = Unrelated(seed=2)
    pairs = []
    for before, after, frames in concealment.by_chance(scene, content, outputs):
        pairs.append(pair_of(before if after is None else after, frames[scene.reference]))
    network = train(pairs)
    return lambda view: imagined(network, what_it_sees(view))
