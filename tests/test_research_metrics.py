"""Metrics against hand-made cases and the identities of eq. 6; predictions survive their file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonymotion.errors import InputError
from anonymotion.research.metrics import (
    Outcomes,
    average,
    balanced_accuracy,
    bootstrap,
    bootstrap_mean,
    chance_level,
    leakage,
    strongest,
    top1,
    trade_off,
    trade_off_error,
)
from anonymotion.research.predict import Predictions, read_predictions, write_predictions

SHARE = st.floats(0, 1)


def outcomes(right: list[list[int]], groups: list[str] | None = None) -> Outcomes:
    """Label 0 everywhere; a 1 in `right` is a clip that was recognised."""
    count = len(right[0])
    clips = tuple(f"clip{number}" for number in range(count))
    return Outcomes(clips, tuple(groups or clips), np.zeros(count, int), 1 - np.array(right))


def test_top1_and_balanced_accuracy_differ_on_unequal_classes() -> None:
    labels, predicted = np.array([0, 0, 0, 1]), np.zeros(4, int)
    assert top1(labels, predicted) == 0.75
    assert balanced_accuracy(labels, predicted) == 0.5
    assert chance_level(labels) == 0.75


@pytest.mark.parametrize("function", [top1, balanced_accuracy])
def test_unequal_or_empty_inputs_are_refused(function: object) -> None:
    for labels, predicted in ((np.zeros(3, int), np.zeros(2, int)), (np.zeros(0, int), np.zeros(0, int))):
        with pytest.raises(ValueError, match="one each per clip"):
            function(labels, predicted)  # type: ignore[operator]


def test_leakage_is_zero_at_chance_one_at_certainty_and_negative_below() -> None:
    assert leakage(0.615, 0.615) == 0
    assert leakage(1, 0.25) == 1
    assert leakage(0.519, 32 / 52) == pytest.approx((0.519 - 32 / 52) / (20 / 52))
    assert leakage(0.519, 32 / 52) < 0
    with pytest.raises(ValueError, match="chance 1"):
        leakage(1, 1)


@given(SHARE, SHARE)
def test_f_is_a_at_0_and_one_minus_p_at_1(action: float, privacy: float) -> None:
    assert trade_off(action, privacy, 0) == action
    assert trade_off(action, privacy, 1) == 1 - privacy


@given(SHARE, SHARE, SHARE, SHARE, SHARE)
def test_f_is_linear_in_lambda(action: float, privacy: float, one: float, other: float, part: float) -> None:
    between = part * one + (1 - part) * other
    mixed = part * trade_off(action, privacy, one) + (1 - part) * trade_off(action, privacy, other)
    assert trade_off(action, privacy, min(max(between, 0), 1)) == pytest.approx(mixed, abs=1e-9)


@given(SHARE, SHARE)
def test_the_mean_of_f_over_lambda_is_f_at_one_half(action: float, privacy: float) -> None:
    weights = np.linspace(0, 1, 101)
    mean = np.mean([trade_off(action, privacy, float(weight)) for weight in weights])
    assert mean == pytest.approx(trade_off(action, privacy), abs=1e-9)


@given(SHARE, SHARE, SHARE, st.floats(0, 0.5))
def test_f_rises_with_action_and_falls_with_privacy(a: float, p: float, weight: float, step: float) -> None:
    assert trade_off(min(a + step, 1), p, weight) >= trade_off(a, p, weight) - 1e-12
    assert trade_off(a, min(p + step, 1), weight) <= trade_off(a, p, weight) + 1e-12


def test_f_of_the_papers_rows() -> None:
    """Table 2, KTH: original .49, the paper's method .92."""
    assert round(trade_off(0.9015, 0.9187), 2) == 0.49
    assert round(trade_off(0.8867, 0.0546), 2) == 0.92


def test_average_is_over_networks_and_seeds_and_the_strongest_is_named() -> None:
    networks = {"weak": outcomes([[1, 0, 0, 0], [0, 0, 0, 0]]), "strong": outcomes([[1, 1, 1, 0], [1, 1, 0, 0]])}
    assert average(list(networks.values())) == pytest.approx((0.125 + 0.625) / 2)
    assert strongest(networks) == "strong"
    assert networks["strong"].spread == pytest.approx(0.125)


