"""benchmarks/attacking/repeats.py: what is in every output's score, and the averages that leave the rim out."""

from __future__ import annotations

import csv
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from attack_scenes import scene

from anonymotion.attacks.chance import Concealment
from anonymotion.attacks.evidence import View
from anonymotion.attacks.recovery import as_it_is, average, temporal_mean
from anonymotion.presets import settings_for

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # behind everything: it has a coverage.py

from attacking import repeats

STAGES = {"before": "before encoding", "after": "after H.264"}


@pytest.mark.parametrize(
    ("attack", "control"),
    [(average, repeats.average_without_rim), (temporal_mean, repeats.temporal_mean_without_rim)],
)
def test_without_the_rim_only_what_is_wholly_hidden_counts(attack: repeats.Attack, control: repeats.Attack) -> None:
    of = scene(rim=True, step=2)
    shown = np.where((of.alpha >= 1)[..., None], 7, 200).astype(np.uint8).repeat(3, 3)
    view = View(of, shown)
    estimate = control(view)
    assert estimate is not None
    assert np.allclose(estimate[of.core], 7)
    leaking = attack(view)
    assert leaking is not None
    inside = of.alpha[of.reference] >= (1 if attack is average else 0.5)
    assert leaking[inside].max() > 20, "the attack itself takes what is half hidden, too"


def test_the_mean_over_outputs_and_its_error(tmp_path: Path) -> None:
    scores = {"a": ((0.1, 0.3), (-0.2, 0.2)), "b": ((0.0, -0.4), (0.1, 0.1))}
    for clip, (own, chance) in scores.items():
        with repeats.path_of(tmp_path, clip, "strict").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(repeats.HEAD)
            for unrelated, values in enumerate((own, chance)):
                writer.writerows(("strict", clip, "after", "x", n, value, unrelated) for n, value in enumerate(values))
    # means 0.2 and -0.2, variances 0.02 and 0.08 of two outputs each: sqrt(0.01 + 0.04) / 2
    expected = ("strict", "after H.264", "x", "2", "4", "+0.000 ± 0.112", "0.200", "0.150")
    assert list(repeats.table_rows(tmp_path, STAGES)) == [expected]


def test_the_same_clip_is_hidden_again_and_kept(tmp_path: Path) -> None:
    path = repeats.path_of(tmp_path, "clip", "strict")
    made_by = Concealment(settings_for("strict"), Fraction(25), ".mp4")
    for _ in range(2):
        repeats.run(path, "clip", "strict", scene(), made_by, {"none": as_it_is}, 3)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 2 * 2, "outputs, stages, own and unrelated content"
    assert len({row["ncc"] for row in rows}) == len(rows)
    assert max(abs(float(row["ncc"])) for row in rows) < 0.5
