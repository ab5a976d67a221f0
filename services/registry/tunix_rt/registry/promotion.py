"""Stages of model versions; production is reached only past the gate of the model's baseline."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tunix_rt.registry import baselines, model_events, models
from tunix_rt.registry.database import Transaction
from tunix_rt.registry.model_cards import stage_text
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import FailedPrecondition, InvalidArgument, Reason, Violation
from tunix_rt.v1 import model_pb2, registry_service_pb2

_SHOWN_CHARACTERS = 600


@dataclass(frozen=True)
class Gate:
    """What the gate says of a version, and the error if it does not hold."""

    text: str
    failure: FailedPrecondition | None = None


async def promote(
    tx: Transaction, request: registry_service_pb2.PromoteModelVersionRequest, *, now: datetime
) -> model_pb2.ModelVersion:
    """Moves a version to a stage; the version that was in production is retired.

    Raises FailedPrecondition, reasons GATE_FAILED and EVIDENCE_MISSING, where the gate does not hold and
    is not overridden. The stage that a version has already changes nothing.
    """
    _check(request)
    parent = names.parent(request.name)
    await model_events.lock(tx, parent)
    version = await models.get(tx, request.name)
    if version.stage == request.stage:
        return version
    gate, overridden = "", False
    if request.stage == model_pb2.MODEL_STAGE_PRODUCTION:
        found = await _gate(tx, version)
        if found.failure and not request.override_gate:
            raise found.failure
        gate, overridden = f"; {found.text}", found.failure is not None
        await _retire_present(tx, parent, version.name, now)
    await _move(tx, version, request.stage, now, reason=request.reason, note=gate, overridden=overridden)
    return await models.get(tx, request.name)


async def _retire_present(tx: Transaction, parent: str, successor: str, now: datetime) -> None:
    row = await tx.one(
        "SELECT name FROM model_versions WHERE parent = %(parent)s AND stage = %(stage)s",
        parent=parent,
        stage=model_pb2.MODEL_STAGE_PRODUCTION,
    )
    if row:
        present = await models.get(tx, row["name"])
        note = f"; {names.resource_id(successor)} takes its place"
        await _move(tx, present, model_pb2.MODEL_STAGE_RETIRED, now, note=note)


async def _move(
    tx: Transaction,
    version: model_pb2.ModelVersion,
    stage: int,
    now: datetime,
    *,
    note: str,
    reason: str = "",
    overridden: bool = False,
) -> None:
    await tx.execute(
        "UPDATE model_versions SET stage = %(stage)s, gate_overridden = gate_overridden OR %(overridden)s"
        " WHERE name = %(name)s",
        stage=stage,
        overridden=overridden,
        name=version.name,
    )
    text = f"{names.resource_id(version.name)}: {stage_text(version.stage)} → {stage_text(stage)}{note}"
    await model_events.add(
        tx,
        names.parent(version.name),
        "stage",
        text,
        reason=reason,
        version=version.name,
        override_gate=overridden,
        now=now,
    )


async def _gate(tx: Transaction, version: model_pb2.ModelVersion) -> Gate:
    baseline = await baselines.get(tx, names.parent(version.name))
    if baseline is None:
        return Gate("no gate: the model has no baseline")
    evaluation = await baselines.newest_evidence(tx, baseline, version.digest)
    if evaluation is None:
        message = (
            f"`{version.name}` has no succeeded evaluation that is comparable with the baseline"
            f" `{baseline.evaluation}`. Evaluate it as the baseline was, or override the gate with a reason."
        )
        metadata = {"resource": version.name, "baseline": baseline.evaluation}
        return Gate(
            "gate overridden: no evidence", FailedPrecondition(Reason.EVIDENCE_MISSING, message, metadata)
        )
    check = await baselines.check_evaluation(tx, baseline, evaluation)
    figures = f"{evaluation.name} against {baseline.evaluation}, lower bound {check.lower_bound:+.3f}"
    if check.passed:
        return Gate(f"gate holds: {figures}")
    return Gate(f"gate overridden: {figures}", _failure(version.name, check))


def _failure(name: str, check: model_pb2.BaselineCheck) -> FailedPrecondition:
    reasons = " ".join(check.reasons)
    lost = ", ".join(check.lost_items)[:_SHOWN_CHARACTERS]
    items = f" Lost items ({check.lost_count}): {lost}." if lost else ""
    message = (
        f"`{name}` does not hold against `{check.baseline.evaluation}`: {reasons[:_SHOWN_CHARACTERS]}{items}"
    )
    return FailedPrecondition(
        Reason.GATE_FAILED,
        f"{message} Promote another version, or override the gate with a reason.",
        {
            "resource": name,
            "evaluation": check.evaluation,
            "baseline": check.baseline.evaluation,
            "difference": f"{check.difference:.6f}",
            "lower_bound": f"{check.lower_bound:.6f}",
            "margin": check.baseline.margin,
            "lost_items": lost,
            "sections": ",".join(floor.section for floor in check.floors if not floor.passed)[
                :_SHOWN_CHARACTERS
            ],
        },
    )


def _check(request: registry_service_pb2.PromoteModelVersionRequest) -> None:
    found = [
        names.check(request.name, names.MODEL_VERSION, "name"),
        model_events.reason_violation(request.reason),
    ]
    if not request.stage or request.stage not in model_pb2.ModelStage.values():
        text = (
            f"is {request.stage}; give MODEL_STAGE_CANDIDATE, MODEL_STAGE_PRODUCTION or MODEL_STAGE_RETIRED."
        )
        found.append(Violation("stage", text))
    if request.override_gate and not request.reason.strip():
        found.append(Violation("reason", "is required: it says why the gate is overridden."))
    if request.override_gate and request.stage != model_pb2.MODEL_STAGE_PRODUCTION:
        found.append(Violation("override_gate", "is set, but only production has a gate; leave it out."))
    if bad := [each for each in found if each]:
        raise InvalidArgument(bad)
