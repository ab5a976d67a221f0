from __future__ import annotations

import pytest

from tunix_rt.gateway.seed_groups import SeedRun, group_seeds, recipe, seed_differences
from tunix_rt.gateway.seed_sentence import group_sentence, pair_sentence
from tunix_rt.v1 import evaluation_pb2, run_pb2
from tunix_rt.v1.gateway_service_pb2 import ComparedSubject, Comparison, PairedComparison

BASE = "models/smol/versions/v1"


def seed_run(name, seed, score, **fields):
    spec = run_pb2.RunSpec(model=BASE, dataset="datasets/sums", steps=100, seed=seed, **fields)
    return SeedRun(run_pb2.Run(name=f"runs/{name}", spec=spec), score)


class TestGroups:
    def test_runs_that_differ_in_their_seed_only_are_a_group_by_seed(self):
        compared, siblings = (
            [seed_run("a", 3, 0.412)],
            [seed_run("b", 1, 0.431), seed_run("c", 2, 0.393), seed_run("d", 4, 0.9, batch_size=8)],
        )
        (group,) = group_seeds(compared, siblings)
        assert list(group.runs) == ["runs/b", "runs/c", "runs/a"]
        assert (list(group.seeds), list(group.scores)) == ([1, 2, 3], [0.431, 0.393, 0.412])
        assert (group.mean, group.standard_deviation) == (pytest.approx(0.412), pytest.approx(0.019))
        assert (group.low, group.high) == (
            pytest.approx(0.364801, abs=1e-6),
            pytest.approx(0.459199, abs=1e-6),
        )

    def test_what_is_done_after_training_does_not_tell_runs_apart(self):
        after = [evaluation_pb2.EvaluationSpec(dataset="datasets/sums")]
        one, other = seed_run("a", 1, 0.4), seed_run("b", 2, 0.4, evaluate_after=after)
        assert recipe(one.run) == recipe(other.run)

    def test_run_alone_is_no_group(self):
        assert group_seeds([seed_run("a", 1, 0.4)], []) == []

    def test_repetition_of_a_seed_is_no_further_evidence(self):
        again = [seed_run("b", 1, 0.41), seed_run("c", 2, 0.5), seed_run("d", 2, 0.6)]
        (group,) = group_seeds([seed_run("a", 1, 0.4)], again)
        assert list(group.runs) == ["runs/a", "runs/c"]

    def test_interval_is_cut_to_scores(self):
        (group,) = group_seeds([seed_run("a", 1, 0.1)], [seed_run("b", 2, 0.9)])
        assert (group.low, group.high, group.chance_difference) == (0.0, 1.0, 1.0)

    def test_two_compared_runs_of_one_recipe_are_one_group(self):
        assert len(group_seeds([seed_run("a", 1, 0.4), seed_run("b", 2, 0.5)], [])) == 1


def group(*scores, prefix):
    runs = [
        seed_run(f"{prefix}{seed}", seed, score, batch_size=ord(prefix)) for seed, score in enumerate(scores)
    ]
    return group_seeds(runs[:1], runs[1:])[0]


class TestDifferences:
    old, new = group(0.412, 0.431, 0.393, prefix="a"), group(0.449, 0.452, 0.420, 0.463, prefix="b")

    def test_two_groups_are_compared_by_their_means(self):
        (found,) = seed_differences([("runs/a0", 0.412), ("runs/b0", 0.449)], [self.old, self.new])
        assert (found.subject, found.difference) == ("runs/b0", pytest.approx(0.034))
        assert (found.low, found.high) == (
            pytest.approx(-0.005704, abs=1e-6),
            pytest.approx(0.073704, abs=1e-6),
        )

    def test_model_version_counts_as_it_is(self):
        (found,) = seed_differences([(BASE, 0.4), ("runs/b0", 0.449)], [self.new])
        assert found.difference == pytest.approx(0.046)

    def test_run_of_one_seed_is_not_compared_over_seeds(self):
        assert list(seed_differences([("runs/x", 0.4), ("runs/b0", 0.449)], [self.new])) == []

    def test_two_runs_of_one_group_are_not_compared_over_seeds(self):
        assert list(seed_differences([("runs/b0", 0.449), ("runs/b1", 0.452)], [self.new])) == []


class TestSentences:
    def comparison(self, baseline, subject, difference, *groups):
        scores = [(baseline, 0.4), (subject, 0.4 + difference)]
        return Comparison(
            subjects=[ComparedSubject(subject=baseline), ComparedSubject(subject=subject)],
            pairs=[PairedComparison(subject=subject, difference=difference)],
            seed_groups=groups,
            seed_differences=seed_differences(scores, groups),
        )

    def said(self, *args):
        comparison = self.comparison(*args)
        return pair_sentence(comparison, comparison.pairs[0])

    def test_group_says_its_spread_and_what_it_means(self):
        text = group_sentence(group(0.412, 0.431, 0.393, prefix="a"), [BASE, "runs/a0"])
        assert text == (
            "3 seeds of a0: 41.2 % ± 1.9 (standard deviation); 95 % interval of the mean 36.5 to 45.9 %. "
            "Two runs that differ in their seed only differ by up to 11.6 points in 95 of 100 cases."
        )

    def test_group_without_spread_says_so(self):
        assert (
            group_sentence(group(0.5, 0.5, prefix="a"), ["runs/a0"])
            == "2 seeds of a0: 50.0 %, the same for each."
        )

    @pytest.mark.parametrize(("difference", "told"), [(0.008, "within"), (0.2, "beyond")])
    def test_run_of_one_seed_is_held_against_the_spread_of_the_other(self, difference, told):
        said = self.said("runs/x", "runs/a0", difference, group(0.412, 0.431, 0.393, prefix="a"))
        assert said == (
            "x has one seed. If its seeds vary as those of the other, the difference of "
            f"{difference * 100:.1f} points is {told} the noise of seeds, 11.6 points."
        )

    def test_runs_of_one_recipe_differ_by_noise(self):
        said = self.said("runs/a0", "runs/a1", 0.019, group(0.412, 0.431, prefix="a"))
        assert said == ("a1 and a0 differ in their seed only: a difference between them is noise of seeds.")

    def test_both_sides_with_seeds_are_compared_by_welch(self):
        said = self.said(BASE, "runs/b0", 0.049, group(0.449, 0.452, 0.420, 0.463, prefix="b"))
        assert said == (
            "Over seeds b0 differs from smol v1 by +4.6 points, 95 % interval +1.7 to +7.5 (Welch): "
            "more than the noise of seeds."
        )

    def test_without_groups_nothing_is_said(self):
        assert self.said("runs/x", "runs/y", 0.1) == ""

    def test_equal_seeds_of_one_side_say_nothing_of_the_difference(self):
        assert self.said(BASE, "runs/a0", 0.1, group(0.5, 0.5, prefix="a")) == ""
