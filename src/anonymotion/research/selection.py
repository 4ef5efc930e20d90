"""Choosing attributes and thresholds by measurement: which subsets are tried, which are best, which is recommended.

A candidate hides some attributes with thresholds that are `scale` times the preset's.  Subsets grow greedily: of all
that have one attribute more than the best of their size, the one with the highest f (eq. 6) goes on.  Of all that were
tried, those that no other beats in both action and privacy are the Pareto front; recommended is the smallest subset
whose f is within one standard error of the best f (Breiman et al., 1984, section 3.4.3).

Not here: how a candidate is measured (choosing), what it hides (maps).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from anonymotion.errors import SettingsError


@dataclass(frozen=True)
class Candidate:
    """Attributes in the library's order, and the factor of their thresholds; none: nothing is hidden."""

    attributes: tuple[str, ...]
    scale: float = 1.0

    def __str__(self) -> str:
        names = ", ".join(self.attributes) or "nothing"
        return names if self.scale == 1 else f"{names} (thresholds x {self.scale:g})"


@dataclass(frozen=True)
class Score:
    """What was measured, in [0, 1].

    action, privacy: shares of clips whose label was recognised.  error: the standard error of f.  hidden: share of the
    pixels.
    """

    action: float
    privacy: float
    f: float
    error: float
    hidden: float


Scored = tuple[Candidate, Score]
Measure = Callable[[Candidate], Score]


def search(
    measure: Measure, attributes: Sequence[str], most: int, scales: Sequence[float], also: Iterable[Candidate] = ()
) -> list[Scored]:
    """Everything that was tried, each candidate once, in the order in which it was tried.

    attributes: that subsets are made of.  most: attributes in a subset.  scales: of thresholds, tried for the best
    subset of each size; the search itself is at 1.  also: candidates that are measured whatever happens.
    Raises SettingsError for a `most` below 1 or a scale that is not positive.
    """
    if most < 1 or any(scale <= 0 for scale in scales):
        raise SettingsError(
            f"at most {most} attributes, scales {list(scales)}: expected 1 or more, and positive numbers"
        )
    tried: dict[Candidate, Score] = {}

    def score(candidate: Candidate) -> Score:
        if candidate not in tried:
            tried[candidate] = measure(candidate)
        return tried[candidate]

    score(Candidate(()))
    for candidate in also:
        score(candidate)
    best: tuple[str, ...] = ()
    path = []
    for _ in range(min(most, len(attributes))):
        grown = [
            Candidate(tuple(name for name in attributes if name in best or name == new))
            for new in attributes
            if new not in best
        ]
        best = max(grown, key=lambda candidate: _merit(score(candidate))).attributes
        path.append(best)
    for subset in path:
        for scale in scales:
            score(Candidate(subset, scale))
    return list(tried.items())


def _merit(score: Score) -> tuple[float, float]:
    """A higher f; of equals the one that hides less of the picture."""
    return round(score.f, 9), -score.hidden


def pareto_front(scored: Sequence[Scored]) -> list[Scored]:
    """Those that no other one beats: at least as good in action and privacy, and better in one of them."""

    def beaten(score: Score) -> bool:
        return any(
            other.action >= score.action
            and other.privacy <= score.privacy
            and (other.action > score.action or other.privacy < score.privacy)
            for _, other in scored
        )

    return [(candidate, score) for candidate, score in scored if not beaten(score)]


def recommend(scored: Sequence[Scored]) -> Scored:
    """The smallest subset within one standard error of the best f; of equals the one that hides least.

    Candidates that hide nothing are left out: nobody needs a policy for them.  Raises SettingsError if all do.
    """
    hiding = [(candidate, score) for candidate, score in scored if candidate.attributes]
    if not hiding:
        raise SettingsError("no candidate hides anything: name attributes to choose from")
    best = max(hiding, key=lambda one: _merit(one[1]))[1]
    near = [(c, score) for c, score in hiding if score.f >= best.f - best.error - 1e-9]
    return min(near, key=lambda one: (len(one[0].attributes), one[1].hidden, -one[1].f))
