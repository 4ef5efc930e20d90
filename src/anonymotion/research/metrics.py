"""What is computed from predictions: accuracies, leakage, the trade-off of eq. 6, intervals.

Everything takes numpy arrays and gives Python floats in [0, 1] (the trade-off and accuracies) or below (leakage may be
negative: an attacker can be worse than guessing).  Nothing is dropped: an empty or unequal input is a ValueError, and
`Outcomes` refuses a clip that was tested twice.

Not here: where predictions come from (predict), how numbers are printed (tables).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

BOOTSTRAP_SAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A value in its own unit and the ends of its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def top1(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Share of clips whose predicted class is the right one.

    labels, predicted: (N,) integers.  The denominator is N, the number of clips of the split.
    """
    _check(labels, predicted)
    return float((labels == predicted).mean())


def balanced_accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Mean over the classes that occur of the share of each that was recognised; (N,) integers each."""
    _check(labels, predicted)
    right = labels == predicted
    return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


def chance_level(labels: np.ndarray) -> float:
    """p0: the top-1 accuracy of always naming the most frequent class of the tested clips; (N,) integers."""
    _check(labels, labels)
    return float(np.unique(labels, return_counts=True)[1].max() / len(labels))


def leakage(accuracy: float, chance: float) -> float:
    """(p - p0) / (1 - p0): 0 for guessing, 1 for certainty, negative below chance.

    accuracy: p in [0, 1].  chance: p0 in [0, 1); a task with one class cannot leak, and is a ValueError.
    """
    if not 0 <= accuracy <= 1 or not 0 <= chance < 1:
        raise ValueError(f"accuracy {accuracy} and chance {chance}: expected [0, 1] and [0, 1)")
    return (accuracy - chance) / (1 - chance)


def trade_off(action: float, privacy: float, weight: float = 0.5) -> float:
    """f_lambda(a, p) = (1 - lambda) a + lambda (1 - p), eq. 6; all three in [0, 1]."""
    if not all(0 <= value <= 1 for value in (action, privacy, weight)):
        raise ValueError(f"a={action}, p={privacy}, lambda={weight}: expected values in [0, 1]")
    return (1 - weight) * action + weight * (1 - privacy)


@dataclass(frozen=True)
class Outcomes:
    """Which clips one attacker or action network got right, over all folds and seeds.

    clips: N ids.  groups: N names, what the bootstrap resamples (the video).  right: (seeds, N) bool.
    labels: (N,) integers.  predicted: (seeds, N) integers.
    """

    clips: tuple[str, ...]
    groups: tuple[str, ...]
    labels: np.ndarray
    predicted: np.ndarray

    def __post_init__(self) -> None:
        count = len(self.clips)
        if len(set(self.clips)) != count:
            raise ValueError("a clip was tested twice by one network and seed: folds must not overlap")
        if len(self.groups) != count or self.labels.shape != (count,) or self.predicted.shape[1:] != (count,):
            raise ValueError(f"{count} clips do not fit labels {self.labels.shape} and {self.predicted.shape}")

    @property
    def right(self) -> np.ndarray:
        """(seeds, N) bool."""
        found: np.ndarray = self.predicted == self.labels
        return found

    @property
    def top1(self) -> float:
        """Mean over the seeds."""
        return float(np.mean([top1(self.labels, row) for row in self.predicted]))

    @property
    def balanced(self) -> float:
        """Mean over the seeds of the balanced accuracy."""
        return float(np.mean([balanced_accuracy(self.labels, row) for row in self.predicted]))

    @property
    def spread(self) -> float:
        """Standard deviation of the top-1 accuracy over the seeds; 0 for one seed."""
        return float(np.std([top1(self.labels, row) for row in self.predicted]))


def average(networks: Sequence[Outcomes], weights: np.ndarray | None = None) -> float:
    """Mean top-1 over networks and seeds; `weights`, (N,), counts how often each clip is drawn."""
    return float(np.mean([_share(outcomes, weights) for outcomes in networks]))


def strongest(networks: dict[str, Outcomes]) -> str:
    """Name of the network with the highest mean top-1; the first of equals.

    Chosen on the clips that it is then reported on, so its accuracy errs against the method that is attacked.
    """
    return max(networks, key=lambda name: networks[name].top1)


def bootstrap(
    outcomes: Sequence[Outcomes], statistic: Callable[[Sequence[np.ndarray | None]], float], seed: int = 0
) -> Interval:
    """The value of `statistic` and its 95 % percentile interval when videos are drawn with replacement.

    outcomes: what the statistic is made of.  One draw serves all of them: a video that several of them tested is in
        all or in none.
    statistic: weights (how often each clip of each of `outcomes` is drawn, or None for once each) -> value.
    """
    names = sorted({group for outcome in outcomes for group in outcome.groups})
    positions = {name: place for place, name in enumerate(names)}
    where = [np.array([positions[group] for group in outcome.groups]) for outcome in outcomes]
    random = np.random.default_rng(seed)
    values: list[float] = []
    while len(values) < BOOTSTRAP_SAMPLES:
        counts = np.bincount(random.integers(len(names), size=len(names)), minlength=len(names))
        drawn = [counts[place] for place in where]
        if all(weights.any() for weights in drawn):
            values.append(statistic(drawn))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(statistic([None] * len(outcomes)), float(low), float(high))


def bootstrap_mean(values: np.ndarray, seed: int = 0) -> Interval:
    """The mean of (N,) float64, N >= 1, and its 95 % percentile interval when they are drawn with replacement."""
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values {values.shape}: expected (N,) with N at least 1")
    random = np.random.default_rng(seed)
    means = values[random.integers(len(values), size=(BOOTSTRAP_SAMPLES, len(values)))].mean(axis=1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(values.mean()), float(low), float(high))


def trade_off_error(
    action: Sequence[Outcomes], privacy: Sequence[Outcomes], weight: float = 0.5, seed: int = 0
) -> float:
    """Standard error of f (eq. 6) of mean accuracies: its standard deviation over draws of videos with replacement.

    As `bootstrap` draws, but all at once, for those who ask of many candidates.
    """
    names = sorted({group for outcome in (*action, *privacy) for group in outcome.groups})
    random = np.random.default_rng(seed)
    drawn = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=BOOTSTRAP_SAMPLES)
    means = []
    for side in (action, privacy):
        shares = []
        for outcome in side:
            place = np.array([names.index(group) for group in outcome.groups])
            right = np.bincount(place, outcome.right.mean(axis=0), len(names))
            clips = drawn @ np.bincount(place, minlength=len(names))
            with np.errstate(invalid="ignore"):
                shares.append((drawn @ right) / clips)  # NaN where no clip of this side was drawn
        means.append(np.mean(shares, axis=0))
    f = (1 - weight) * means[0] + weight * (1 - means[1])
    return float(f[np.isfinite(f)].std())


def _share(outcomes: Outcomes, weights: np.ndarray | None) -> float:
    return float(np.average(outcomes.right.mean(axis=0), weights=weights))


def _check(labels: np.ndarray, predicted: np.ndarray) -> None:
    if labels.ndim != 1 or labels.shape != predicted.shape or not len(labels):
        raise ValueError(f"labels {labels.shape} and predictions {predicted.shape}: expected one each per clip")
