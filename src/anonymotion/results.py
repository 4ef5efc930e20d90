"""What a run tells its caller: the result as a dataclass and as JSON, progress, and stage timings.

Not here: printing (cli), the audit report, masks and dumps (exports).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any, TypeVar

RESULT_SCHEMA_VERSION = 1
OPTIONAL = ("openvino", "nncf")
DISCLAIMER = "Best effort: review the output before publishing it."


@dataclass(frozen=True)
class Progress:
    """How far a run is: `done` of `total` frames (None where the input does not say how many it has)."""

    done: int
    total: int | None
    stage: str = "hide"


Item = TypeVar("Item")
ProgressCallback = Callable[[Progress], None]


class Stopwatch:
    """Seconds of the clock per named stage; stages of several threads overlap."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time spent inside to `stage`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            with self._lock:
                self.seconds[stage] = self.seconds.get(stage, 0.0) + spent

    def iterate(self, stage: str, items: Iterator[Item]) -> Iterator[Item]:
        """The same items; the time spent waiting for each counts as `stage`."""
        while True:
            with self(stage):
                item = next(items, None)
            if item is None:
                return
            yield item


@dataclass
class Coverage:
    """Shares of the frame that were hidden, collected frame by frame.

    For replacement a share counts the pixels of the mask (per attribute: those at or over its threshold,
    before dilation, in the frames that were matched themselves); for a blend it is the mean weight.
    """

    attributes: tuple[str, ...]
    frames: int = 0
    frames_searched: int = 0
    frames_without_match: int = 0
    total: float = 0.0
    largest: float = 0.0
    per_attribute: dict[str, float] = field(default_factory=dict)

    def add(self, hidden_share: float, attribute_shares: list[float] | None, matched: bool) -> None:
        """Take one frame: its hidden share, the share of each attribute, and whether anything was found in it.

        attribute_shares: None for a frame that was not matched itself.
        """
        self.frames += 1
        self.frames_without_match += not matched
        self.total += hidden_share
        self.largest = max(self.largest, hidden_share)
        if attribute_shares is None:
            return
        self.frames_searched += 1
        for name, value in zip(self.attributes, attribute_shares, strict=True):
            self.per_attribute[name] = self.per_attribute.get(name, 0.0) + value

    def as_json(self) -> dict[str, Any]:
        """Means over the frames, and the extremes."""
        frames, searched = max(self.frames, 1), max(self.frames_searched, 1)
        return {
            "frames_searched": self.frames_searched,
            "hidden_share_mean": round(self.total / frames, 6),
            "hidden_share_max": round(self.largest, 6),
            "frames_without_match": self.frames_without_match,
            "attributes": {name: round(value / searched, 6) for name, value in self.per_attribute.items()},
        }


@dataclass(frozen=True)
class HideResult:
    """The outcome of one run.

    output: the path that was asked for.  frames: how many were written.  attributes: empty where a comparison
    method covered the whole frame.  mask: where it came from.  not_for_release: why the output must
    not be published (empty if there is no known reason).  notes: sentences about what was dropped or changed.
    seconds: wall time in all and per stage; stages overlap, so together they may be more.  policy: what it said, which
    parts arguments set, and what it took away from the masks (`given_back`); empty without one.
    """

    output: str
    frames: int
    attributes: tuple[str, ...]
    settings: dict[str, Any]
    backbone: dict[str, str]
    flow: str
    mask: dict[str, str]
    device: dict[str, str]
    coverage: dict[str, Any]
    audio: str
    not_for_release: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: dict[str, float]
    versions: dict[str, str]
    policy: dict[str, Any] = field(default_factory=dict)

    @property
    def frames_per_second(self) -> float:
        """Throughput, end to end."""
        return self.frames / self.seconds["total"] if self.seconds["total"] > 0 else 0.0

    def as_json(self) -> dict[str, Any]:
        """One JSON document with `schema_version`."""
        content = asdict(self)
        content["seconds"] = {name: round(value, 3) for name, value in self.seconds.items()}
        content["frames_per_second"] = round(self.frames_per_second, 2)
        return {"schema_version": RESULT_SCHEMA_VERSION, **content, "disclaimer": DISCLAIMER}


@dataclass(frozen=True)
class SaliencyResult:
    """The outcome of `saliency`: heat maps of `frames` frames at `output`; they show the input."""

    output: str
    frames: int
    attributes: tuple[str, ...]
    backbone: str
    settings: dict[str, Any]
    not_for_release: tuple[str, ...] = ("the heat maps show the input",)

    def as_json(self) -> dict[str, Any]:
        """One JSON document with `schema_version`."""
        return {"schema_version": RESULT_SCHEMA_VERSION, **asdict(self)}


def library_versions() -> dict[str, str]:
    """Versions of this package and of the libraries that decide its results; optional ones if installed."""
    return dict(_library_versions())


@cache
def _library_versions() -> dict[str, str]:
    # read once: it takes milliseconds, and thousands of small videos may ask
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str] = {}
    decisive = ("anonymotion", "torch", "torchvision", "timm", "av", "opencv-python-headless", "numpy")
    for name in (*decisive, *OPTIONAL):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            if name not in OPTIONAL:
                found[name] = "unknown"
    return found
