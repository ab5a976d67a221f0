"""Judges from request to result: calibrated, believed as far as that, and never ranked without it."""

from __future__ import annotations

import threading
import uuid
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from typing import Any

import grpc
import pytest
import pytest_asyncio

from tunix_rt.judges.calibration import PADDING
from tunix_rt.judges.requests import Case, probability_messages, text_messages
from tunix_rt.lm.tiny import make_tiny_model
from tunix_rt.v1 import dataset_pb2, registry_service_pb2
from tunix_rt.v1.evaluation_pb2 import Decoding, Evaluation, ItemScore, Judge
from tunix_rt.v1.evaluator_service_pb2 import CalibrateJudgeRequest
from tunix_rt.v1.job_pb2 import JobState
from tunix_rt.v1.job_service_pb2 import RecordItemScoresRequest

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

TRACES = [
    dataset_pb2.Trace(
        id=f"j{number}",
        prompt=f"What is {number} + {number}?",
        steps=[dataset_pb2.Step(type="compute", content=f"{number} + {number} = {2 * number}")],
        final_answer=str(2 * number),
    )
    for number in range(10, 50)
]
SHORT = Decoding(max_tokens=8)
HONEST = Judge(subject="endpoints/chat", model="honest")
YES = Judge(subject="endpoints/chat", model="yes")
MUMBLE = Judge(subject="endpoints/chat", model="mumble")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tiny(stack: Any) -> str:
    return await stack.make_model()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def dataset(stack: Any) -> str:
    made = await stack.make_dataset(TRACES, splits=[dataset_pb2.Split(name="test", fraction=1.0)])
    return str(made.name)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def judge_model(stack: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Other weights, with room for the request of a pair."""
    folder = tmp_path_factory.mktemp("models") / "judge"
    texts = [message["content"] for message in probability_messages(Case("What is 1?", "1", PADDING))]
    make_tiny_model(folder, texts * 20, seed=2, hidden_size=32, num_layers=1, max_positions=2048)
    return str(await replace(stack, tiny_model=folder).make_model())


async def calibrate(stack: Any, dataset: str, judge: Judge, **more: Any) -> Evaluation:
    request = CalibrateJudgeRequest(judge=judge, dataset=dataset, request_id=str(uuid.uuid4()), **more)
    return await stack.ended((await stack.evaluator.CalibrateJudge(request)).name)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def honest(stack: Any, dataset: str) -> Evaluation:
    return await calibrate(stack, dataset, HONEST)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def yes(stack: Any, dataset: str) -> Evaluation:
    return await calibrate(stack, dataset, YES)


def named(judge: Judge, calibration: Evaluation) -> Judge:
    return Judge(subject=judge.subject, model=judge.model, rubric=judge.rubric, calibration=calibration.name)


async def judged(stack: Any, subject: str, dataset: str, judge: Judge, **spec: Any) -> Evaluation:
    given = {"decoding": SHORT, "scorer": "judge@1", "limit": 6, **spec}
    made = await stack.evaluate(subject=subject, dataset=dataset, judge=judge, **given)
    return await stack.ended(made.name)


async def board_of(stack: Any, dataset: str, judge: Judge) -> Any:
    found = await stack.registry.GetLeaderboard(registry_service_pb2.GetLeaderboardRequest(dataset=dataset))
    (board,) = [board for board in found.boards if board.spec.judge == judge]
    return board


async def test_a_judge_that_is_always_right(stack: Any, honest: Evaluation) -> None:
    assert honest.status.state == JobState.JOB_STATE_SUCCEEDED, honest.status.error.message
    found = honest.result.calibration
    assert (found.count, found.kappa, found.undecided_count) == (80, 1.0, 0)
    assert (found.sensitivity.mean, found.specificity.mean, found.agreement.mean) == (1.0, 1.0, 1.0)
    assert (found.flip_rate.mean, found.self_consistency.mean, found.length_bias) == (0.0, 1.0, 0.0)
    assert found.sensitivity.low == pytest.approx(0.912, abs=1e-3)  # Wilson, 40 of 40
    assert (found.threshold, found.may_rank) == (0.4, True)
    assert (honest.result.score.count, honest.status.progress) == (40, 320)
    assert (honest.spec.method, honest.spec.subject) == ("judge-calibration", "endpoints/chat")
    assert honest.weights_digest == ""


async def test_every_judging_is_stored_with_the_verdict(stack: Any, honest: Evaluation) -> None:
    items = await stack.item_scores(honest.name)
    assert len(items) == 320
    first = [item for item in items if item.position == 0]
    assert [item.judge_score for item in first] == [1, 0, 1, 0, 1, 0, 1, 0]
    assert [item.extracted_answer for item in first] == [*["accepted", "rejected"] * 3, "A", "B"]
    assert all(item.judge_comment.startswith("I compared the answers.") for item in items)
    assert all(item.outcome == ItemScore.CORRECT for item in items)


async def test_a_judge_that_accepts_everything_may_not_rank(stack: Any, yes: Evaluation) -> None:
    found = yes.result.calibration
    assert (found.kappa, found.sensitivity.mean, found.specificity.mean) == (0.0, 1.0, 0.0)
    assert (found.flip_rate.mean, found.may_rank, yes.result.score.mean) == (1.0, False, 0.5)


async def test_a_judge_without_verdicts_agrees_with_nothing(stack: Any, dataset: str) -> None:
    found = (await calibrate(stack, dataset, MUMBLE, limit=3)).result
    assert (found.calibration.undecided_count, found.calibration.kappa) == (6, 0.0)
    assert (found.calibration.agreement.mean, found.calibration.may_rank) == (0.0, False)
    assert not found.calibration.HasField("flip_rate")
    assert found.outcomes.no_answer == 24


async def test_a_model_of_ours_judges_by_probability(stack: Any, judge_model: str, dataset: str) -> None:
    done = await calibrate(stack, dataset, Judge(subject=judge_model), limit=4, seed=7)
    assert done.status.state == JobState.JOB_STATE_SUCCEEDED, done.status.error.message
    items = await stack.item_scores(done.name)
    assert [item.judge_comment for item in items] == [""] * 32
    assert all(0 < item.judge_score < 1 for item in items)
    assert len({item.judge_score for item in items}) > 16
    request = registry_service_pb2.GetModelVersionRequest(name=judge_model)
    assert done.weights_digest == (await stack.registry.GetModelVersion(request)).digest
    assert done.result.calibration.may_rank is False  # 4 items are too few, whatever it says


async def test_a_request_that_does_not_fit_a_model_is_undecided(stack: Any, tiny: str, dataset: str) -> None:
    done = await calibrate(stack, dataset, Judge(subject=tiny), limit=1)
    undecided = [item for item in await stack.item_scores(done.name) if not item.HasField("judge_score")]
    assert undecided
    assert {item.outcome for item in undecided} == {ItemScore.NO_ANSWER}
    assert all(item.judge_comment for item in undecided)


async def test_a_model_of_ours_scores_another(stack: Any, tiny: str, judge_model: str, dataset: str) -> None:
    done = await judged(stack, tiny, dataset, Judge(subject=judge_model), limit=3)
    assert done.status.state == JobState.JOB_STATE_SUCCEEDED, done.status.error.message
    items = await stack.item_scores(done.name)
    assert [item.score for item in items] == [float(item.judge_score > 0.5) for item in items]


async def test_items_without_a_checkable_answer_are_counted_as_failed(stack: Any) -> None:
    only = dataset_pb2.Trace(id="free", prompt="Write a poem.", completion="Roses.")
    splits = [dataset_pb2.Split(name="test", fraction=1.0)]
    made = await stack.make_dataset([only, *TRACES[:2]], splits=splits)
    done = await calibrate(stack, made.name, HONEST)
    assert (done.result.outcomes.failed, done.result.calibration.count, done.result.score.count) == (8, 4, 3)


async def test_a_calibrated_judge_ranks_and_is_corrected(
    stack: Any, tiny: str, dataset: str, honest: Evaluation
) -> None:
    judge = named(HONEST, honest)
    done = await judged(stack, tiny, dataset, judge)
    assert done.status.state == JobState.JOB_STATE_SUCCEEDED, done.status.error.message
    found = done.result.judged
    assert (found.may_rank, found.reason, found.undecided_count) == (True, "", 0)
    assert found.score == done.result.score
    assert found.corrected == pytest.approx(done.result.score.mean)  # a perfect judge
    assert found.corrected_low <= found.corrected <= found.corrected_high
    assert not done.result.baselines
    items = await stack.item_scores(done.name)
    assert [item.score for item in items] == [item.judge_score for item in items]
    assert done.status.progress == done.status.progress_total == 12
    board = await board_of(stack, dataset, judge)
    assert (board.unranked_reason, [entry.rank for entry in board.entries]) == ("", [1])


async def test_a_judge_that_is_not_calibrated_is_not_ranked(stack: Any, tiny: str, dataset: str) -> None:
    done = await judged(stack, tiny, dataset, YES)
    assert (done.result.score.mean, done.result.judged.may_rank) == (1.0, False)
    assert not done.result.judged.HasField("corrected")
    board = await board_of(stack, dataset, YES)
    assert board.unranked_reason == done.result.judged.reason
    assert "is not calibrated" in board.unranked_reason
    assert [entry.rank for entry in board.entries] == [0]


async def test_a_judge_below_the_threshold_is_not_ranked(
    stack: Any, tiny: str, dataset: str, yes: Evaluation
) -> None:
    judge = named(YES, yes)
    done = await judged(stack, tiny, dataset, judge)
    assert done.result.judged.reason == (
        f"The judge `endpoints/chat` may not rank: by `{yes.name}`, "
        "the lower end of its kappa is 0.00, and 0.40 is needed."
    )
    assert not done.result.judged.HasField("corrected")  # no better than chance
    assert [entry.rank for entry in (await board_of(stack, dataset, judge)).entries] == [0]


async def test_calibrations_stand_on_no_board(stack: Any, dataset: str, honest: Evaluation) -> None:
    found = await stack.registry.GetLeaderboard(registry_service_pb2.GetLeaderboardRequest(dataset=dataset))
    assert honest.name not in {entry.evaluation for board in found.boards for entry in board.entries}


async def test_beside_another_scorer_verdicts_change_no_score_and_no_board(
    stack: Any, tiny: str, dataset: str
) -> None:
    plain = await stack.ended(
        (await stack.evaluate(subject=tiny, dataset=dataset, decoding=SHORT, limit=5)).name
    )
    beside = await judged(stack, tiny, dataset, YES, scorer="", limit=5)
    assert beside.result.score == plain.result.score
    assert beside.result.judged.score.mean == 1.0
    assert [each.name for each in beside.result.baselines] == [each.name for each in plain.result.baselines]
    items = await stack.item_scores(beside.name)
    assert {item.judge_score for item in items} == {1.0}
    found = await stack.registry.GetLeaderboard(registry_service_pb2.GetLeaderboardRequest(dataset=dataset))
    (board,) = [board for board in found.boards if board.spec.limit == 5]
    assert (board.entries[0].evaluation_count, board.unranked_reason) == (2, "")


async def test_a_score_with_verdicts_beside_it_can_be_made_again(
    stack: Any, tiny: str, dataset: str, honest: Evaluation
) -> None:
    beside = await judged(stack, tiny, dataset, named(HONEST, honest), scorer="", limit=4)
    request = registry_service_pb2.VerifyEvaluationRequest(name=beside.name)
    found = await stack.registry.VerifyEvaluation(request)
    assert beside.result.judged.HasField("corrected")
    assert (found.verified, found.difference, found.item_count) == (True, "", 4)


async def test_undecided_outputs_are_not_accepted(stack: Any, tiny: str, dataset: str) -> None:
    beside = await judged(stack, tiny, dataset, MUMBLE, scorer="")
    assert (beside.result.judged.undecided_count, beside.result.judged.score.mean) == (6, 0.0)
    failed = await judged(stack, tiny, dataset, MUMBLE)
    assert failed.status.state == JobState.JOB_STATE_FAILED
    assert "None of the 6 items" in failed.status.error.message


async def test_stored_verdicts_are_not_asked_for_again(
    stack: Any, tiny: str, dataset: str, chat_server: Any
) -> None:
    first = await judged(stack, tiny, dataset, YES)
    wanted = await stack.item_scores(first.name)
    chat_server.replies = [lambda handler: chat_server.send(handler, 401, "")]
    refused = await judged(stack, tiny, dataset, YES)
    assert refused.status.error.message.startswith("`endpoints/chat` answered with status 401")
    assert ItemScore.FAILED in {item.outcome for item in await stack.item_scores(refused.name)}

    recorded = threading.Event()

    def away(handler: BaseHTTPRequestHandler) -> None:
        recorded.wait(30)
        chat_server.send(handler, 503, "", {"Retry-After": "0"})

    chat_server.requests.clear()
    chat_server.replies = [away] * 20  # four requests at a time, so one of them fails for the fifth time
    given = {"decoding": SHORT, "scorer": "judge@1", "limit": 6}
    made = await stack.evaluate(subject=tiny, dataset=dataset, judge=YES, **given)

    async def asked() -> bool:
        return bool(chat_server.requests)

    await stack.eventually(asked)
    half = RecordItemScoresRequest(name=made.name, attempt=1, item_scores=wanted[:3])
    await stack.jobs.RecordItemScores(half)
    recorded.set()
    done = await stack.ended(made.name)
    assert done.status.attempt == 2
    assert done.result.score == first.result.score
    assert [item.judge_score for item in await stack.item_scores(made.name)] == [1.0] * 6


async def test_a_calibration_of_another_judge_is_refused(
    stack: Any, tiny: str, dataset: str, honest: Evaluation
) -> None:
    async def failure(judge: Judge) -> Any:
        spec = {"subject": tiny, "dataset": dataset, "judge": judge, "scorer": "judge@1"}
        return await stack.failure_of(stack.evaluate(**spec))

    other = await failure(named(YES, honest))
    assert (other.code, other.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CALIBRATION_MISMATCH")
    assert "its model is `honest`, not `yes`" in other.message
    worded = await failure(named(Judge(subject="endpoints/chat", model="honest", rubric="Polite."), honest))
    assert "its rubric is ``, not `Polite.`" in worded.message
    plain = await stack.evaluate(subject=tiny, dataset=dataset, decoding=SHORT, limit=1)
    none = await failure(named(HONEST, plain))
    assert "an evaluation of another method" in none.message


async def test_bad_judges_are_refused_together(stack: Any, tiny: str, dataset: str) -> None:
    spec = {"subject": tiny, "dataset": dataset, "scorer": "judge@1"}
    failure = await stack.failure_of(stack.evaluate(**spec))
    assert failure.fields == ["evaluation.spec.judge"]
    bad = Judge(subject="http://evil/v1", model="m" * 300, rubric="r" * 5000, calibration="runs/x")
    failure = await stack.failure_of(stack.evaluate(**spec, judge=bad))
    assert set(failure.fields) == {
        f"evaluation.spec.judge.{name}" for name in ("subject", "model", "rubric", "calibration")
    }
    failure = await stack.failure_of(stack.evaluate(**spec, judge=Judge(subject="endpoints/chat")))
    assert failure.fields == ["evaluation.spec.judge.model"]
    failure = await stack.failure_of(stack.evaluate(**spec, judge=Judge(subject="endpoints/x", model="m")))
    assert failure.reason == "RESOURCE_NOT_FOUND"
    assert "`endpoints/chat`" in failure.message
    failure = await stack.failure_of(stack.evaluate(**spec, judge=Judge(subject=tiny)))
    assert failure.fields == ["evaluation.spec.judge.subject"]
    assert "has the weights of the subject" in failure.message
    failure = await stack.failure_of(
        stack.evaluate(subject="endpoints/chat", dataset=dataset, judge=HONEST, method="judge-calibration")
    )
    assert "call `CalibrateJudge`" in failure.message


async def test_a_calibration_request_is_checked_as_a_whole(stack: Any, dataset: str) -> None:
    request = CalibrateJudgeRequest(
        evaluation_id="Bad", judge=Judge(calibration="evaluations/x"), split="Bad", limit=-1, seed=-1
    )
    failure = await stack.failure_of(stack.evaluator.CalibrateJudge(request))
    assert failure.fields == [
        "dataset", "evaluation_id", "judge.calibration", "judge.subject", "limit", "seed", "split",
    ]  # fmt: skip


async def test_a_judge_sees_the_item_and_nothing_else(
    stack: Any, tiny: str, dataset: str, chat_server: Any
) -> None:
    chat_server.requests.clear()
    done = await judged(stack, tiny, dataset, HONEST, limit=1)
    (item,) = await stack.item_scores(done.name)
    ((_, body),) = chat_server.requests
    case = Case(item.prompt, item.expected_answer, item.output)
    assert body["messages"] == [dict(message) for message in text_messages(case)]
    assert set(body) == {"model", "messages", "temperature", "seed", "max_tokens"}
