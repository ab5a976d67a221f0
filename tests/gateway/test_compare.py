from __future__ import annotations

import math

import pytest

from tunix_rt.gateway.compare import build_comparison
from tunix_rt.gateway.evaluation_match import Match, match_evaluations
from tunix_rt.gateway.pairs import Side, compare_items, limit_flips
from tunix_rt.gateway.parameters import differing_parameters
from tunix_rt.gateway.sentence import evidence_sentence, p_value_text, subject_label, verdict_sentence
from tunix_rt.jobs.parameters import flatten_spec
from tunix_rt.stats.paired import mcnemar_exact, minimum_detectable_difference
from tunix_rt.v1 import evaluation_pb2, run_pb2
from tunix_rt.v1.gateway_service_pb2 import ComparedSubject, Comparison, PairedComparison
from tunix_rt.v1.registry_service_pb2 import Curve

CORRECT, WRONG, NO_ANSWER = 1, 2, 3
BASE, TUNED = "models/smol/versions/v1", "runs/tuned"


def items(outcomes, *, prefix="t"):
    return [
        evaluation_pb2.ItemScore(
            trace_id=f"{prefix}{index}", position=index, outcome=outcome, score=float(outcome == CORRECT),
            prompt=f"question {index}", output=f"output {index}", expected_answer="4",
        )
        for index, outcome in enumerate(outcomes)
    ]  # fmt: skip


def evaluation(name, *, dataset="datasets/sums", sha="a" * 64, split="test", max_tokens=256, **spec):
    return evaluation_pb2.Evaluation(
        name=f"evaluations/{name}",
        dataset_sha256=sha,
        spec=evaluation_pb2.EvaluationSpec(
            dataset=dataset, split=split, scorer="exact-answer@2",
            decoding=evaluation_pb2.Decoding(max_tokens=max_tokens), **spec,
        ),
    )  # fmt: skip


def spec(**fields):
    optimizer = run_pb2.OptimizerSpec(learning_rate=fields.pop("learning_rate", 1e-4))
    return run_pb2.RunSpec(model=BASE, steps=100, batch_size=4, optimizer=optimizer, **fields)


class TestItems:
    def test_items_are_paired_by_trace_id_whatever_their_order(self):
        old = items([WRONG, CORRECT, WRONG])
        new = list(reversed(items([CORRECT, CORRECT, WRONG]))) + items([CORRECT], prefix="other")
        pair = compare_items(Side(BASE, items=old), Side(TUNED, items=new))
        assert (pair.count, pair.gained, pair.lost) == (3, 1, 0)
        assert [flip.trace_id for flip in pair.flips] == ["t0"]
        assert pair.difference == pytest.approx(1 / 3)

    def test_eight_gained_and_one_lost_is_better_by_the_exact_test(self):
        old = items([WRONG] * 8 + [CORRECT] * 3)
        new = items([CORRECT] * 8 + [WRONG] + [CORRECT] * 2)
        pair = compare_items(Side(BASE, items=old), Side(TUNED, items=new))
        assert pair.p_value == pytest.approx(20 / 512)  # 2 · (1 + 9) / 2⁹
        assert pair.verdict == PairedComparison.BETTER
        assert pair.difference == pytest.approx(7 / 11)
        assert 0 < pair.difference_low < pair.difference < pair.difference_high <= 1

    def test_the_same_the_other_way_is_worse(self):
        old, new = items([CORRECT] * 8 + [WRONG]), items([WRONG] * 8 + [CORRECT])
        assert compare_items(Side(BASE, items=old), Side(TUNED, items=new)).verdict == PairedComparison.WORSE

    def test_five_gained_are_no_detectable_difference(self):
        old, new = items([WRONG] * 5 + [CORRECT]), items([CORRECT] * 6)
        pair = compare_items(Side(BASE, items=old), Side(TUNED, items=new))
        assert pair.p_value == pytest.approx(0.0625)
        assert pair.verdict == PairedComparison.NO_DETECTABLE_DIFFERENCE

    def test_equal_items_give_no_flips_and_p_of_one(self):
        pair = compare_items(Side(BASE, items=items([1, 2])), Side(TUNED, items=items([1, 2])))
        assert (pair.p_value, list(pair.flips)) == (1.0, [])
        assert (pair.difference_low, pair.difference_high) == (0.0, 0.0)

    def test_flips_show_gained_then_lost_then_otherwise_changed(self):
        old, new = items([NO_ANSWER, CORRECT, WRONG]), items([WRONG, WRONG, CORRECT])
        pair = compare_items(Side(BASE, items=old), Side(TUNED, items=new))
        assert [flip.trace_id for flip in pair.flips] == ["t2", "t1", "t0"]
        assert (pair.flips[0].baseline_outcome, pair.flips[0].subject_outcome) == (WRONG, CORRECT)

    def test_items_without_any_in_common_make_no_pair(self):
        assert compare_items(Side(BASE, items=items([1])), Side(TUNED, items=items([1], prefix="x"))) is None

    def test_comparison_is_the_same_each_time(self):
        sides = Side(BASE, items=items([1, 2, 2, 1, 2] * 10)), Side(TUNED, items=items([1, 1, 2, 2, 1] * 10))
        assert compare_items(*sides) == compare_items(*sides)


