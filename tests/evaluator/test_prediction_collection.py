"""Predictions as they are checked against the items and put in order."""

from __future__ import annotations

import io

import pytest

from tunix_rt.evaluator.predictions import MAX_OUTPUT_BYTES, Collection, check_message
from tunix_rt.evaluator.spec import check_import, check_next_message
from tunix_rt.rpc.errors import InvalidArgument, ResourceExhausted
from tunix_rt.traces.trace import Trace
from tunix_rt.v1.evaluation_pb2 import Decoding, Evaluation, EvaluationSpec, Judge
from tunix_rt.v1.evaluator_service_pb2 import Prediction, ScorePredictionsRequest

ITEMS = [Trace(id=name, prompt=name, final_answer="1") for name in ("b", "a")]


def written(*predictions: Prediction, samples: int = 1) -> str:
    collection, target = Collection(ITEMS, samples, io.BytesIO()), io.BytesIO()
    for each in predictions:
        collection.add([each])
    collection.write(target)
    return target.getvalue().decode()


def faults(*predictions: Prediction, samples: int = 1) -> dict[str, str]:
    with pytest.raises(InvalidArgument) as caught:
        written(*predictions, samples=samples)
    return {violation.field: violation.description for violation in caught.value.violations}


def test_lines_stand_in_the_order_of_the_items() -> None:
    assert written(
        Prediction(trace_id="a", output="1"), Prediction(trace_id="b", finish_reason="length")
    ) == (
        '{"finish_reason":"length","id":"b","prediction":"","sample":0}\n'
        '{"finish_reason":"stop","id":"a","prediction":"1","sample":0}\n'
    )


def test_samples_stand_in_their_order() -> None:
    given = [Prediction(trace_id=name, sample=sample) for sample in (1, 0) for name in ("a", "b")]
    assert written(*given, samples=2) == written(*reversed(given), samples=2)


def test_all_bad_predictions_are_named_together() -> None:
    found = faults(
        Prediction(trace_id="c"),
        Prediction(trace_id="a", sample=1),
        Prediction(trace_id="b", finish_reason="eos"),
        Prediction(trace_id="b"),
        Prediction(sample=-1, output="x", finish_reason="error"),
    )
    assert list(found) == [
        "predictions[0].trace_id",
        "predictions[1].sample",
        "predictions[2].finish_reason",
        "predictions[3].trace_id",
        "predictions[4].finish_reason",
        "predictions[4].trace_id",
        "predictions[4].sample",
        "predictions",
    ]
    assert found["predictions[3].trace_id"] == "is `b`, sample 0, as in predictions[2]; send it once."
    assert found["predictions"].startswith("lacks 1 of 2 outputs: `a`. ")


def test_missing_samples_are_named() -> None:
    found = faults(Prediction(trace_id="a", sample=1), Prediction(trace_id="b", sample=0), samples=2)
    assert found["predictions"].startswith("lacks 2 of 4 outputs: `b` sample 1, `a` sample 0. Send one")


def test_of_very_many_faults_the_number_comes_first() -> None:
    found = faults(*(Prediction(trace_id=f"no-{number}") for number in range(250)))
    assert len(found) == 101
    assert found["predictions"].startswith("has 251 faults, of which the first are named.")
    assert next(iter(found)) == "predictions"


def test_a_long_output_is_a_fault() -> None:
    assert "predictions[0].output" in faults(Prediction(trace_id="a", output="x" * (MAX_OUTPUT_BYTES + 1)))


@pytest.mark.parametrize(
    ("predictions", "limit"),
    [([Prediction()] * 1001, "1000"), ([Prediction(output="x" * 4_200_000)], "4194304")],
)
def test_a_large_message_is_refused(predictions: list[Prediction], limit: str) -> None:
    with pytest.raises(ResourceExhausted) as caught:
        check_message(ScorePredictionsRequest(predictions=predictions))
    assert caught.value.metadata["limit"] == limit


def test_the_first_message_is_checked_as_a_whole() -> None:
    spec = EvaluationSpec(
        subject="runs/r",
        dataset="d",
        decoding=Decoding(top_k=3),
        method="perplexity",
        allow_contamination=True,
        predictions="a" * 64,
        task="tasks/t",
        judge=Judge(subject="runs/r"),
    )
    evaluation = Evaluation(spec=spec, weights_digest="x")
    with pytest.raises(InvalidArgument) as caught:
        check_import(ScorePredictionsRequest(evaluation_id="E", evaluation=evaluation, request_id="7"))
    assert sorted(violation.field for violation in caught.value.violations) == [
        "evaluation.spec.allow_contamination",
        "evaluation.spec.dataset",
        "evaluation.spec.decoding.top_k",
        "evaluation.spec.judge",
        "evaluation.spec.method",
        "evaluation.spec.predictions",
        "evaluation.spec.subject",
        "evaluation.spec.task",
        "evaluation.weights_digest",
        "evaluation_id",
        "request_id",
    ]


def test_no_judge_looks_at_predictions() -> None:
    spec = EvaluationSpec(subject="predictors/p", dataset="datasets/d", scorer="judge@1")
    spec.judge.subject = "runs/r"
    with pytest.raises(InvalidArgument) as caught:
        check_import(ScorePredictionsRequest(evaluation_id="e", evaluation=Evaluation(spec=spec)))
    assert sorted(violation.field for violation in caught.value.violations) == [
        "evaluation.spec.judge",
        "evaluation.spec.scorer",
    ]


def test_later_messages_hold_predictions_only() -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_next_message(ScorePredictionsRequest(evaluation_id="e", evaluation=Evaluation()))
    assert [violation.field for violation in caught.value.violations] == ["evaluation_id", "evaluation"]
