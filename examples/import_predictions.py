"""Scores the predictions of any tool on a sealed dataset, beside the models' on the same leaderboard.

    python examples/import_predictions.py --dataset datasets/golden --predictor gpt-x predictions.jsonl

Each line is an object with `id`, the id of an item, and `prediction`, the whole output for it. Models
are ranked with them whose evaluations have the same settings: state how the outputs were made.
"""

from __future__ import annotations

import argparse
import json
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc

from tunix_rt.v1 import (
    evaluation_pb2,
    evaluator_service_pb2,
    evaluator_service_pb2_grpc,
    job_pb2,
    registry_service_pb2,
    registry_service_pb2_grpc,
)

BATCH = 100
OPEN = (job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING)


def main(argv: Sequence[str] | None = None) -> int:
    """Sends the predictions, waits until they are scored, and prints the score with its interval."""
    parser = argparse.ArgumentParser(description="Score predictions that were made elsewhere.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--dataset", required=True, help="such as datasets/golden")
    parser.add_argument("--predictor", required=True, help="the id of what made them")
    parser.add_argument("--split", default="test")
    parser.add_argument("--max-tokens", type=int, default=256, help="the limit that they were made with")
    parser.add_argument("--gateway", default="127.0.0.1:50050")
    arguments = parser.parse_args(argv)
    spec = evaluation_pb2.EvaluationSpec(
        subject=f"predictors/{arguments.predictor}",
        dataset=arguments.dataset,
        split=arguments.split,
        decoding=evaluation_pb2.Decoding(max_tokens=arguments.max_tokens),
    )
    predictions = read_predictions(arguments.file)
    with grpc.insecure_channel(arguments.gateway) as channel:
        evaluator = evaluator_service_pb2_grpc.EvaluatorServiceStub(channel)
        registry = registry_service_pb2_grpc.RegistryServiceStub(channel)
        made = evaluator.ScorePredictions(requests(spec, predictions), timeout=600)
        get = registry_service_pb2.GetEvaluationRequest(name=made.name)
        while (evaluation := registry.GetEvaluation(get, timeout=30)).status.state in OPEN:
            time.sleep(0.2)
    if evaluation.status.state != job_pb2.JOB_STATE_SUCCEEDED:
        print(f"{made.name} has failed: {evaluation.status.error.message}")
        return 1
    score = evaluation.result.score
    print(f"{made.name}: {score.mean:.1%} [{score.low:.1%}, {score.high:.1%}] of {score.count} items")
    return 0


def read_predictions(path: Path) -> list[evaluator_service_pb2.Prediction]:
    """The predictions of the file, in order."""
    with path.open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines if line.strip()]
    return [
        evaluator_service_pb2.Prediction(trace_id=record["id"], output=record["prediction"])
        for record in records
    ]


def requests(
    spec: evaluation_pb2.EvaluationSpec, predictions: Sequence[evaluator_service_pb2.Prediction]
) -> Iterator[evaluator_service_pb2.ScorePredictionsRequest]:
    """What was predicted first, then the predictions in batches."""
    yield evaluator_service_pb2.ScorePredictionsRequest(
        evaluation=evaluation_pb2.Evaluation(spec=spec), request_id=str(uuid.uuid4())
    )
    for start in range(0, len(predictions), BATCH):
        yield evaluator_service_pb2.ScorePredictionsRequest(predictions=predictions[start : start + BATCH])


if __name__ == "__main__":
    raise SystemExit(main())