class TestSeveralSamples:
    def sides(self, old, new):
        """Sides from the outcomes of each item's samples, stored sample by sample."""
        return [
            Side(
                name,
                items=[
                    evaluation_pb2.ItemScore(
                        trace_id=f"t{position}", position=position, sample=sample, outcome=outcome,
                        score=float(outcome == CORRECT), output=f"output {position}.{sample}",
                    )
                    for sample in range(len(samples[0]))
                    for position, outcome in enumerate(own[sample] for own in samples)
                ],
            )
            for name, samples in ((BASE, old), (TUNED, new))
        ]  # fmt: skip

    def test_samples_are_averaged_per_item_first(self):
        old = [[WRONG, WRONG, CORRECT, WRONG]] * 3 + [[CORRECT] * 4]
        new = [[CORRECT, CORRECT, CORRECT, WRONG]] * 3 + [[CORRECT] * 4]
        pair = compare_items(*self.sides(old, new))
        assert (pair.count, pair.gained, pair.lost) == (4, 3, 0)
        assert pair.difference == pytest.approx(3 * 0.5 / 4)
        assert pair.p_value == pair.permutation_p_value == pytest.approx(0.25)  # 2 of 2³ sign patterns

    def test_scores_that_move_without_flipping_an_item_are_detected(self):
        old, new = [[WRONG, WRONG, WRONG, CORRECT]] * 10, [[WRONG, CORRECT, WRONG, CORRECT]] * 10
        pair = compare_items(*self.sides(old, new))
        assert (pair.gained, pair.lost, list(pair.flips)) == (0, 0, [])
        assert pair.p_value == pytest.approx(2 / 1024)
        assert pair.verdict == PairedComparison.BETTER

    def test_flip_shows_a_sample_like_most_of_its_item(self):
        old, new = [[CORRECT, WRONG, NO_ANSWER]], [[WRONG, CORRECT, CORRECT]]
        (flip,) = compare_items(*self.sides(old, new)).flips
        assert (flip.baseline_output, flip.subject_output) == ("output 0.1", "output 0.1")
        assert (flip.baseline_outcome, flip.subject_outcome) == (WRONG, CORRECT)

    def test_half_of_the_samples_are_not_most(self):
        pair = compare_items(*self.sides([[WRONG, WRONG]], [[CORRECT, WRONG]]))
        assert (pair.gained, pair.difference) == (0, 0.5)


