"""Checks a comparison request and makes the calls that it needs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from tunix_rt.gateway.compare import LOSS_METRICS, RATE_METRICS, Side, build_comparison
from tunix_rt.gateway.evaluation_match import match_evaluations
from tunix_rt.jobs.evaluation_spec import EVALUATED
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import FailedPrecondition, InvalidArgument, Reason, Violation
from tunix_rt.v1 import evaluation_pb2, gateway_service_pb2, job_pb2, run_pb2
from tunix_rt.v1 import registry_service_pb2 as registry_pb2

MAX_SUBJECTS = 10
MAX_POINTS = 10_000
_PAGE = 500
_CALL_SECONDS = 30.0


async def compare_runs(
    registry: Any, request: gateway_service_pb2.CompareRunsRequest
) -> gateway_service_pb2.Comparison:
    """The answer of `CompareRuns`.

    Raises InvalidArgument for bad fields, and FailedPrecondition where the
    subjects could be compared on several datasets and none is named.
    """
    check_request(request)
    subjects = list(request.subjects)
    runs = await asyncio.gather(*(_get_run(registry, subject) for subject in subjects))
    evaluations = await asyncio.gather(
        *(_list_evaluations(registry, subject, dataset=request.dataset) for subject in subjects)
    )
    match = match_evaluations(subjects, evaluations, dataset=request.dataset, split=request.split or "test")
    if len(match.datasets) > 1:
        raise _several_datasets(match.datasets)
    items = await asyncio.gather(
        *(_list_items(registry, None if match.missing_reason else e) for e in match.evaluations)
    )
    run_names = [run.name for run in runs if run is not None]
    curves, rates = await asyncio.gather(
        _get_curves(registry, run_names, metrics=LOSS_METRICS, max_points=request.max_points or 500),
        _get_curves(registry, run_names, metrics=RATE_METRICS, max_points=MAX_POINTS),
    )
    sides = [Side(*parts) for parts in zip(subjects, runs, match.evaluations, items, strict=True)]
    return await asyncio.to_thread(build_comparison, sides, match=match, curves=curves, rates=rates)


def check_request(request: gateway_service_pb2.CompareRunsRequest) -> None:
    """Raises InvalidArgument that names all bad fields."""
    violations = []
    count = len(request.subjects)
    if not 2 <= count <= MAX_SUBJECTS:
        text = f"has {count} entries; give 2 to {MAX_SUBJECTS} runs, model versions or predictors."
        violations.append(Violation("subjects", text))
    if len(set(request.subjects)) != count:
        violations.append(Violation("subjects", "names a subject twice; give each once."))
    violations += [
        violation
        for index, subject in enumerate(request.subjects)
        if (violation := names.check_any(subject, EVALUATED, f"subjects[{index}]"))
    ]
    if request.dataset and (violation := names.check(request.dataset, names.DATASET, "dataset")):
        violations.append(violation)
    if request.max_points and not 2 <= request.max_points <= MAX_POINTS:
        text = f"is {request.max_points}; it must be in [2, {MAX_POINTS}], or 0 for 500."
        violations.append(Violation("max_points", text))
    if violations:
        raise InvalidArgument(violations)


async def shared_datasets(registry: Any, subjects: Sequence[str], *, split: str) -> tuple[str, ...]:
    """The datasets on which all subjects have comparable evaluations, by name."""
    found = await asyncio.gather(*(_list_evaluations(registry, subject, dataset="") for subject in subjects))
    return match_evaluations(subjects, found, dataset="", split=split).datasets


def _several_datasets(datasets: Sequence[str]) -> FailedPrecondition:
    listed = ", ".join(f"`{name}`" for name in datasets)
    return FailedPrecondition(
        Reason.NOT_COMPARABLE,
        f"All subjects have comparable evaluations on {listed}. Name one of them in `dataset`.",
        {"datasets": ",".join(datasets)},
    )


async def _get_run(registry: Any, subject: str) -> run_pb2.Run | None:
    """The run of a subject; None for a predictor, and for a model version once it is known to exist."""
    if names.matches(subject, names.PREDICTOR):
        return None
    if names.matches(subject, names.MODEL_VERSION):
        await registry.GetModelVersion(
            registry_pb2.GetModelVersionRequest(name=subject), timeout=_CALL_SECONDS
        )
        return None
    run: run_pb2.Run = await registry.GetRun(registry_pb2.GetRunRequest(name=subject), timeout=_CALL_SECONDS)
    return run


async def _list_evaluations(registry: Any, subject: str, *, dataset: str) -> list[evaluation_pb2.Evaluation]:
    request = registry_pb2.ListEvaluationsRequest(
        page_size=_PAGE, state=job_pb2.JOB_STATE_SUCCEEDED, dataset=dataset, subject=subject
    )
    evaluations: list[evaluation_pb2.Evaluation] = []
    while True:
        page = await registry.ListEvaluations(request, timeout=_CALL_SECONDS)
        evaluations += page.evaluations
        if not page.next_page_token:
            return evaluations
        request.page_token = page.next_page_token


async def _list_items(
    registry: Any, evaluation: evaluation_pb2.Evaluation | None
) -> list[evaluation_pb2.ItemScore]:
    if evaluation is None:
        return []
    request = registry_pb2.ListItemScoresRequest(evaluation=evaluation.name, page_size=_PAGE)
    items: list[evaluation_pb2.ItemScore] = []
    while True:
        page = await registry.ListItemScores(request, timeout=_CALL_SECONDS)
        items += page.item_scores
        if not page.next_page_token:
            return items
        request.page_token = page.next_page_token


async def _get_curves(
    registry: Any, runs: Sequence[str], *, metrics: Sequence[str], max_points: int
) -> list[registry_pb2.Curve]:
    if not runs:
        return []
    request = registry_pb2.GetCurvesRequest(runs=runs, metrics=metrics, max_points=max_points)
    return list((await registry.GetCurves(request, timeout=_CALL_SECONDS)).curves)
