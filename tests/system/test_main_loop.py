"""The main job on a small model: import, datasets, evaluate, train, evaluate again, rank, compare."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from tunix_rt.v1 import (
    evaluation_pb2,
    evaluator_service_pb2,
    gateway_service_pb2,
    registry_service_pb2,
    run_pb2,
    trainer_service_pb2,
)
from tunix_rt.v1.job_pb2 import JobState

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def loop(system, tiny_model: str, dataset: str) -> tuple[str, str, str]:
    """A base evaluation, a run, and the evaluation that the run asked for."""
    asked = evaluation_pb2.EvaluationSpec(dataset=dataset, decoding=evaluation_pb2.Decoding(max_tokens=32))
    base = evaluation_pb2.EvaluationSpec()
    base.CopyFrom(asked)
    base.subject = tiny_model
    request = evaluator_service_pb2.CreateEvaluationRequest(evaluation=evaluation_pb2.Evaluation(spec=base))
    evaluation = system.evaluator.CreateEvaluation(request, timeout=30).name
    spec = run_pb2.RunSpec(
        model=tiny_model,
        dataset=dataset,
        steps=30,
        batch_size=2,
        max_length=256,
        optimizer=run_pb2.OptimizerSpec(learning_rate=3e-3),
        evaluate_after=[asked],
    )
    create = trainer_service_pb2.CreateRunRequest(run=run_pb2.Run(spec=spec, description="main loop"))
    run = system.trainer.CreateRun(create, timeout=30).name
    for _ in system.gateway.WatchRun(gateway_service_pb2.WatchRunRequest(name=run), timeout=100):
        pass
    (after,) = system.registry.GetRun(registry_service_pb2.GetRunRequest(name=run)).evaluations
    for name in (evaluation, after):
        wait_for_evaluation(system, name)
    return evaluation, run, after


def wait_for_evaluation(system, name: str) -> evaluation_pb2.Evaluation:
    """Follows the log of the job, which ends with its state."""
    token = ""
    while True:
        logs = registry_service_pb2.ListLogsRequest(name=name, resume_token=token)
        logs.wait.FromSeconds(5)
        page = system.registry.ListLogs(logs, timeout=30)
        token = page.resume_token
        if page.state not in (JobState.JOB_STATE_QUEUED, JobState.JOB_STATE_RUNNING):
            return system.registry.GetEvaluation(registry_service_pb2.GetEvaluationRequest(name=name))


@pytest.mark.timeout(180)
def test_the_run_reports_losses_and_leaves_weights(system, loop) -> None:
    run = system.registry.GetRun(registry_service_pb2.GetRunRequest(name=loop[1]))
    assert run.status.state == JobState.JOB_STATE_SUCCEEDED, run.status.error
    metrics = {summary.metric: summary for summary in run.metrics}
    assert metrics["train/loss"].count == 30
    assert metrics["train/loss"].last < metrics["train/loss"].max
    assert {"train/learning_rate", "train/grad_norm", "train/tokens_per_second", "validation/loss"} <= set(
        metrics
    )
    assert len(run.weights_digest) == 64


def test_every_item_of_the_test_split_has_a_score(system, loop, dataset: str) -> None:
    traces = system.registry.ListTraces(
        registry_service_pb2.ListTracesRequest(dataset=dataset, split="test", page_size=1000)
    ).traces
    for name in (loop[0], loop[2]):
        evaluation = system.registry.GetEvaluation(registry_service_pb2.GetEvaluationRequest(name=name))
        assert evaluation.status.state == JobState.JOB_STATE_SUCCEEDED, evaluation.status.error
        items = system.registry.ListItemScores(
            registry_service_pb2.ListItemScoresRequest(evaluation=name, page_size=1000)
        ).item_scores
        assert [item.trace_id for item in items] == [trace.id for trace in traces]
        right = sum(item.outcome == evaluation_pb2.ItemScore.CORRECT for item in items)
        assert evaluation.result.score.mean == pytest.approx(right / len(items))
        assert evaluation.result.score.count == len(items)
        assert all(item.completion_tokens > 0 and item.prompt for item in items)


def test_base_and_run_stand_on_one_board(system, loop, dataset: str, tiny_model: str) -> None:
    board = system.registry.GetLeaderboard(registry_service_pb2.GetLeaderboardRequest(dataset=dataset))
    subjects = [{entry.subject for entry in board.entries} for board in board.boards]
    assert {tiny_model, loop[1]} in [found & {tiny_model, loop[1]} for found in subjects]


def test_the_comparison_is_paired_item_by_item(system, loop, tiny_model: str) -> None:
    request = gateway_service_pb2.CompareRunsRequest(subjects=[tiny_model, loop[1]])
    comparison = system.gateway.CompareRuns(request, timeout=30)
    (pair,) = comparison.pairs
    assert pair.count == comparison.subjects[1].evaluation.result.score.count
    assert 0 <= pair.p_value <= 1
    assert comparison.subjects[1].final_loss > 0
    assert [curve.metric for curve in comparison.curves].count("train/loss") == 1


@pytest.mark.timeout(180)
def test_another_seed_of_the_run_is_found(system, loop, tiny_model: str) -> None:
    spec = system.registry.GetRun(registry_service_pb2.GetRunRequest(name=loop[1])).spec
    spec.seed += 1
    create = trainer_service_pb2.CreateRunRequest(run=run_pb2.Run(spec=spec))
    run = system.trainer.CreateRun(create, timeout=30).name
    for _ in system.gateway.WatchRun(gateway_service_pb2.WatchRunRequest(name=run), timeout=100):
        pass
    (after,) = system.registry.GetRun(registry_service_pb2.GetRunRequest(name=run)).evaluations
    own = wait_for_evaluation(system, after).result.score.mean
    request = gateway_service_pb2.CompareRunsRequest(subjects=[tiny_model, loop[1]])
    (group,) = system.gateway.CompareRuns(request, timeout=30).seed_groups
    assert (list(group.runs), list(group.seeds)) == ([loop[1], run], [spec.seed - 1, spec.seed])
    assert group.scores[1] == own


def test_generation_streams_text(system, loop) -> None:
    request = evaluator_service_pb2.GenerateRequest(
        subject=loop[1], prompts=["What is 2 + 3?", "What is 4 + 4?"]
    )
    request.decoding.max_tokens = 12
    responses = list(system.evaluator.Generate(request, timeout=60))
    assert {response.index for response in responses} == {0, 1}
    assert {r.index for r in responses if r.finish_reason in ("stop", "length")} == {0, 1}


def test_the_command_line_shows_it_all(system, loop, dataset: str, tiny_model: str) -> None:
    for command in (
        ["runs", "list"],
        ["runs", "show", loop[1]],
        ["datasets", "show", dataset],
        ["models", "list"],
        ["leaderboard", dataset],
        ["compare", tiny_model, loop[1]],
        ["status"],
    ):
        plain = system.command_line(*command)
        assert plain.returncode == 0, plain.stderr
        assert plain.stdout.strip()
        json.loads(system.command_line(*command, "--json").stdout)


@pytest.mark.timeout(120)
def test_the_example_scripts_run(system, loop, tmp_path: Path, tiny_model: str, capsys) -> None:
    traces = tmp_path / "traces.jsonl"
    lines = [
        {
            "prompt": f"What is {n} + 2?",
            "final_answer": str(n + 2),
            "steps": [{"content": f"{n} + 2 = {n + 2}"}],
        }
        for n in range(60)
    ]
    traces.write_text("".join(json.dumps(line) + "\n" for line in lines))
    gateway = ["--gateway", system.address]
    assert not example("upload_traces").main([*gateway, "--dataset", "from-example", str(traces)])
    assert not example("train_and_watch").main(
        [*gateway, "--model", tiny_model, "--dataset", "datasets/from-example", "--steps", "3"]
    )
    assert not example("compare_runs").main([*gateway, tiny_model, loop[1]])
    assert "p = " in capsys.readouterr().out
    listed = registry_service_pb2.ListTracesRequest(dataset="datasets/from-example", split="test")
    predictions = tmp_path / "predictions.jsonl"
    answers = [
        {"id": each.id, "prediction": each.final_answer} for each in system.registry.ListTraces(listed).traces
    ]
    predictions.write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    asked = ["--dataset", "datasets/from-example", "--predictor", "oracle", str(predictions)]
    assert not example("import_predictions").main([*gateway, *asked])
    assert "100.0% [" in capsys.readouterr().out
    request = registry_service_pb2.CreateTaskVersionRequest(parent="tasks/from-example")
    request.task_version.spec.dataset = "datasets/from-example"
    request.task_version.spec.decoding.max_tokens = 8
    task = system.registry.CreateTaskVersion(request, timeout=30).name
    assert not example("evaluate_by_task").main([*gateway, task, tiny_model, loop[1]])
    assert "1. " in capsys.readouterr().out


def example(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
