"""What the page of an evaluation says beside the plain score."""

from __future__ import annotations

import pytest

from tunix_rt.gateway.web import evaluation_text as words
from tunix_rt.gateway.web import text
from tunix_rt.v1 import evaluation_pb2 as pb2


def score(mean: float, low: float = 0.0, high: float = 1.0, count: int = 80) -> pb2.Score:
    return pb2.Score(mean=mean, low=low, high=high, count=count, confidence=0.95, method="wilson")


def named(name: str, mean: float) -> pb2.NamedScore:
    return pb2.NamedScore(name=name, score=score(mean))


def test_only_computed_scores_have_a_row():
    result = pb2.EvaluationResult(score=score(0.5), completed_score=score(0.6, count=70))
    assert [(row.name, row.note) for row in words.score_rows(result)] == [
        ("Score", "all 80 items"),
        ("Completed", "the 70 that stopped by themselves"),
    ]


def test_a_computed_score_of_zero_has_a_row():
    result = pb2.EvaluationResult(score=score(0.0), strict_score=pb2.Score())
    assert [row.name for row in words.score_rows(result)] == ["Score", "Strict"]


@pytest.mark.parametrize(
    ("low", "mean", "sentence"),
    [
        (0.31, 0.4, "The whole interval lies above the best rule without a model: one constant."),
        (0.2, 0.4, "The interval reaches down to the best rule without a model: one constant."),
        (0.1, 0.3, "No better than the best rule without a model: one constant."),
    ],
)
def test_a_score_is_set_against_the_best_rule_without_a_model(low, mean, sentence):
    result = pb2.EvaluationResult(
        score=score(mean, low), baselines=[named("majority-answer", 0.1), named("constant", 0.3)]
    )
    assert words.baseline_sentence(result) == sentence


def test_without_baselines_nothing_is_said():
    assert words.baseline_sentence(pb2.EvaluationResult(score=score(0.5))) == ""


def test_parts_stand_under_what_they_are_parts_of():
    parts = [
        named("family=a", 0.1),
        named("difficulty=easy", 0.2),
        named("family=b=c", 0.3),
        named("rest", 0.4),
    ]
    assert [(kind, [name for name, _ in group]) for kind, group in words.part_groups(parts)] == [
        ("family", ["a", "b=c"]),
        ("difficulty", ["easy"]),
        ("part", ["rest"]),
    ]


def test_doublings_of_samples_are_equally_wide():
    result = pb2.EvaluationResult(
        pass_at_k=[named("pass@1", 0.5), named("pass@2", 0.75), named("pass@4", 1.0)],
        majority_at_k=[named("majority@1", 0.5), named("majority@4", 0.0)],
    )
    passed, majority = words.chart_lines(result)
    assert [(p.k, p.x, p.y) for p in passed.points] == [(1, 0, 75), (2, 240, 37.5), (4, 480, 0)]
    assert [(p.k, p.x, p.y) for p in majority.points] == [(1, 0, 75), (4, 480, 150)]
    assert majority.path == "0.0,75.0 480.0,150.0"
    assert majority.band == "0.0,0.0 480.0,0.0 480.0,150.0 0.0,150.0"


def test_one_sample_makes_no_chart():
    assert words.chart_lines(pb2.EvaluationResult(pass_at_k=[named("pass@1", 0.5)])) == []


def item(output: str, *, steps: int, true: int, outcome: int = pb2.ItemScore.WRONG) -> pb2.ItemScore:
    return pb2.ItemScore(output=output, step_count=steps, true_step_count=true, outcome=outcome)


def test_false_steps_are_cut_out_of_the_output():
    parts = words.marked_output(item("1 + 1 = 3, so 3 + 1 = 4 and 4 + 1 = 6", steps=3, true=1))
    assert [(part.text, part.kind) for part in parts] == [
        ("1 + 1 = 3", "false-step"),
        (", so 3 + 1 = 4 and ", ""),
        ("4 + 1 = 6", "false-step"),
    ]


def test_output_without_false_steps_stays_whole():
    parts = words.marked_output(item("1 + 1 = 2", steps=1, true=1))
    assert [(part.text, part.kind) for part in parts] == [("1 + 1 = 2", "")]


