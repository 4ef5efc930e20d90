"""What a method costs: seconds per frame, decoding and encoding left out.

Not here: stages of the pipeline by themselves (benchmarks).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from anonymotion.errors import SettingsError
from anonymotion.research.clips import read_clip
from anonymotion.research.datasets import open_dataset
from anonymotion.research.runs import RunFolder
from anonymotion.research.variants import make_variants


def measure_speed(
    run: RunFolder, root: Path, frames: int = 25, *, device: str = "auto", short_side: int | None = None
) -> Iterator[tuple[str, float]]:
    """Time every method of a run on the first `frames` frames of its first tested clip, and keep it in the run.

    short_side: of the pictures that are matched, as the copies were made; by default the preset's.
    Yields (method, seconds per frame).  Networks are loaded, and have seen a frame, before the clock starts.
    """
    if frames < 1:
        raise SettingsError(f"--frames is {frames}: expected at least 1")
    experiment = run.experiment
    dataset = open_dataset(experiment.dataset, root)
    column = experiment.columns[0]
    clip = dataset.clip(dataset.split(column.splits[0], column.task).test[0])
    pictures = read_clip(replace(clip, last=None), dataset.root)[:frames]
    for row in experiment.measured[1:]:
        settings = {} if short_side is None else {"short_side": short_side}
        (variant,) = make_variants([row.name], experiment.dataset, device=device, settings=settings)
        hider = variant.hider
        if hider is None:
            continue  # a control: it hides nothing
        list(hider.hide(pictures[:1]))  # an engine compiles the network for the first frame of a size
        started = time.perf_counter()
        count = sum(1 for _ in hider.hide(pictures))
        seconds = (time.perf_counter() - started) / count
        run.note_speed(row.name, seconds)
        yield row.name, seconds