class TestSignificance:
    def test_permutation_test_stands_beside_mcnemar(self):
        old, new = items([WRONG] * 8 + [CORRECT]), items([CORRECT] * 8 + [WRONG])
        pair = compare_items(Side(BASE, items=old), Side(TUNED, items=new))
        assert pair.permutation_p_value == pytest.approx(20 / 512)
        assert pair.adjusted_p_value == pair.p_value

    def test_graded_scores_are_judged_by_the_permutation_test(self):
        old, new = items([WRONG] * 7), items([WRONG] * 7)
        for item in new:
            item.score = 0.25
        pair = compare_items(Side(BASE, items=old), Side(TUNED, items=new))
        assert (pair.p_value, pair.verdict) == (2 / 128, PairedComparison.BETTER)

    def test_detectable_difference_is_that_of_the_items_that_changed(self):
        old, new = items([WRONG] * 18 + [CORRECT] * 82), items([CORRECT] * 12 + [WRONG] * 88)
        pair = compare_items(Side(BASE, items=old), Side(TUNED, items=new))
        assert pair.minimum_detectable_difference == pytest.approx(
            minimum_detectable_difference(100, 0.94), abs=1e-9
        )

    def test_too_few_items_detect_nothing(self):
        pair = compare_items(Side(BASE, items=items([WRONG] * 5)), Side(TUNED, items=items([CORRECT] * 5)))
        assert pair.minimum_detectable_difference == 1.0

    def compared(self, *outcomes):
        sides = [Side(f"runs/r{index}", items=items(own)) for index, own in enumerate(outcomes)]
        match = Match(tuple(evaluation(f"e{index}") for index in range(len(sides))), "", ())
        return build_comparison(sides, match=match, curves=[], rates=[]).pairs

    def test_several_subjects_are_judged_by_adjusted_p_values(self):
        base = [WRONG] * 9 + [CORRECT]
        good, strong = [CORRECT] * 8 + [WRONG] * 2, [CORRECT] * 10
        (alone,) = self.compared(base, good)
        assert (alone.p_value, alone.verdict) == (20 / 512, PairedComparison.BETTER)
        pairs = self.compared(base, good, strong, base)
        assert [pair.p_value for pair in pairs] == [20 / 512, 2 / 512, 1.0]
        assert [pair.adjusted_p_value for pair in pairs] == [40 / 512, 6 / 512, 1.0]
        assert [pair.verdict for pair in pairs] == [
            PairedComparison.NO_DETECTABLE_DIFFERENCE,
            PairedComparison.BETTER,
            PairedComparison.NO_DETECTABLE_DIFFERENCE,
        ]

    def test_several_subjects_need_larger_differences(self):
        base, other = [WRONG] * 30 + [CORRECT] * 30, [CORRECT] * 40 + [WRONG] * 20
        (alone,) = self.compared(base, other)
        first, _ = self.compared(base, other, base)
        assert first.minimum_detectable_difference > alone.minimum_detectable_difference


class TestFamilies:
    """Ten families of four items; the items of seven are gained together, those of one are lost."""

    old = items([WRONG] * 28 + [CORRECT] * 4 + [WRONG] * 8)
    new = items([CORRECT] * 28 + [WRONG] * 12)

    @property
    def families(self):
        return {f"t{index}": f"family {index // 4}" for index in range(40)}

    def pair(self, **fields):
        return compare_items(Side(BASE, items=self.old), Side(TUNED, items=self.new), **fields)

    def test_families_decide_in_place_of_items(self):
        pair = self.pair(families=self.families)
        assert pair.p_value == pytest.approx(mcnemar_exact(28, 4))
        assert (pair.clustered_p_value, pair.adjusted_p_value) == (18 / 256, 18 / 256)
        assert pair.verdict == PairedComparison.NO_DETECTABLE_DIFFERENCE
        assert self.pair().verdict == PairedComparison.BETTER

    def test_interval_and_count_of_families_stand_beside(self):
        pair = self.pair(families=self.families)
        low = 0.6 - 2.262157 * math.sqrt(10 / 9 * (7 * 1.6**2 + 6.4**2 + 2 * 2.4**2)) / 40
        assert pair.cluster_count == 10
        assert (pair.clustered_low, pair.clustered_high) == pytest.approx((low, 1.0), abs=1e-6)

    def test_items_in_families_reveal_less(self):
        pair = self.pair(families=self.families)
        assert pair.minimum_detectable_difference > 1.8 * self.pair().minimum_detectable_difference

    def test_nothing_is_clustered_below_ten_families_or_with_an_item_that_has_none(self):
        nine = {trace: min(family, "family 8") for trace, family in self.families.items()}
        for families in (nine, self.families | {"t0": ""}, {}):
            pair = self.pair(families=families)
            assert (pair.cluster_count, pair.HasField("clustered_low")) == (0, False)
            assert not pair.HasField("clustered_p_value")

    def test_correction_for_several_subjects_is_over_the_deciding_p_values(self):
        sides = [Side(BASE, items=self.old), Side(TUNED, items=self.new), Side("runs/b", items=self.new)]
        match = Match((), "", ())
        pairs = build_comparison(sides, match=match, curves=[], rates=[], families=self.families).pairs
        assert [pair.adjusted_p_value for pair in pairs] == [36 / 256, 36 / 256]

    def test_evidence_names_the_families_and_their_test(self):
        assert evidence_sentence(self.pair(families=self.families)) == (
            "+60.0 points on 40 items in 10 families, 95 % interval +10.0 to +100.0; "
            "28 gained, 4 lost; permutation of families p = 0.07."
        )


