"""What must be true of the demo's results; anything else ends it with an error."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from tunix_rt.gateway.pairs import deciding_p_value
from tunix_rt.v1 import dataset_pb2 as dataset_pb
from tunix_rt.v1 import evaluation_pb2 as evaluation_pb
from tunix_rt.v1 import gateway_service_pb2 as gateway_pb
from tunix_rt.v1 import job_pb2 as job_pb
from tunix_rt.v1 import registry_service_pb2 as registry_pb
from tunix_rt.v1 import run_pb2 as run_pb

STEP_METRICS = (
    "train/loss",
    "train/learning_rate",
    "train/grad_norm",
    "train/tokens_per_second",
    "train/step_time",
)


class DemoError(Exception):
    """A result of the demo is not what it must be."""


def check_rebuilt(first: dataset_pb.Dataset, second: dataset_pb.Dataset) -> None:
    """The same generator, seed and splits must give the same bytes."""
    if first.sha256 != second.sha256 or not first.sha256:
        raise DemoError(
            f"{first.name} has SHA-256 {first.sha256}, but rebuilt from the same seed {second.sha256}."
        )


def check_dataset(dataset: dataset_pb.Dataset, size: int) -> None:
    """A sealed dataset must have all its traces, each in a split."""
    in_splits = sum(split.trace_count for split in dataset.splits)
    if dataset.state != dataset_pb.Dataset.SEALED:
        raise DemoError(f"{dataset.name} is not sealed.")
    if dataset.trace_count != size or in_splits != size:
        raise DemoError(
            f"{dataset.name} has {dataset.trace_count} traces, {in_splits} of them in splits, not {size}."
        )


def check_run(run: run_pb.Run) -> None:
    """The run must have succeeded and left weights."""
    if run.status.state != job_pb.JOB_STATE_SUCCEEDED:
        raise DemoError(f"{run.name} did not succeed: {run.status.error.message or 'it was cancelled'}")
    if not run.model_artifact or not run.weights_digest:
        raise DemoError(f"{run.name} succeeded without final weights.")


def check_points(points: Iterable[run_pb.MetricPoint], steps: int) -> None:
    """Every step must have each metric once, with a finite value; the loss must have fallen."""
    values: dict[str, list[tuple[int, float]]] = {}
    for point in points:
        values.setdefault(point.metric, []).append((point.step, point.value))
    for metric in STEP_METRICS:
        counts = Counter(step for step, _ in values.get(metric, []))
        missing = [step for step in range(1, steps + 1) if step not in counts]
        doubled = [step for step, count in counts.items() if count > 1]
        if missing or doubled:
            raise DemoError(f"{metric} is missing at steps {missing[:10]}, doubled at steps {doubled[:10]}.")
        if not all(math.isfinite(value) for _, value in values[metric]):
            raise DemoError(f"{metric} has a value that is not finite.")
    losses = [value for _, value in sorted(values["train/loss"])]
    tenth = max(len(losses) // 10, 1)
    if not sum(losses[-tenth:]) < sum(losses[:tenth]):
        raise DemoError(f"The loss did not fall: {losses[0]:.3f} to {losses[-1]:.3f}.")
    if not values.get("validation/loss"):
        raise DemoError("The run has no validation loss.")


def check_evaluation(
    evaluation: evaluation_pb.Evaluation, items: Sequence[evaluation_pb.ItemScore], size: int
) -> None:
    """The evaluation must have a score over all items of the split, and a stored row for each."""
    if evaluation.status.state != job_pb.JOB_STATE_SUCCEEDED:
        reason = evaluation.status.error.message or "it was cancelled"
        raise DemoError(f"{evaluation.name} did not succeed: {reason}")
    score = evaluation.result.score
    if score.count != size or len({item.trace_id for item in items}) != size or len(items) != size:
        raise DemoError(
            f"{evaluation.name} scored {score.count} items and stored {len(items)}; the split has {size}."
        )
    correct = sum(item.outcome == evaluation_pb.ItemScore.CORRECT for item in items)
    if not math.isclose(score.mean, correct / size) or not score.low <= score.mean <= score.high:
        raise DemoError(f"{evaluation.name} says {score.mean}, but {correct} of {size} items are correct.")
    if not evaluation.weights_digest:
        raise DemoError(f"{evaluation.name} does not say which weights it evaluated.")


def check_leaderboard(leaderboard: registry_pb.Leaderboard, subjects: Iterable[str]) -> None:
    """All subjects must stand on one board."""
    wanted = set(subjects)
    boards = [{entry.subject for entry in board.entries} for board in leaderboard.boards]
    if not any(wanted <= board for board in boards):
        raise DemoError(f"No board of {leaderboard.dataset} has all of {', '.join(sorted(wanted))}.")


def check_comparison(comparison: gateway_pb.Comparison, size: int) -> gateway_pb.PairedComparison:
    """There must be one pair over all items, with the curves of the run; returns the pair."""
    if len(comparison.pairs) != 1:
        raise DemoError(f"The comparison has no pair: {comparison.pairs_missing_reason}")
    pair = comparison.pairs[0]
    if pair.count != size:
        raise DemoError(f"The comparison pairs {pair.count} items; the split has {size}.")
    metrics = {curve.metric for curve in comparison.curves}
    if not {"train/loss", "validation/loss"} <= metrics:
        raise DemoError(f"The comparison has only the curves {sorted(metrics)}.")
    return pair


def check_gain(pair: gateway_pb.PairedComparison, largest_p: float | None) -> None:
    """The tuned model must be better than the base, with a p-value under `largest_p`."""
    if largest_p is None:
        return
    if pair.gained <= pair.lost or deciding_p_value(pair) >= largest_p:
        raise DemoError(
            f"The tuned model does not beat the base at p < {largest_p}: gained {pair.gained}, "
            f"lost {pair.lost}, p = {deciding_p_value(pair):.4f}."
        )
