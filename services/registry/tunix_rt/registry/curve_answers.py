"""Answers GetCurves: many runs and metrics on one axis and one grid."""

from __future__ import annotations

import math

import numpy as np

from tunix_rt.registry.curve_reads import count_points, first_times, load_curves
from tunix_rt.registry.curves import Curve, Values
from tunix_rt.registry.database import Transaction
from tunix_rt.registry.sampling import Grid, Line, bucket, lay_out, places_by_step, sample
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import InvalidArgument, NotFound, Violation
from tunix_rt.v1 import registry_service_pb2 as pb

MAX_CURVES = 100
MAX_ANSWER_POINTS = 1_000_000
MAX_READ_POINTS = 10_000_000
MIN_BUDGET, DEFAULT_BUDGET, MAX_BUDGET = 2, 1000, 10_000

Axis = pb.GetCurvesRequest
_TIME_AXES = (Axis.WALL_TIME, Axis.RELATIVE_TIME)
_AXIS_METRICS = {Axis.TOKENS: "train/tokens", Axis.EPOCH: "train/epoch"}
_NO_POINTS = Curve(np.empty(0, np.int64), np.empty(0))
_AXES = (Axis.AXIS_UNSPECIFIED, Axis.STEP, *_TIME_AXES, *_AXIS_METRICS)


async def get_curves(tx: Transaction, request: pb.GetCurvesRequest) -> pb.GetCurvesResponse:
    """Curves by run and metric, sampled or in buckets on one grid."""
    if violations := check_curves(request):
        raise InvalidArgument(violations[:MAX_CURVES])
    known = await tx.all("SELECT name FROM runs WHERE name = ANY(%(runs)s::text[])", runs=list(request.runs))
    if absent := set(request.runs) - {row["name"] for row in known}:
        raise NotFound(min(absent))
    stored = await count_points(tx, request.runs, request.metrics)
    if stored > MAX_READ_POINTS:
        text = f"have {stored} points in these metrics; at most {MAX_READ_POINTS} can be read. Name fewer."
        raise InvalidArgument.of("runs", text)
    lines = await _lines(tx, request)
    if request.whole:
        _check_size(request, sum(len(line.steps) for line in lines.values()))
    return _answer(request, lines)


def _check_size(request: pb.GetCurvesRequest, count: int) -> None:
    """Raises InvalidArgument for an answer with too many points or buckets."""
    if count > MAX_ANSWER_POINTS:
        field, text = ("whole", "is set") if request.whole else ("max_points", f"is {_budget(request)}")
        text += f", with which the answer passes {MAX_ANSWER_POINTS} points. Ask for fewer points or curves."
        raise InvalidArgument.of(field, text)


def check_curves(request: pb.GetCurvesRequest) -> list[Violation]:
    """All that is wrong with a request, whatever is stored."""
    bad = [names.check(run, names.RUN, f"runs[{index}]") for index, run in enumerate(request.runs)]
    found = [each for each in bad if each]
    for field, values in (("runs", request.runs), ("metrics", request.metrics)):
        if not 1 <= len(values) <= MAX_CURVES:
            found.append(Violation(field, f"are {len(values)}; give from 1 to {MAX_CURVES}."))
        if len(set(values)) < len(values):
            found.append(Violation(field, "name one twice; give each once."))
    if request.max_points and not MIN_BUDGET <= request.max_points <= MAX_BUDGET:
        text = f"is {request.max_points}; it must be from {MIN_BUDGET} to {MAX_BUDGET}."
        found.append(Violation("max_points", text))
    if request.axis not in _AXES:
        found.append(Violation("axis", f"is {request.axis}, which is no axis; see `GetCurvesRequest.Axis`."))
    for field in ("x_low", "x_high"):
        if math.isnan(getattr(request, field)):
            found.append(Violation(field, "is NaN; give a number or leave it out."))
    if request.HasField("x_low") and request.HasField("x_high") and request.x_low > request.x_high:
        found.append(Violation("x_low", f"is {request.x_low:g}, above x_high, {request.x_high:g}."))
    if not 0 <= request.smoothing < 1:
        found.append(Violation("smoothing", f"is {request.smoothing:g}; it must be in [0, 1)."))
    if request.buckets and request.whole:
        found.append(Violation("buckets", "and whole exclude each other; set one."))
    return found


async def _lines(tx: Transaction, request: pb.GetCurvesRequest) -> dict[tuple[str, str], Line]:
    """The curves that have points on the axis and in the range, by run and metric."""
    timed = request.axis in _TIME_AXES
    axis_metric = _AXIS_METRICS.get(request.axis)
    axes = await load_curves(tx, request.runs, axis_metric) if axis_metric else {}
    relative = request.axis == Axis.RELATIVE_TIME
    starts = await first_times(tx, request.runs) if relative else {}
    unknown = math.nan if relative else 0.0
    low = request.x_low if request.HasField("x_low") else -math.inf
    high = request.x_high if request.HasField("x_high") else math.inf
    made = {}
    for metric in request.metrics:
        for run, curve in (await load_curves(tx, request.runs, metric, times=timed)).items():
            places = _places(
                curve, axes.get(run, _NO_POINTS) if axis_metric else None, starts.get(run, unknown)
            )
            line = lay_out(curve, places, request.smoothing, low=low, high=high)
            if len(line.steps):
                made[run, metric] = line
    return made


def _places(curve: Curve, axis: Curve | None, start: float) -> Values:
    if curve.times is not None:
        return np.where(curve.times == 0, np.nan, (curve.times - start) / 1e6)
    if axis is not None:
        return places_by_step(curve.steps, axis)
    return curve.steps.astype(np.float64)


def _answer(request: pb.GetCurvesRequest, lines: dict[tuple[str, str], Line]) -> pb.GetCurvesResponse:
    budget = _budget(request)
    first = min((float(line.places[0]) for line in lines.values()), default=0.0)
    last = max((float(line.places[-1]) for line in lines.values()), default=0.0)
    grid = Grid(first, last, budget)
    answer = pb.GetCurvesResponse()
    count = 0
    for run in request.runs:
        for metric in request.metrics:
            line = lines.get((run, metric))
            if line is None:
                continue
            curve = answer.curves.add(run=run, metric=metric, total_count=len(line.steps))
            if request.buckets:
                curve.buckets.CopyFrom(_buckets(line, grid, smoothed=request.smoothing > 0))
                count += len(curve.buckets.x)
                _check_size(request, count)
                continue
            kept = line if request.whole else sample(line, budget, low=first, high=last)
            count += len(kept.steps)
            _check_size(request, count)
            curve.steps.extend(kept.steps.tolist())
            curve.values.extend(kept.values.tolist())
            if request.axis not in (Axis.AXIS_UNSPECIFIED, Axis.STEP):
                curve.places.extend(kept.places.tolist())
            if request.smoothing:
                curve.smoothed.extend(kept.smoothed.tolist())
    return answer


def _buckets(line: Line, grid: Grid, *, smoothed: bool) -> pb.CurveBuckets:
    made = bucket(line, grid)
    return pb.CurveBuckets(
        x=made.places.tolist(),
        first=made.first.tolist(),
        last=made.last.tolist(),
        min=made.low.tolist(),
        max=made.high.tolist(),
        count=made.count.tolist(),
        smoothed=made.smoothed.tolist() if smoothed else [],
        index=made.index.tolist(),
    )


def _budget(request: pb.GetCurvesRequest) -> int:
    return request.max_points or DEFAULT_BUDGET
