"""What is learned from frozen features within seconds: a linear probe, and the nearest neighbour.

Each sampled frame is an example at training; at test the probabilities of a clip's frames are averaged, as the
paper averages the outputs of its privacy networks.  Neither has any randomness: seeds would agree, so a probe is
trained once.

Not here: the features (features).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from anonymotion.errors import MissingDependencyError, SettingsError

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)  # inverse regularisation; chosen on the validation clips
_LEAST = 1e-12  # a probability that is rounded to 0 has a finite logarithm


@dataclass(frozen=True)
class ProbeEntry:
    """features: a name of `features.EXTRACTORS`.  head: what is learned from them."""

    label: str
    features: str
    head: Literal["linear", "nearest"]


PROBES: dict[str, ProbeEntry] = {
    "dinov2-linear": ProbeEntry("DINOv2, linear probe", "dinov2", "linear"),
    "dinov2-nearest": ProbeEntry("DINOv2, nearest neighbour", "dinov2", "nearest"),
    "dinov2-person-linear": ProbeEntry("DINOv2 of the person, linear probe", "dinov2-person", "linear"),
    "dinov2-person-nearest": ProbeEntry("DINOv2 of the person, nearest neighbour", "dinov2-person", "nearest"),
    "flow-linear": ProbeEntry("flow statistics, linear probe", "flow", "linear"),
}


@dataclass(frozen=True)
class Examples:
    """Features of N clips and their classes: (N, F, D) float32 and (N,) integers."""

    features: np.ndarray
    labels: np.ndarray

    @property
    def frames(self) -> tuple[np.ndarray, np.ndarray]:
        """(N * F, D) and (N * F,): every sampled frame with the class of its clip."""
        count = self.features.shape[1]
        return self.features.reshape(-1, self.features.shape[2]), self.labels.repeat(count)


class Probe:
    """A head that was learned; `scores` gives log probabilities, or for the nearest neighbour similarities."""

    def __init__(self, entry: ProbeEntry, classes: int, training: Examples, validation: Examples) -> None:
        self.entry, self.classes = entry, classes
        present = np.unique(training.labels)
        if len(present) < classes:
            raise SettingsError(f"{classes - len(present)} of {classes} classes have no training clip: check the split")
        self.strength: float | None = None
        if entry.head == "nearest":
            self._centre = training.features.mean(axis=(0, 1))
            self._scale = training.features.std(axis=(0, 1)) + 1e-6
            self._known, self._labels = self._directions(training.features), training.labels
        else:
            self._model = self._choose(training, validation)

    def _choose(self, training: Examples, validation: Examples) -> Any:
        """The strength that the validation clips like best, then learned from training and validation clips."""
        if not len(validation.labels):
            self.strength = 0.1
            return _fit(training, self.strength)
        losses = []
        for strength in STRENGTHS:
            chances = self._chances(_fit(training, strength), validation.features)
            losses.append(-np.log(chances[np.arange(len(chances)), validation.labels]).mean())
        self.strength = STRENGTHS[int(np.argmin(losses))]
        both = (np.concatenate(pair) for pair in zip(_pair(training), _pair(validation), strict=True))
        return _fit(Examples(*both), self.strength)

    def _chances(self, model: Any, features: np.ndarray) -> np.ndarray:
        count = features.shape[1]
        per_frame = model.predict_proba(features.reshape(-1, features.shape[2]))
        found: np.ndarray = per_frame.reshape(-1, count, self.classes).mean(axis=1).clip(_LEAST)
        return found

    def scores(self, features: np.ndarray) -> np.ndarray:
        """(N, F, D) -> (N, classes) float64."""
        if self.entry.head == "linear":
            logarithms: np.ndarray = np.log(self._chances(self._model, features))
            return logarithms
        alike = np.einsum("nfd,mgd->nfmg", self._directions(features), self._known).max(axis=3).mean(axis=1)
        best = [alike[:, self._labels == label].max(axis=1) for label in range(self.classes)]
        return np.stack(best, axis=1).astype(np.float64)

    def _directions(self, features: np.ndarray) -> np.ndarray:
        """Unit vectors, of what differs from the training clips: frozen features have a large part in common."""
        different = (features - self._centre) / self._scale
        unit: np.ndarray = different / np.maximum(np.linalg.norm(different, axis=-1, keepdims=True), 1e-12)
        return unit


def _pair(examples: Examples) -> tuple[np.ndarray, np.ndarray]:
    return examples.features, examples.labels


def _fit(examples: Examples, strength: float) -> Any:
    try:
        from sklearn.decomposition import PCA
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except (ImportError, RuntimeError, OSError) as error:
        raise MissingDependencyError(
            "scikit-learn is needed for probes: pip install 'anonymotion[research]'"
        ) from error
    features, labels = examples.frames
    # With an L2 penalty the solution lies in the span of the examples: a rotation into it changes nothing but the time.
    turned = [PCA(svd_solver="full")] if features.shape[1] > len(features) else []
    model = make_pipeline(StandardScaler(), *turned, LogisticRegression(C=strength, max_iter=500))
    # examples that are all alike have no variance to be explained: the rotation is still one
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        # weakly regularised fits of separable classes have their optimum far away; the direction is settled long before
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(features, labels)
