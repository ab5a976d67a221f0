"""The main job of the demo: every step through the gateway, each checked."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from tunix_rt.rpc.channel import new_request_id
from tunix_rt.standalone import demo_checks as checks
from tunix_rt.standalone.connection import CALL_SECONDS, Connection
from tunix_rt.standalone.dataset_sources import from_generator
from tunix_rt.standalone.dataset_upload import DatasetPlan, upload_dataset
from tunix_rt.standalone.demo_report import DemoResult
from tunix_rt.standalone.demo_spec import GOLDEN, GOLDEN_SEED, GOLDEN_SIZE, DemoSpec
from tunix_rt.standalone.demo_steps import StepHandle, Steps
from tunix_rt.standalone.evaluation_wait import poll_evaluation
from tunix_rt.standalone.follow import RunView, watch_run
from tunix_rt.standalone.model_sources import SMOLLM2, prepare_model
from tunix_rt.standalone.model_upload import directory_bytes, upload_model
from tunix_rt.standalone.spec_file import fill
from tunix_rt.standalone.views import number_text, score_text, size_text
from tunix_rt.traces.trace import Trace
from tunix_rt.v1 import dataset_pb2 as dataset_pb
from tunix_rt.v1 import evaluation_pb2 as evaluation_pb
from tunix_rt.v1 import evaluator_service_pb2 as evaluator_pb
from tunix_rt.v1 import gateway_service_pb2 as gateway_pb
from tunix_rt.v1 import job_pb2 as job_pb
from tunix_rt.v1 import registry_service_pb2 as registry_pb
from tunix_rt.v1 import run_pb2 as run_pb
from tunix_rt.v1 import trainer_service_pb2 as trainer_pb


@dataclass(frozen=True)
class _Names:
    model: str
    dataset: str
    test_size: int


def main_job(steps: Steps, connection: Connection, spec: DemoSpec, *, tiny: bool) -> DemoResult:
    """From the base model to the comparison. Raises DemoError where a result is not as it must be."""
    with steps.step("Build traces with verified steps") as step:
        source, traces = from_generator(spec.generator, seed=spec.seed, size=spec.size, config=spec.config)
        golden_source, golden = from_generator(GOLDEN, seed=GOLDEN_SEED, size=GOLDEN_SIZE, config={})
        step.note(f"{len(golden)} golden, {len(traces)} {spec.generator}")
    model = _import_model(steps, connection, spec, traces, tiny=tiny)
    _golden(steps, connection, DatasetPlan("golden-v2", dataset_pb.Dataset(source=golden_source), golden))
    dataset = _arithmetic(steps, connection, spec, source, traces)
    test_size = next(split.trace_count for split in dataset.splits if split.name == "test")
    names = _Names(model, dataset.name, min(test_size, spec.limit or test_size))
    base = _evaluate_base(steps, connection, spec, names)
    run = _train(steps, connection, spec, names)
    tuned = _evaluation_after(steps, connection, run, names)
    return _compare(steps, connection, names, run, base, tuned)


def _import_model(
    steps: Steps, connection: Connection, spec: DemoSpec, traces: list[Trace], *, tiny: bool
) -> str:
    label = "Make a small model" if tiny else "Import SmolLM2-135M-Instruct from its package"
    with steps.step(label) as step, tempfile.TemporaryDirectory(prefix="tunix-rt-demo-") as scratch:
        directory = Path(scratch) / "model"
        provenance = _tiny_model(directory, traces) if tiny else prepare_model(SMOLLM2, directory)
        total = directory_bytes(directory)
        version = upload_model(
            connection,
            directory,
            f"models/{spec.model_id}",
            provenance=provenance,
            advance=lambda done: step.move(done, total=total),
        )
        step.note(f"{version.name}, {size_text(version.size_bytes)}, {provenance['conversion']}")
        return version.name


def _tiny_model(directory: Path, traces: list[Trace]) -> dict[str, object]:
    import dataclasses

    from tunix_rt.lm.tiny import make_tiny_model
    from tunix_rt.traces.text import completion_text

    texts = [text for trace in traces for text in (trace.prompt, completion_text(trace))]
    return dataclasses.asdict(make_tiny_model(directory, texts, seed=1))


def _golden(steps: Steps, connection: Connection, plan: DatasetPlan) -> None:
    with steps.step("Seal golden-v2, twice, and compare the bytes") as step:
        first = upload_dataset(connection, plan)
        rebuilt_source, rebuilt = from_generator(GOLDEN, seed=GOLDEN_SEED, size=GOLDEN_SIZE, config={})
        again = DatasetPlan("golden-v2-again", dataset_pb.Dataset(source=rebuilt_source), rebuilt)
        checks.check_dataset(first, GOLDEN_SIZE)
        checks.check_rebuilt(first, upload_dataset(connection, again))
        if upload_dataset(connection, plan).sha256 != first.sha256:
            raise checks.DemoError(f"{first.name} changed when it was sealed again.")
        step.note(f"SHA-256 {first.sha256[:12]}… both times")


def _arithmetic(
    steps: Steps,
    connection: Connection,
    spec: DemoSpec,
    source: dataset_pb.DatasetSource,
    traces: list[Trace],
) -> dataset_pb.Dataset:
    with steps.step("Seal the arithmetic dataset, split by content") as step:
        dataset = dataset_pb.Dataset(source=source, split_seed=spec.split_seed, labels=dict(spec.labels))
        dataset.splits.extend(dataset_pb.Split(name=k, fraction=share) for k, share in spec.splits.items())
        plan = DatasetPlan(spec.dataset_id, dataset, traces)
        sealed = upload_dataset(connection, plan, advance=lambda done: step.move(done, total=len(traces)))
        checks.check_dataset(sealed, spec.size)
        step.note(", ".join(f"{split.name} {split.trace_count}" for split in sealed.splits))
        return sealed


def _evaluation_spec(spec: DemoSpec, dataset: str, subject: str = "") -> evaluation_pb.EvaluationSpec:
    decoding = evaluation_pb.Decoding(max_tokens=spec.max_tokens)
    return evaluation_pb.EvaluationSpec(
        subject=subject,
        dataset=dataset,
        split="test",
        decoding=decoding,
        format=str(spec.run.get("format", "")),
        system_prompt=str(spec.run.get("system_prompt", "")),
        limit=spec.limit,
    )


def _evaluate_base(
    steps: Steps, connection: Connection, spec: DemoSpec, names: _Names
) -> evaluation_pb.Evaluation:
    with steps.step("Evaluate the base model on the test split") as step:
        evaluation = evaluation_pb.Evaluation(spec=_evaluation_spec(spec, names.dataset, names.model))
        evaluation.labels.update(spec.labels)
        request = evaluator_pb.CreateEvaluationRequest(evaluation=evaluation, request_id=new_request_id())
        made = connection.evaluator.CreateEvaluation(request, timeout=CALL_SECONDS)
        return _wait(step, connection, made.name, names)


def _train(steps: Steps, connection: Connection, spec: DemoSpec, names: _Names) -> run_pb.Run:
    with steps.step("Fine-tune on the training split") as step:
        run_spec = fill(run_pb.RunSpec(model=names.model, dataset=names.dataset), spec.run)
        run_spec.evaluate_after.append(_evaluation_spec(spec, names.dataset))
        run = run_pb.Run(spec=run_spec, description="The demo's run.", labels=dict(spec.labels))
        request = trainer_pb.CreateRunRequest(run_id="tuned", run=run, request_id=new_request_id())
        made = connection.trainer.CreateRun(request, timeout=CALL_SECONDS)
        view = RunView()
        for event in watch_run(connection, made.name):
            view.apply(event)
            step.at(view.step, view.total)
            step.note(_training_note(view))
        found = connection.registry.GetRun(registry_pb.GetRunRequest(name=made.name), timeout=CALL_SECONDS)
        checks.check_run(found)
        checks.check_points(all_points(connection, made.name), int(found.facts.fields["steps"].number_value))
        step.note(_training_note(view))
        return found


def _training_note(view: RunView) -> str:
    if view.last("train/loss") is None:
        return job_pb.JobState.Name(view.run.status.state).removeprefix("JOB_STATE_").lower()
    losses = view.values("train/loss")
    speed = number_text(view.last("train/tokens_per_second"))
    return (
        f"step {view.step}/{view.total or '?'}, loss {losses[0]:.3f} → {losses[-1]:.3f}, "
        f"validation {number_text(view.last('validation/loss'))}, {speed} tokens/s"
    )


def all_points(connection: Connection, name: str) -> list[run_pb.MetricPoint]:
    """All stored points of a run."""
    points: list[run_pb.MetricPoint] = []
    token = ""
    while True:
        request = registry_pb.ListMetricsRequest(run=name, page_size=10_000, resume_token=token)
        page = connection.registry.ListMetrics(request, timeout=CALL_SECONDS)
        if not page.points:
            return points
        points.extend(page.points)
        token = page.resume_token


def all_items(connection: Connection, name: str) -> list[evaluation_pb.ItemScore]:
    """All stored items of an evaluation."""
    items: list[evaluation_pb.ItemScore] = []
    token = ""
    while True:
        request = registry_pb.ListItemScoresRequest(evaluation=name, page_size=1000, page_token=token)
        page = connection.registry.ListItemScores(request, timeout=CALL_SECONDS)
        items.extend(page.item_scores)
        token = page.next_page_token
        if not token:
            return items


def _evaluation_after(
    steps: Steps, connection: Connection, run: run_pb.Run, names: _Names
) -> evaluation_pb.Evaluation:
    with steps.step("Evaluate the tuned model, as the run asked for") as step:
        if len(run.evaluations) != 1:
            raise checks.DemoError(f"{run.name} queued {len(run.evaluations)} evaluations, not 1.")
        return _wait(step, connection, run.evaluations[0], names)


def _wait(step: StepHandle, connection: Connection, name: str, names: _Names) -> evaluation_pb.Evaluation:
    def tell(status: job_pb.JobStatus) -> None:
        step.at(status.progress, status.progress_total)
        step.note(f"{status.progress}/{status.progress_total or '?'} items")

    evaluation = poll_evaluation(connection, name, tell)
    checks.check_evaluation(evaluation, all_items(connection, name), names.test_size)
    result = evaluation.result
    step.note(f"{score_text(result.score)}, {number_text(result.tokens_per_second or None)} tokens/s")
    return evaluation


def _compare(
    steps: Steps,
    connection: Connection,
    names: _Names,
    run: run_pb.Run,
    base: evaluation_pb.Evaluation,
    tuned: evaluation_pb.Evaluation,
) -> DemoResult:
    with steps.step("Rank on the leaderboard and compare item by item") as step:
        board_request = registry_pb.GetLeaderboardRequest(dataset=names.dataset, split="test")
        leaderboard = connection.registry.GetLeaderboard(board_request, timeout=CALL_SECONDS)
        checks.check_leaderboard(leaderboard, [names.model, run.name])
        request = gateway_pb.CompareRunsRequest(subjects=[names.model, run.name], dataset=names.dataset)
        comparison = connection.gateway.CompareRuns(request, timeout=CALL_SECONDS)
        pair = checks.check_comparison(comparison, names.test_size)
        step.note(f"{pair.gained} gained, {pair.lost} lost")
        return DemoResult(names.model, run, base, tuned, leaderboard, comparison, pair)