def test_long_output_is_marked_at_its_beginning_and_shown_whole():
    output = "1 + 1 = 3\n" * 1000
    parts = words.marked_output(item(output, steps=1000, true=0))
    assert sum(bool(part.kind) for part in parts) == 396
    assert words.steps_text(item(output, steps=1000, true=0)).endswith("in the first 4,000 characters")
    assert "".join(part.text for part in parts) == output


def test_a_step_that_the_cut_makes_false_is_not_marked():
    output = "x" * (words.MARKED_CHARACTERS - 11) + " 12 + 3 = 15, 1 + 1 = 3"
    assert [part.kind for part in words.marked_output(item(output, steps=2, true=1))] == [""]


def test_filters_count_what_is_there():
    correct = pb2.ItemScore.CORRECT
    items = [item("", steps=2, true=1, outcome=correct), item("", steps=1, true=1), item("", steps=0, true=0)]
    assert words.item_filters(items) == [
        ("correct", "Correct", 1),
        ("wrong", "Wrong", 2),
        ("false-step", "With a false step", 1),
        ("right-despite", "Right on a false step", 1),
    ]
    assert [words.steps_text(item) for item in items] == ["1 of 2 steps are true", "1 of 1 step is true", ""]


def test_spec_names_all_that_makes_evaluations_comparable():
    spec = pb2.EvaluationSpec(
        split="test", scorer="exact-answer@2", format="tags", samples=4, answer_pattern="= (.*)",
        few_shot=pb2.FewShot(count=3, split="train", seed=5),
        decoding=pb2.Decoding(max_tokens=9, temperature=1, min_p=0.1, repetition_penalty=1.2, stop=["\n\n"]),
    )  # fmt: skip
    assert text.spec_text(spec) == (
        "split test · all items · exact-answer@2 · format tags · temperature 1, up to 9 tokens, min-p 0.1, "
        r"repetition penalty 1.2, stops at '\n\n', seed 0 · 4 samples an item · "
        "3 examples from train, seed 5 · answer pattern = (.*)"
    )


def measured() -> pb2.EvaluationResult:
    return pb2.EvaluationResult(
        score=score(0.25),
        outcomes=pb2.OutcomeCounts(scored=78, failed=2),
        likelihood=pb2.Likelihood(
            token_count=1200,
            byte_count=4100,
            perplexity=4.5,
            perplexity_low=4.25,
            perplexity_high=5.0,
            bits_per_byte=0.635,
        ),
    )


def test_a_perplexity_stands_with_its_interval():
    assert words.likelihood_tiles(measured()) == [
        ("Perplexity", "4.500 (4.250–5.000)"),
        ("Bits a byte", "0.6350"),
        ("Reference text", "1,200 tokens, 4,100 bytes"),
    ]
    assert words.likelihood_tiles(pb2.EvaluationResult(score=score(0.5))) == []


def test_the_score_of_scored_texts_is_no_share_of_right_ones():
    assert words.score_rows(measured())[0].name == "Token probability"
    assert words.all_outcomes(measured().outcomes) == 80


def test_each_normalization_has_a_row():
    result = pb2.EvaluationResult(score=score(0.5), normalizations=[named("none", 0.5), named("bytes", 0.6)])
    assert [(row.name, row.note) for row in words.score_rows(result)][1:] == [
        ("By none", "log-likelihood not divided"),
        ("By bytes", "log-likelihood divided by the bytes of the choice"),
    ]


def test_a_spec_says_what_is_measured():
    spec = pb2.EvaluationSpec(split="test", format="tags", method="multiple-choice", normalization="bytes")
    assert text.spec_text(spec) == (
        "split test · all items · multiple choice, log-likelihood by bytes · format tags"
    )


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (pb2.ItemScore(judge_score=0.25), "judge: right with probability 0.25"),
        (pb2.ItemScore(judge_comment="Hm."), "no verdict of the judge"),
        (pb2.ItemScore(), ""),
    ],
)
def test_what_the_judge_said_of_an_output(item, said):
    assert words.judge_words(item) == said


def test_a_judge_is_part_of_the_spec_in_words():
    judge = pb2.Judge(subject="endpoints/chat", model="gpt", rubric="Polite.")
    said = text.spec_text(pb2.EvaluationSpec(split="test", scorer="judge@1", judge=judge))
    assert "judged by gpt at chat by a rubric of its own" in said
