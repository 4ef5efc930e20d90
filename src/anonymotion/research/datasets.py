"""What a data set is to the harness: clips with labels, and splits of them.

An index is built from the data set's own lists and folders each time it is opened; nothing of it is stored in the
package.  A clip that a list names and that is not on the disk stays in the index: whoever reads it fails, and
`checks` counts it, so that nothing is dropped in silence.

Not here: the layouts themselves (layouts), pixels (clips), whether a copy is whole (checks).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path

from anonymotion.errors import DatasetError

ACTION = "action"
SAFE_ID = re.compile(r"[A-Za-z0-9_.-]{1,120}")

# name -> module with `read(root) -> Dataset`
LAYOUTS = {
    "ipn": "anonymotion.research.layouts.ipn",
    "sbu": "anonymotion.research.layouts.sbu",
    "kth": "anonymotion.research.layouts.kth",
    "weizmann": "anonymotion.research.layouts.weizmann",
    "folder": "anonymotion.research.layouts.folder",
}


@dataclass(frozen=True)
class Clip:
    """A span of a video, with its labels.

    id: unique in the data set, stable, safe as a file name.
    path: a video file or a folder of frames, relative to the root of the data set.
    first, last: frames, from 0; `last` is one past the last one, None is to the end.
    action: class name, empty where there is none (a whole video of many).
    privacy: label -> class name, e.g. {"identity": "person01"} or {"gender": "F"}.
    group: what a bootstrap resamples, and what two parts of a split do not share: the video.
    """

    id: str
    path: Path
    first: int
    last: int | None
    action: str
    privacy: Mapping[str, str]
    group: str

    def __post_init__(self) -> None:
        if not SAFE_ID.fullmatch(self.id):
            raise DatasetError(f"clip id {self.id!r} cannot be a file name: use letters, digits, '_', '-' and '.'")
        if self.first < 0 or (self.last is not None and self.last <= self.first):
            raise DatasetError(
                f"clip {self.id} spans frames {self.first} to {self.last}: expected 0 <= first < last; correct the list"
            )


@dataclass(frozen=True)
class Split:
    """Which clips train, which stop the training, which are scored; ids, in the order of the data set.

    name: e.g. `paper`, `release`, `person-fold-0`.  task: `action` or the name of a privacy label.
    """

    name: str
    task: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        parts = (self.train, self.validation, self.test)
        if len(set().union(*parts)) != sum(map(len, parts)):
            raise DatasetError(f"split {self.name} of {self.task} names a clip twice: a clip belongs to one part")


@dataclass(frozen=True)
class Dataset:
    """Clips and splits of one copy of a data set.

    notes: sentences about what is odd in this copy, found while its lists were read.
    Raises DatasetError for ids that occur twice, splits of unknown clips, and parts of a split that share frames.
    """

    name: str
    root: Path
    clips: tuple[Clip, ...]
    splits: tuple[Split, ...]
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.clips:
            raise DatasetError(f"no clip of {self.name} was found in {self.root}: check the path")
        if len(self._by_id) != len(self.clips):
            twice = sorted({clip.id for clip in self.clips if self._by_id[clip.id] is not clip})
            raise DatasetError(f"{self.name} has clips of one id ({', '.join(twice[:3])}): give each file its own name")
        for split in self.splits:
            unknown = [name for name in (*split.train, *split.validation, *split.test) if name not in self._by_id]
            if unknown:
                raise DatasetError(f"split {split.name} of {self.name} names {unknown[0]}, which is no clip of it")
            self._check_separate(split)

    def _check_separate(self, split: Split) -> None:
        """Raise DatasetError if two parts share a frame: clips of one video may only if their spans are apart."""
        taken: dict[Path, list[tuple[int, float, str]]] = {}
        for part in (split.train, split.validation, split.test):
            spans = [(clip.path, clip.first, clip.last or float("inf"), clip.id) for clip in map(self.clip, part)]
            for path, first, last, name in spans:
                for other_first, other_last, other in taken.get(path, ()):
                    if first < other_last and other_first < last:
                        raise DatasetError(
                            f"split {split.name} of {self.name} has frames of {path} in two parts ({other}, {name})"
                        )
            for path, first, last, name in spans:
                taken.setdefault(path, []).append((first, last, name))

    @cached_property
    def _by_id(self) -> dict[str, Clip]:
        return {clip.id: clip for clip in self.clips}

    @property
    def tasks(self) -> tuple[str, ...]:
        """`action`, and the privacy labels, in the order in which they first occur."""
        return (ACTION, *dict.fromkeys(label for clip in self.clips for label in clip.privacy))

    @property
    def videos(self) -> tuple[Path, ...]:
        """Every path of a clip once, in order: what is read, and obfuscated, as a whole."""
        return tuple(sorted({clip.path for clip in self.clips}))

    def clip(self, id: str) -> Clip:
        """The clip of that id.  Raises DatasetError."""
        if id not in self._by_id:
            raise DatasetError(f"{self.name} has no clip {id!r}: `anonymotion data check` lists what is there")
        return self._by_id[id]

    def split(self, name: str, task: str) -> Split:
        """The split of that name for that task.  Raises DatasetError, naming those there are."""
        for split in self.splits:
            if (split.name, split.task) == (name, task):
                return split
        known = ", ".join(f"{split.name} ({split.task})" for split in self.splits)
        raise DatasetError(f"{self.name} has no split {name!r} of {task!r}: use one of {known}")

    def labels(self, task: str, split: Split | None = None) -> tuple[str, ...]:
        """Class names of a task, sorted; their order is that of a network's outputs.

        split: only those of its clips (IPN's `paper` has 13 gestures, `release` 14).  Raises DatasetError if no clip
        has such a label.
        """
        clips = self.clips if split is None else map(self.clip, (*split.train, *split.validation, *split.test))
        names = {clip.action if task == ACTION else clip.privacy.get(task, "") for clip in clips} - {""}
        if not names:
            raise DatasetError(f"no clip of {self.name} has a label {task!r}: use one of {', '.join(self.tasks)}")
        return tuple(sorted(names))

    def label_of(self, clip: Clip, task: str) -> str:
        """The class name of a clip.  Raises DatasetError where it has none."""
        name = clip.action if task == ACTION else clip.privacy.get(task, "")
        if not name:
            known = ", ".join((*([ACTION] if clip.action else []), *clip.privacy))
            raise DatasetError(f"clip {clip.id} of {self.name} has no label {task!r}: it has {known}")
        return name


def open_dataset(name: str, root: Path) -> Dataset:
    """The data set `name`, one of `LAYOUTS`, at `root`: a copy in its original layout, or one that obfuscate wrote.

    Raises DatasetError: an unknown name, a folder that is not there, lists that are missing or cannot be read.
    """
    if name not in LAYOUTS:
        raise DatasetError(f"data set {name!r} is not known: use one of {', '.join(LAYOUTS)}")
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder: give the folder that holds {name} as it was published")
    copies = import_module("anonymotion.research.layouts.copies")
    if copies.is_copy(root):
        dataset: Dataset = copies.read(root, name)
        return dataset
    original: Dataset = import_module(LAYOUTS[name]).read(root)
    return original
