"""Uploads reasoning traces from a JSONL file as a sealed dataset.

    python examples/upload_traces.py --dataset my-traces traces.jsonl

Each line is an object with `prompt`, `final_answer` and, if there are any, `steps`: objects with
`content` and perhaps `type`.
"""

from __future__ import annotations

import argparse
import json
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc

from tunix_rt.v1 import dataset_pb2, registry_service_pb2, registry_service_pb2_grpc

BATCH = 500


def main(argv: Sequence[str] | None = None) -> int:
    """Creates the dataset, appends the traces in batches, seals it, and prints its SHA-256."""
    parser = argparse.ArgumentParser(description="Upload reasoning traces as a sealed dataset.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--dataset", required=True, help="the id of the new dataset")
    parser.add_argument("--gateway", default="127.0.0.1:50050")
    arguments = parser.parse_args(argv)
    traces = read_traces(arguments.file)
    with grpc.insecure_channel(arguments.gateway) as channel:
        registry = registry_service_pb2_grpc.RegistryServiceStub(channel)
        source = dataset_pb2.DatasetSource(generator="upload")
        create = registry_service_pb2.CreateDatasetRequest(
            dataset_id=arguments.dataset,
            dataset=dataset_pb2.Dataset(source=source, description=f"From {arguments.file.name}."),
            request_id=str(uuid.uuid4()),
        )
        name = registry.CreateDataset(create, timeout=30).name
        for response in registry.AppendTraces(requests(name, traces), timeout=600):
            print(f"{response.committed} of {len(traces)} traces stored")
        seal = registry_service_pb2.SealDatasetRequest(name=name)
        dataset = registry.SealDataset(seal, timeout=600)
    for split in dataset.splits:
        print(f"{split.name}: {split.trace_count}")
    print(f"{dataset.name} is sealed, SHA-256 {dataset.sha256}")
    return 0


def read_traces(path: Path) -> list[dataset_pb2.Trace]:
    """The traces of the file, in order."""
    with path.open(encoding="utf-8") as lines:
        return [trace(json.loads(line)) for line in lines if line.strip()]


def trace(record: dict) -> dataset_pb2.Trace:
    """One line as a message."""
    steps = [
        dataset_pb2.Step(type=step.get("type", "reasoning"), content=step["content"])
        for step in record.get("steps", [])
    ]
    return dataset_pb2.Trace(prompt=record["prompt"], steps=steps, final_answer=str(record["final_answer"]))


def requests(
    name: str, traces: Sequence[dataset_pb2.Trace]
) -> Iterator[registry_service_pb2.AppendTracesRequest]:
    """The dataset first, then the traces with the number of the first in each batch."""
    yield registry_service_pb2.AppendTracesRequest(dataset=name)
    for offset in range(0, len(traces), BATCH):
        yield registry_service_pb2.AppendTracesRequest(offset=offset, traces=traces[offset : offset + BATCH])


if __name__ == "__main__":
    raise SystemExit(main())