class TestFlipLimit:
    @pytest.mark.parametrize(
        ("gained", "lost", "changed", "kept"),
        [(3, 2, 1, (3, 2, 1)), (200, 5, 9, (95, 5, 0)), (200, 200, 9, (50, 50, 0)), (5, 200, 9, (5, 95, 0)),
         (60, 30, 40, (60, 30, 10)), (0, 0, 150, (0, 0, 100))],
    )  # fmt: skip
    def test_long_gains_leave_room_for_losses(self, gained, lost, changed, kept):
        flips = limit_flips(["gained"] * gained, ["lost"] * lost, changed=["changed"] * changed)
        assert tuple(flips.count(kind) for kind in ("gained", "lost", "changed")) == kept


class TestMatch:
    def test_newest_comparable_evaluations_are_taken(self):
        match = match_evaluations(
            [BASE, TUNED],
            [
                [evaluation("b2", max_tokens=64), evaluation("b1")],
                [evaluation("t3"), evaluation("t2"), evaluation("t1", max_tokens=64)],
            ],
            dataset="", split="test",
        )  # fmt: skip
        assert [e.name for e in match.evaluations] == ["evaluations/b2", "evaluations/t1"]
        assert (match.missing_reason, match.datasets) == ("", ("datasets/sums",))

    def test_predictions_pair_with_what_a_model_wrote(self):
        predicted = evaluation("p", subject="predictors/x", predictions="a" * 64, task="tasks/t/versions/v1")
        match = match_evaluations(
            [BASE, "predictors/x"], [[evaluation("b")], [predicted]], dataset="", split="test"
        )
        assert match.missing_reason == ""

    def test_several_datasets_are_named_and_one_can_be_chosen(self):
        evaluations = [
            [evaluation(f"{side}1"), evaluation(f"{side}2", dataset="datasets/words", sha="b" * 64)]
            for side in "bt"
        ]
        match = match_evaluations([BASE, TUNED], evaluations, dataset="", split="test")
        assert match.datasets == ("datasets/sums", "datasets/words")
        match = match_evaluations([BASE, TUNED], evaluations, dataset="datasets/words", split="test")
        assert [e.name for e in match.evaluations] == ["evaluations/b2", "evaluations/t2"]

    @pytest.mark.parametrize(
        ("other", "field"),
        [
            ({"sha": "b" * 64}, "dataset_sha256"),
            ({"max_tokens": 64}, "decoding.max_tokens (256, 64)"),
            ({"system_prompt": "Think."}, "system_prompt (empty, Think.)"),
            ({"limit": 10}, "limit (0, 10)"),
            ({"format": "tags"}, "format (empty, tags)"),
            ({"samples": 4}, "samples (0, 4)"),
            ({"few_shot": evaluation_pb2.FewShot(count=2)}, "few_shot.count (empty, 2)"),
        ],
    )
    def test_differing_fields_are_named(self, other, field):
        match = match_evaluations(
            [BASE, TUNED], [[evaluation("b")], [evaluation("t", **other)]], dataset="", split="test"
        )
        assert field in match.missing_reason
        assert "not comparable" in match.missing_reason
        assert [e.name for e in match.evaluations] == ["evaluations/b", "evaluations/t"]

    def test_an_evaluation_by_task_compares_with_one_that_says_the_same(self):
        by_task = evaluation("t", task="tasks/sums/versions/v1")
        match = match_evaluations([BASE, TUNED], [[evaluation("b")], [by_task]], dataset="", split="test")
        assert match.missing_reason == ""

    def test_nearest_evaluation_explains_best(self):
        far = evaluation("far", max_tokens=64, limit=5)
        match = match_evaluations(
            [BASE, TUNED],
            [[evaluation("b")], [far, evaluation("near", max_tokens=64)]],
            dataset="",
            split="test",
        )
        assert match.evaluations[1].name == "evaluations/near"
        assert "limit" not in match.missing_reason

    def test_subject_without_evaluation_is_named(self):
        match = match_evaluations([BASE, TUNED], [[evaluation("b")], []], dataset="", split="test")
        assert "`runs/tuned` has no succeeded evaluation on split `test`" in match.missing_reason
        assert match.evaluations[1] is None

    def judged(self, name, *, may_rank):
        made = evaluation(name, judge=evaluation_pb2.Judge(subject="models/j/versions/v1"))
        made.spec.scorer = "judge@1"
        made.result.judged.may_rank = may_rank
        return made

    def test_scores_of_a_judge_that_may_not_rank_do_not_count(self):
        own = [[self.judged("b", may_rank=False)], [self.judged("t", may_rank=False)]]
        match = match_evaluations([BASE, TUNED], own, dataset="", split="test")
        assert match.evaluations == (None, None)
        assert "judge that may not rank do not count" in match.missing_reason

    def test_scores_of_a_judge_that_may_rank_are_compared(self):
        own = [[self.judged("b", may_rank=True)], [self.judged("t", may_rank=True)]]
        match = match_evaluations([BASE, TUNED], own, dataset="", split="test")
        assert [e.name for e in match.evaluations] == ["evaluations/b", "evaluations/t"]

    def test_a_judge_beside_the_scores_makes_no_difference(self):
        beside = evaluation("t", judge=evaluation_pb2.Judge(subject="models/j/versions/v1"))
        match = match_evaluations([BASE, TUNED], [[evaluation("b")], [beside]], dataset="", split="test")
        assert match.missing_reason == ""

    def test_calibrations_are_not_compared(self):
        own = [[evaluation("b", method="judge-calibration")], [evaluation("t", method="judge-calibration")]]
        match = match_evaluations([BASE, TUNED], own, dataset="", split="test")
        assert match.evaluations == (None, None)

    def test_other_splits_do_not_count(self):
        match = match_evaluations(
            [BASE, TUNED],
            [[evaluation("b")], [evaluation("t", split="validation")]],
            dataset="",
            split="test",
        )
        assert match.evaluations == (evaluation("b"), None)


