"""Evaluates models and runs by one task, so that their scores can be compared, and prints the ranking.

python examples/evaluate_by_task.py tasks/units-eval/versions/v1 models/smollm2/versions/v1 runs/my-run
"""

from __future__ import annotations

import argparse
import uuid
from collections.abc import Sequence

import grpc

from tunix_rt.v1 import (
    evaluation_pb2,
    evaluator_service_pb2,
    evaluator_service_pb2_grpc,
    job_pb2,
    registry_service_pb2,
    registry_service_pb2_grpc,
)

RUNNING = (job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING)


def main(argv: Sequence[str] | None = None) -> int:
    """Queues an evaluation of each subject, waits for all, and prints the leaderboard; 1 if one fails."""
    parser = argparse.ArgumentParser(description="Evaluate by task.")
    parser.add_argument("task", help="tasks/{task}/versions/{version}")
    parser.add_argument("subjects", nargs="+", help="runs/{run} or models/{model}/versions/{version}")
    parser.add_argument("--gateway", default="127.0.0.1:50050")
    arguments = parser.parse_args(argv)
    with grpc.insecure_channel(arguments.gateway) as channel:
        evaluator = evaluator_service_pb2_grpc.EvaluatorServiceStub(channel)
        registry = registry_service_pb2_grpc.RegistryServiceStub(channel)
        names = [create(evaluator, subject, arguments.task) for subject in arguments.subjects]
        states = [wait(registry, name) for name in names]
        request = registry_service_pb2.GetLeaderboardRequest(task=arguments.task)
        for board in registry.GetLeaderboard(request, timeout=30).boards:
            for entry in board.entries:
                score = entry.score
                print(f"{entry.rank}. {entry.subject}: {score.mean:.1%} [{score.low:.1%}, {score.high:.1%}]")
    return 0 if set(states) == {job_pb2.JOB_STATE_SUCCEEDED} else 1


def create(evaluator: evaluator_service_pb2_grpc.EvaluatorServiceStub, subject: str, task: str) -> str:
    """Queues an evaluation; the task says everything but the subject."""
    spec = evaluation_pb2.EvaluationSpec(subject=subject, task=task)
    request = evaluator_service_pb2.CreateEvaluationRequest(
        evaluation=evaluation_pb2.Evaluation(spec=spec), request_id=str(uuid.uuid4())
    )
    return evaluator.CreateEvaluation(request, timeout=30).name


def wait(registry: registry_service_pb2_grpc.RegistryServiceStub, name: str) -> int:
    """Waits for an evaluation and returns how it ended; its log can wait, so nothing here polls."""
    request = registry_service_pb2.ListLogsRequest(name=name)
    request.wait.FromSeconds(20)
    while True:
        page = registry.ListLogs(request, timeout=30)
        request.resume_token = page.resume_token
        if page.state not in RUNNING:
            return page.state


if __name__ == "__main__":
    raise SystemExit(main())
