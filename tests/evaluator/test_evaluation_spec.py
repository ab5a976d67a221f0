"""What a request may ask for."""

from __future__ import annotations

import math
from dataclasses import asdict

import pytest

from tunix_rt.evaluator.spec import (
    calibration_spec,
    check_answers,
    check_create,
    check_generate,
    complete_spec,
    engine_decoding,
)
from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.v1.evaluation_pb2 import (
    Decoding,
    Evaluation,
    EvaluationResult,
    EvaluationSpec,
    FewShot,
    Judge,
)
from tunix_rt.v1.evaluator_service_pb2 import (
    AnswerToScore,
    CalibrateJudgeRequest,
    CreateEvaluationRequest,
    GenerateRequest,
    ScoreAnswersRequest,
)


def good(**changes: object) -> EvaluationSpec:
    return EvaluationSpec(**{"subject": "runs/r", "dataset": "datasets/d", **changes})


def bad_fields(caught: pytest.ExceptionInfo[InvalidArgument]) -> list[str]:
    return sorted(violation.field for violation in caught.value.violations)


def test_defaults_are_filled_in() -> None:
    assert complete_spec(good()) == EvaluationSpec(
        subject="runs/r",
        dataset="datasets/d",
        split="test",
        decoding=Decoding(max_tokens=256, top_p=1.0, repetition_penalty=1.0),
        format="answer-line",
        scorer="exact-answer@2",
        samples=1,
        method="generation",
        weight_type="float32",
    )
    examples = complete_spec(good(few_shot=FewShot(count=3))).few_shot
    assert examples == FewShot(count=3, split="train")


def test_the_question_alone_is_the_empty_template() -> None:
    assert complete_spec(good(prompt_template="{question}")) == complete_spec(good())


def test_a_calibration_keeps_its_seed_and_samples() -> None:
    made = calibration_spec(
        CalibrateJudgeRequest(
            evaluation_id="e", judge=Judge(subject="runs/r"), dataset="datasets/d", split="test", seed=7
        )
    )
    assert (made.method, made.decoding.seed, made.samples) == ("judge-calibration", 7, 8)
    assert complete_spec(made) == made


def test_a_setting_without_effect_is_named_once() -> None:
    spec = good(method="perplexity", decoding=Decoding(top_k=3), judge=Judge(subject="runs/r"))
    with pytest.raises(InvalidArgument) as caught:
        check_create(CreateEvaluationRequest(evaluation_id="e", evaluation=Evaluation(spec=spec)))
    assert bad_fields(caught) == ["evaluation.spec.decoding.top_k", "evaluation.spec.judge"]


def test_a_complete_spec_stays_as_it_is() -> None:
    decoding = Decoding(max_tokens=8, temperature=0.5, top_k=3, top_p=0.9, seed=1, min_p=0.1)
    decoding.repetition_penalty = 1.2
    decoding.stop.extend(["Question:", "\n\n"])
    few_shot = FewShot(count=32, split="test", seed=4)
    spec = complete_spec(
        good(
            split="validation",
            decoding=decoding,
            format="tags",
            limit=3,
            samples=64,
            few_shot=few_shot,
            answer_pattern=r"= (\d+)",
        )
    )
    assert complete_spec(spec) == spec


