import numpy as np
import pytest
from scipy import stats

from tunix_rt.stats.clustered import clustered, clustered_error, item_means

GENERATOR = np.random.default_rng(11)
SCORES = GENERATOR.random(60)
FAMILIES = [f"family {number}" for number in GENERATOR.integers(0, 9, size=60)]


def test_error_equals_the_double_sum_over_pairs_of_one_cluster() -> None:
    mean = SCORES.mean()
    total = sum(
        (SCORES[i] - mean) * (SCORES[j] - mean)
        for i in range(60)
        for j in range(60)
        if FAMILIES[i] == FAMILIES[j]
    )
    groups = len(set(FAMILIES))
    expected = (groups / (groups - 1) * total) ** 0.5 / 60
    assert clustered_error(SCORES.tolist(), FAMILIES) == pytest.approx(expected, rel=1e-12)


def test_clusters_of_one_value_give_the_usual_error_and_interval() -> None:
    own = [str(index) for index in range(60)]
    assert clustered_error(SCORES.tolist(), own) == pytest.approx(stats.sem(SCORES), rel=1e-12)
    low, high = stats.norm.interval(0.9, loc=SCORES.mean(), scale=stats.sem(SCORES))
    found = clustered(SCORES.tolist(), own, confidence=0.9)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert found.clusters == 60


def test_copies_of_an_item_are_no_further_evidence() -> None:
    items = [str(index) for index in range(60)]
    once = clustered(SCORES.tolist(), items)
    often = clustered(SCORES.tolist() * 5, items * 5)
    assert (often.low, often.high) == pytest.approx((once.low, once.high), rel=1e-12)


def test_clusters_of_equal_size_give_the_error_of_their_means() -> None:
    means = SCORES.reshape(12, 5).mean(axis=1)
    clusters = [str(index // 5) for index in range(60)]
    assert clustered_error(SCORES.tolist(), clusters) == pytest.approx(stats.sem(means), rel=1e-12)


def test_clustered_error_matches_the_spread_of_simulated_means() -> None:
    generator = np.random.default_rng(2)
    clusters = [str(index // 10) for index in range(400)]
    draws = np.repeat(generator.random((2_000, 40)), 10, axis=1) * 0.6 + generator.random((2_000, 400)) * 0.4
    errors = [clustered_error(row.tolist(), clusters) for row in draws[:100]]
    assert np.mean(errors) == pytest.approx(draws.mean(axis=1).std(ddof=1), rel=0.05)


def test_interval_is_cut_to_scores() -> None:
    found = clustered([1.0] * 9 + [0.0], [str(index) for index in range(10)])
    assert found.high == 1.0
    assert 0 < found.low < 0.9


@pytest.mark.parametrize(
    ("values", "clusters", "message"),
    [
        ([1.0, 0.0], ["a", "a"], "at least two clusters"),
        ([1.0, 0.0], ["a"], "2 values and 1 clusters"),
        ([], [], "no values were given"),
        ([1.0, 2.0], ["a", "b"], r"outside \[0, 1\]"),
    ],
)
def test_impossible_clusters_are_refused(values: list[float], clusters: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        clustered(values, clusters)


def test_samples_are_averaged_item_by_item() -> None:
    means = item_means(["b", "a", "b", "b", "a"], [1.0, 0.0, 0.0, 0.5, 1.0])
    assert list(means.items()) == [("b", 0.5), ("a", 0.5)]


def test_each_score_needs_its_item() -> None:
    with pytest.raises(ValueError, match="1 items and 2 scores"):
        item_means(["a"], [1.0, 0.0])
