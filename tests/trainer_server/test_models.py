"""What a subject stands for: its files, its digest, and the runs behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunix_rt.jobs.models import cached_model, resolve_subject
from tunix_rt.rpc.errors import FailedPrecondition, InvalidArgument, NotFound, Reason
from tunix_rt.v1 import registry_service_pb2
from tunix_rt.v1.model_pb2 import ModelVersion
from tunix_rt.v1.run_pb2 import RunSpec


async def test_an_import_has_no_runs_behind_it(registry: Any, model: str, tmp_path: Path) -> None:
    subject = await resolve_subject(registry.stub, model)
    assert subject.training_runs == ()
    folder = await cached_model(registry.blobs, subject, tmp_path)
    assert folder == tmp_path / "models" / subject.digest
    assert {path.name for path in folder.iterdir()} == {file.path for file in subject.files}


async def test_a_run_is_followed_back_through_the_models_it_began_with(bench: Any, spec: RunSpec) -> None:
    stub = bench.registry.stub
    first = await bench.run_until(await bench.queue(spec))
    artifact = await stub.GetArtifact(registry_service_pb2.GetArtifactRequest(name=first.model_artifact))
    version = await stub.CreateModelVersion(
        registry_service_pb2.CreateModelVersionRequest(
            parent="models/tuned", model_version=ModelVersion(files=artifact.files, run=first.name)
        )
    )
    spec.model = version.name
    queued = await bench.queue(spec)
    with pytest.raises(FailedPrecondition) as caught:
        await resolve_subject(stub, queued)
    assert caught.value.reason is Reason.RUN_NOT_FINISHED
    assert "JOB_STATE_QUEUED" in caught.value.message
    second = await bench.run_until(queued)
    subject = await resolve_subject(stub, second.name)
    assert subject.digest == second.weights_digest
    assert [run.name for run in subject.training_runs] == [second.name, first.name]


async def test_what_does_not_exist_is_named(registry: Any) -> None:
    with pytest.raises(NotFound, match="runs/none"):
        await resolve_subject(registry.stub, "runs/none")
    with pytest.raises(InvalidArgument, match="subject"):
        await resolve_subject(registry.stub, "/tmp/model")


async def test_only_a_run_that_trained_an_adapter_has_a_base(bench: Any, spec: RunSpec) -> None:
    finished = await bench.run_until(await bench.queue(spec))
    assert (await resolve_subject(bench.registry.stub, finished.name)).base is None
