"""The attack report: what came back from a hidden video, in words and as JSON.

It shows the original: it is for whoever made the video, never for release.

Not here: the file that it is written to (page), the attacks (recovery), how scores are judged (scores).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anonymotion.attacks.chance import Concealment
from anonymotion.attacks.evidence import View
from anonymotion.attacks.examine import LEAST_NULLS, Examination, examine
from anonymotion.attacks.files import Masks, Stretch, read_view
from anonymotion.attacks.outline import silhouette_overlap
from anonymotion.errors import SettingsError
from anonymotion.presets import Settings

ATTACK_SCHEMA_VERSION = 1
WARNING = "This report shows the original. It is for checking, not for release."
CLAIM = (
    "Nothing recovered means: these attacks gave no more than chance. It is no proof that no attack can, and it says "
    "nothing about what the masks missed."
)
NOT_HIDDEN = (
    "that somebody is there",
    "the silhouette: the mask shows it",
    "gait and gestures: the noise moves with the scene",
    "voices, if the audio is kept",
)


@dataclass(frozen=True)
class Outcome:
    """All that an attack on a hidden video gave."""

    view: View
    concealment: Concealment
    stretch: Stretch
    examination: Examination

    @property
    def recovered(self) -> list[str]:
        """The attacks that gave more than chance."""
        return [found.attack for found in self.examination.recovered]

    def as_json(self) -> dict[str, Any]:
        """One JSON document with `schema_version`."""
        scene, settings = self.view.scene, self.concealment.settings
        return {
            "schema_version": ATTACK_SCHEMA_VERSION,
            "warning": WARNING,
            "recovered": self.recovered,
            "findings": [found.as_json() for found in self.examination.findings],
            "left_out": self.examination.left_out,
            "frame": self.stretch.reference,
            "frames": [self.stretch.start, self.stretch.stop - 1],
            "crop": [scene.box.x0, scene.box.y0, scene.box.x1, scene.box.y1],
            "core_pixels": int(scene.core.sum()),
            "uncovered_share": round(scene.uncovered_share, 4),
            "silhouette_overlap": round(silhouette_overlap(self.view, settings), 4),
            "seed_known": self.concealment.seed_is_known,
            "encoded_as": self.concealment.suffix,
            "hidden_with": {name: getattr(settings, name) for name in ("preset", "method", "noise", "composite")},
            "not_hidden": list(NOT_HIDDEN),
            "claim": CLAIM,
        }

    def lines(self) -> list[str]:
        """What a person should read, in a few sentences."""
        found = self.examination.of_the_core
        best = self.examination.best
        inside = sum(entry.inside for entry in found)
        low, high = best.ncc_range.low, best.ncc_range.high
        verdict = f"recovered by {', '.join(self.recovered)}" if self.recovered else "nothing recovered"
        lines = [
            f"{verdict}: {inside} of {len(found)} attacks are in the range in which chance is with 99 %; the best, "
            f"{best.attack}, has a correlation of {best.score.ncc:.2f} with the original (chance: {low:.2f} to "
            f"{high:.2f}) inside the mask of frame {self.stretch.reference}"
        ]
        share = self.view.scene.uncovered_share
        if share >= 0.01:
            lines.append(
                f"{share:.0%} of what was attacked leaves the mask in frames {self.stretch.start} to "
                f"{self.stretch.stop - 1}, as far as the flow can be followed: look at these frames"
            )
        return lines


def attack_files(
    original: Path,
    hidden: Path,
    masks: Masks,
    settings: Settings,
    *,
    seed: int | None = None,
    nulls: int = LEAST_NULLS,
    trained: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **reading: Any,
) -> Outcome:
    """Play the adversary on a finished file.

    masks, settings: those of the run that made `hidden`.  seed: of its noise, if the adversary knows it.
    nulls: outputs that make the null distributions, from 50.  trained: also train a network (some minutes).
    reading: see `files.read_view`.  Raises SettingsError, or InputError if the files do not belong together.
    """
    if nulls < LEAST_NULLS:
        raise SettingsError(f"{nulls} outputs are too few for a null distribution: use {LEAST_NULLS} or more")
    view, concealment, stretch = read_view(original, hidden, masks, settings, seed=seed, **reading)
    extra = {}
    if trained:
        from anonymotion.attacks.inverter import NAME, trained_attack

        extra[NAME] = trained_attack(view.scene, concealment)
    return Outcome(view, concealment, stretch, examine(view, concealment, nulls=nulls, extra=extra, progress=progress))
