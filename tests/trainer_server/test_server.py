"""The trainer's API: what a run is refused for, what is queued, and cancellation."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tunix_rt.rpc.status import reason_of, status_of, violations_of
from tunix_rt.trainer.server import start
from tunix_rt.trainer.settings import Settings
from tunix_rt.trainer.spec import complete
from tunix_rt.v1 import registry_service_pb2
from tunix_rt.v1.evaluation_pb2 import EvaluationSpec
from tunix_rt.v1.job_pb2 import JobState, JobStatus
from tunix_rt.v1.run_pb2 import Run, RunSpec
from tunix_rt.v1.trainer_service_pb2 import CancelRunRequest, CreateRunRequest
from tunix_rt.v1.trainer_service_pb2_grpc import TrainerServiceStub


@pytest.fixture
async def trainer(registry: Any, tmp_path: Path) -> AsyncIterator[Any]:
    settings = Settings(
        listen="127.0.0.1:0", registry=registry.address, blobs=registry.blobs_url, work=tmp_path / "trainer"
    )
    server = await start(settings)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:  # without retries
        yield TrainerServiceStub(channel)
    await server.stop(0)


async def refused(call: Any) -> tuple[str, str, list[tuple[str, str]]]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    status = status_of(caught.value)
    return caught.value.code().name, f"{reason_of(status)}: {status.message}", violations_of(status)


async def test_a_run_is_queued_with_its_complete_spec(trainer: Any, spec: RunSpec) -> None:
    asked = Run(spec=spec, description="first", labels={"team": "a"})
    run = await trainer.CreateRun(CreateRunRequest(run_id="my-run", run=asked))
    assert run.name == "runs/my-run"
    assert run.status.state == JobState.JOB_STATE_QUEUED
    assert run.spec == complete(spec)
    assert (run.description, dict(run.labels)) == ("first", {"team": "a"})


async def test_a_run_keeps_its_notes_tags_parent_and_sweep(trainer: Any, spec: RunSpec) -> None:
    await trainer.CreateRun(CreateRunRequest(run_id="first", run=Run(spec=spec)))
    asked = Run(spec=spec, notes="# Why", tags=["b", "a"], parent="runs/first", sweep="sweeps/rates")
    run = await trainer.CreateRun(CreateRunRequest(run=asked))
    assert (run.notes, list(run.tags), run.parent, run.sweep) == (
        "# Why",
        ["a", "b"],
        "runs/first",
        "sweeps/rates",
    )


async def test_all_bad_words_on_a_run_are_named(trainer: Any, spec: RunSpec) -> None:
    asked = Run(spec=spec, tags=["two words"], parent="first", sweep="rates")
    asked.archive_time.seconds = 1
    _, _, fields = await refused(trainer.CreateRun(CreateRunRequest(run=asked)))
    assert [field for field, _ in fields] == ["run.archive_time", "run.tags[0]", "run.parent", "run.sweep"]


async def test_a_repeated_request_returns_the_same_run(trainer: Any, spec: RunSpec) -> None:
    request = CreateRunRequest(run=Run(spec=spec), request_id=str(uuid.uuid4()))
    first = await trainer.CreateRun(request)
    again = await trainer.CreateRun(request)
    assert first.name == again.name
    request.run.spec.steps = 7
    code, text, _ = await refused(trainer.CreateRun(request))
    assert (code, text.split(":")[0]) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")


async def test_a_taken_id_is_refused(trainer: Any, spec: RunSpec) -> None:
    await trainer.CreateRun(CreateRunRequest(run_id="taken", run=Run(spec=spec)))
    code, text, _ = await refused(trainer.CreateRun(CreateRunRequest(run_id="taken", run=Run(spec=spec))))
    assert (code, text.split(":")[0]) == ("ALREADY_EXISTS", "RESOURCE_EXISTS")


async def test_all_bad_fields_are_named_together(trainer: Any, spec: RunSpec) -> None:
    spec.steps = 0
    spec.optimizer.learning_rate = 3
    asked = Run(name="runs/x", status=JobStatus(attempt=1), spec=spec)
    request = CreateRunRequest(run_id="../etc", run=asked)
    code, _, fields = await refused(trainer.CreateRun(request))
    assert code == "INVALID_ARGUMENT"
    assert [field for field, _ in fields] == [
        "run_id",
        "run.name",
        "run.status",
        "run.spec.steps",
        "run.spec.optimizer.learning_rate",
    ]


async def test_a_model_or_dataset_that_does_not_exist_is_named(trainer: Any, spec: RunSpec) -> None:
    for field, name in (("model", "models/none/versions/v1"), ("dataset", "datasets/none")):
        asked = RunSpec()
        asked.CopyFrom(spec)
        setattr(asked, field, name)
        code, text, _ = await refused(trainer.CreateRun(CreateRunRequest(run=Run(spec=asked))))
        assert code == "NOT_FOUND"
        assert name in text


async def test_an_open_dataset_is_refused_with_the_remedy(
    trainer: Any, spec: RunSpec, open_dataset: Any
) -> None:
    name = await open_dataset()
    spec.evaluate_after.add(dataset=name)
    code, text, _ = await refused(trainer.CreateRun(CreateRunRequest(run=Run(spec=spec))))
    assert code == "FAILED_PRECONDITION"
    assert (
        text
        == f"DATASET_NOT_SEALED: Dataset `{name}` is open. Seal it with SealDataset, then create the run."
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("train_split", "nothing"),
        ("validation_split", "nothing"),
        ("evaluate_after", EvaluationSpec(split="no")),
    ],
)
async def test_a_split_without_traces_is_refused(trainer: Any, spec: RunSpec, field: str, value: Any) -> None:
    if field == "evaluate_after":
        spec.evaluate_after.append(value)
    else:
        setattr(spec, field, value)
    code, text, _ = await refused(trainer.CreateRun(CreateRunRequest(run=Run(spec=spec))))
    assert code == "FAILED_PRECONDITION"
    assert text.startswith(f"SPLIT_EMPTY: run.spec.{field}")
    assert "train (" in text


async def test_the_validation_split_may_be_empty_without_validation(trainer: Any, spec: RunSpec) -> None:
    spec.validation_split, spec.validate_every = "nothing", 0
    run = await trainer.CreateRun(CreateRunRequest(run=Run(spec=spec)))
    assert run.spec.validation_split == "nothing"


async def test_a_queued_run_is_cancelled_at_once_and_again(trainer: Any, spec: RunSpec) -> None:
    run = await trainer.CreateRun(CreateRunRequest(run=Run(spec=spec)))
    for _ in range(2):
        cancelled = await trainer.CancelRun(CancelRunRequest(name=run.name))
        assert cancelled.status.state == JobState.JOB_STATE_CANCELLED


async def test_cancelling_what_is_no_run_is_refused(trainer: Any) -> None:
    code, _, fields = await refused(trainer.CancelRun(CancelRunRequest(name="../x")))
    assert (code, fields[0][0]) == ("INVALID_ARGUMENT", "name")
    code, text, _ = await refused(trainer.CancelRun(CancelRunRequest(name="runs/none")))
    assert code == "NOT_FOUND"
    assert "runs/none" in text


async def test_a_registry_that_is_away_is_unavailable(trainer: Any, registry: Any, spec: RunSpec) -> None:
    await registry.stop()
    code, text, _ = await refused(trainer.CreateRun(CreateRunRequest(run=Run(spec=spec))))
    assert code == "UNAVAILABLE"
    assert text.startswith("SERVICE_UNAVAILABLE: The registry does not answer")


async def test_an_evaluation_by_task_takes_nothing_from_the_run(
    trainer: Any, registry: Any, spec: RunSpec
) -> None:
    request = registry_service_pb2.CreateTaskVersionRequest(parent="tasks/sums")
    request.task_version.spec.CopyFrom(EvaluationSpec(dataset=spec.dataset, split="train"))
    task = await registry.stub.CreateTaskVersion(request)
    spec.format, spec.system_prompt = "tags", "Be brief."
    spec.evaluate_after.add(task=task.name)
    run = await trainer.CreateRun(CreateRunRequest(run=Run(spec=spec)))
    [evaluation] = run.spec.evaluate_after
    assert evaluation.task == task.name
    evaluation.task = ""
    assert evaluation == task.spec


async def test_what_differs_from_a_task_is_named_with_every_other_fault(
    trainer: Any, registry: Any, spec: RunSpec
) -> None:
    request = registry_service_pb2.CreateTaskVersionRequest(parent="tasks/sums")
    request.task_version.spec.CopyFrom(EvaluationSpec(dataset=spec.dataset, split="train"))
    task = await registry.stub.CreateTaskVersion(request)
    spec.steps = 0
    spec.evaluate_after.add(task=task.name, limit=3)
    spec.evaluate_after.add(task="tasks/sums")
    _, _, fields = await refused(trainer.CreateRun(CreateRunRequest(run=Run(spec=spec))))
    assert sorted(field for field, _ in fields) == [
        "run.spec.evaluate_after[0].limit",
        "run.spec.evaluate_after[1].task",
        "run.spec.steps",
    ]
