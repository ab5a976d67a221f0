from __future__ import annotations

from tunix_rt.rpc.unknown_fields import unknown_fields
from tunix_rt.v1.run_pb2 import Run, RunSpec
from tunix_rt.v1.trainer_service_pb2 import CreateRunRequest

UNKNOWN = bytes([0x98, 0x06, 0x05])  # field 99, varint 5


def test_a_message_of_this_version_has_none() -> None:
    request = CreateRunRequest(run=Run(spec=RunSpec(steps=1, model="m"), labels={"a": "b"}))
    assert list(unknown_fields(request)) == []


def test_fields_of_a_newer_version_are_named_with_their_path() -> None:
    spec = RunSpec.FromString(RunSpec(steps=1).SerializeToString() + UNKNOWN)
    spec.evaluate_after.add().ParseFromString(UNKNOWN)
    request = CreateRunRequest(run=Run(spec=spec))
    found = [violation.field for violation in unknown_fields(request)]
    assert found == ["run.spec.#99", "run.spec.evaluate_after[0].#99"]
