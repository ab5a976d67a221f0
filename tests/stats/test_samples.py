from collections import Counter
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest

from tunix_rt.stats.samples import majority_at_k, pass_at_k


@pytest.mark.parametrize("correct", range(8))
@pytest.mark.parametrize("k", range(1, 8))
def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample(correct: int, k: int) -> None:
    marks = [True] * correct + [False] * (7 - correct)
    subsets = list(combinations(marks, k))
    assert pass_at_k(correct, 7, k) == pytest.approx(sum(map(any, subsets)) / len(subsets), abs=1e-15)


@pytest.mark.parametrize(("correct", "samples", "k"), [(3, 200, 100), (1, 64, 32), (60, 64, 8)])
def test_pass_at_k_equals_the_product_of_its_source(correct: int, samples: int, k: int) -> None:
    wrong = samples - correct
    product = 1.0 if wrong < k else 1.0 - np.prod(1.0 - k / np.arange(wrong + 1, samples + 1))
    expected = 1.0 if wrong < k else product
    assert pass_at_k(correct, samples, k) == pytest.approx(expected, rel=1e-12)


def test_pass_at_k_is_unbiased() -> None:
    draws = np.random.default_rng(0).binomial(8, 0.3, size=20_000)
    mean = np.mean([pass_at_k(int(correct), 8, 4) for correct in draws])
    assert mean == pytest.approx(1 - 0.7**4, abs=0.01)


@pytest.mark.parametrize(("correct", "samples", "k"), [(3, 2, 1), (-1, 2, 1), (1, 2, 0), (1, 2, 3)])
def test_pass_at_k_refuses_impossible_counts(correct: int, samples: int, k: int) -> None:
    with pytest.raises(ValueError, match="it must be in"):
        pass_at_k(correct, samples, k)


def enumerated(answers: list[str], right: dict[str, bool], k: int) -> Fraction:
    """The chance that the vote of k samples is right, subset by subset."""
    wins = []
    for subset in combinations(answers, k):
        votes = Counter(answer for answer in subset if answer)
        first = [answer for answer, count in votes.items() if count == max(votes.values())]
        wins.append(Fraction(sum(right[answer] for answer in first), len(first)) if first else Fraction(0))
    return sum(wins) / Fraction(len(wins))


ANSWERS = ["4", "4", "5", "5", "5", "", "6", "4", ""]
RIGHT = {"4": True, "5": False, "6": False, "": False}


@pytest.mark.parametrize("k", range(1, 10))
def test_majority_is_the_share_of_enumerated_votes(k: int) -> None:
    found = majority_at_k(ANSWERS, [RIGHT[answer] for answer in ANSWERS], k, seed=0)
    assert found == pytest.approx(float(enumerated(ANSWERS, RIGHT, k)), abs=1e-12)


def test_drawn_subsets_come_near_the_enumerated_ones() -> None:
    right = [RIGHT[answer] for answer in ANSWERS]
    exact = majority_at_k(ANSWERS, right, 4, seed=0)
    drawn = majority_at_k(ANSWERS, right, 4, seed=1, subsets=100)
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=0.15)  # three standard errors of 100 votes


def test_drawn_subsets_depend_on_the_seed_only() -> None:
    answers = ["4", "5", "6"] * 10
    right = [answer == "4" for answer in answers]
    once, again = (majority_at_k(answers, right, 7, seed=3) for _ in range(2))
    assert once == again
    assert once != majority_at_k(answers, right, 7, seed=4)
    assert once == pytest.approx(1 / 3, abs=0.05)


def test_one_sample_is_the_mean_score() -> None:
    assert majority_at_k(["1", "2", "2", "3"], [True, False, False, False], 1, seed=0) == 0.25


def test_a_tie_is_split() -> None:
    assert majority_at_k(["1", "2"], [True, False], 2, seed=0) == 0.5


def test_no_answer_does_not_vote() -> None:
    assert majority_at_k(["", "", "1"], [False, False, True], 3, seed=0) == 1.0
    assert majority_at_k(["", ""], [False, False], 2, seed=0) == 0.0


def test_an_answer_that_is_right_in_some_samples_counts_in_part() -> None:
    assert majority_at_k(["1", "1", "1", "2"], [True, True, False, False], 4, seed=0) == pytest.approx(2 / 3)


@pytest.mark.parametrize("k", [0, 3])
def test_majority_needs_as_many_samples(k: int) -> None:
    with pytest.raises(ValueError, match="the samples of the item"):
        majority_at_k(["1", "2"], [True, False], k, seed=0)


def test_each_answer_needs_its_mark() -> None:
    with pytest.raises(ValueError, match="2 answers and 1 marks"):
        majority_at_k(["1", "2"], [True], 1, seed=0)
