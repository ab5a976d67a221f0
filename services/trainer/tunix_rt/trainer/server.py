"""The trainer's gRPC shell: checks runs, queues them, and asks them to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from tunix_rt.blobs.open import open_blobs
from tunix_rt.jobs.models import fixed_name
from tunix_rt.jobs.remote import CALL_SECONDS, answer, in_store
from tunix_rt.jobs.run_fields import run_field_violations
from tunix_rt.jobs.tasks import fill_in_named
from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.model_files import read_json
from tunix_rt.rpc.channel import new_request_id, open_channel
from tunix_rt.rpc.errors import FailedPrecondition, InvalidArgument, Reason, Violation
from tunix_rt.rpc.names import RUN, check_id, require
from tunix_rt.rpc.server import DRAIN_SECONDS, Server
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.preview import DEFAULT_ROWS, MAX_ROWS, preview
from tunix_rt.trainer.row_store import RowStore, model_invalid
from tunix_rt.trainer.settings import Settings
from tunix_rt.trainer.spec import MAX_EVALUATIONS, complete, violations
from tunix_rt.trainer.specfile import TrainSpec, parse_spec
from tunix_rt.trainer.workspace import spec_json
from tunix_rt.v1 import job_service_pb2, registry_service_pb2, trainer_service_pb2
from tunix_rt.v1.dataset_pb2 import Dataset
from tunix_rt.v1.job_service_pb2_grpc import JobServiceStub
from tunix_rt.v1.registry_service_pb2_grpc import RegistryServiceStub
from tunix_rt.v1.run_pb2 import Run, RunSpec
from tunix_rt.v1.trainer_service_pb2_grpc import (
    TrainerServiceServicer,
    add_TrainerServiceServicer_to_server,
)

SERVICE = "tunix_rt.v1.TrainerService"
_OUTPUT_ONLY = (
    *("name", "status", "metrics", "model_artifact", "weights_digest", "evaluations", "facts"),
    *("archive_time", "delete_time", "parameters"),
)


class TrainerServicer(TrainerServiceServicer):
    """Creates, previews and cancels runs; the registry remembers them."""

    def __init__(self, registry: Any, jobs: Any, rows: RowStore) -> None:
        self._registry = registry
        self._jobs = jobs
        self._rows = rows

    async def CreateRun(self, request: trainer_service_pb2.CreateRunRequest, _context: Any) -> Run:
        """Fills in the evaluations from their tasks, checks fields, references and rows, and queues it."""
        differing = await self._fill_in(request.run.spec, "run.spec")
        check_request(request, differing)
        spec = complete(request.run.spec)
        await self._check_references(spec, "run.spec")
        seen = await self._preview(spec, "run.spec", count=0)
        check_rows(seen)
        job = job_service_pb2.Job(
            name=f"runs/{request.run_id}",
            run=spec,
            labels=request.run.labels,
            description=request.run.description,
            notes=request.run.notes,
            tags=request.run.tags,
            parent=request.run.parent,
            sweep=request.run.sweep,
        )
        enqueue = job_service_pb2.EnqueueJobRequest(
            job=job, request_id=request.request_id or new_request_id()
        )
        queued = await answer(self._jobs.EnqueueJob(enqueue, timeout=CALL_SECONDS))
        return await self._get_run(queued.name)

    async def PreviewRun(
        self, request: trainer_service_pb2.PreviewRunRequest, _context: Any
    ) -> trainer_service_pb2.RunPreview:
        """Checks the same as CreateRun, and returns the rows and their problems instead of queuing a run."""
        differing = await self._fill_in(request.spec, "spec")
        check_preview(request, differing)
        spec = complete(request.spec)
        await self._check_references(spec, "spec")
        return await self._preview(spec, "spec", count=request.row_count or DEFAULT_ROWS)

    async def CancelRun(self, request: trainer_service_pb2.CancelRunRequest, _context: Any) -> Run:
        """Asks a run to stop; one that has ended is returned as it is."""
        name = require(request.name, RUN, "name")
        cancel = job_service_pb2.RequestCancellationRequest(name=name)
        await answer(self._jobs.RequestCancellation(cancel, timeout=CALL_SECONDS))
        return await self._get_run(name)

    async def _preview(self, spec: RunSpec, path: str, *, count: int) -> trainer_service_pb2.RunPreview:
        """The rows of a complete spec. Raises InvalidArgument for what the model or the rows do not allow."""
        directory = await self._rows.tokenizer_directory(spec)
        try:
            config = ModelConfig.from_hf(await asyncio.to_thread(read_json, directory / "config.json"))
        except ModelError as error:
            raise model_invalid(spec, error) from error
        if spec.max_length > config.max_positions:
            text = f"is {spec.max_length}; the model has only {config.max_positions} positions."
            raise InvalidArgument.of(f"{path}.max_length", text)
        train = train_spec(spec, path)
        tokenizer, file = await self._rows.tokenizer(spec), await self._rows.rows(spec)
        try:
            return await asyncio.to_thread(
                preview, spec, train, file, tokenizer=tokenizer, config=config, count=count
            )
        except TrainingFailure as failure:
            raise InvalidArgument.of(path, failure.message) from failure

    async def _fill_in(self, spec: RunSpec, path: str) -> list[Violation]:
        """Fills in the evaluations that name a task, in place; the fields that say something else than it."""
        violations = []
        for index, evaluation in enumerate(spec.evaluate_after[:MAX_EVALUATIONS]):
            field = f"{path}.evaluate_after[{index}]"
            filled, differing = await fill_in_named(self._registry, evaluation, field)
            evaluation.CopyFrom(filled)
            violations += differing
        return violations

    async def _check_references(self, spec: RunSpec, path: str) -> None:
        """Raises unless all that the spec names is there; puts the version in place of a model or alias."""
        spec.model = await fixed_name(self._registry, spec.model)
        version = registry_service_pb2.GetModelVersionRequest(name=spec.model)
        await answer(self._registry.GetModelVersion(version, timeout=CALL_SECONDS))
        datasets = {spec.dataset: await self._get_dataset(spec.dataset)}
        others = [part.dataset for part in spec.mixture]
        others += [evaluation.dataset for evaluation in spec.evaluate_after]
        for name in others:
            if name not in datasets:
                datasets[name] = await self._get_dataset(name)
        for dataset in datasets.values():
            check_sealed(dataset)
        check_split(datasets[spec.dataset], spec.train_split, f"{path}.train_split")
        if not spec.HasField("validate_every") or spec.validate_every > 0:
            check_split(datasets[spec.dataset], spec.validation_split, f"{path}.validation_split")
        for index, part in enumerate(spec.mixture):
            check_split(datasets[part.dataset], part.split, f"{path}.mixture[{index}].split")
        for index, evaluation in enumerate(spec.evaluate_after):
            field = f"{path}.evaluate_after[{index}].split"
            check_split(datasets[evaluation.dataset], evaluation.split, field)

    async def _get_dataset(self, name: str) -> Dataset:
        request = registry_service_pb2.GetDatasetRequest(name=name)
        dataset: Dataset = await answer(self._registry.GetDataset(request, timeout=CALL_SECONDS))
        return dataset

    async def _get_run(self, name: str) -> Run:
        request = registry_service_pb2.GetRunRequest(name=name)
        run: Run = await answer(self._registry.GetRun(request, timeout=CALL_SECONDS))
        return run


def check_request(request: trainer_service_pb2.CreateRunRequest, differing: Sequence[Violation] = ()) -> None:
    """Raises InvalidArgument that names every bad field, and what differs from the tasks."""
    bad = [violation for violation in (check_id(request.run_id, "run_id"), *differing) if violation]
    given = {field.name for field, _ in request.run.ListFields()}
    bad += [
        Violation(f"run.{name}", "is output only; leave it out.") for name in _OUTPUT_ONLY if name in given
    ]
    bad += [Violation(f"run.{each.field}", each.description) for each in violations(request.run.spec)]
    bad += run_field_violations(request.run, "run.")
    if bad:
        raise InvalidArgument(bad)


def check_preview(
    request: trainer_service_pb2.PreviewRunRequest, differing: Sequence[Violation] = ()
) -> None:
    """Raises InvalidArgument that names every bad field, and what differs from the tasks."""
    bad = [*differing, *violations(request.spec)]
    if not 0 <= request.row_count <= MAX_ROWS:
        text = f"is {request.row_count}; it must be in [1, {MAX_ROWS}], or 0 for {DEFAULT_ROWS}."
        bad.append(Violation("row_count", text))
    if bad:
        raise InvalidArgument(bad)


def train_spec(spec: RunSpec, path: str) -> TrainSpec:
    """The child's view of a complete spec. Raises InvalidArgument for what it cannot do."""
    try:
        return parse_spec(spec_json(spec))
    except TrainingFailure as failure:
        raise InvalidArgument.of(path, failure.message) from failure


