"""What a request may ask for."""

from __future__ import annotations

import math

import pytest

from tunix_rt.evaluator.spec import check_answers, check_create, check_generate, complete_spec
from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.v1.evaluation_pb2 import Decoding, Evaluation, EvaluationResult, EvaluationSpec
from tunix_rt.v1.evaluator_service_pb2 import (
    AnswerToScore,
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
        decoding=Decoding(max_tokens=256, top_p=1.0),
        format="answer-line",
        scorer="exact-answer@1",
    )


def test_a_complete_spec_stays_as_it_is() -> None:
    decoding = Decoding(max_tokens=8, temperature=0.5, top_k=3, top_p=0.9, seed=1)
    spec = complete_spec(good(split="validation", decoding=decoding, format="tags", limit=3))
    assert complete_spec(spec) == spec


def test_all_bad_fields_are_named_together() -> None:
    request = CreateEvaluationRequest(
        evaluation_id="Not An Id",
        evaluation=Evaluation(
            name="evaluations/x",
            result=EvaluationResult(),
            spec=EvaluationSpec(
                subject="models/smol",
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
    spec = good(decoding=Decoding(top_k=5, top_p=0.5, seed=7))
    with pytest.raises(InvalidArgument) as caught:
        check_create(CreateEvaluationRequest(evaluation=Evaluation(spec=spec)))
    assert bad_fields(caught) == [f"evaluation.spec.decoding.{name}" for name in ("seed", "top_k", "top_p")]
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
