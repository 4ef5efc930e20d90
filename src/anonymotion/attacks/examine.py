"""All attacks on one hidden clip, each score beside its null distribution.

Not here: single attacks (recovery), what chance gives (chance), files (files), the page (page).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from anonymotion.attacks.chance import Concealment, Unrelated
from anonymotion.attacks.evidence import Scene, View
from anonymotion.attacks.recovery import INPAINTING, RIM, Attack, attacks_for, inpaint_blacked_out
from anonymotion.attacks.scores import Finding, Grey, Region, Score, finding, score

LEAST_NULLS = 50


@dataclass
class Examination:
    """The findings of one hidden clip, in the order of `recovery.attacks_for`.

    pictures: the estimate of each attack, (h, w) float32.  left_out: attacks that mean nothing here.
    """

    findings: list[Finding] = field(default_factory=list)
    pictures: dict[str, Grey] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    @property
    def of_the_core(self) -> list[Finding]:
        """Findings inside the mask; the rim lies outside and is soft on purpose."""
        return [found for found in self.findings if found.region == "core"]

    @property
    def best(self) -> Finding:
        """The finding that is farthest outside of its null range, or nearest to its end."""
        return max(self.of_the_core, key=_excess)

    @property
    def recovered(self) -> list[Finding]:
        """Findings inside the mask that chance does not explain, judged together (see Finding.inside_jointly)."""
        return [found for found in self.of_the_core if not found.inside_jointly]


def _excess(found: Finding) -> float:
    """Distance of the NCC from the middle of its null range, in half widths."""
    low, high = found.ncc_range.low, found.ncc_range.high
    return abs(found.score.ncc - (low + high) / 2) / max((high - low) / 2, 1e-9)


def region_of(attack: str, scene: Scene) -> Region:
    """Where an attack is scored: in the core, or for the rim in the rim."""
    alpha = scene.alpha[scene.reference]
    return (alpha > 0) & (alpha < 1) if attack == RIM else scene.core


def estimates(view: View, attacks: Mapping[str, Attack]) -> Iterator[tuple[str, Grey]]:
    """The estimate of every attack that means something here, by name."""
    for name, attack in attacks.items():
        estimate = attack(view)
        if estimate is not None:
            yield name, estimate


def scores_of(view: View, attacks: Mapping[str, Attack]) -> dict[str, Score]:
    """The scores of every attack against the truth of the scene."""
    scene = view.scene
    return {name: score(found, scene.truth, region_of(name, scene)) for name, found in estimates(view, attacks)}


def judged(view: View, attacks: Mapping[str, Attack], chance: Mapping[str, list[Score]]) -> Examination:
    """The real view's estimates, scored against what chance gave for each attack."""
    scene, examination = view.scene, Examination()
    found = dict(estimates(view, attacks))
    examination.left_out = [name for name in attacks if name not in found]
    examination.pictures = found
    tests = sum(name != RIM for name in found)
    for name, estimate in found.items():
        region = region_of(name, scene)
        real = score(estimate, scene.truth, region)
        reference = None
        if name == INPAINTING:
            blind = inpaint_blacked_out(view)
            reference = None if blind is None else score(blind, scene.truth, region)
        where = "rim" if name == RIM else "core"
        examination.findings.append(finding(name, real, chance[name], tests, where, reference))
    return examination


def examine(
    view: View,
    concealment: Concealment,
    *,
    nulls: int = LEAST_NULLS,
    extra: Mapping[str, Attack] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Examination:
    """Attack a hidden clip, and `nulls` outputs of unrelated content made alike; what came back.

    view: the real output, with what the adversary takes for its noise.  extra: further attacks by name.
    progress: called with (done, of) after each output.
    """
    scene = view.scene
    attacks = {**attacks_for(concealment.settings.method, scene.frame_hw, concealment.settings.at_native)}
    attacks.update(extra or {})
    content, chance = Unrelated(seed=0), dict[str, list[Score]]()
    for done, (before, after, _) in enumerate(concealment.by_chance(scene, content, nulls), 1):
        for name, value in scores_of(before if after is None else after, attacks).items():
            chance.setdefault(name, []).append(value)
        if progress is not None:
            progress(done, nulls)
    return judged(view, attacks, chance)