def check_rows(seen: trainer_service_pb2.RunPreview) -> None:
    """Raises FailedPrecondition, reason ROWS_INVALID, with counts and examples for rows that are refused."""
    refused = [problem for problem in seen.problems if problem.refused]
    if refused:
        raise FailedPrecondition(
            Reason.ROWS_INVALID,
            " ".join(problem_text(problem) for problem in refused),
            {problem.reason.lower(): problem.count for problem in refused},
        )


def problem_text(problem: trainer_service_pb2.RowProblem) -> str:
    """A problem in one line: reason, count, examples, and what it means."""
    examples = ", ".join(problem.examples)
    return f"{problem.reason}: {problem.count} traces, such as {examples}. {problem.message}"


def check_sealed(dataset: Dataset) -> None:
    """Raises FailedPrecondition, reason DATASET_NOT_SEALED, for an open dataset."""
    if dataset.state != Dataset.SEALED:
        raise FailedPrecondition(
            Reason.DATASET_NOT_SEALED,
            f"Dataset `{dataset.name}` is open. Seal it with SealDataset, then create the run.",
            {"resource": dataset.name},
        )


def check_split(dataset: Dataset, split: str, field: str) -> None:
    """Raises FailedPrecondition, reason SPLIT_EMPTY, if the split has no traces; `field` names it."""
    counts = {each.name: each.trace_count for each in dataset.splits}
    if counts.get(split, 0) > 0:
        return
    known = ", ".join(f"{name} ({count} traces)" for name, count in counts.items())
    remedy = "Choose one with traces" + (
        ", or set validate_every to 0." if field.endswith(".validation_split") else "."
    )
    raise FailedPrecondition(
        Reason.SPLIT_EMPTY,
        f"{field}: split `{split}` of `{dataset.name}` has no traces; its splits are {known}. {remedy}",
        {"resource": dataset.name, "split": split, "field": field},
    )


class TrainerServer(Server):
    """The trainer's server with its channel to the registry."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.listen, [SERVICE], metrics_address=settings.metrics)
        self._channel = open_channel(settings.registry, retries=False)
        registry = RegistryServiceStub(self._channel)
        rows = RowStore(registry, lambda: in_store(open_blobs, settings.blobs), settings.work)
        servicer = TrainerServicer(registry, JobServiceStub(self._channel), rows)
        add_TrainerServiceServicer_to_server(servicer, self.grpc_server)

    async def stop(self, grace: float = DRAIN_SECONDS) -> None:
        """Drains, then closes the channel."""
        await super().stop(grace)
        await self._channel.close()


async def start(settings: Settings) -> TrainerServer:
    """Serves the trainer's API; runs are trained by the workers of `supervisor`."""
    server = TrainerServer(settings)
    await server.start()
    return server
