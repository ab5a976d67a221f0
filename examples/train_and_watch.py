"""Fine-tunes a model with LoRA, watches the loss live, and shows the score of the result.

python examples/train_and_watch.py --model models/smollm2/versions/v1 --dataset datasets/my-traces --steps 40
"""

from __future__ import annotations

import argparse
import uuid
from collections.abc import Sequence

import grpc

from tunix_rt.v1 import (
    evaluation_pb2,
    gateway_service_pb2,
    gateway_service_pb2_grpc,
    job_pb2,
    registry_service_pb2,
    registry_service_pb2_grpc,
    run_pb2,
    trainer_service_pb2,
    trainer_service_pb2_grpc,
)

RUNNING = (job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING)


def main(argv: Sequence[str] | None = None) -> int:
    """Creates a run that evaluates itself, follows it to its end, and prints the score; 1 if it fails."""
    parser = argparse.ArgumentParser(description="Fine-tune a model and watch it learn.")
    parser.add_argument("--model", required=True, help="models/{model}/versions/{version}")
    parser.add_argument("--dataset", required=True, help="datasets/{dataset}, sealed")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--gateway", default="127.0.0.1:50050")
    arguments = parser.parse_args(argv)
    with grpc.insecure_channel(arguments.gateway) as channel:
        run = create_run(channel, arguments)
        print(f"{run.name} is queued")
        run = watch(channel, run.name)
        if run.status.state != job_pb2.JOB_STATE_SUCCEEDED:
            print(f"{run.name} did not succeed: {run.status.error.message}")
            return 1
        for name in run.evaluations:
            print_score(channel, name)
    return 0


def create_run(channel: grpc.Channel, arguments: argparse.Namespace) -> run_pb2.Run:
    """Queues a run with adapters of rank 16 and an evaluation of its result on the test split."""
    spec = run_pb2.RunSpec(
        model=arguments.model,
        dataset=arguments.dataset,
        lora=run_pb2.LoraTuning(rank=16),
        steps=arguments.steps,
        batch_size=4,
        max_length=256,
        optimizer=run_pb2.OptimizerSpec(learning_rate=arguments.learning_rate),
        evaluate_after=[
            evaluation_pb2.EvaluationSpec(
                dataset=arguments.dataset, decoding=evaluation_pb2.Decoding(max_tokens=64)
            )
        ],
    )
    trainer = trainer_service_pb2_grpc.TrainerServiceStub(channel)
    request = trainer_service_pb2.CreateRunRequest(run=run_pb2.Run(spec=spec), request_id=str(uuid.uuid4()))
    return trainer.CreateRun(request, timeout=30)


def watch(channel: grpc.Channel, name: str) -> run_pb2.Run:
    """Prints the losses as they come and returns the run when it has ended."""
    gateway = gateway_service_pb2_grpc.GatewayServiceStub(channel)
    run = run_pb2.Run()
    for event in gateway.WatchRun(gateway_service_pb2.WatchRunRequest(name=name)):
        if event.HasField("run"):
            run = event.run
            print(job_pb2.JobState.Name(run.status.state).removeprefix("JOB_STATE_").lower())
        for point in event.points.points:
            if point.metric.endswith("/loss"):
                print(f"step {point.step:5d}  {point.metric:15s}  {point.value:.4f}")
    return run


def print_score(channel: grpc.Channel, name: str) -> None:
    """Waits for an evaluation and prints its score; its log can wait, so nothing here polls."""
    registry = registry_service_pb2_grpc.RegistryServiceStub(channel)
    request = registry_service_pb2.ListLogsRequest(name=name)
    request.wait.FromSeconds(20)
    while True:
        page = registry.ListLogs(request, timeout=30)
        request.resume_token = page.resume_token
        if page.state not in RUNNING:
            break
    evaluation = registry.GetEvaluation(registry_service_pb2.GetEvaluationRequest(name=name), timeout=30)
    score = evaluation.result.score
    print(
        f"{name}: {score.mean:.1%} of {score.count} items, 95 % interval {score.low:.1%} to {score.high:.1%}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
