"""Finds the weights that a name stands for, and keeps fetched ones in a cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunix_rt.blobs.blobs import Blobs
from tunix_rt.jobs.files import fetch_files
from tunix_rt.jobs.remote import CALL_SECONDS, answer
from tunix_rt.rpc.errors import FailedPrecondition, InvalidArgument, Reason
from tunix_rt.rpc.names import MODEL_VERSION, RUN, check_any, matches
from tunix_rt.v1 import registry_service_pb2 as registry_pb
from tunix_rt.v1.artifact_pb2 import File
from tunix_rt.v1.job_pb2 import JobState
from tunix_rt.v1.run_pb2 import Run

if TYPE_CHECKING:
    # The generated stubs have the asyncio classes for type checkers only.
    from tunix_rt.v1.registry_service_pb2_grpc import RegistryServiceAsyncStub, RegistryServiceStub

    RegistryStub = RegistryServiceStub | RegistryServiceAsyncStub

_MAX_LINEAGE = 100


@dataclass(frozen=True)
class Subject:
    """Weights with a name: their files, the digest of these, and the runs that trained them.

    `training_runs` begins with the latest run and follows the base models back
    to the import; it is empty for imported weights.
    """

    name: str
    files: tuple[File, ...]
    digest: str
    training_runs: tuple[Run, ...]


async def resolve_subject(registry: RegistryStub, name: str) -> Subject:
    """The weights of `models/{model}/versions/{version}` or of `runs/{run}`.

    Raises InvalidArgument for another name, NotFound, and FailedPrecondition,
    reason RUN_NOT_FINISHED, for a run without final weights.
    """
    violation = check_any(name, (MODEL_VERSION, RUN), "subject")
    if violation:
        raise InvalidArgument([violation])
    calls: Any = registry
    if matches(name, MODEL_VERSION):
        version = await _get_version(calls, name)
        return Subject(name, tuple(version.files), version.digest, await _lineage(calls, version.run))
    run = await _get_run(calls, name)
    if run.status.state != JobState.JOB_STATE_SUCCEEDED or not run.model_artifact:
        state = JobState.Name(run.status.state)
        raise FailedPrecondition(
            Reason.RUN_NOT_FINISHED,
            f"Run `{name}` has no final weights: its state is {state}. Wait until it has succeeded, "
            "or put it into `evaluate_after` when you create it.",
            {"resource": name, "state": state},
        )
    request = registry_pb.GetArtifactRequest(name=run.model_artifact)
    artifact = await answer(calls.GetArtifact(request, timeout=CALL_SECONDS))
    return Subject(name, tuple(artifact.files), artifact.digest, await _lineage(calls, name))


async def cached_model(blobs: Blobs, subject: Subject, work: Path) -> Path:
    """The directory with the weights of a subject, `{work}/models/{digest}`, fetched if need be."""
    return await fetch_files(blobs, subject.files, work / "models" / subject.digest)


async def _lineage(calls: Any, run_name: str) -> tuple[Run, ...]:
    runs: list[Run] = []
    while run_name and len(runs) < _MAX_LINEAGE:
        run = await _get_run(calls, run_name)
        runs.append(run)
        run_name = (await _get_version(calls, run.spec.model)).run
    return tuple(runs)


async def _get_run(calls: Any, name: str) -> Run:
    run: Run = await answer(calls.GetRun(registry_pb.GetRunRequest(name=name), timeout=CALL_SECONDS))
    return run


async def _get_version(calls: Any, name: str) -> Any:
    return await answer(
        calls.GetModelVersion(registry_pb.GetModelVersionRequest(name=name), timeout=CALL_SECONDS)
    )
