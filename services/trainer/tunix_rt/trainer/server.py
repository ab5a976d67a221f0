"""The trainer's gRPC shell: checks runs, queues them, and asks them to stop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunix_rt.jobs.remote import CALL_SECONDS, answer
from tunix_rt.jobs.run_fields import run_field_violations
from tunix_rt.jobs.tasks import fill_in_named
from tunix_rt.rpc.channel import new_request_id, open_channel
from tunix_rt.rpc.errors import FailedPrecondition, InvalidArgument, Reason, Violation
from tunix_rt.rpc.names import RUN, check_id, require
from tunix_rt.rpc.server import DRAIN_SECONDS, Server
from tunix_rt.trainer.settings import Settings
from tunix_rt.trainer.spec import MAX_EVALUATIONS, complete, violations
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
    """Creates and cancels runs; the registry remembers them."""

    def __init__(self, registry: Any, jobs: Any) -> None:
        self._registry = registry
        self._jobs = jobs

    async def CreateRun(self, request: trainer_service_pb2.CreateRunRequest, _context: Any) -> Run:
        """Fills in the evaluations from their tasks, checks all fields and what they name, and queues it."""
        differing = await self._fill_in(request.run.spec)
        check_request(request, differing)
        spec = complete(request.run.spec)
        await self._check_references(spec)
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

    async def CancelRun(self, request: trainer_service_pb2.CancelRunRequest, _context: Any) -> Run:
        """Asks a run to stop; one that has ended is returned as it is."""
        name = require(request.name, RUN, "name")
        cancel = job_service_pb2.RequestCancellationRequest(name=name)
        await answer(self._jobs.RequestCancellation(cancel, timeout=CALL_SECONDS))
        return await self._get_run(name)

    async def _fill_in(self, spec: RunSpec) -> list[Violation]:
        """Fills in the evaluations that name a task, in place; the fields that say something else than it."""
        violations = []
        for index, evaluation in enumerate(spec.evaluate_after[:MAX_EVALUATIONS]):
            field = f"run.spec.evaluate_after[{index}]"
            filled, differing = await fill_in_named(self._registry, evaluation, field)
            evaluation.CopyFrom(filled)
            violations += differing
        return violations

    async def _check_references(self, spec: RunSpec) -> None:
        version = registry_service_pb2.GetModelVersionRequest(name=spec.model)
        await answer(self._registry.GetModelVersion(version, timeout=CALL_SECONDS))
        datasets = {spec.dataset: await self._get_dataset(spec.dataset)}
        for evaluation in spec.evaluate_after:
            if evaluation.dataset not in datasets:
                datasets[evaluation.dataset] = await self._get_dataset(evaluation.dataset)
        for dataset in datasets.values():
            check_sealed(dataset)
        check_split(datasets[spec.dataset], spec.train_split, "run.spec.train_split")
        if not spec.HasField("validate_every") or spec.validate_every > 0:
            check_split(datasets[spec.dataset], spec.validation_split, "run.spec.validation_split")
        for index, evaluation in enumerate(spec.evaluate_after):
            field = f"run.spec.evaluate_after[{index}].split"
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
        ", or set validate_every to 0." if field == "run.spec.validation_split" else "."
    )
    raise FailedPrecondition(
        Reason.SPLIT_EMPTY,
        f"{field}: split `{split}` of `{dataset.name}` has no traces; its splits are {known}. {remedy}",
        {"resource": dataset.name, "split": split, "field": field},
    )


class TrainerServer(Server):
    """The trainer's server with its channel to the registry."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.listen, [SERVICE])
        self._channel = open_channel(settings.registry, retries=False)
        servicer = TrainerServicer(RegistryServiceStub(self._channel), JobServiceStub(self._channel))
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
