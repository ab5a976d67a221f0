"""Agreement with the truth, against the definitions, enumeration and simulation."""

from itertools import product

import numpy as np
import pytest

from tunix_rt.stats.agreement import bootstrap_kappa, kappa, rogan_gladen, rogan_gladen_interval


def kappa_by_definition(pairs: list[tuple[int, int]]) -> float:
    n = len(pairs)
    agree = sum(truth == rater for truth, rater in pairs) / n
    chance = sum(truth == rater for (truth, _), (_, rater) in product(pairs, pairs)) / n**2
    return (agree - chance) / (1 - chance)


def test_kappa_equals_the_definition_over_all_pairs() -> None:
    generator = np.random.default_rng(3)
    pairs = [(int(a), int(b)) for a, b in generator.integers(0, 3, size=(40, 2))]
    table = [[sum(pair == (row, column) for pair in pairs) for column in range(3)] for row in range(3)]
    assert kappa(table) == pytest.approx(kappa_by_definition(pairs), rel=1e-12)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ([[5, 0], [0, 5]], 1.0),
        ([[0, 5], [5, 0]], -1.0),
        ([[5, 0], [5, 0]], 0.0),
        ([[20, 5], [10, 15]], 0.4),  # agree 0.7, by chance 0.5
        ([[0, 0, 5], [0, 0, 5], [0, 0, 0]], 0.0),  # nothing decided
    ],
)
def test_kappa_of_known_tables(table: list[list[int]], expected: float) -> None:
    assert kappa(table) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("table", [[[0, 0], [0, 0]], [[1, 2]], [[1, -1], [1, 1]], [[5, 0], [0, 0]]])
def test_tables_without_a_kappa_are_refused(table: list[list[int]]) -> None:
    with pytest.raises(ValueError, match=r"table must be|one label"):
        kappa(table)


def test_bootstrap_of_two_items_is_their_enumeration() -> None:
    good, bad = [[1, 0], [0, 1]], [[1, 0], [1, 0]]
    found = bootstrap_kappa([good, bad], seed=1, confidence=0.9)
    values = sorted(kappa((np.array(a) + np.array(b)).tolist()) for a in (good, bad) for b in (good, bad))
    assert (found.low, found.high) == (values[0], values[-1])


def test_bootstrap_of_equal_items_has_no_width() -> None:
    found = bootstrap_kappa([[[1, 0], [0, 1]]] * 50, seed=1)
    assert (found.low, found.high) == (1.0, 1.0)


def test_bootstrap_covers_the_true_kappa() -> None:
    generator = np.random.default_rng(5)
    covered = 0
    for trial in range(200):
        accepts = generator.random((80, 2)) < [0.85, 0.25]  # kappa 2 · 0.8 - 1
        tables = [[[int(r), int(not r)], [int(w), int(not w)]] for r, w in accepts]
        found = bootstrap_kappa(tables, seed=trial, resamples=400)
        covered += found.low <= 0.6 <= found.high
    assert 180 <= covered <= 200


@pytest.mark.parametrize(
    ("apparent", "expected"), [(0.1, 0.0), (0.9, 1.0), (0.5, 0.5), (0.05, 0.0), (0.34, 0.3)]
)
def test_rogan_gladen(apparent: float, expected: float) -> None:
    assert rogan_gladen(apparent, 0.9, 0.9) == pytest.approx(expected)


def test_a_perfect_rater_needs_no_correction() -> None:
    assert rogan_gladen(0.37, 1.0, 1.0) == pytest.approx(0.37)


@pytest.mark.parametrize(("sensitivity", "specificity"), [(0.5, 0.5), (0.2, 0.7), (1.1, 0.9)])
def test_a_rater_no_better_than_chance_corrects_nothing(sensitivity: float, specificity: float) -> None:
    with pytest.raises(ValueError, match=r"no better than chance|must be in"):
        rogan_gladen(0.5, sensitivity, specificity)


def test_interval_of_the_corrected_rate_is_the_formula() -> None:
    found = rogan_gladen_interval(
        0.4, 100, sensitivity=0.9, sensitivity_count=50, specificity=0.8, specificity_count=50
    )
    z = 1.959963984540054
    a, n = (40 + z * z / 2) / (100 + z * z), 100 + z * z
    se, sp = 46 / 52, 41 / 52
    t = (a + sp - 1) / (se + sp - 1)
    middle = t + 2 * z * z * (t * se * (1 - se) / 52 - (1 - t) * sp * (1 - sp) / 52)
    variance = a * (1 - a) / n + t**2 * se * (1 - se) / 52 + (1 - t) ** 2 * sp * (1 - sp) / 52
    spread = z * variance**0.5 / (se + sp - 1)
    assert (found.low, found.high) == pytest.approx((middle - spread, middle + spread), rel=1e-9)


@pytest.mark.parametrize("true_rate", [0.05, 0.3, 0.8])
def test_interval_covers_the_true_rate(true_rate: float) -> None:
    generator = np.random.default_rng(7)
    sensitivity, specificity, n, m = 0.85, 0.75, 150, 80
    covered = 0
    for _ in range(1000):
        apparent = generator.binomial(n, true_rate * sensitivity + (1 - true_rate) * (1 - specificity)) / n
        se, sp = generator.binomial(m, sensitivity) / m, generator.binomial(m, specificity) / m
        found = rogan_gladen_interval(
            apparent, n, sensitivity=se, sensitivity_count=m, specificity=sp, specificity_count=m
        )
        covered += found.low <= true_rate <= found.high
    assert 930 <= covered <= 995


def test_more_calibration_narrows_the_interval() -> None:
    widths = []
    for m in (20, 200, 2000):
        found = rogan_gladen_interval(
            0.5, 500, sensitivity=0.9, sensitivity_count=m, specificity=0.9, specificity_count=m
        )
        widths.append(found.high - found.low)
    assert widths == sorted(widths, reverse=True)


def test_counts_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"count"):
        rogan_gladen_interval(
            0.5, 0, sensitivity=0.9, sensitivity_count=5, specificity=0.9, specificity_count=5
        )