class TestParameters:
    def test_only_differing_paths_are_listed(self):
        differences = differing_parameters([spec(seed=1), spec(seed=2, learning_rate=5e-5)])
        assert [(d.path, list(d.values)) for d in differences] == [
            ("optimizer.learning_rate", ["0.0001", "5e-05"]),
            ("seed", ["1", "2"]),
        ]

    def test_zero_is_a_value_and_not_an_absence(self):
        differences = differing_parameters([spec(seed=0), spec(seed=7)])
        assert list(differences[0].values) == ["0", "7"]

    def test_full_and_lora_tuning_differ_with_their_settings(self):
        lora = run_pb2.LoraTuning(rank=8, alpha=16, targets=["q_proj", "v_proj"])
        differences = differing_parameters([spec(full=run_pb2.FullTuning()), spec(lora=lora)])
        assert {d.path: list(d.values) for d in differences} == {
            "lora.alpha": ["", "16"],
            "lora.dropout": ["", "0"],
            "lora.rank": ["", "8"],
            "lora.targets": ["", "q_proj, v_proj"],
            "tuning": ["full", "lora"],
        }

    def test_absent_optional_differs_from_zero(self):
        one, other = spec(), spec()
        other.optimizer.clip_norm = 0
        assert [(d.path, list(d.values)) for d in differing_parameters([one, other])] == [
            ("optimizer.clip_norm", ["", "0"])
        ]

    def test_model_version_has_no_parameters(self):
        differences = differing_parameters([None, spec()])
        assert {d.values[0] for d in differences} == {""}
        assert {"model", "steps", "optimizer.learning_rate"} <= {d.path for d in differences}

    def test_model_version_beside_several_runs_does_not_hide_what_differs_among_them(self):
        differences = differing_parameters([None, spec(seed=1), spec(seed=2)])
        assert [(d.path, list(d.values)) for d in differences] == [("seed", ["", "1", "2"])]

    def test_evaluations_after_training_are_not_compared(self):
        after = spec(evaluate_after=[evaluation_pb2.EvaluationSpec(dataset="datasets/sums")])
        assert differing_parameters([spec(), after]) == []
        assert "evaluate_after" not in flatten_spec(after)