def test_a_clip_cannot_be_tested_twice() -> None:
    with pytest.raises(ValueError, match="tested twice"):
        Outcomes(("a", "a"), ("a", "a"), np.zeros(2, int), np.zeros((1, 2), int))


def test_the_interval_holds_the_value_and_is_wider_over_fewer_videos() -> None:
    right = [[number % 2 for number in range(40)]]
    by_clip = outcomes(right)
    by_video = outcomes(right, [f"video{(number % 2) * 2 + number // 20}" for number in range(40)])
    narrow, wide = (bootstrap([o], lambda w, o=o: average([o], w[0])) for o in (by_clip, by_video))
    assert narrow.value == wide.value == 0.5
    assert narrow.low < 0.5 < narrow.high
    assert wide.high - wide.low > narrow.high - narrow.low


def test_one_draw_serves_all_outcomes() -> None:
    """Two columns of the same videos, equal in every draw: their difference has no spread."""
    one, two = outcomes([[1, 0, 1, 0, 1]]), outcomes([[1, 0, 1, 0, 1]])
    found = bootstrap([one, two], lambda w: average([one], w[0]) - average([two], w[1]))
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_the_same_seed_gives_the_same_interval() -> None:
    one = outcomes([[1, 0, 1, 0, 1, 1, 0]])
    first, second = (bootstrap([one], lambda w: average([one], w[0]), seed=3) for _ in range(2))
    assert first == second


def predictions() -> Predictions:
    scores = np.log(np.array([[0.7, 0.3], [0.25, 0.75], [0.5, 0.5]]))
    return Predictions(("a,b", "c", "d"), ("v", "v", "w"), np.array([0, 1, 1]), scores, ("run", 'wa"ve'))


def test_predictions_survive_their_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "test.csv"
    write_predictions(predictions(), path)
    back = read_predictions(path)
    assert (back.clips, back.groups, back.classes) == (("a,b", "c", "d"), ("v", "v", "w"), ("run", 'wa"ve'))
    assert back.labels.tolist() == [0, 1, 1]
    assert back.predicted.tolist() == [0, 1, 0]
    assert np.allclose(back.scores, predictions().scores, atol=1e-5)
    assert [p.name for p in path.parent.iterdir()] == ["test.csv"]


@pytest.mark.parametrize(
    "text", ["", "clip,group,label,x\n", "clip,group,label,x\na,a,y,0.1\n", "clip,group,label,x\na"]
)
def test_a_damaged_file_of_predictions_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"p\.csv is no file of predictions"):
        read_predictions(path)


def test_a_network_that_diverged_gives_no_predictions() -> None:
    with pytest.raises(ValueError, match="diverged"):
        Predictions(("a",), ("a",), np.array([0]), np.array([[np.nan, 0]]), ("x", "y"))


def test_the_mean_of_values_has_the_interval_of_drawing_them_again() -> None:
    found = bootstrap_mean(np.array([0.0, 1.0] * 50))
    assert found.value == 0.5
    # the standard error is 0.05: 95 % within about twice that
    assert found.low == pytest.approx(0.4, abs=0.015)
    assert found.high == pytest.approx(0.6, abs=0.015)
    with pytest.raises(ValueError, match="N at least 1"):
        bootstrap_mean(np.zeros(0))


def test_the_error_of_f_is_that_of_its_two_shares() -> None:
    action, privacy = outcomes([[1, 0] * 50]), outcomes([[1, 1, 0, 0] * 25])
    # shares of 0.5 of 100 independent clips: 0.05 each; the two are of the same clips, and not correlated
    assert trade_off_error([action], [privacy]) == pytest.approx(0.05 / 2**0.5, rel=0.1)
    assert trade_off_error([action], [privacy], weight=0) == pytest.approx(0.05, rel=0.1)
    # right in both or in none: f is the same whatever is drawn
    assert trade_off_error([action], [action]) == pytest.approx(0, abs=1e-9)
    # two clips per video: half as many independent draws
    groups = [f"video{number // 4}" for number in range(100)]
    paired = outcomes([[1, 1, 1, 1, 0, 0, 0, 0] * 12 + [1] * 4], groups)
    assert trade_off_error([paired], [privacy], weight=0) > 0.09