def test_all_bad_fields_are_named_together() -> None:
    request = CreateEvaluationRequest(
        evaluation_id="Not An Id",
        evaluation=Evaluation(
            name="evaluations/x",
            result=EvaluationResult(),
            spec=EvaluationSpec(
                subject="models/smol/versions",
                dataset="../../etc/passwd",
                split="a/b",
                decoding=Decoding(max_tokens=5000, temperature=-1, top_k=-1, top_p=2, seed=-1),
                format="yaml",
                system_prompt="x" * 20_000,
                scorer="vibes@1",
                limit=-1,
            ),
        ),
    )
    with pytest.raises(InvalidArgument) as caught:
        check_create(request)
    spec = "evaluation.spec"
    assert bad_fields(caught) == sorted(
        ["evaluation_id", "evaluation.name", "evaluation.result", f"{spec}.subject", f"{spec}.dataset"]
        + [f"{spec}.split", f"{spec}.format", f"{spec}.system_prompt", f"{spec}.scorer", f"{spec}.limit"]
        + [f"{spec}.decoding.{name}" for name in ("max_tokens", "temperature", "top_k", "top_p", "seed")]
    )


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("samples", {"samples": -1}),
        ("samples", {"samples": 65}),
        ("samples", {"samples": 2}),  # at temperature 0
        ("few_shot.count", {"few_shot": FewShot()}),
        ("few_shot.count", {"few_shot": FewShot(count=33)}),
        ("few_shot.split", {"few_shot": FewShot(count=1, split="test")}),
        ("few_shot.split", {"few_shot": FewShot(count=1), "split": "train"}),
        ("few_shot.split", {"few_shot": FewShot(count=1, split="A/B")}),
        ("few_shot.seed", {"few_shot": FewShot(count=1, seed=-1)}),
        ("prompt_template", {"prompt_template": "Q:"}),
        ("task", {"task": "tasks/x"}),
        ("task", {"task": "tasks/x", "dataset": ""}),
        ("answer_pattern", {"answer_pattern": "("}),
        ("answer_pattern", {"answer_pattern": "(a+)+b"}),
        ("decoding.min_p", {"decoding": Decoding(temperature=1, min_p=1.5)}),
        ("decoding.min_p", {"decoding": Decoding(temperature=1, min_p=math.nan)}),
        ("decoding.repetition_penalty", {"decoding": Decoding(repetition_penalty=0.5)}),
        ("decoding.repetition_penalty", {"decoding": Decoding(repetition_penalty=11)}),
        ("decoding.repetition_penalty", {"decoding": Decoding(repetition_penalty=math.nan)}),
        ("decoding.stop", {"decoding": Decoding(stop=["x"] * 9)}),
        ("decoding.stop[1]", {"decoding": Decoding(stop=["x", ""])}),
        ("decoding.stop[0]", {"decoding": Decoding(stop=["x" * 101])}),
    ],
)
def test_a_setting_out_of_its_range_is_refused(field: str, changes: dict[str, object]) -> None:
    request = CreateEvaluationRequest(evaluation=Evaluation(spec=good(**changes)))
    with pytest.raises(InvalidArgument) as caught:
        check_create(request)
    assert bad_fields(caught) == [f"evaluation.spec.{field}"]


def test_the_engine_gets_every_setting_of_the_decoding() -> None:
    given = Decoding(
        max_tokens=9,
        temperature=0.5,
        top_k=3,
        top_p=0.75,
        seed=7,
        min_p=0.25,
        repetition_penalty=1.5,
        stop=["a", "b"],
    )
    assert {each.name for each in Decoding.DESCRIPTOR.fields} == set(asdict(engine_decoding(given)))
    assert asdict(engine_decoding(given)) == {
        "max_tokens": 9,
        "temperature": 0.5,
        "top_k": 3,
        "top_p": 0.75,
        "seed": 7,
        "min_p": 0.25,
        "repetition_penalty": 1.5,
        "stop": ("a", "b"),
    }


