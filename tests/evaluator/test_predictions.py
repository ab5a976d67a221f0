"""Predictions that were made elsewhere: from a stream to a result, through a real registry and worker."""

from __future__ import annotations

import json
import os
import signal
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import grpc
import pytest
import pytest_asyncio

from tunix_rt.traces.predictions import parse_prediction
from tunix_rt.v1 import dataset_pb2, job_service_pb2, registry_service_pb2
from tunix_rt.v1.evaluation_pb2 import Decoding, Evaluation, EvaluationSpec, ItemScore, OutcomeCounts
from tunix_rt.v1.evaluator_service_pb2 import CreateEvaluationRequest, Prediction, ScorePredictionsRequest
from tunix_rt.v1.job_pb2 import JobState

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

TRACES = [
    dataset_pb2.Trace(id=f"t{number}", prompt=f"What is {number} + 1?", final_answer=str(number + 1))
    for number in range(5)
]
TEST_ONLY = [dataset_pb2.Split(name="test", fraction=1.0)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def five(stack: Any) -> str:
    return str((await stack.make_dataset(TRACES, splits=TEST_ONLY)).name)


def right(numbers: Iterable[int]) -> list[Prediction]:
    return [Prediction(trace_id=f"t{n}", output=f"{n} + 1 = {n + 1}\nAnswer: {n + 1}") for n in numbers]


async def send(
    stack: Any,
    predictions: Sequence[Prediction],
    *,
    request_id: str = "",
    size: int = 1000,
    evaluation_id: str = "",
    unknown: bytes = b"",
    **spec: Any,
) -> Evaluation:
    given = Evaluation(spec=EvaluationSpec(**{"subject": "predictors/gpt-x", **spec}))
    given.spec.MergeFromString(unknown)

    async def messages() -> AsyncIterator[ScorePredictionsRequest]:
        yield ScorePredictionsRequest(evaluation=given, request_id=request_id, evaluation_id=evaluation_id)
        for start in range(0, len(predictions), size):
            yield ScorePredictionsRequest(predictions=predictions[start : start + size])

    made: Evaluation = await stack.evaluator.ScorePredictions(messages())
    return made


async def test_predictions_become_a_scored_evaluation(stack: Any, five: str) -> None:
    predictions = [*right(range(3)), Prediction(trace_id="t3", output="Answer: 9"), Prediction(trace_id="t4")]
    made = await send(stack, predictions, size=2, dataset=five)
    assert made.spec.split == "test"
    done = await stack.ended(made.name)
    assert done.status.state == JobState.JOB_STATE_SUCCEEDED, done.status.error.message
    assert done.result.score.mean == 0.6
    assert (done.result.outcomes.correct, done.result.outcomes.wrong, done.result.outcomes.no_answer) == (
        3,
        1,
        1,
    )
    assert done.weights_digest == made.spec.predictions
    items = await stack.item_scores(made.name)
    assert [item.trace_id for item in items] == ["t0", "t1", "t2", "t3", "t4"]
    assert items[0].output == "0 + 1 = 1\nAnswer: 1"
    assert (items[0].prompt, items[0].expected_answer, items[0].rule) == (
        "What is 0 + 1?",
        "1",
        "answer_line",
    )


async def test_the_order_and_the_messages_change_nothing(stack: Any, five: str) -> None:
    predictions = right(range(5))
    first = await send(stack, predictions, dataset=five)
    other = await send(stack, predictions[::-1], size=1, dataset=five)
    assert other.spec.predictions == first.spec.predictions
    assert len(first.spec.predictions) == 64


async def test_bad_and_missing_predictions_are_named_together_and_nothing_is_stored(
    stack: Any, five: str
) -> None:
    bad = [*right([0, 0]), Prediction(trace_id="t9"), Prediction(trace_id="t2", finish_reason="eos")]
    failure = await stack.failure_of(send(stack, bad, size=1, dataset=five, subject="predictors/bad"))
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS")
    assert failure.fields == [
        "predictions",
        "predictions[1].trace_id",
        "predictions[2].trace_id",
        "predictions[3].finish_reason",
    ]
    assert "lacks 3 of 5 outputs: `t1`, `t3`, `t4`" in failure.message
    listed = registry_service_pb2.ListEvaluationsRequest(subject="predictors/bad")
    assert not (await stack.registry.ListEvaluations(listed)).evaluations


async def test_hundreds_of_bad_predictions_are_counted(stack: Any, five: str) -> None:
    many = [Prediction(trace_id=f"none-{number}") for number in range(3000)]
    failure = await stack.failure_of(send(stack, many, dataset=five))
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "has 3001 faults" in failure.message


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"dataset": "datasets/none"}, grpc.StatusCode.NOT_FOUND),
        ({"split": "train"}, grpc.StatusCode.FAILED_PRECONDITION),
        ({"subject": "models/m/versions/v1"}, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_what_was_predicted_is_checked_first(
    stack: Any, five: str, change: dict[str, str], code: grpc.StatusCode
) -> None:
    failure = await stack.failure_of(send(stack, right(range(5)), **{"dataset": five, **change}))
    assert failure.code == code


async def test_an_empty_stream_is_refused(stack: Any) -> None:
    async def nothing() -> AsyncIterator[ScorePredictionsRequest]:
        return
        yield

    failure = await stack.failure_of(stack.evaluator.ScorePredictions(nothing()))
    assert failure.fields == ["evaluation"]


async def test_only_the_first_items_are_wanted_with_a_limit(stack: Any, five: str) -> None:
    made = await send(stack, right(range(2)), dataset=five, limit=2)
    assert (await stack.ended(made.name)).result.score.count == 2
    failure = await stack.failure_of(send(stack, right(range(3)), dataset=five, limit=2))
    assert failure.fields == ["predictions[2].trace_id"]


async def test_every_sample_of_every_item_is_scored(stack: Any, five: str) -> None:
    outputs = [(0, "Answer: 1"), (1, "Answer: 7")]
    predictions = [
        Prediction(trace_id="t0", output=text, sample=sample, finish_reason="length" if sample else "")
        for sample, text in outputs
    ]
    predictions += [Prediction(trace_id="t1", sample=sample, finish_reason="error") for sample in range(2)]
    decoding = Decoding(temperature=1.0)
    made = await send(stack, predictions, dataset=five, samples=2, limit=2, decoding=decoding)
    result = (await stack.ended(made.name)).result
    assert result.outcomes == OutcomeCounts(correct=1, truncated=1, failed=2)
    assert [each.score.mean for each in result.pass_at_k] == [0.25, 0.5]


async def test_nothing_is_made_up_that_was_not_measured(stack: Any, five: str) -> None:
    made = await send(stack, right(range(5)), dataset=five)
    result = (await stack.ended(made.name)).result
    assert (result.completion_tokens, result.tokens_per_second, result.items_per_second) == (0, 0, 0)
    assert not any(item.HasField("latency") for item in await stack.item_scores(made.name))


async def test_a_repeated_request_makes_one_evaluation(stack: Any, five: str) -> None:
    request_id = str(uuid.uuid4())
    first = await send(stack, right(range(5)), request_id=request_id, dataset=five)
    again = await send(stack, right(range(5))[::-1], request_id=request_id, dataset=five)
    assert again.name == first.name
    other = [*right(range(4)), Prediction(trace_id="t4", output="none")]
    failure = await stack.failure_of(send(stack, other, request_id=request_id, dataset=five))
    assert failure.reason == "REQUEST_ID_REUSED"


async def test_predictions_by_task_are_what_the_task_says(stack: Any, five: str) -> None:
    request = registry_service_pb2.CreateTaskVersionRequest(parent="tasks/of-predictions")
    asked = EvaluationSpec(
        dataset=five, decoding=Decoding(max_tokens=9), limit=2, prompt_template="{question}!"
    )
    request.task_version.spec.CopyFrom(asked)
    task = (await stack.registry.CreateTaskVersion(request)).name
    made = await send(stack, right(range(2)), task=task)
    assert (made.spec.task, made.spec.dataset, made.spec.decoding.max_tokens) == (task, five, 9)
    assert made.spec.prompt_template == "{question}!"
    assert (await stack.ended(made.name)).result.score.count == 2
    listed = registry_service_pb2.ListEvaluationsRequest(task=task)
    assert [each.name for each in (await stack.registry.ListEvaluations(listed)).evaluations] == [made.name]


async def test_what_differs_from_the_task_is_named_with_the_other_faults(stack: Any, five: str) -> None:
    request = registry_service_pb2.CreateTaskVersionRequest(parent="tasks/strict-predictions")
    request.task_version.spec.CopyFrom(EvaluationSpec(dataset=five))
    task = (await stack.registry.CreateTaskVersion(request)).name
    later = b"\xf8\x3f\x01"  # the field 1023 of a later version of the protos
    sent = send(stack, right(range(3)), task=task, subject="runs/r", limit=3, unknown=later)
    failure = await stack.failure_of(sent)
    assert failure.fields == ["evaluation.spec.#1023", "evaluation.spec.limit", "evaluation.spec.subject"]


async def test_a_predictor_cannot_be_evaluated_anew(stack: Any, five: str) -> None:
    spec = EvaluationSpec(subject="predictors/gpt-x", dataset=five, predictions="a" * 64)
    request = CreateEvaluationRequest(evaluation=Evaluation(spec=spec))
    failure = await stack.failure_of(stack.evaluator.CreateEvaluation(request))
    assert failure.fields == ["evaluation.spec.predictions", "evaluation.spec.subject"]
    assert "ScorePredictions" in failure.message


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tiny(stack: Any) -> str:
    return str(await stack.make_model())


async def exported(stack: Any, evaluation: str) -> list[Prediction]:
    """The predictions in the artifact of an evaluation, as another tool would send them."""
    request = registry_service_pb2.ListArtifactsRequest(owner=evaluation)
    (artifact,) = (await stack.registry.ListArtifacts(request)).artifacts
    read = registry_service_pb2.ReadBlobRequest(sha256=artifact.files[0].sha256)
    data = b"".join([each.data async for each in stack.registry.ReadBlob(read)])
    parsed = [parse_prediction(json.loads(line)) for line in data.splitlines()]
    return [
        Prediction(
            trace_id=each.item_id, output=each.output, sample=each.sample, finish_reason=each.finish_reason
        )
        for each in parsed
    ]


async def test_an_evaluation_scored_again_has_the_same_result(stack: Any, tiny: str) -> None:
    long = dataset_pb2.Trace(id="long", prompt="Add " + "7 + " * 400 + "7.", final_answer="2807")
    unanswered = dataset_pb2.Trace(id="open", prompt="Why?", completion="Because.")
    traces = [
        dataset_pb2.Trace(id=f"n{n}", prompt=f"What is {n} + {n}?", final_answer=str(2 * n))
        for n in range(40)
    ]
    dataset = (await stack.make_dataset([long, unanswered, *traces], splits=TEST_ONLY)).name
    spec = {"dataset": dataset, "decoding": Decoding(max_tokens=24, temperature=1.0, seed=3), "samples": 3}
    original = await stack.ended((await stack.evaluate(subject=tiny, **spec)).name)
    assert original.result.outcomes.failed == 6  # too long, or without an answer
    sent = await send(stack, await exported(stack, original.name), **spec)
    again = await stack.ended(sent.name)
    assert again.status.state == JobState.JOB_STATE_SUCCEEDED, again.status.error.message
    for result in (original.result, again.result):
        for field in ("completion_tokens", "tokens_per_second", "items_per_second"):
            result.ClearField(field)
        result.reasoning.ClearField("median_tokens")
    assert again.result == original.result
    board = registry_service_pb2.GetLeaderboardRequest(dataset=dataset)
    (shared,) = (await stack.registry.GetLeaderboard(board)).boards
    assert {entry.subject for entry in shared.entries} == {tiny, "predictors/gpt-x"}
    assert {entry.rank for entry in shared.entries} == {1}


async def test_an_interrupted_import_scores_the_missing_outputs_only(
    stack: Any, five: str, tiny: str
) -> None:
    short = {"subject": tiny, "dataset": five, "decoding": Decoding(max_tokens=8)}
    await stack.ended((await stack.evaluate(**short)).name)  # the engine runs now
    os.kill(stack.running.engine.pid, signal.SIGSTOP)
    try:
        other = await stack.evaluate(**short)

        async def busy() -> bool:
            return stack.running.engine.open_requests == 1

        await stack.eventually(busy)  # the worker has another job, so that the import waits in the queue
        made = await send(stack, right(range(5)), dataset=five)
        claim = job_service_pb2.ClaimJobRequest(kind="evaluation", worker="another")
        assert (await stack.jobs.ClaimJob(claim)).job.name == made.name
        stored = [
            ItemScore(trace_id=f"t{n}", position=n, outcome=ItemScore.WRONG, output="of the first attempt")
            for n in (1, 3)
        ]
        await stack.jobs.RecordItemScores(
            job_service_pb2.RecordItemScoresRequest(name=made.name, attempt=1, item_scores=stored)
        )
        released = job_service_pb2.FinishJobRequest(
            name=made.name, attempt=1, released=job_service_pb2.Released()
        )
        await stack.jobs.FinishJob(released)
    finally:
        os.kill(stack.running.engine.pid, signal.SIGCONT)
    done = await stack.ended(made.name)
    assert done.status.attempt == 2
    outcomes = [item.outcome for item in await stack.item_scores(made.name)]
    assert outcomes == [ItemScore.CORRECT, ItemScore.WRONG] * 2 + [ItemScore.CORRECT]
    assert done.result.score.mean == 0.6
    await stack.ended(other.name)
