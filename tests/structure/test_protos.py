"""The baseline of the protos is the present state, so that the next breaking change is seen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from google.protobuf import descriptor_pb2

ROOT = Path(__file__).parents[2]
BUF = Path(sys.executable).parent / "buf"


def test_the_baseline_holds_the_present_protos() -> None:
    built = subprocess.run(
        [BUF, "build", "--exclude-source-info", "--output", "-"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    assert _files(built) == _files((ROOT / "protos" / "baseline.binpb").read_bytes()), (
        "run `make protos-baseline`"
    )


def test_the_service_config_names_methods_that_exist() -> None:
    config = json.loads((ROOT / "protos/tunix_rt/v1/service_config.json").read_text())
    services = {f"{f.package}.{s.name}" for f in _files(_build()).values() for s in f.service}
    named = {name["service"] for method in config["methodConfig"] for name in method["name"]}
    assert named <= services


def _build() -> bytes:
    return subprocess.run([BUF, "build", "--output", "-"], cwd=ROOT, capture_output=True, check=True).stdout


def _files(image: bytes) -> dict[str, descriptor_pb2.FileDescriptorProto]:
    found = descriptor_pb2.FileDescriptorSet.FromString(image).file
    for file in found:
        file.ClearField("source_code_info")
        file.DiscardUnknownFields()
    return {file.name: file for file in found}
