"""Evaluations and the scores of their items."""

from __future__ import annotations

from collections.abc import Sequence

from tunix_rt.jobs.evaluation_spec import EVALUATED
from tunix_rt.registry import messages, queue, tasks
from tunix_rt.registry.database import Transaction
from tunix_rt.registry.paging import cut, newest_first, within_bytes
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import InvalidArgument, NotFound, Reason, ResourceExhausted, Violation
from tunix_rt.rpc.pages import decode_token, encode_token, page_size
from tunix_rt.v1 import evaluation_pb2, job_service_pb2, registry_service_pb2

MAX_ITEMS = 1000
_TABLE = "jobs JOIN evaluations USING (name)"
_COLUMNS = f"{messages.JOB_COLUMNS}, subject, run, dataset_sha256, weights_digest, result"


async def get(tx: Transaction, name: str) -> evaluation_pb2.Evaluation:
    """An evaluation. Raises NotFound."""
    names.require(name, names.EVALUATION, "name")
    row = await tx.one(f"SELECT {_COLUMNS} FROM {_TABLE} WHERE name = %(name)s", name=name)
    if row is None:
        raise NotFound(name)
    return messages.evaluation(row)


async def list_page(
    tx: Transaction, request: registry_service_pb2.ListEvaluationsRequest
) -> registry_service_pb2.ListEvaluationsResponse:
    """A page of evaluations, newest first."""
    if request.dataset:
        names.require(request.dataset, names.DATASET, "dataset")
    if request.subject and (bad := names.check_any(request.subject, (*EVALUATED, names.ENDPOINT), "subject")):
        raise InvalidArgument([bad])
    page = await newest_first(
        tx,
        _TABLE,
        request,
        columns=_COLUMNS,
        payload="spec",
        where="kind = 'evaluation'",
        state=int(request.state),
        dataset=request.dataset,
        subject=request.subject,
        board=await tasks.boards(tx, request.task, "task") if request.task else [],
    )
    return registry_service_pb2.ListEvaluationsResponse(
        evaluations=[messages.evaluation(row) for row in page.rows],
        next_page_token=page.next_page_token,
    )


async def record_items(
    tx: Transaction, request: job_service_pb2.RecordItemScoresRequest
) -> job_service_pb2.RecordItemScoresResponse:
    """Stores the scores of some outputs; those of outputs that are stored already are replaced."""
    names.require(request.name, names.EVALUATION, "name")
    _check_items(request.item_scores)
    await queue.hold(tx, request.name, request.attempt)
    items = sorted(request.item_scores, key=lambda item: (item.trace_id, item.sample))
    await tx.execute(
        "INSERT INTO item_scores (evaluation, trace_id, sample, position, outcome, score, item)"
        " SELECT %(name)s, * FROM unnest(%(ids)s::text[], %(samples)s::integer[], %(positions)s::bigint[],"
        " %(outcomes)s::smallint[], %(scores)s::float8[], %(items)b::bytea[])"
        " ON CONFLICT (evaluation, trace_id, sample) DO UPDATE SET position = excluded.position,"
        " outcome = excluded.outcome, score = excluded.score, item = excluded.item",
        name=request.name,
        ids=[item.trace_id for item in items],
        samples=[item.sample for item in items],
        positions=[item.position for item in items],
        outcomes=[int(item.outcome) for item in items],
        scores=[item.score for item in items],
        items=[item.SerializeToString() for item in items],
    )
    row = await tx.one(
        "SELECT count(*) AS count FROM item_scores WHERE evaluation = %(name)s", name=request.name
    )
    assert row is not None
    return job_service_pb2.RecordItemScoresResponse(stored_count=row["count"])


async def list_items(
    tx: Transaction, request: registry_service_pb2.ListItemScoresRequest
) -> registry_service_pb2.ListItemScoresResponse:
    """A page of item scores by position and sample."""
    name = names.require(request.evaluation, names.EVALUATION, "evaluation")
    if await tx.one("SELECT 1 AS one FROM evaluations WHERE name = %(name)s", name=name) is None:
        raise NotFound(name)
    size = page_size(request.page_size)
    position, trace_id, sample = decode_token(request.page_token, [name], 3) or (-1, "", 0)
    rows = await tx.all(
        within_bytes(
            "SELECT position, trace_id, sample, item FROM item_scores WHERE evaluation = %(name)s"
            " AND (position, trace_id, sample) > (%(position)s, %(trace_id)s, %(sample)s)"
            " ORDER BY position, trace_id, sample LIMIT %(limit)s",
            order="position, trace_id, sample",
            payload="item",
        ),
        name=name,
        position=int(position),
        trace_id=trace_id,
        sample=int(sample),
        limit=size + 1,
    )
    kept, more = cut(rows, size)
    last = [kept[-1][key] for key in ("position", "trace_id", "sample")] if more else []
    return registry_service_pb2.ListItemScoresResponse(
        item_scores=[evaluation_pb2.ItemScore.FromString(row["item"]) for row in kept],
        next_page_token=encode_token(last, [name]) if more else "",
    )


def _check_items(items: Sequence[evaluation_pb2.ItemScore]) -> None:
    if len(items) > MAX_ITEMS:
        raise ResourceExhausted(
            Reason.LIMIT_EXCEEDED,
            f"The message has {len(items)} items; at most {MAX_ITEMS} fit. Send smaller batches.",
            {"limit": MAX_ITEMS, "value": len(items)},
        )
    found: list[Violation] = []
    seen: dict[tuple[str, int], int] = {}
    for index, item in enumerate(items):
        field, key = f"item_scores[{index}]", (item.trace_id, item.sample)
        if not item.trace_id or not item.trace_id.isprintable():
            found.append(Violation(f"{field}.trace_id", "is required and must be printable."))
        elif key in seen:
            text = f"is `{item.trace_id}`, as in item_scores[{seen[key]}]; send each sample of an item once."
            found.append(Violation(f"{field}.trace_id", text))
        seen.setdefault(key, index)
        if item.position < 0:
            found.append(Violation(f"{field}.position", f"is {item.position}; it must not be negative."))
        if item.sample < 0:
            found.append(Violation(f"{field}.sample", f"is {item.sample}; it must not be negative."))
        if not item.outcome:
            found.append(Violation(f"{field}.outcome", "is required."))
        for name in ("score", "strict_score"):
            if not 0 <= (value := getattr(item, name)) <= 1:
                found.append(Violation(f"{field}.{name}", f"is {value:g}; it must be in [0, 1]."))
        if item.HasField("judge_score") and not 0 <= item.judge_score <= 1:
            found.append(Violation(f"{field}.judge_score", f"is {item.judge_score:g}; it must be in [0, 1]."))
        if not 0 <= item.true_step_count <= item.step_count:
            text = f"is {item.true_step_count} of {item.step_count} steps."
            found.append(Violation(f"{field}.true_step_count", text))
    if found:
        raise InvalidArgument(found[:100])
