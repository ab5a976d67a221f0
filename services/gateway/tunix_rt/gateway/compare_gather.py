"""Checks a comparison request and makes the calls that it needs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from tunix_rt.gateway.compare import LOSS_METRICS, RATE_METRICS, build_comparison, compared_runs
from tunix_rt.gateway.evaluation_match import Match, comparability_key, match_evaluations
from tunix_rt.gateway.pairs import Side
from tunix_rt.gateway.seed_groups import SeedRun, recipe
from tunix_rt.jobs.evaluation_spec import EVALUATED
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import FailedPrecondition, InvalidArgument, Reason, Violation
from tunix_rt.traces.trace import family_of
from tunix_rt.v1 import evaluation_pb2, gateway_service_pb2, job_pb2, run_pb2
from tunix_rt.v1 import registry_service_pb2 as registry_pb2

MAX_SUBJECTS = 10
MAX_POINTS = 10_000
MAX_LISTED_RUNS = 1000  # the newest on a dataset, among which other seeds are looked for
MAX_SIBLINGS = 50
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
    families, siblings = await asyncio.gather(
        _item_families(registry, match), _seed_siblings(registry, sides, match)
    )
    return await asyncio.to_thread(
        build_comparison, sides, match=match, curves=curves, rates=rates, families=families, siblings=siblings
    )


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


async def _item_families(registry: Any, match: Match) -> dict[str, str]:
    """The families of the compared items by trace id; none where the evaluation found too few."""
    evaluation = match.evaluations[0]
    if match.missing_reason or evaluation is None or not evaluation.result.HasField("clustered_score"):
        return {}
    request = registry_pb2.ListTracesRequest(
        dataset=evaluation.spec.dataset, split=evaluation.spec.split, page_size=_PAGE
    )
    families: dict[str, str] = {}
    while True:
        page = await registry.ListTraces(request, timeout=_CALL_SECONDS)
        families |= {trace.id: family_of(dict(trace.meta.items())) for trace in page.traces}
        if not page.next_page_token or len(families) >= evaluation.spec.limit > 0:
            return families
        request.page_token = page.next_page_token


async def _seed_siblings(registry: Any, sides: Sequence[Side], match: Match) -> list[SeedRun]:
    """The newest runs that may differ from compared ones in their seed only, with comparable evaluations."""
    compared = [] if match.missing_reason else [own.run for own in compared_runs(sides)]
    recipes, names_compared = {recipe(run) for run in compared}, {run.name for run in compared}
    listed = await asyncio.gather(
        *(_list_runs(registry, dataset) for dataset in sorted({run.spec.dataset for run in compared}))
    )
    found = [
        run for runs in listed for run in runs if run.name not in names_compared and recipe(run) in recipes
    ]
    scores = await asyncio.gather(*(_comparable_score(registry, run, match) for run in found[:MAX_SIBLINGS]))
    return [SeedRun(run, score) for run, score in zip(found, scores, strict=False) if score is not None]


async def _comparable_score(registry: Any, run: run_pb2.Run, match: Match) -> float | None:
    """The score of the newest evaluation of a run that is comparable with the compared ones."""
    compared = next(evaluation for evaluation in match.evaluations if evaluation is not None)
    key = comparability_key(compared)
    for own in await _list_evaluations(registry, run.name, dataset=compared.spec.dataset):
        if own.HasField("result") and comparability_key(own) == key:
            return own.result.score.mean
    return None


async def _list_runs(registry: Any, dataset: str) -> list[run_pb2.Run]:
    """The newest succeeded runs on a dataset, at most MAX_LISTED_RUNS."""
    request = registry_pb2.ListRunsRequest(
        page_size=_PAGE, state=job_pb2.JOB_STATE_SUCCEEDED, dataset=dataset
    )
    runs: list[run_pb2.Run] = []
    while True:
        page = await registry.ListRuns(request, timeout=_CALL_SECONDS)
        runs += page.runs
        if not page.next_page_token or len(runs) >= MAX_LISTED_RUNS:
            return runs
        request.page_token = page.next_page_token
