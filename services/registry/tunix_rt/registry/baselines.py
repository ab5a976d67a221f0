"""Baselines of models: what versions are held against, and the check itself."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterable, Mapping
from datetime import datetime

from tunix_rt.jobs.judge_spec import is_calibration, is_judged_by
from tunix_rt.jobs.parameters import flatten_message
from tunix_rt.registry import gates, model_events, scores
from tunix_rt.registry.database import Row, Transaction
from tunix_rt.registry.lifecycle import State
from tunix_rt.registry.messages import timestamp
from tunix_rt.registry.specs import shared_spec
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import FailedPrecondition, InvalidArgument, Reason, Violation
from tunix_rt.v1 import evaluation_pb2, model_pb2, registry_service_pb2

MAX_FLOORS = 100
Evaluation = evaluation_pb2.Evaluation


async def set_baseline(
    tx: Transaction, request: registry_service_pb2.SetBaselineRequest, *, now: datetime
) -> model_pb2.Baseline:
    """Pins an evaluation as the baseline of a model; the same baseline again changes nothing."""
    _check_fields(request)
    baseline = model_pb2.Baseline()
    baseline.CopyFrom(request.baseline)
    baseline.margin = baseline.margin or gates.DEFAULT_MARGIN
    baseline.confidence = baseline.confidence or gates.DEFAULT_CONFIDENCE
    await model_events.lock(tx, baseline.model)
    evaluation = await require_evidence(tx, baseline.evaluation)
    await _check_floors(tx, baseline, evaluation)
    if present := await get(tx, baseline.model):
        baseline.update_time.CopyFrom(present.update_time)
        if present == baseline:
            return present
    baseline.update_time.CopyFrom(timestamp(now))
    await tx.execute(
        "INSERT INTO model_baselines (parent, evaluation, document, update_time)"
        " VALUES (%(parent)s, %(evaluation)s, %(document)s, %(now)s) ON CONFLICT (parent) DO UPDATE"
        " SET evaluation = excluded.evaluation, document = excluded.document,"
        " update_time = excluded.update_time",
        parent=baseline.model,
        evaluation=baseline.evaluation,
        document=baseline.SerializeToString(),
        now=now,
    )
    await model_events.add(
        tx, baseline.model, "baseline", _described(baseline, evaluation), reason=request.reason, now=now
    )
    return baseline


async def get(tx: Transaction, model: str) -> model_pb2.Baseline | None:
    """The baseline of a model, or None."""
    return (await get_all(tx, [model])).get(model)


async def get_all(tx: Transaction, models: Iterable[str]) -> dict[str, model_pb2.Baseline]:
    """The baselines of those models that have one."""
    rows = await tx.all(
        "SELECT parent, document FROM model_baselines WHERE parent = ANY(%(models)s::text[])",
        models=list(models),
    )
    return {row["parent"]: model_pb2.Baseline.FromString(row["document"]) for row in rows}


async def check(
    tx: Transaction, request: registry_service_pb2.CheckBaselineRequest
) -> model_pb2.BaselineCheck:
    """Holds an evaluation against the baseline of a model.

    Raises FailedPrecondition, reasons BASELINE_MISSING, EVALUATION_NOT_FINISHED, NOT_COMPARABLE.
    """
    found = [
        names.check(request.model, names.MODEL, "model"),
        names.check(request.evaluation, names.EVALUATION, "evaluation"),
    ]
    if bad := [each for each in found if each]:
        raise InvalidArgument(bad)
    await model_events.require_model(tx, request.model)
    baseline = await get(tx, request.model)
    if baseline is None:
        raise FailedPrecondition(
            Reason.BASELINE_MISSING,
            f"`{request.model}` has no baseline. Set one with SetBaseline.",
            {"resource": request.model},
        )
    return await check_evaluation(tx, baseline, await require_evidence(tx, request.evaluation))


async def check_evaluation(
    tx: Transaction, baseline: model_pb2.Baseline, evaluation: Evaluation
) -> model_pb2.BaselineCheck:
    """As `check`, for an evaluation that has succeeded."""
    pinned = await scores.get(tx, baseline.evaluation)
    await _require_comparable(tx, pinned, evaluation)
    old, new = await _side(tx, pinned), await _side(tx, evaluation)
    metas = await _metas(tx, pinned.spec.dataset, old.scores.keys() | new.scores.keys())
    return await asyncio.to_thread(gates.check, baseline, old, new, metas)


async def newest_evidence(
    tx: Transaction, baseline: model_pb2.Baseline, weights_digest: str
) -> Evaluation | None:
    """The newest succeeded evaluation of some weights that is comparable with a baseline, or None."""
    row = await tx.one(
        "SELECT e.name FROM evaluations e JOIN jobs j USING (name) WHERE e.weights_digest = %(digest)s"
        " AND e.board = (SELECT board FROM evaluations WHERE name = %(baseline)s) AND j.state = %(state)s"
        " ORDER BY j.create_time DESC, e.name DESC LIMIT 1",
        digest=weights_digest,
        baseline=baseline.evaluation,
        state=int(State.SUCCEEDED),
    )
    return None if row is None else await scores.get(tx, row["name"])


async def require_evidence(tx: Transaction, name: str) -> Evaluation:
    """An evaluation that has succeeded and whose scores may rank. Raises NotFound, FailedPrecondition."""
    evaluation = await scores.get(tx, name)
    state = State(evaluation.status.state)
    if state is not State.SUCCEEDED:
        raise FailedPrecondition(
            Reason.EVALUATION_NOT_FINISHED,
            f"`{name}` is {state.name} and has no result. Wait until it has SUCCEEDED, or use another one.",
            {"resource": name, "state": state.name},
        )
    judged = is_judged_by(evaluation.spec) and not evaluation.result.judged.may_rank
    if judged or is_calibration(evaluation.spec):
        text = "is scored by a judge that may not rank" if judged else "is the calibration of a judge"
        raise FailedPrecondition(
            Reason.NOT_COMPARABLE, f"`{name}` {text}; use another evaluation.", {"resource": name}
        )
    return evaluation


async def _require_comparable(tx: Transaction, pinned: Evaluation, evaluation: Evaluation) -> None:
    rows = await tx.all(
        "SELECT board FROM evaluations WHERE name = ANY(%(names)s::text[])",
        names=[pinned.name, evaluation.name],
    )
    if len({row["board"] for row in rows}) == 1:
        return
    ours, theirs = (_shared(each) for each in (pinned, evaluation))
    differing = [key for key in ours | theirs if ours.get(key, "") != theirs.get(key, "")]
    shown = ", ".join(
        f"{key} ({theirs.get(key) or 'empty'}, the baseline has {ours.get(key) or 'empty'})"[:200]
        for key in differing[:5]
    )
    raise FailedPrecondition(
        Reason.NOT_COMPARABLE,
        f"`{evaluation.name}` is not comparable with the baseline `{pinned.name}`; they differ in {shown}."
        " Evaluate with the spec of the baseline.",
        {"resource": evaluation.name, "baseline": pinned.name, "fields": ",".join(differing[:20])},
    )


def _shared(evaluation: Evaluation) -> dict[str, str]:
    flat = flatten_message(shared_spec(evaluation.spec), without=("dataset",))
    return {"dataset_sha256": evaluation.dataset_sha256} | flat


async def _side(tx: Transaction, evaluation: Evaluation) -> gates.Side:
    rows: list[Row] = await tx.all(
        "SELECT trace_id, avg(score) AS score, avg((outcome = %(correct)s)::int)::float8 AS correct"
        " FROM item_scores WHERE evaluation = %(name)s GROUP BY trace_id ORDER BY min(position), trace_id",
        correct=int(evaluation_pb2.ItemScore.CORRECT),
        name=evaluation.name,
    )
    return gates.Side(
        evaluation.name,
        {row["trace_id"]: row["score"] for row in rows},
        frozenset(row["trace_id"] for row in rows if row["correct"] > 0.5),
        evaluation.weights_digest,
        evaluation.result.contaminated_count,
    )


async def _metas(tx: Transaction, dataset: str, traces: Iterable[str]) -> Mapping[str, gates.Meta]:
    rows = await tx.all(
        "SELECT trace_id, record FROM traces WHERE dataset = %(dataset)s"
        " AND trace_id = ANY(%(traces)s::text[])",
        dataset=dataset,
        traces=list(traces),
    )
    return await asyncio.to_thread(
        lambda: {row["trace_id"]: json.loads(row["record"])["meta"] for row in rows}
    )


async def _check_floors(tx: Transaction, baseline: model_pb2.Baseline, evaluation: Evaluation) -> None:
    """Raises InvalidArgument for floors on parts that none of the evaluated items belongs to."""
    if not baseline.floors:
        return
    side = await _side(tx, evaluation)
    metas = await _metas(tx, evaluation.spec.dataset, side.scores)
    known = sorted({str(meta["section"]) for meta in metas.values() if meta.get("section")})
    listed = f"its sections are {', '.join(known[:20])}" if known else "its items name no section"
    bad = [
        Violation(
            f"baseline.floors[{index}].section",
            f"is `{floor.section}`, but no item of `{evaluation.name}` belongs to it; {listed}.",
        )
        for index, floor in enumerate(baseline.floors)
        if not any(gates.is_in(floor.section, meta) for meta in metas.values())
    ]
    if bad:
        raise InvalidArgument(bad)


def _check_fields(request: registry_service_pb2.SetBaselineRequest) -> None:
    baseline = request.baseline
    found = [
        names.check(baseline.model, names.MODEL, "baseline.model"),
        names.check(baseline.evaluation, names.EVALUATION, "baseline.evaluation"),
        model_events.reason_violation(request.reason),
    ]
    if not 0 <= baseline.margin <= 1:
        text = f"is {baseline.margin:g}; it must be in [0, 1], or 0 for {gates.DEFAULT_MARGIN}."
        found.append(Violation("baseline.margin", text))
    if baseline.confidence and not 0.5 < baseline.confidence < 1:
        text = f"is {baseline.confidence:g}; it must be in (0.5, 1), or 0 for {gates.DEFAULT_CONFIDENCE}."
        found.append(Violation("baseline.confidence", text))
    if baseline.HasField("update_time"):
        found.append(Violation("baseline.update_time", "is output only; leave it out."))
    if len(baseline.floors) > MAX_FLOORS:
        found.append(Violation("baseline.floors", f"are {len(baseline.floors)}; at most {MAX_FLOORS}."))
    seen: set[str] = set()
    for index, floor in enumerate(baseline.floors[:MAX_FLOORS]):
        field = f"baseline.floors[{index}]"
        fault = gates.part_fault(floor.section)
        if floor.section in seen:
            fault = f"is `{floor.section[:80]}`, which is there twice."
        if fault:
            found.append(Violation(f"{field}.section", fault))
        if not (math.isfinite(floor.min_score) and 0 <= floor.min_score <= 1):
            found.append(Violation(f"{field}.min_score", f"is {floor.min_score:g}; it must be in [0, 1]."))
        seen.add(floor.section)
    if bad := [each for each in found if each]:
        raise InvalidArgument(bad)


def _described(baseline: model_pb2.Baseline, evaluation: Evaluation) -> str:
    floors = "".join(f", {floor.section} ≥ {floor.min_score:g}" for floor in baseline.floors)
    return (
        f"{baseline.evaluation}: {evaluation.result.score.mean:.3f} on {evaluation.result.score.count} items,"
        f" margin {baseline.margin:g}, confidence {baseline.confidence:g}{floors}"
    )
