"""KTH: 25 people x 6 actions x 4 scenarios, `person01_boxing_d1_uncomp.avi`, grey, 160x120, and `00sequences.txt`.

The videos lie in the root or in one folder per action.  `00sequences.txt` gives up to four spans of frames of each
video, from 1 and with their last frame: a clip goes from the first frame of the first to the last of the last.

    paper    of each person and action two scenarios train, one validates, one tests.  The paper does not say which:
             here d1 and d2 train, d3 validates, d4 tests.
    release  as the published code: three train, one tests (d4 here), nothing validates.

Not here: pixels (clips), other data sets.
"""

from __future__ import annotations

import re
from pathlib import Path

from anonymotion.errors import DatasetError
from anonymotion.research.datasets import ACTION, Clip, Dataset, Split
from anonymotion.research.layouts.tables import read_text

SEQUENCES = "00sequences.txt"
IDENTITY = "identity"
PEOPLE, ACTIONS, SCENARIOS = 25, 6, 4
_NAME = re.compile(r"(person\d\d)_([a-z]+)_d([1-4])")
_SPAN = re.compile(r"(\d+)\s*-\s*(\d+)")
_PARTS = {
    "paper": {"train": "12", "validation": "3", "test": "4"},
    "release": {"train": "123", "validation": "", "test": "4"},
}

Span = tuple[int, int | None]


def read(root: Path) -> Dataset:
    """The data set at `root`.  Raises DatasetError."""
    notes: list[str] = []
    if (root / SEQUENCES).exists():
        spans = _listed(root / SEQUENCES)
    else:
        names = {match.group() for path in root.rglob("*.avi") if (match := _NAME.match(path.name))}
        spans = dict.fromkeys(sorted(names), (0, None))
        notes.append(f"{SEQUENCES} is not there: clips are whole files, and missing files cannot be told")
    if not spans:
        raise DatasetError(f"no person##_<action>_d#_uncomp.avi was found in {root}, nor {SEQUENCES}: check the path")
    nominal = PEOPLE * ACTIONS * SCENARIOS
    if len(spans) != nominal:
        notes.append(f"{len(spans)} clips of {nominal}; the published set lacks person13_handclapping_d3")
    clips = tuple(_clip(root, name, span) for name, span in spans.items())
    splits = tuple(_split(name, task, clips) for name in _PARTS for task in (ACTION, IDENTITY))
    return Dataset("kth", root, clips, splits, tuple(notes))


def _listed(path: Path) -> dict[str, Span]:
    """Clip name -> span, of the lines that name a video; those that say it is missing are left out."""
    spans: dict[str, Span] = {}
    for number, line in enumerate(read_text(path, hint="it is published beside the videos").splitlines(), 1):
        match = _NAME.match(line.strip())
        if match is None or "missing" in line:
            continue  # the head of the list is prose
        found = [(int(first), int(last)) for first, last in _SPAN.findall(line[match.end() :])]
        if not found or any(last < first or first < 1 for first, last in found):
            raise DatasetError(f"{path}, line {number}: spans of frames such as 1-95, 96-185 were expected")
        spans[match.group()] = (min(first for first, _ in found) - 1, max(last for _, last in found))
    return spans


def _clip(root: Path, name: str, span: Span) -> Clip:
    person, action, _ = name.split("_")
    file = Path(f"{name}_uncomp.avi")
    path = Path(action) / file if (root / action).is_dir() else file
    return Clip(name, path, *span, action, {IDENTITY: person}, name)


def _split(name: str, task: str, clips: tuple[Clip, ...]) -> Split:
    parts = {part: tuple(c.id for c in clips if c.id[-1] in scenarios) for part, scenarios in _PARTS[name].items()}
    return Split(name, task, **parts)
