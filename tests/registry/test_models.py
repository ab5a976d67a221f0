"""Model versions: checked down to their tensors, numbered, idempotent."""

from __future__ import annotations

import json
import uuid

import grpc
import numpy as np
import pytest
from safetensors.numpy import load, save

from tunix_rt.v1 import artifact_pb2, registry_service_pb2


async def create(registry, contents, parent="models/tiny", **fields):
    request = registry_service_pb2.CreateModelVersionRequest(parent=parent, **fields)
    request.model_version.files.extend(await registry.files(contents))
    return await registry.registry.CreateModelVersion(request)


async def test_versions_are_numbered_and_described_by_their_files(registry):
    files = registry.model_files()
    first = await create(registry, files)
    second = await create(registry, files)
    assert (first.name, second.name) == ("models/tiny/versions/v1", "models/tiny/versions/v2")
    assert first.architecture == "LlamaForCausalLM"
    assert first.parameter_count == sum(t.size for t in load(files["model.safetensors"]).values())
    assert (first.size_bytes, first.digest) == (sum(map(len, files.values())), second.digest)
    request = registry_service_pb2.GetModelVersionRequest(name=first.name)
    assert await registry.registry.GetModelVersion(request) == first


async def test_a_gpt2_is_known_by_its_config_and_fused_tensors(registry):
    settings = {
        "model_type": "gpt2",
        "vocab_size": 8,
        "n_embd": 4,
        "n_layer": 1,
        "n_head": 2,
        "n_positions": 16,
    }
    layer = {"ln_1": (4,), "ln_2": (4,), "attn.c_attn": (4, 12), "attn.c_proj": (4, 4)}
    layer |= {"mlp.c_fc": (4, 16), "mlp.c_proj": (16, 4)}
    shapes = {"wte.weight": (8, 4), "wpe.weight": (16, 4), "ln_f.weight": (4,), "ln_f.bias": (4,)}
    for name, shape in layer.items():
        shapes |= {f"h.0.{name}.weight": shape, f"h.0.{name}.bias": shape[-1:]}
    weights = save({name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
    files = {"config.json": json.dumps(settings).encode(), "model.safetensors": weights}
    made = await create(registry, registry.model_files() | files)
    assert (made.architecture, made.parameter_count) == ("GPT2LMHeadModel", 348)
    files["config.json"] = json.dumps(settings | {"scale_attn_by_inverse_layer_idx": True}).encode()
    failure = await registry.failure_of(create(registry, registry.model_files() | files))
    assert (failure.reason, "scale_attn_by_inverse_layer_idx" in failure.message) == ("MODEL_INVALID", True)


async def test_sharded_weights_are_read(registry):
    files = registry.model_files()
    tensors = load(files.pop("model.safetensors"))
    names = sorted(tensors)
    shards = {"a.safetensors": names[:4], "b.safetensors": names[4:]}
    for path, held in shards.items():
        files[path] = save({name: tensors[name] for name in held})
    places = {name: path for path, held in shards.items() for name in held}
    files["model.safetensors.index.json"] = json.dumps({"weight_map": places}).encode()
    assert (await create(registry, files)).parameter_count > 0
    del files["b.safetensors"]
    failure = await registry.failure_of(create(registry, files))
    assert "b.safetensors" in failure.message


@pytest.mark.parametrize("path", ["config.json", "tokenizer.json", "model.safetensors"])
async def test_a_missing_file_is_named(registry, path):
    files = registry.model_files()
    del files[path]
    failure = await registry.failure_of(create(registry, files))
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MODEL_INVALID")
    assert path in failure.fields["model_version.files"]


async def test_missing_and_misshapen_tensors_are_all_named(registry):
    files = registry.model_files()
    tensors = load(files["model.safetensors"])
    del tensors["model.norm.weight"], tensors["model.layers.0.mlp.up_proj.weight"]
    tensors["model.embed_tokens.weight"] = np.zeros((9, 4), np.float32)
    files["model.safetensors"] = save(tensors)
    failure = await registry.failure_of(create(registry, files))
    assert failure.reason == "MODEL_INVALID"
    for name in ("model.safetensors", "model.norm.weight", "mlp.up_proj.weight", "embed_tokens.weight"):
        assert name in failure.message


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("config.json", b'{"model_type": "gpt2"}'),
        ("config.json", b"{broken"),
        ("tokenizer.json", b"[]"),
        ("model.safetensors", b"short"),
        ("model.safetensors", b"\xff" * 100),
        ("model.safetensors", b"\x10\0\0\0\0\0\0\0not json at all!"),
    ],
)
async def test_broken_files_are_named(registry, path, data):
    failure = await registry.failure_of(create(registry, registry.model_files() | {path: data}))
    assert failure.reason == "MODEL_INVALID"
    assert path in failure.message


async def test_a_truncated_file_of_weights_is_refused(registry):
    files = registry.model_files()
    files["model.safetensors"] = files["model.safetensors"][:-4]
    failure = await registry.failure_of(create(registry, files))
    assert "model.safetensors" in failure.message
    assert "Upload the whole file" in failure.message


async def test_files_that_are_not_stored_are_named(registry):
    request = registry_service_pb2.CreateModelVersionRequest(parent="models/tiny")
    request.model_version.files.append(artifact_pb2.File(path="config.json", sha256="2" * 64, size_bytes=1))
    failure = await registry.failure_of(registry.registry.CreateModelVersion(request))
    assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "BLOB_MISSING")
    assert "2" * 64 in failure.message


async def test_bad_fields_are_reported_together(registry):
    request = registry_service_pb2.CreateModelVersionRequest(parent="tiny", version_id="V1", request_id="no")
    request.model_version.digest = "x"
    failure = await registry.failure_of(registry.registry.CreateModelVersion(request))
    assert set(failure.fields) == {
        "parent",
        "version_id",
        "request_id",
        "model_version.files",
        "model_version.digest",
    }


async def test_facts_that_contradict_the_files_are_refused(registry):
    request = registry_service_pb2.CreateModelVersionRequest(parent="models/tiny")
    request.model_version.files.extend(await registry.files(registry.model_files()))
    request.model_version.parameter_count = 7
    failure = await registry.failure_of(registry.registry.CreateModelVersion(request))
    assert list(failure.fields) == ["model_version.parameter_count"]


async def test_creates_are_idempotent_and_ids_are_taken_once(registry):
    files, request_id = registry.model_files(), str(uuid.uuid4())
    first = await create(registry, files, version_id="mine", request_id=request_id)
    assert await create(registry, files, version_id="mine", request_id=request_id) == first
    failure = await registry.failure_of(create(registry, files, request_id=request_id))
    assert failure.reason == "REQUEST_ID_REUSED"
    failure = await registry.failure_of(create(registry, files, version_id="mine"))
    assert failure.reason == "RESOURCE_EXISTS"
    listed = await registry.registry.ListModelVersions(
        registry_service_pb2.ListModelVersionsRequest(parent="models/tiny")
    )
    assert [version.name for version in listed.model_versions] == [first.name]


async def test_the_run_that_made_a_version_must_exist(registry):
    request = registry_service_pb2.CreateModelVersionRequest(parent="models/tiny")
    request.model_version.files.extend(await registry.files(registry.model_files()))
    request.model_version.run = "runs/none"
    failure = await registry.failure_of(registry.registry.CreateModelVersion(request))
    assert failure.code == grpc.StatusCode.NOT_FOUND
