"""Bad input, as a new user would try it: a typed error with field and remedy, nothing half written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import grpc
import pytest

from tunix_rt.rpc.status import reason_of, status_of, violations_of
from tunix_rt.v1 import (
    dataset_pb2,
    evaluation_pb2,
    evaluator_service_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    model_pb2,
    registry_service_pb2,
    run_pb2,
    trainer_service_pb2,
)


def refused(call, request) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=30)
    status = status_of(caught.value)
    return caught.value.code(), reason_of(status), dict(violations_of(status))


def good_spec(model: str, dataset: str) -> run_pb2.RunSpec:
    return run_pb2.RunSpec(
        model=model,
        dataset=dataset,
        steps=1,
        batch_size=1,
        max_length=256,
        optimizer=run_pb2.OptimizerSpec(learning_rate=1e-3),
    )


def create_run(spec: run_pb2.RunSpec) -> trainer_service_pb2.CreateRunRequest:
    return trainer_service_pb2.CreateRunRequest(run=run_pb2.Run(spec=spec))


def test_all_bad_fields_of_a_spec_are_named_together(system) -> None:
    spec = run_pb2.RunSpec(model="/home/me/model", steps=-1, batch_size=0, optimizer=run_pb2.OptimizerSpec())
    spec.lora.rank = 1000
    code, reason, fields = refused(system.trainer.CreateRun, create_run(spec))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS")
    assert {
        "run.spec.model",
        "run.spec.dataset",
        "run.spec.steps",
        "run.spec.batch_size",
        "run.spec.max_length",
        "run.spec.optimizer.learning_rate",
        "run.spec.lora.rank",
    } <= set(fields)
    assert "/home/me/model" in fields["run.spec.model"]
    assert "models/{model}/versions/{version}" in fields["run.spec.model"]


def test_zero_steps_are_refused(system, tiny_model: str, dataset: str) -> None:
    spec = good_spec(tiny_model, dataset)
    spec.steps = 0
    code, _, fields = refused(system.trainer.CreateRun, create_run(spec))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "run.spec.steps" in fields


def test_a_dataset_that_does_not_exist_is_not_found(system, tiny_model: str) -> None:
    code, reason, _ = refused(system.trainer.CreateRun, create_run(good_spec(tiny_model, "datasets/absent")))
    assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND")


def test_a_dataset_that_is_not_sealed_is_refused_with_the_remedy(system, tiny_model: str) -> None:
    system.registry.CreateDataset(
        registry_service_pb2.CreateDatasetRequest(dataset_id="still-open"), timeout=30
    )
    spec = good_spec(tiny_model, "datasets/still-open")
    with pytest.raises(grpc.RpcError) as caught:
        system.trainer.CreateRun(create_run(spec), timeout=30)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(status_of(caught.value)) == "DATASET_NOT_SEALED"
    assert "SealDataset" in caught.value.details()


def test_nothing_is_queued_by_refused_requests(system) -> None:
    before = len(system.registry.ListRuns(registry_service_pb2.ListRunsRequest(page_size=1000)).runs)
    refused(system.trainer.CreateRun, create_run(run_pb2.RunSpec()))
    assert len(system.registry.ListRuns(registry_service_pb2.ListRunsRequest(page_size=1000)).runs) == before


def test_an_evaluation_of_a_path_is_refused(system, dataset: str) -> None:
    spec = evaluation_pb2.EvaluationSpec(subject="../../etc/passwd", dataset=dataset)
    spec.decoding.max_tokens = -4
    request = evaluator_service_pb2.CreateEvaluationRequest(evaluation=evaluation_pb2.Evaluation(spec=spec))
    code, _, fields = refused(system.evaluator.CreateEvaluation, request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert {"evaluation.spec.subject", "evaluation.spec.decoding.max_tokens"} <= set(fields)


def test_an_unknown_scorer_is_an_error_and_never_a_number(system, tiny_model: str, dataset: str) -> None:
    spec = evaluation_pb2.EvaluationSpec(subject=tiny_model, dataset=dataset, scorer="magic-judge@9")
    request = evaluator_service_pb2.CreateEvaluationRequest(evaluation=evaluation_pb2.Evaluation(spec=spec))
    code, _, fields = refused(system.evaluator.CreateEvaluation, request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "magic-judge@9" in fields["evaluation.spec.scorer"]


def test_an_append_to_a_sealed_dataset_is_refused(system, dataset: str) -> None:
    trace = dataset_pb2.Trace(prompt="1 + 1?", final_answer="2")
    request = registry_service_pb2.AppendTracesRequest(dataset=dataset, offset=100, traces=[trace])
    with pytest.raises(grpc.RpcError) as caught:
        list(system.registry.AppendTraces(iter([request]), timeout=30))
    assert reason_of(status_of(caught.value)) == "DATASET_SEALED"


def test_the_queue_is_not_reachable_from_outside(system) -> None:
    jobs = job_service_pb2_grpc.JobServiceStub(system.channel)
    with pytest.raises(grpc.RpcError) as caught:
        jobs.ClaimJob(job_service_pb2.ClaimJobRequest(kind="run", worker="intruder"), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_model_with_a_missing_tensor_is_refused_by_name(
    system, tiny_directory: Path, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(tiny_directory / "model.safetensors")
    del tensors["model.layers.0.mlp.up_proj.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    version = model_pb2.ModelVersion()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny_directory / name).read_bytes())
    for path in sorted(tmp_path.iterdir()):
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        request = registry_service_pb2.UploadBlobRequest(sha256=digest, size_bytes=len(data), data=data)
        assert list(system.registry.UploadBlob(iter([request]), timeout=30))[-1].committed == len(data)
        version.files.add(path=path.name, sha256=digest, size_bytes=len(data))
    create = registry_service_pb2.CreateModelVersionRequest(parent="models/broken", model_version=version)
    with pytest.raises(grpc.RpcError) as caught:
        system.registry.CreateModelVersion(create, timeout=30)
    assert reason_of(status_of(caught.value)) == "MODEL_INVALID"
    assert "model.layers.0.mlp.up_proj.weight" in caught.value.details()
    listed = system.registry.ListModelVersions(
        registry_service_pb2.ListModelVersionsRequest(parent="models/broken")
    )
    assert not listed.model_versions


def test_bytes_with_another_digest_are_not_stored(system) -> None:
    request = registry_service_pb2.UploadBlobRequest(sha256="a" * 64, size_bytes=3, data=b"abc")
    with pytest.raises(grpc.RpcError) as caught:
        list(system.registry.UploadBlob(iter([request]), timeout=30))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert hashlib.sha256(b"abc").hexdigest() in caught.value.details()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"prompt": "1 + 1?", "final_answer": ', "line 17"),
        ("x" * 3_000_000, "line 17"),
        ('{"prompt": "1 + 1?"}', "line 17"),
        ('{"prompt": 7, "final_answer": "2", "steps": "none"}', "line 17"),
    ],
    ids=["broken", "too-long", "no-answer", "wrong-types"],
)
def test_a_bad_line_in_a_file_creates_nothing(system, tmp_path: Path, line: str, says: str) -> None:
    lines = [json.dumps({"prompt": f"{n} + 1?", "final_answer": str(n + 1)}) for n in range(40)]
    lines[16] = line
    path = tmp_path / "traces.jsonl"
    path.write_text("\n".join(lines) + "\n")
    result = system.command_line("datasets", "create", "from-file", "--file", str(path), "--json")
    assert result.returncode != 0
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    code, _, _ = refused(
        system.registry.GetDataset, registry_service_pb2.GetDatasetRequest(name="datasets/from-file")
    )
    assert code is grpc.StatusCode.NOT_FOUND


def test_a_line_of_a_gigabyte_is_refused_without_reading_it_into_memory(system, tmp_path: Path) -> None:
    path = tmp_path / "huge.jsonl"
    with path.open("wb") as file:
        file.write(b'{"prompt": "')
        file.truncate(1 << 30)  # a sparse file: a gigabyte of zero bytes in one line
    result = system.command_line("datasets", "create", "huge", "--file", str(path), "--json")
    assert result.returncode != 0
    assert "line 1" in result.stderr
    assert "Traceback" not in result.stderr


def test_unknown_fields_in_a_spec_file_are_named(
    system, tmp_path: Path, tiny_model: str, dataset: str
) -> None:
    spec = {"model": tiny_model, "dataset": dataset, "num_steps": 5, "batch_size": "two"}
    path = tmp_path / "run.json"
    path.write_text(json.dumps(spec))
    result = system.command_line("train", "--spec", str(path), "--json")
    assert result.returncode != 0
    assert "num_steps" in result.stderr
    assert "Traceback" not in result.stderr