class TestComparison:
    def run(self):
        return run_pb2.Run(
            name=TUNED,
            spec=spec(),
            metrics=[
                run_pb2.MetricSummary(metric="train/loss", last=0.5, min=0.4),
                run_pb2.MetricSummary(metric="validation/loss", last=0.9, min=0.7),
            ],
        )

    def build(self, reason="", new=(CORRECT,)):
        rates = [
            Curve(run=TUNED, metric="train/steps_per_second", values=[9.0, 1.0, 2.0]),
            Curve(run="runs/else", metric="train/tokens_per_second", values=[1.0]),
            Curve(run=TUNED, metric="train/tokens_per_second", values=[100.0, 300.0]),
        ]
        loss = [Curve(run=TUNED, metric="train/loss", steps=[1], values=[math.nan])]
        base, tuned = evaluation("b"), evaluation("t")
        sides = [
            Side(BASE, None, base, items([WRONG])),
            Side(TUNED, self.run(), tuned, items(new)),
        ]
        return build_comparison(sides, match=Match((base, tuned), reason, ()), curves=loss, rates=rates)

    def test_run_has_losses_and_medians_and_a_model_version_has_none(self):
        base, tuned = self.build().subjects
        assert (tuned.final_loss, tuned.best_validation_loss) == (0.5, 0.7)
        assert (tuned.steps_per_second, tuned.tokens_per_second) == (2.0, 200.0)
        assert not any(base.HasField(field) for field in ("run", "final_loss", "steps_per_second"))
        assert (base.evaluation.name, tuned.evaluation.name) == ("evaluations/b", "evaluations/t")

    def test_pairs_compare_with_the_first(self):
        comparison = self.build()
        assert [(pair.subject, pair.gained) for pair in comparison.pairs] == [(TUNED, 1)]
        assert comparison.curves[0].metric == "train/loss"

    def test_reason_stands_in_place_of_pairs(self):
        comparison = self.build(reason="They differ.")
        assert (list(comparison.pairs), comparison.pairs_missing_reason) == ([], "They differ.")

    def test_no_common_item_is_a_reason(self):
        comparison = self.build(new=())
        assert comparison.pairs_missing_reason == "The evaluations have no item in common."


class TestSentences:
    def sentence(self, verdict, difference, **fields):
        pair = PairedComparison(subject=TUNED, verdict=verdict, difference=difference, count=200, **fields)
        return verdict_sentence(Comparison(subjects=[ComparedSubject(subject=BASE)]), pair)

    def test_verdicts_read_as_sentences(self):
        assert self.sentence(PairedComparison.BETTER, 0.31) == "tuned is better than smol v1 by 31.0 points."
        assert self.sentence(PairedComparison.WORSE, -0.31) == "tuned is worse than smol v1 by 31.0 points."

    def test_no_detectable_difference_says_what_the_items_could_have_shown(self):
        verdict = PairedComparison.NO_DETECTABLE_DIFFERENCE
        assert self.sentence(verdict, 0.01, minimum_detectable_difference=0.083) == (
            "No detectable difference between tuned and smol v1; 200 items reveal 8.3 points or more."
        )
        assert self.sentence(verdict, 0.01, minimum_detectable_difference=1.0).endswith(
            "; 200 items are too few to reveal one."
        )

    def evidence(self, p_value, adjusted):
        return evidence_sentence(
            PairedComparison(
                count=1100, gained=35, lost=4, difference=0.31, difference_low=0.21,
                difference_high=0.4, p_value=p_value, adjusted_p_value=adjusted,
            )
        )  # fmt: skip

    def test_evidence_gives_all_numbers(self):
        p_value = mcnemar_exact(35, 4)
        assert self.evidence(p_value, p_value) == (
            "+31.0 points on 1,100 items, 95 % interval +21.0 to +40.0; 35 gained, 4 lost; "
            "exact McNemar p < 0.0001."
        )

    def test_evidence_names_the_other_test_and_the_correction(self):
        assert self.evidence(0.02, 0.06).endswith(
            "4 lost; permutation test p = 0.02, adjusted for several comparisons p = 0.06."
        )

    @pytest.mark.parametrize(
        ("value", "text"),
        [(1.0, "p = 1"), (0.0625, "p = 0.062"), (0.0042, "p = 0.0042"), (1e-5, "p < 0.0001")],
    )
    def test_p_values(self, value, text):
        assert p_value_text(value) == text

    @pytest.mark.parametrize(
        ("name", "label"), [(BASE, "smol v1"), (TUNED, "tuned"), ("datasets/sums", "sums")]
    )
    def test_labels(self, name, label):
        assert subject_label(name) == label
