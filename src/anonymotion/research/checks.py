"""Whether a copy of a data set is whole, and what it holds: counts, labels, chance levels, a sentence per problem.

Not here: printing (cli), the layouts (layouts).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from anonymotion.errors import AnonymotionError
from anonymotion.research.clips import frames_of
from anonymotion.research.datasets import Dataset, Split
from anonymotion.results import Progress, ProgressCallback


@dataclass(frozen=True)
class SplitCounts:
    """Clips per part of a split.

    chance: the accuracy of always naming the most frequent class of the test clips, 0..1; 0 without test clips.
    """

    name: str
    task: str
    train: int
    validation: int
    test: int
    chance: float


@dataclass(frozen=True)
class CheckReport:
    """What was found.

    videos: how many there should be.  frames: how many could be read (with `quick`, None).  labels: task -> class ->
    clips.  missing, unreadable: videos.  problems: a sentence each; none of them: the copy is whole.
    """

    name: str
    root: Path
    clips: int
    videos: int
    frames: int | None
    labels: Mapping[str, Mapping[str, int]]
    splits: tuple[SplitCounts, ...]
    missing: tuple[str, ...]
    unreadable: tuple[str, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def check_dataset(dataset: Dataset, *, quick: bool = False, progress: ProgressCallback | None = None) -> CheckReport:
    """Look at every video, and decode all of it; with `quick` only its first frame."""
    lengths: dict[Path, int] = {}
    missing: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    for number, path in enumerate(dataset.videos):
        place = dataset.root / path
        if not place.exists():
            missing[path.as_posix()] = f"{path.as_posix()} is missing"
        else:
            try:
                lengths[path] = sum(1 for _ in islice(frames_of(place), 1 if quick else None))
            except AnonymotionError as error:
                unreadable[path.as_posix()] = f"{path.as_posix()} cannot be read: {' '.join(str(error).split())}"
        if progress is not None:
            progress(Progress(number + 1, len(dataset.videos), "check"))
    labels = {task: _histogram(dataset, task) for task in dataset.tasks}
    problems = [*missing.values(), *unreadable.values()]
    if not quick:
        problems += _short_clips(dataset, lengths)
    for split in dataset.splits:
        problems += _split_problems(dataset, split)
    return CheckReport(
        dataset.name,
        dataset.root,
        clips=len(dataset.clips),
        videos=len(dataset.videos),
        frames=None if quick else sum(lengths.values()),
        labels={task: classes for task, classes in labels.items() if classes},
        splits=tuple(_counts(dataset, split) for split in dataset.splits),
        missing=tuple(missing),
        unreadable=tuple(unreadable),
        problems=tuple(problems),
        notes=dataset.notes,
    )


def _histogram(dataset: Dataset, task: str) -> dict[str, int]:
    """Class -> clips, of the clips that have such a label; windows of a clip count as clips."""
    names = (clip.action if task == "action" else clip.privacy.get(task, "") for clip in dataset.clips)
    return dict(sorted(Counter(name for name in names if name).items()))


def _short_clips(dataset: Dataset, lengths: Mapping[Path, int]) -> list[str]:
    return [
        f"clip {clip.id} ends at frame {clip.last}, and {clip.path.as_posix()} has {lengths[clip.path]}"
        for clip in dataset.clips
        if clip.path in lengths and clip.last is not None and clip.last > lengths[clip.path]
    ]


def _split_problems(dataset: Dataset, split: Split) -> list[str]:
    where = f"split {split.name} of {split.task}"
    parts = (("train", split.train), ("test", split.test))
    problems = [f"{where} has no {part} clip" for part, ids in parts if not ids]
    known = _classes(dataset, split, split.train)
    unknown = sorted(set(_classes(dataset, split, split.test)) - set(known))
    if unknown and split.train:
        problems.append(f"{where} tests {', '.join(unknown[:5])}, of which nothing trains")
    return problems


def _classes(dataset: Dataset, split: Split, ids: tuple[str, ...]) -> Counter[str]:
    return Counter(dataset.label_of(dataset.clip(name), split.task) for name in ids)


def _counts(dataset: Dataset, split: Split) -> SplitCounts:
    tested = _classes(dataset, split, split.test)
    chance = max(tested.values()) / sum(tested.values()) if tested else 0.0
    return SplitCounts(split.name, split.task, len(split.train), len(split.validation), len(split.test), chance)
