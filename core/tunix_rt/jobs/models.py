"""Finds the weights that a name stands for, and keeps fetched ones in a cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunix_rt.blobs.blobs import Blobs
from tunix_rt.jobs.files import fetch_files
from tunix_rt.jobs.remote import CALL_SECONDS, answer
from tunix_rt.rpc.errors import FailedPrecondition, InvalidArgument, Reason
from tunix_rt.rpc.names import MODEL, MODEL_ALIAS, MODEL_VERSION, RUN, check_any, matches
from tunix_rt.v1 import registry_service_pb2 as registry_pb
from tunix_rt.v1.artifact_pb2 import File
from tunix_rt.v1.job_pb2 import JobState
from tunix_rt.v1.run_pb2 import Run

if TYPE_CHECKING:
    # The generated stubs have the asyncio classes for type checkers only.
    from tunix_rt.v1.registry_service_pb2_grpc import RegistryServiceAsyncStub, RegistryServiceStub

    RegistryStub = RegistryServiceStub | RegistryServiceAsyncStub

_MAX_LINEAGE = 100


ADAPTER_FOLDER = "adapter"
_ADAPTER_FILES = {f"{ADAPTER_FOLDER}/adapter_config.json", f"{ADAPTER_FOLDER}/adapter_model.safetensors"}


@dataclass(frozen=True)
class Weights:
    """The files of a model directory, and their digest."""

    files: tuple[File, ...]
    digest: str


@dataclass(frozen=True)
class Subject:
    """Weights with a name: their files, the digest of these, and the runs that trained them.

    `training_runs` begins with the latest run and follows the base models back to the import; it is
    empty for imported weights. `base` is what the latest run began with, where it has trained an adapter
    that lies among the files: base and adapter together are the same model.
    """

    name: str
    files: tuple[File, ...]
    digest: str
    training_runs: tuple[Run, ...]
    base: Weights | None = None


async def fixed_name(registry: Any, name: str) -> str:
    """The version that a model (its newest) or an alias stands for now; any other name as it is.

    Resolved once, when something is created: what is stored never changes its meaning. Raises NotFound.
    """
    if matches(name, MODEL) or matches(name, MODEL_ALIAS):
        return str((await _get_version(registry, name)).name)
    return name


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
        return await _subject(calls, name, Weights(tuple(version.files), version.digest), version.run)
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
    return await _subject(calls, name, Weights(tuple(artifact.files), artifact.digest), name)


async def cached_model(blobs: Blobs, weights: Subject | Weights, work: Path) -> Path:
    """The directory with the files of some weights, `{work}/models/{digest}`, fetched if need be."""
    return await fetch_files(blobs, weights.files, work / "models" / weights.digest)


async def cached_adapter(blobs: Blobs, subject: Subject, work: Path) -> Path:
    """The directory of a subject's adapter alone, in PEFT's layout, fetched if need be."""
    files = [file for file in subject.files if file.path in _ADAPTER_FILES]
    return await fetch_files(blobs, files, work / "adapters" / subject.digest) / ADAPTER_FOLDER


async def _subject(calls: Any, name: str, weights: Weights, run_name: str) -> Subject:
    """A subject with the runs behind it, and the base of its adapter if it has one."""
    runs: list[Run] = []
    base: Weights | None = None
    while run_name and len(runs) < _MAX_LINEAGE:
        run = await _get_run(calls, run_name)
        version = await _get_version(calls, run.spec.model)
        if not runs and _is_adapter_of(run, weights):
            base = Weights(tuple(version.files), version.digest)
        runs.append(run)
        run_name = version.run
    return Subject(name, weights.files, weights.digest, tuple(runs), base)


def _is_adapter_of(run: Run, weights: Weights) -> bool:
    """Whether the weights are what the run has made, as an adapter."""
    tuned = run.spec.WhichOneof("tuning") == "lora" and run.weights_digest == weights.digest
    return tuned and {file.path for file in weights.files} >= _ADAPTER_FILES


async def _get_run(calls: Any, name: str) -> Run:
    run: Run = await answer(calls.GetRun(registry_pb.GetRunRequest(name=name), timeout=CALL_SECONDS))
    return run


async def _get_version(calls: Any, name: str) -> Any:
    return await answer(
        calls.GetModelVersion(registry_pb.GetModelVersionRequest(name=name), timeout=CALL_SECONDS)
    )
