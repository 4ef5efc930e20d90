"""The inverting network, trained per method on clean and hidden pictures of the clips of the other half.

Clips are split in two by their order; a network for one half is trained on the other half's footage and on library
pictures hidden under its masks, before and after encoding alike.  Its null distribution is what it makes of the
outputs by chance.

Not here: the network (anonymotion.attacks.inverter).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from anonymotion.attacks.inverter import NAME, imagined, train
from anonymotion.attacks.scores import finding, score
from attacking.cells import STAGES, Cell, load, path_of, save


def run(folder: Path, names: Sequence[str], methods: Sequence[str], steps: int) -> None:
    """Add the finding of the trained attack to every cell that has none yet."""
    torch.set_num_threads(1)
    for method in methods:
        there = [name for name in names if path_of(folder, name, method).exists()]
        cells = {name: load(folder, name, method) for name in there}
        for half in (0, 1):
            tested = [cell for cell in list(cells.values())[half::2] if NAME not in cell.stages["after"].pictures]
            others = list(cells.values())[1 - half :: 2]
            if not tested or not others:
                continue
            started = time.monotonic()
            pairs = [pair for cell in others for stage in STAGES for pair in cell.pairs[stage]]
            network = train(pairs, steps)
            for cell in tested:
                _judge(cell, network)
                save(cell, folder)
            print(f"{method}, half {half + 1}: {len(pairs)} pairs, {time.monotonic() - started:.0f} s", flush=True)


def _judge(cell: Cell, network: torch.nn.Module) -> None:
    for stage, examination in cell.stages.items():
        estimates = [imagined(network, seen) for seen in cell.seen[stage]]  # type: ignore[arg-type]
        real, *chance = (score(estimate, cell.truth, cell.core) for estimate in estimates)
        examination.pictures[NAME] = estimates[0]
        examination.findings.append(finding(NAME, real, chance, len(examination.of_the_core) + 1))