@pytest.mark.parametrize("name", ["subject", "dataset"])
def test_required_fields_are_required(name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        complete_spec(good(**{name: ""}))
    assert bad_fields(caught) == [f"evaluation.spec.{name}"]


@pytest.mark.parametrize("value", [math.nan, math.inf, 11.0])
def test_temperatures_are_finite_and_bounded(value: float) -> None:
    with pytest.raises(InvalidArgument) as caught:
        complete_spec(good(decoding=Decoding(temperature=value)))
    assert bad_fields(caught) == ["evaluation.spec.decoding.temperature"]


def test_settings_without_effect_are_refused() -> None:
    spec = good(decoding=Decoding(top_k=5, top_p=0.5, min_p=0.1, seed=7))
    with pytest.raises(InvalidArgument) as caught:
        check_create(CreateEvaluationRequest(evaluation=Evaluation(spec=spec)))
    names = ("min_p", "seed", "top_k", "top_p")
    assert bad_fields(caught) == [f"evaluation.spec.decoding.{name}" for name in names]
    assert "temperature 0" in str(caught.value)


def test_generation_needs_prompts() -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_generate(GenerateRequest(subject="runs/r", format="xml"))
    assert bad_fields(caught) == ["format", "prompts"]
    with pytest.raises(InvalidArgument) as caught:
        check_generate(GenerateRequest(subject="runs/r", prompts=["2 + 2?", " "]))
    assert bad_fields(caught) == ["prompts[1]"]
    with pytest.raises(InvalidArgument) as caught:
        check_generate(GenerateRequest(subject="runs/r", prompts=["2 + 2?"] * 65))
    assert bad_fields(caught) == ["prompts"]


def test_answers_are_checked_one_by_one() -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_answers(
            ScoreAnswersRequest(
                scorer="vibes@1",
                answers=[
                    AnswerToScore(output="4", expected_answer="4"),
                    AnswerToScore(output="4", answer_type="colour", finish_reason="error"),
                ],
            )
        )
    assert bad_fields(caught) == [
        "answers[1].answer_type",
        "answers[1].expected_answer",
        "answers[1].finish_reason",
        "scorer",
    ]


def test_a_method_without_generation_has_no_decoding_and_no_scorer() -> None:
    spec = complete_spec(good(method="multiple-choice", decoding=Decoding()))
    assert spec == EvaluationSpec(
        subject="runs/r",
        dataset="datasets/d",
        split="test",
        format="answer-line",
        samples=1,
        method="multiple-choice",
        normalization="none",
        weight_type="float32",
    )
    assert complete_spec(spec) == spec
    assert complete_spec(good(method="perplexity")).normalization == ""


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("generation", ["normalization"]),
        ("multiple-choice", ["answer_pattern", "decoding.max_tokens", "decoding.seed", "samples", "scorer"]),
        (
            "perplexity",
            [
                *("answer_pattern", "decoding.max_tokens", "decoding.seed", "few_shot", "normalization"),
                *("samples", "scorer"),
            ],
        ),
    ],
)
def test_settings_without_effect_are_refused_together(method: str, fields: list[str]) -> None:
    spec = good(
        method=method,
        normalization="bytes",
        decoding=Decoding(max_tokens=8, temperature=1 if method == "generation" else 0, seed=3),
        samples=2,
        answer_pattern="x",
        scorer="exact-answer@2",
        few_shot=FewShot(count=1),
    )
    with pytest.raises(InvalidArgument) as caught:
        check_create(CreateEvaluationRequest(evaluation=Evaluation(spec=spec)))
    found = set(bad_fields(caught))
    assert found == {f"evaluation.spec.{field}" for field in fields}


def test_unknown_methods_normalizations_and_weight_types_are_refused() -> None:
    spec = good(method="guessing", normalization="words", weight_type="int4")
    with pytest.raises(InvalidArgument) as caught:
        check_create(CreateEvaluationRequest(evaluation=Evaluation(spec=spec)))
    assert "evaluation.spec.method" in bad_fields(caught)
    assert "evaluation.spec.normalization" in bad_fields(caught)
    assert "evaluation.spec.weight_type" in bad_fields(caught)


@pytest.mark.parametrize(
    ("samples", "prompts", "temperature", "fault"),
    [
        (17, 1, 1.0, "must be in [1, 16]"),
        (-1, 1, 1.0, "must be in [1, 16]"),
        (2, 1, 0.0, "at temperature 0 all samples are the same"),
        (16, 5, 1.0, "80 in all; at most 64 fit"),
    ],
)
def test_samples_of_a_generation_have_limits(
    samples: int, prompts: int, temperature: float, fault: str
) -> None:
    request = GenerateRequest(
        subject="runs/r",
        prompts=["2 + 2?"] * prompts,
        samples=samples,
        decoding=Decoding(temperature=temperature),
    )
    with pytest.raises(InvalidArgument) as caught:
        check_generate(request)
    assert bad_fields(caught) == ["samples"]
    assert fault in caught.value.message
