"""Predictions that were made elsewhere: from a stream to a result, through a real registry and worker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import pytest
import pytest_asyncio

from tunix_rt.v1 import dataset_pb2
from tunix_rt.v1.evaluation_pb2 import Evaluation, EvaluationSpec
from tunix_rt.v1.evaluator_service_pb2 import Prediction, ScorePredictionsRequest
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
    **spec: Any,
) -> Evaluation:
    given = Evaluation(spec=EvaluationSpec(**{"subject": "predictors/gpt-x", **spec}))

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
        "answer-line",
    )
