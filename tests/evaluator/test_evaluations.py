"""Evaluations from request to result, through a real registry, worker and engine."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from tunix_rt.blobs.directory import DirectoryBlobs
from tunix_rt.evaluator.evaluation import Evaluator
from tunix_rt.jobs.worker import ClaimedJob
from tunix_rt.rpc.status import reason_of
from tunix_rt.v1 import dataset_pb2, registry_service_pb2, run_pb2
from tunix_rt.v1.evaluation_pb2 import Decoding, Evaluation, EvaluationSpec, FewShot, ItemScore
from tunix_rt.v1.evaluator_service_pb2 import CancelEvaluationRequest, CreateEvaluationRequest
from tunix_rt.v1.job_pb2 import JobState
from tunix_rt.v1.job_service_pb2 import Job, RecordItemScoresRequest

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

TRACES = [
    dataset_pb2.Trace(
        id=f"t{number}",
        prompt=f"What is {number} + {number}?",
        steps=[dataset_pb2.Step(type="compute", content=f"{number} + {number} = {2 * number}")],
        final_answer=str(2 * number),
    )
    for number in range(600)
]
SHORT = Decoding(max_tokens=8)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tiny(stack: Any) -> str:
    return await stack.make_model()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def dataset(stack: Any) -> dataset_pb2.Dataset:
    return await stack.make_dataset(TRACES)


def size_of(dataset: dataset_pb2.Dataset, split: str) -> int:
    return next(each.trace_count for each in dataset.splits if each.name == split)


def facts(items: list[ItemScore]) -> list[ItemScore]:
    """The items without what a clock or an earlier evaluation decides."""
    for item in items:
        item.ClearField("latency")
        item.ClearField("cached")
    return items


def in_the_engine(stack: Any) -> Callable[[], Awaitable[bool]]:
    async def waiting() -> bool:
        return stack.running.engine.open_requests == 1

    return waiting


async def test_every_item_of_the_split_is_scored(stack: Any, tiny: str, dataset: Any) -> None:
    made = await stack.evaluate(subject=tiny, dataset=dataset.name, decoding=SHORT, limit=20)
    assert made.spec.split == "test"
    done = await stack.ended(made.name)
    assert done.status.state == JobState.JOB_STATE_SUCCEEDED, done.status.error.message
    items = await stack.item_scores(made.name)
    assert [item.position for item in items] == list(range(20))
    assert all(item.prompt and item.expected_answer and item.completion_tokens for item in items)
    assert all(item.latency.ToMicroseconds() > 0 for item in items)
    counts, result = done.result.outcomes, done.result
    total = counts.correct + counts.wrong + counts.no_answer + counts.truncated + counts.failed
    assert (total, result.score.count, counts.failed) == (20, 20, 0)
    assert result.score.mean == counts.correct / 20
    assert result.completion_tokens == sum(item.completion_tokens for item in items)
    assert (done.status.progress, done.status.progress_total) == (20, 20)
    version = await stack.registry.GetModelVersion(registry_service_pb2.GetModelVersionRequest(name=tiny))
    assert done.weights_digest == version.digest


async def test_predictions_are_kept_as_an_artifact(stack: Any, tiny: str, dataset: Any) -> None:
    made = await stack.evaluate(subject=tiny, dataset=dataset.name, decoding=SHORT, limit=5)
    await stack.ended(made.name)
    request = registry_service_pb2.ListArtifactsRequest(owner=made.name)
    (artifact,) = (await stack.registry.ListArtifacts(request)).artifacts
    assert (artifact.kind, [file.path for file in artifact.files]) == ("predictions", ["predictions.jsonl"])
    read = registry_service_pb2.ReadBlobRequest(sha256=artifact.files[0].sha256)
    data = b"".join([each.data async for each in stack.registry.ReadBlob(read)])
    assert hashlib.sha256(data).hexdigest() == artifact.files[0].sha256
    items = await stack.item_scores(made.name)
    predictions = [json.loads(line)["prediction"] for line in data.decode().splitlines()]
    assert predictions == [item.output for item in items]


async def test_an_evaluation_survives_the_death_of_the_engine(stack: Any, tiny: str, dataset: Any) -> None:
    spec = {"subject": tiny, "dataset": dataset.name, "decoding": Decoding(max_tokens=40)}
    undisturbed = await stack.evaluate(**spec)
    expected = await stack.ended(undisturbed.name)
    wanted = await stack.item_scores(undisturbed.name)
    assert len(wanted) == size_of(dataset, "test")

    os.kill(stack.running.engine.pid, signal.SIGSTOP)  # so that it is killed in the middle for sure
    disturbed = await stack.evaluate(**spec)
    await stack.eventually(in_the_engine(stack))
    half = RecordItemScoresRequest(name=disturbed.name, attempt=1, item_scores=wanted[::2])
    await stack.jobs.RecordItemScores(half)
    os.kill(stack.running.engine.pid, signal.SIGKILL)

    done = await stack.ended(disturbed.name)
    assert done.status.state == JobState.JOB_STATE_SUCCEEDED, done.status.error.message
    assert done.status.attempt == 2
    items = await stack.item_scores(disturbed.name)
    assert items[::2] == wanted[::2]  # with their latencies: they were not generated again
    assert facts(items) == facts(wanted)
    assert done.result.score == expected.result.score
    assert done.result.outcomes == expected.result.outcomes


async def test_a_running_evaluation_can_be_cancelled(stack: Any, tiny: str, dataset: Any) -> None:
    made = await stack.evaluate(subject=tiny, dataset=dataset.name, decoding=SHORT, limit=2)
    await stack.ended(made.name)  # the engine runs now
    os.kill(stack.running.engine.pid, signal.SIGSTOP)
    try:
        made = await stack.evaluate(subject=tiny, dataset=dataset.name, decoding=SHORT)
        await stack.eventually(in_the_engine(stack))
        await stack.evaluator.CancelEvaluation(CancelEvaluationRequest(name=made.name))
        done = await stack.ended(made.name)
    finally:
        os.kill(stack.running.engine.pid, signal.SIGCONT)
    assert done.status.state == JobState.JOB_STATE_CANCELLED
    assert stack.running.engine.open_requests == 0


@pytest.mark.parametrize("event", ["stopping", "lease_lost"])
async def test_an_attempt_that_must_end_early_gives_its_job_back(
    stack: Any, tiny: str, dataset: Any, tmp_path: Path, event: str
) -> None:
    evaluator = Evaluator(
        stack.registry,
        stack.jobs,
        DirectoryBlobs(tmp_path),
        stack.running.engine,
        stack.running.scorer,
        tmp_path / "work",
        stack.running.judging,
    )
    spec = EvaluationSpec(subject=tiny, dataset=dataset.name)
    claimed = ClaimedJob(Job(name="evaluations/e", evaluation=spec), asyncio.Event())
    getattr(claimed, event).set()
    assert (await evaluator.handle(claimed)).WhichOneof("outcome") == "released"


async def test_items_that_do_not_fit_are_counted_as_failed(stack: Any, tiny: str) -> None:
    long = dataset_pb2.Trace(id="long", prompt="Add " + "7 + " * 400 + "7.", final_answer="2807")
    splits = [dataset_pb2.Split(name="test", fraction=1.0)]
    made = await stack.make_dataset([long, *TRACES[:3]], splits=splits)
    created = await stack.evaluate(subject=tiny, dataset=made.name, decoding=SHORT)
    done = await stack.ended(created.name)
    assert done.status.state == JobState.JOB_STATE_SUCCEEDED
    assert (done.result.outcomes.failed, done.result.score.count) == (1, 4)
    outcomes = {item.trace_id: item.outcome for item in await stack.item_scores(created.name)}
    assert outcomes["long"] == ItemScore.FAILED
    alone = await stack.make_dataset([long], splits=splits)
    failed = await stack.ended((await stack.evaluate(subject=tiny, dataset=alone.name)).name)
    assert failed.status.state == JobState.JOB_STATE_FAILED
    assert "None of the 1 items" in failed.status.error.message


async def test_items_of_the_training_data_are_refused_unless_allowed(
    stack: Any, tiny: str, dataset: Any
) -> None:
    run = await stack.enqueue_run(tiny, dataset.name)
    unfinished = EvaluationSpec(subject=run, dataset=dataset.name)
    request = CreateEvaluationRequest(evaluation=Evaluation(spec=unfinished), request_id=str(uuid.uuid4()))
    failure = await stack.failure_of(stack.evaluator.CreateEvaluation(request))
    assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RUN_NOT_FINISHED")

    await stack.succeed_run(run)
    seen = {"subject": run, "dataset": dataset.name, "split": "train", "decoding": SHORT, "limit": 4}
    refused = await stack.ended((await stack.evaluate(**seen)).name)
    assert refused.status.state == JobState.JOB_STATE_FAILED
    assert reason_of(refused.status.error) == "CONTAMINATED"
    assert refused.status.error.message.startswith("4 of 4 items")
    assert "What is " in refused.status.error.message
    assert refused.status.attempt == 1

    allowed = await stack.ended((await stack.evaluate(**seen, allow_contamination=True)).name)
    assert allowed.result.contaminated_count == 4
    held_out = {"subject": run, "dataset": dataset.name, "decoding": SHORT, "limit": 4}
    clean = await stack.ended((await stack.evaluate(**held_out)).name)
    assert clean.status.state == JobState.JOB_STATE_SUCCEEDED
    assert clean.result.contaminated_count == 0


@pytest.mark.parametrize("as_chat", [False, True])
async def test_items_of_a_part_of_the_mixture_are_training_data(
    stack: Any, tiny: str, dataset: Any, as_chat: bool
) -> None:
    whole = [dataset_pb2.Split(name="train", fraction=1.0)]
    own = await stack.make_dataset(
        [dataset_pb2.Trace(id="own", prompt="Name a colour.", final_answer="red")], splits=whole
    )
    turns = [("user", TRACES[0].prompt), ("assistant", "?"), ("user", "Go on."), ("assistant", "!")]
    chat = [dataset_pb2.ChatMessage(role=role, content=content) for role, content in turns]
    seen = dataset_pb2.Trace(id="chat", messages=chat) if as_chat else TRACES[0]
    part = await stack.make_dataset([seen], splits=whole)
    asked = await stack.make_dataset(TRACES[:2], splits=[dataset_pb2.Split(name="test", fraction=1.0)])
    run = await stack.enqueue_run(tiny, own.name, mixture=[run_pb2.MixturePart(dataset=part.name)])
    await stack.succeed_run(run)
    refused = await stack.ended((await stack.evaluate(subject=run, dataset=asked.name)).name)
    assert reason_of(refused.status.error) == "CONTAMINATED"
    assert refused.status.error.message.startswith("1 of 2 items")


async def test_a_conversation_is_no_item(stack: Any, tiny: str) -> None:
    turns = [("user", "Hi"), ("assistant", "Hi!"), ("user", "Go on."), ("assistant", "No.")]
    chat = [dataset_pb2.ChatMessage(role=role, content=content) for role, content in turns]
    splits = [dataset_pb2.Split(name="test", fraction=1.0)]
    made = await stack.make_dataset([dataset_pb2.Trace(id="chat", messages=chat)], splits=splits)
    failed = await stack.ended((await stack.evaluate(subject=tiny, dataset=made.name)).name)
    assert failed.status.state == JobState.JOB_STATE_FAILED
    assert failed.status.error.message.startswith("None of the 1 items could be generated and scored")


async def test_a_request_is_checked_before_it_is_queued(stack: Any, tiny: str, dataset: Any) -> None:
    async def failure(**spec: Any) -> Any:
        given = {"subject": tiny, "dataset": dataset.name, **spec}
        request = CreateEvaluationRequest(
            evaluation=Evaluation(spec=EvaluationSpec(**given)), request_id=str(uuid.uuid4())
        )
        return await stack.failure_of(stack.evaluator.CreateEvaluation(request))

    bad = await failure(subject="tiny", limit=-1)
    assert bad.fields == ["evaluation.spec.limit", "evaluation.spec.subject"]
    missing = await failure(subject="models/tiny/versions/v99")
    assert (missing.code, missing.reason) == (grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND")
    assert (await failure(dataset="datasets/none")).code == grpc.StatusCode.NOT_FOUND
    empty = await failure(split="validation")
    assert (empty.code, empty.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SPLIT_EMPTY")
    assert "train (" in empty.message
    opened = await stack.make_dataset(TRACES[:3], seal=False)
    assert (await failure(dataset=opened.name)).reason == "DATASET_NOT_SEALED"


async def test_a_repeated_request_makes_one_evaluation(stack: Any, tiny: str, dataset: Any) -> None:
    spec = EvaluationSpec(subject=tiny, dataset=dataset.name, decoding=SHORT, limit=1)
    request = CreateEvaluationRequest(evaluation=Evaluation(spec=spec), request_id=str(uuid.uuid4()))
    first = await stack.evaluator.CreateEvaluation(request)
    assert (await stack.evaluator.CreateEvaluation(request)).name == first.name
    await stack.ended(first.name)


SAMPLED = Decoding(max_tokens=8, temperature=1.0, seed=5)


async def test_every_sample_of_every_item_is_scored_and_none_twice(
    stack: Any, tiny: str, dataset: Any
) -> None:
    spec = {"subject": tiny, "dataset": dataset.name, "decoding": SAMPLED, "limit": 6}
    made = await stack.evaluate(**spec, samples=4)
    done = await stack.ended(made.name)
    assert done.status.state == JobState.JOB_STATE_SUCCEEDED, done.status.error.message
    items = await stack.item_scores(made.name)
    assert [(item.position, item.sample) for item in items] == [(p, s) for p in range(6) for s in range(4)]
    assert len({item.output for item in items[:4]}) > 1
    assert (done.status.progress, done.status.progress_total) == (24, 24)
    assert done.result.score.count == 6
    assert [each.name for each in done.result.pass_at_k] == ["pass@1", "pass@2", "pass@4"]
    assert done.result.pass_at_k[0].score.mean == pytest.approx(done.result.score.mean)

    fewer = await stack.evaluate(**spec, samples=2)
    await stack.ended(fewer.name)
    outputs = {(item.position, item.sample): item.output for item in items}
    for item in await stack.item_scores(fewer.name):
        assert item.output == outputs[item.position, item.sample]


async def test_an_interrupted_evaluation_generates_the_missing_samples_only(
    stack: Any, tiny: str, dataset: Any
) -> None:
    spec = {"subject": tiny, "dataset": dataset.name, "decoding": SAMPLED, "limit": 4, "samples": 3}
    undisturbed = await stack.ended((await stack.evaluate(**spec)).name)
    wanted = await stack.item_scores(undisturbed.name)

    os.kill(stack.running.engine.pid, signal.SIGSTOP)
    disturbed = await stack.evaluate(**spec)
    await stack.eventually(in_the_engine(stack))
    some = RecordItemScoresRequest(name=disturbed.name, attempt=1, item_scores=wanted[1::2])
    await stack.jobs.RecordItemScores(some)
    os.kill(stack.running.engine.pid, signal.SIGKILL)

    done = await stack.ended(disturbed.name)
    items = await stack.item_scores(disturbed.name)
    assert items[1::2] == wanted[1::2]  # with their latencies: they were not generated again
    assert facts(items) == facts(wanted)
    assert done.result.score == undisturbed.result.score
    assert done.result.majority_at_k == undisturbed.result.majority_at_k


async def test_examples_stand_before_the_question(stack: Any, tiny: str, dataset: Any) -> None:
    spec = {"subject": tiny, "dataset": dataset.name, "decoding": SHORT, "limit": 4}
    plain = await stack.ended((await stack.evaluate(**spec)).name)
    made = await stack.evaluate(**spec, few_shot=FewShot(count=2, seed=1))
    assert made.spec.few_shot.split == "train"
    done = await stack.ended(made.name)
    assert done.status.state == JobState.JOB_STATE_SUCCEEDED, done.status.error.message
    without, items = await stack.item_scores(plain.name), await stack.item_scores(made.name)
    assert [item.prompt for item in items] == [item.prompt for item in without]
    assert all(a.prompt_tokens > b.prompt_tokens + 20 for a, b in zip(items, without, strict=True))


async def test_a_template_words_the_prompt_and_not_the_item(stack: Any, tiny: str, dataset: Any) -> None:
    spec = {"subject": tiny, "dataset": dataset.name, "decoding": SHORT, "limit": 4}
    plain = await stack.ended((await stack.evaluate(**spec)).name)
    worded = await stack.ended((await stack.evaluate(**spec, prompt_template="What is\n{question}")).name)
    without, items = await stack.item_scores(plain.name), await stack.item_scores(worded.name)
    assert [item.prompt for item in items] == [item.prompt for item in without]
    assert all(a.prompt_tokens > b.prompt_tokens for a, b in zip(items, without, strict=True))


async def test_an_evaluation_by_task_is_the_same_as_its_spec(stack: Any, tiny: str, dataset: Any) -> None:
    request = registry_service_pb2.CreateTaskVersionRequest(parent="tasks/sums")
    request.task_version.spec.CopyFrom(EvaluationSpec(dataset=dataset.name, decoding=SHORT, limit=6))
    task = await stack.registry.CreateTaskVersion(request)
    by_task = await stack.evaluate(subject=tiny, task=task.name)
    written = await stack.evaluate(subject=tiny, dataset=dataset.name, decoding=SHORT, limit=6)
    done, same = await stack.ended(by_task.name), await stack.ended(written.name)
    assert (done.spec.task, done.result.score.count) == (task.name, 6)
    assert done.result.score == same.result.score
    done.spec.task = ""
    assert done.spec == same.spec


async def test_what_differs_from_the_task_is_named_with_every_other_fault(
    stack: Any, tiny: str, dataset: Any
) -> None:
    request = registry_service_pb2.CreateTaskVersionRequest(parent="tasks/sampled")
    sampled = EvaluationSpec(dataset=dataset.name, decoding=Decoding(temperature=1), samples=2)
    request.task_version.spec.CopyFrom(sampled)
    task = await stack.registry.CreateTaskVersion(request)
    asked = EvaluationSpec(subject="x", task=task.name, samples=2, limit=5, format="tags")
    create = CreateEvaluationRequest(evaluation=Evaluation(name="evaluations/x", spec=asked))
    failure = await stack.failure_of(stack.evaluator.CreateEvaluation(create))
    assert failure.fields == [
        "evaluation.name",
        "evaluation.spec.format",
        "evaluation.spec.limit",
        "evaluation.spec.subject",
    ]


async def test_examples_that_a_split_does_not_have_are_refused(stack: Any, tiny: str) -> None:
    splits = [
        dataset_pb2.Split(name="test", fraction=0.999),
        dataset_pb2.Split(name="train", fraction=0.001),
    ]
    made = await stack.make_dataset(TRACES[:4], splits=splits)
    assert size_of(made, "test") == 4
    for name in ("train", "other"):
        spec = EvaluationSpec(subject=tiny, dataset=made.name, few_shot=FewShot(count=1, split=name))
        request = CreateEvaluationRequest(evaluation=Evaluation(spec=spec), request_id=str(uuid.uuid4()))
        failure = await stack.failure_of(stack.evaluator.CreateEvaluation(request))
        assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SPLIT_EMPTY")


async def test_the_result_stands_beside_rules_without_a_model(stack: Any, tiny: str, dataset: Any) -> None:
    done = await stack.ended(
        (await stack.evaluate(subject=tiny, dataset=dataset.name, decoding=SHORT, limit=9)).name
    )
    assert [each.name for each in done.result.baselines] == [
        "majority-answer",
        "constant",
        "number-in-question",
    ]
    assert all(each.score.count == 9 for each in done.result.baselines)
    assert done.result.HasField("strict_score")
    assert done.result.HasField("reasoning")


REPEATED = Decoding(max_tokens=9)  # no other test's


async def test_a_repeated_evaluation_takes_its_outputs_from_the_cache(
    stack: Any, tiny: str, dataset: Any
) -> None:
    spec = {"subject": tiny, "dataset": dataset.name, "decoding": REPEATED}
    first = await stack.ended((await stack.evaluate(**spec, limit=5)).name)
    again = await stack.ended((await stack.evaluate(**spec, limit=5)).name)
    more = await stack.ended((await stack.evaluate(**spec, limit=8)).name)
    assert [each.result.cached_count for each in (first, again, more)] == [0, 5, 5]
    items = [await stack.item_scores(each.name) for each in (first, again, more)]
    assert [item.cached for item in items[2]] == [True] * 5 + [False] * 3
    for item, repeated in zip(items[0], items[1], strict=True):
        repeated.cached = False
        assert repeated == item  # with its latency
    assert (again.result.tokens_per_second, again.result.items_per_second) == (0.0, 0.0)
    assert again.result.score == first.result.score
    assert again.result.completion_tokens == first.result.completion_tokens


async def test_outputs_from_the_cache_are_scored_anew(stack: Any, tiny: str, dataset: Any) -> None:
    spec = {"subject": tiny, "dataset": dataset.name, "decoding": REPEATED, "limit": 4}
    await stack.ended((await stack.evaluate(**spec)).name)
    done = await stack.ended((await stack.evaluate(**spec, answer_pattern=r"\A(.)")).name)
    assert done.result.cached_count == 4
    items = await stack.item_scores(done.name)
    assert {item.rule for item in items if item.output} == {"pattern"}


async def test_more_outputs_than_fit_a_part_are_all_scored(stack: Any, tiny: str, dataset: Any) -> None:
    tokens = Decoding(max_tokens=2, temperature=1.0, seed=8)
    spec = {"subject": tiny, "dataset": dataset.name, "decoding": tokens, "limit": 20, "samples": 40}
    made = await stack.evaluate(**spec)
    done = await stack.ended(made.name)
    assert (done.status.progress, done.result.score.count) == (800, 20)
    places = [(item.position, item.sample) for item in await stack.item_scores(made.name)]
    assert places == [(position, sample) for position in range(20) for sample in range(40)]
