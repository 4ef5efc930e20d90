"""How much of a picture came back, and what chance gives: correlation, structural similarity, and their null range.

Grey pictures are (h, w) float32 in 0..255, regions (h, w) bool.

Not here: what is compared (recovery), where chance comes from (chance).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.float32]
Region = NDArray[np.bool_]

LEAST_HALF_WIDTH = 0.01
"""Of a null range: where chance hardly varies, a smaller difference is still no picture."""

_SSIM_SIGMA = 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ncc(estimate: Grey, truth: Grey, region: Region) -> float:
    """Normalised cross-correlation in -1..1 over the region; 0 where either is constant or not finite."""
    a, b = estimate[region].astype(np.float64), truth[region].astype(np.float64)
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if np.isfinite(norm) and norm > 1e-6 * a.size else 0.0


def fitted(estimate: Grey, truth: Grey, region: Region) -> Grey:
    """The estimate with the brightness and contrast that bring it nearest to the truth in the region."""
    a, b = estimate[region].astype(np.float64), truth[region].astype(np.float64)
    spread = float(a.var())
    gain = float(((a - a.mean()) * (b - b.mean())).mean()) / spread if spread > 1e-9 else 0.0
    return np.asarray(gain * (estimate - a.mean()) + b.mean(), np.float32)


def ssim(estimate: Grey, truth: Grey, region: Region) -> float:
    """Structural similarity (Wang et al. 2004, Gaussian window of sigma 1.5), mean over the region, in -1..1."""
    import cv2

    def smooth(picture: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(picture, (11, 11), _SSIM_SIGMA), np.float64)

    a, b = estimate.astype(np.float64), truth.astype(np.float64)
    mean_a, mean_b = smooth(a), smooth(b)
    var_a, var_b = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2
    both = smooth(a * b) - mean_a * mean_b
    plane = (2 * mean_a * mean_b + _C1) * (2 * both + _C2) / ((mean_a**2 + mean_b**2 + _C1) * (var_a + var_b + _C2))
    return float(plane[region].mean())


@dataclass(frozen=True)
class Score:
    """NCC, and SSIM after the best brightness and contrast (which nobody knows: the worst case)."""

    ncc: float
    ssim: float


def score(estimate: Grey, truth: Grey, region: Region) -> Score:
    """Both scores of an estimate in the region."""
    estimate = np.nan_to_num(estimate, nan=float(np.nanmean(truth)))
    return Score(ncc(estimate, truth, region), ssim(fitted(estimate, truth, region), truth, region))


@dataclass(frozen=True)
class NullRange:
    """Where a further draw from the null distribution lies with the probability asked for; both ends included."""

    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether the value is inside."""
        return self.low <= value <= self.high

    def as_json(self) -> list[float]:
        """[low, high], rounded."""
        return [round(self.low, 4), round(self.high, 4)]


def null_range(values: Sequence[float], probability: float = 0.99) -> NullRange:
    """The prediction interval of one more value after these: mean -+ t s sqrt(1 + 1/n), at least LEAST_HALF_WIDTH.

    t: Student's, n - 1 degrees of freedom.  Raises ValueError for fewer than 3 values.
    """
    if len(values) < 3:
        raise ValueError(f"{len(values)} values are no distribution: expected 3 or more")
    spread = _student(probability, len(values) - 1) * stdev(values) * (1 + 1 / len(values)) ** 0.5
    half = max(spread, LEAST_HALF_WIDTH)
    return NullRange(fmean(values) - half, fmean(values) + half)


def _student(probability: float, degrees: int) -> float:
    """The two-sided quantile of Student's t, by the expansion of Cornish and Fisher (within 1 % from 10 degrees on)."""
    z = NormalDist().inv_cdf(0.5 + probability / 2)
    terms = ((z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return float(z + sum(term / degrees**power for power, term in enumerate(terms, 1)))


@dataclass(frozen=True)
class Finding:
    """One attack, scored.

    region: `core` (the inside of the mask) or `rim` (its soft edge outside).  nulls: draws behind the ranges.
    joint: the ranges that all findings of a report keep at once with 99 %.  reference: the score of what an attack
    has to beat (inpainting: that of a blacked-out region), or None.
    """

    attack: str
    score: Score
    ncc_range: NullRange
    ssim_range: NullRange
    joint: tuple[NullRange, NullRange]
    nulls: int
    region: str = "core"
    reference: Score | None = None

    @property
    def inside(self) -> bool:
        """Nothing recovered: the NCC is in its 99 % range, and the SSIM not above its own."""
        return self.ncc_range.holds(self.score.ncc) and self.score.ssim <= self.ssim_range.high

    @property
    def inside_jointly(self) -> bool:
        """The same with the joint ranges: of many findings some leave their own range by chance."""
        return self.joint[0].holds(self.score.ncc) and self.score.ssim <= self.joint[1].high

    def as_json(self) -> dict[str, Any]:
        """Plain values, rounded to four places."""
        found = {
            "attack": self.attack,
            "region": self.region,
            "ncc": round(self.score.ncc, 4),
            "ssim": round(self.score.ssim, 4),
            "ncc_range": self.ncc_range.as_json(),
            "ssim_range": self.ssim_range.as_json(),
            "nulls": self.nulls,
            "inside": self.inside,
            "inside_jointly": self.inside_jointly,
        }
        if self.reference is not None:
            found["reference"] = {"ncc": round(self.reference.ncc, 4), "ssim": round(self.reference.ssim, 4)}
        return found


def finding(
    attack: str, real: Score, chance: Sequence[Score], tests: int, region: str = "core", reference: Score | None = None
) -> Finding:
    """Put a score into its null distribution; `tests` findings are judged together (Bonferroni, two scores each)."""
    by_chance = [[draw.ncc for draw in chance], [draw.ssim for draw in chance]]
    single = [null_range(values) for values in by_chance]
    joint = [null_range(values, 1 - 0.01 / (2 * tests)) for values in by_chance]
    return Finding(attack, real, single[0], single[1], (joint[0], joint[1]), len(chance), region, reference)
