"""Splits by rule: folds that hold out people or actions, and a validation part carved from what trains.

Everything is in the order of sorted names; nothing is drawn by chance, so every machine has the same parts.

Not here: the splits that a data set publishes (its layout).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from anonymotion.research.datasets import Clip, Split

FOLDS = 3


def held_out_folds(name: str, task: str, clips: Sequence[Clip], held_out: Callable[[Clip], str]) -> Iterator[Split]:
    """`FOLDS` splits named `name-0` and on; a value of `held_out` is in one part only.

    Fold k tests every third value from the k-th on; the one after the k-th validates, the others train.
    """
    values = sorted({held_out(clip) for clip in clips})
    for fold in range(FOLDS):
        test, validation = set(values[fold::FOLDS]), values[(fold + 1) % FOLDS]
        yield Split(
            f"{name}-{fold}",
            task,
            train=tuple(clip.id for clip in clips if held_out(clip) not in {*test, validation}),
            validation=tuple(clip.id for clip in clips if held_out(clip) == validation),
            test=tuple(clip.id for clip in clips if held_out(clip) in test),
        )


def nth_of_each(clips: Sequence[Clip], cell: Callable[[Clip], str], step: int) -> set[str]:
    """Ids of every `step`-th clip, the last of each `step`, of the clips of one `cell` in the order of their ids."""
    cells: dict[str, list[str]] = {}
    for clip in sorted(clips, key=lambda clip: clip.id):
        cells.setdefault(cell(clip), []).append(clip.id)
    return {name for members in cells.values() for name in members[step - 1 :: step]}


def split_of(name: str, task: str, clips: Sequence[Clip], test: set[str], validation: set[str]) -> Split:
    """A split of `clips`: what is in neither set trains; what is in `test` does not validate."""
    return Split(
        name,
        task,
        train=tuple(clip.id for clip in clips if clip.id not in test | validation),
        validation=tuple(clip.id for clip in clips if clip.id in validation - test),
        test=tuple(clip.id for clip in clips if clip.id in test),
    )
