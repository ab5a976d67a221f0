"""The calls behind the pages and their JSON."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunix_rt.gateway.compare_gather import compare_runs, shared_datasets
from tunix_rt.v1 import artifact_pb2, dataset_pb2, evaluation_pb2, gateway_service_pb2, job_pb2, run_pb2
from tunix_rt.v1 import registry_service_pb2 as pb2

CALL_SECONDS = 30.0
BOARD_DATASETS = 6
LOG_LINES = 2000
SAMPLE_STEPS = 6
_LOG_PAGES = 100


@dataclass(frozen=True)
class Overview:
    """What the first page shows; `scores` holds the newest succeeded evaluation of each subject."""

    runs: Sequence[run_pb2.Run]
    next_page_token: str
    scores: dict[str, evaluation_pb2.Evaluation]
    boards: Sequence[pb2.Leaderboard]


@dataclass(frozen=True)
class RunDetails:
    """A run with its evaluations, newest first."""

    run: run_pb2.Run
    evaluations: Sequence[evaluation_pb2.Evaluation]


async def read_overview(registry: Any, page_token: str) -> Overview:
    """Runs, their newest scores, and the leaderboards of the newest datasets that have one."""
    runs, scores, datasets = await asyncio.gather(
        registry.ListRuns(pb2.ListRunsRequest(page_token=page_token), timeout=CALL_SECONDS),
        _newest_scores(registry),
        read_datasets(registry),
    )
    boards = await asyncio.gather(
        *(
            read_board(registry, pb2.GetLeaderboardRequest(dataset=dataset.name))
            for dataset in datasets[:BOARD_DATASETS]
        )
    )
    return Overview(
        runs.runs,
        runs.next_page_token,
        scores,
        [board for board in boards if any(b.entries for b in board.boards)],
    )


async def read_datasets(registry: Any) -> list[dataset_pb2.Dataset]:
    """The newest sealed datasets, newest first."""
    page = await registry.ListDatasets(pb2.ListDatasetsRequest(page_size=100), timeout=CALL_SECONDS)
    return [dataset for dataset in page.datasets if dataset.state == dataset_pb2.Dataset.SEALED]


async def read_board(registry: Any, request: pb2.GetLeaderboardRequest) -> pb2.Leaderboard:
    """A leaderboard under its filters."""
    board: pb2.Leaderboard = await registry.GetLeaderboard(request, timeout=CALL_SECONDS)
    return board


async def read_run(registry: Any, name: str) -> RunDetails:
    """A run and all its evaluations."""
    run, evaluations = await asyncio.gather(
        registry.GetRun(pb2.GetRunRequest(name=name), timeout=CALL_SECONDS),
        registry.ListEvaluations(
            pb2.ListEvaluationsRequest(subject=name, page_size=100), timeout=CALL_SECONDS
        ),
    )
    return RunDetails(run, evaluations.evaluations)


async def read_curves(
    registry: Any, runs: Sequence[str], *, metrics: Sequence[str], max_points: int
) -> pb2.GetCurvesResponse:
    """Curves of runs within a budget of points."""
    request = pb2.GetCurvesRequest(runs=runs, metrics=metrics, max_points=max_points)
    curves: pb2.GetCurvesResponse = await registry.GetCurves(request, timeout=CALL_SECONDS)
    return curves


async def read_log_tail(registry: Any, name: str) -> list[str]:
    """The last lines of a job's log, at most LOG_LINES."""
    tail: deque[str] = deque(maxlen=LOG_LINES)
    request = pb2.ListLogsRequest(name=name, page_size=10_000)
    for _ in range(_LOG_PAGES):
        page = await registry.ListLogs(request, timeout=CALL_SECONDS)
        if not page.lines:
            break
        tail.extend(line.text for line in page.lines)
        request.resume_token = page.resume_token
    return list(tail)


async def read_samples(registry: Any, run: run_pb2.Run) -> list[dict[str, Any]]:
    """The samples of a run's newest SAMPLE_STEPS steps that have some, ordered by prompt and step."""
    if not run.spec.HasField("samples"):
        return []
    request = pb2.ListArtifactsRequest(owner=run.name, kind="samples", page_size=1000)
    page = await registry.ListArtifacts(request, timeout=CALL_SECONDS)
    by_step = {artifact.step: artifact for artifact in reversed(page.artifacts)}  # the newest attempt's
    newest = sorted(by_step)[-SAMPLE_STEPS:]
    texts = await asyncio.gather(*(_read_text(registry, by_step[step].files[0].sha256) for step in newest))
    samples = [json.loads(line) for text in texts for line in text.splitlines()]
    return sorted(samples, key=lambda sample: (sample["index"], sample["step"]))


async def read_artifacts(registry: Any, owner: str) -> Sequence[artifact_pb2.Artifact]:
    """The newest artifacts of an owner, newest first; at most a hundred."""
    request = pb2.ListArtifactsRequest(owner=owner, page_size=100)
    found: pb2.ListArtifactsResponse = await registry.ListArtifacts(request, timeout=CALL_SECONDS)
    return found.artifacts


async def _read_text(registry: Any, sha256: str) -> str:
    chunks = registry.ReadBlob(pb2.ReadBlobRequest(sha256=sha256), timeout=CALL_SECONDS)
    return b"".join([chunk.data async for chunk in chunks]).decode("utf-8")


async def read_evaluation(
    registry: Any, name: str, page_token: str
) -> tuple[evaluation_pb2.Evaluation, pb2.ListItemScoresResponse]:
    """An evaluation and a page of its items."""
    evaluation, items = await asyncio.gather(
        registry.GetEvaluation(pb2.GetEvaluationRequest(name=name), timeout=CALL_SECONDS),
        registry.ListItemScores(
            pb2.ListItemScoresRequest(evaluation=name, page_size=200, page_token=page_token),
            timeout=CALL_SECONDS,
        ),
    )
    return evaluation, items


async def read_comparison(
    registry: Any, subjects: Sequence[str], *, dataset: str, split: str
) -> tuple[gateway_service_pb2.Comparison, tuple[str, ...]]:
    """A comparison, and the datasets that it could be made on; of several the first is taken."""
    request = gateway_service_pb2.CompareRunsRequest(subjects=subjects, dataset=dataset, split=split)
    datasets: tuple[str, ...] = ()
    if len(subjects) > 1:
        datasets = await shared_datasets(registry, subjects, split=split or "test")
    if not dataset and datasets:
        request.dataset = datasets[0]
    return await compare_runs(registry, request), datasets


async def _newest_scores(registry: Any) -> dict[str, evaluation_pb2.Evaluation]:
    page = await registry.ListEvaluations(
        pb2.ListEvaluationsRequest(page_size=1000, state=job_pb2.JOB_STATE_SUCCEEDED), timeout=CALL_SECONDS
    )
    newest: dict[str, evaluation_pb2.Evaluation] = {}
    for evaluation in page.evaluations:
        newest.setdefault(evaluation.spec.subject, evaluation)
    return newest
