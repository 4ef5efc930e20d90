"""The search over subsets, the Pareto front and the rule of one standard error, against cases worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonymotion.errors import SettingsError
from anonymotion.research.selection import Candidate, Score, Scored, pareto_front, recommend, search


def score(action: float, privacy: float, error: float = 0.01, hidden: float = 0.1) -> Score:
    return Score(action, privacy, (action + 1 - privacy) / 2, error, hidden)


A, B, C, D = (Candidate((name,)) for name in "abcd")


def test_the_front_is_what_nothing_beats() -> None:
    scored = [
        (A, score(0.9, 0.5)),  # best action
        (B, score(0.8, 0.5)),  # beaten by a
        (C, score(0.7, 0.2)),  # best privacy
        (D, score(0.8, 0.3)),  # between
        (Candidate(("a", "b")), score(0.8, 0.3)),  # equal to d: neither beats the other
    ]
    assert [candidate for candidate, _ in pareto_front(scored)] == [A, C, D, Candidate(("a", "b"))]


SHARES = st.floats(0, 1)


@given(st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=12))
def test_whatever_is_not_on_the_front_is_beaten_by_one_that_is(points: list[tuple[float, float]]) -> None:
    scored = [(Candidate((str(number),)), score(a, p)) for number, (a, p) in enumerate(points)]
    front = pareto_front(scored)
    assert front
    for _, one in (item for item in scored if item not in front):
        assert any(other.action >= one.action and other.privacy <= one.privacy for _, other in front)


def test_the_smallest_subset_within_one_standard_error_of_the_best_is_recommended() -> None:
    best = (Candidate(("a", "b", "c")), Score(0.9, 0.1, 0.90, 0.03, 0.3))
    near = (Candidate(("a", "b")), Score(0.9, 0.14, 0.88, 0.09, 0.2))
    edge = (A, Score(0.9, 0.16, 0.87, 0.09, 0.15))  # exactly one standard error of the best one below it
    below = (B, Score(0.9, 0.17, 0.869, 0.9, 0.05))  # its own standard error does not count
    assert recommend([best, near, edge, below]) == edge
    assert recommend([best, near, below]) == near
    assert recommend([best, below]) == best


def test_of_two_as_small_the_one_that_hides_less_is_recommended() -> None:
    first, second = (A, score(0.9, 0.2, 0.05, hidden=0.3)), (B, score(0.88, 0.2, 0.05, hidden=0.1))
    assert recommend([first, second]) == second
    assert recommend([first, (B, score(0.88, 0.2, 0.05, hidden=0.4))]) == first


def test_hiding_nothing_is_never_recommended() -> None:
    assert recommend([(Candidate(()), score(1, 0)), (A, score(0.5, 0.5))])[0] == A
    with pytest.raises(SettingsError, match="no candidate hides anything"):
        recommend([(Candidate(()), score(1, 0))])


WORTH = {"a": 0.1, "b": 0.3, "c": 0.2, "d": 0.0}


def measured(tried: list[Candidate]) -> object:
    """b and c are the best two, and together with d they are worse; higher thresholds are worse, too."""

    def measure(candidate: Candidate) -> Score:
        tried.append(candidate)
        privacy = 0.9 - sum(WORTH[name] for name in candidate.attributes) + 0.05 * abs(candidate.scale - 1)
        action = 0.9 - 0.3 * ("d" in candidate.attributes)
        return score(action, privacy)

    return measure


def test_the_search_is_greedy_and_measures_nothing_twice() -> None:
    tried: list[Candidate] = []
    default = Candidate(("a", "d"))
    found = search(measured(tried), "abcd", 2, (0.5, 1.0), also=[default])  # type: ignore[arg-type]
    assert len(tried) == len(set(tried)) == len(found)
    assert [candidate for candidate, _ in found] == [
        Candidate(()),
        default,
        A,
        B,
        C,
        D,
        Candidate(("a", "b")),
        Candidate(("b", "c")),
        Candidate(("b", "d")),
        Candidate(("b",), 0.5),
        Candidate(("b", "c"), 0.5),
    ]
    assert recommend(found)[0] == Candidate(("b", "c"))


def test_of_equals_the_search_goes_on_with_the_one_that_hides_less() -> None:
    def measure(candidate: Candidate) -> Score:
        return score(0.5, 0.5, hidden=0.1 if "c" in candidate.attributes else 0.2)

    found: list[Scored] = search(measure, "abc", 2, (1.0,))
    assert Candidate(("a", "c")) in dict(found)
    assert Candidate(("a", "b")) not in dict(found)


@pytest.mark.parametrize(("most", "scales"), [(0, (1.0,)), (2, (0.0,)), (2, (1.0, -1.0))])
def test_numbers_that_mean_nothing_are_refused(most: int, scales: tuple[float, ...]) -> None:
    with pytest.raises(SettingsError, match="expected 1 or more"):
        search(measured([]), "abc", most, scales)  # type: ignore[arg-type]


def test_a_candidate_says_what_it_hides() -> None:
    assert str(Candidate(())) == "nothing"
    assert str(Candidate(("hair", "leg"))) == "hair, leg"
    assert str(Candidate(("hair",), 0.75)) == "hair (thresholds x 0.75)"
