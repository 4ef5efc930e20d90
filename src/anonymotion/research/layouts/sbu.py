"""SBU Kinect Interaction: `s01s02/03/001/rgb_*.png`, 640x480, 15 per second; 8 interactions of 7 actors in 21 pairs.

Folders are pair (who acts, who reacts), interaction 01 to 08 and take.  Interactions keep their numbers as names.  The
privacy label is the pair without its order, 13 of them, so every pair must train and test; the published folds, which
part the pairs, cannot be used for it.

    paper    a third of the takes of each pair tests (94 of 282 in the paper); of what is left every sixth validates.
    release  the same third, and nothing validates.  The published code's own list of takes is not in the data set.

Not here: pixels (clips); depth maps and skeletons beside the pictures are not used.
"""

from __future__ import annotations

import re
from pathlib import Path

from anonymotion.errors import DatasetError
from anonymotion.research.datasets import ACTION, Clip, Dataset
from anonymotion.research.layouts.folds import nth_of_each, split_of

PAIR = "pair"
_PAIR = re.compile(r"(s\d\d)(s\d\d)")
_INTERACTION = re.compile(r"0[1-8]")
TAKES = 282


def read(root: Path) -> Dataset:
    """The data set at `root`.  Raises DatasetError if no folder of it is there."""
    clips: list[Clip] = []
    for pair in sorted(path for path in root.iterdir() if path.is_dir() and _PAIR.fullmatch(path.name)):
        for interaction in sorted(path for path in pair.iterdir() if _INTERACTION.fullmatch(path.name)):
            clips.extend(_clip(root, take) for take in sorted(interaction.iterdir()) if take.is_dir())
    if not clips:
        raise DatasetError(f"no folders sXXsYY/AA/NNN were found in {root}: give the folder that holds s01s02 and on")
    notes = () if len(clips) == TAKES else (f"{len(clips)} takes; the published set has {TAKES}",)
    test = nth_of_each(clips, lambda clip: clip.privacy[PAIR], 3)
    validation = nth_of_each([c for c in clips if c.id not in test], lambda clip: clip.privacy[PAIR], 6)
    splits = tuple(
        split_of(name, task, clips, test, carved)
        for name, carved in (("paper", validation), ("release", set[str]()))
        for task in (ACTION, PAIR)
    )
    return Dataset("sbu", root, tuple(clips), splits, notes)


def _clip(root: Path, take: Path) -> Clip:
    path = take.relative_to(root)
    pair, interaction, number = path.parts
    actors = _PAIR.fullmatch(pair)
    assert actors is not None  # noqa: S101 - for mypy: `read` has matched it
    name = f"{pair}_{interaction}_{number}"
    return Clip(name, path, 0, None, interaction, {PAIR: "".join(sorted(actors.groups()))}, name)
