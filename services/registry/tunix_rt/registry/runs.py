"""Runs with the summaries of their metrics and the evaluations that they asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from tunix_rt.registry import messages
from tunix_rt.registry.database import Row, Transaction
from tunix_rt.registry.paging import newest_first
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import NotFound
from tunix_rt.v1 import registry_service_pb2, run_pb2

_TABLE = "jobs JOIN runs USING (name)"
_COLUMNS = f"{messages.JOB_COLUMNS}, facts, model_artifact, weights_digest"


async def get(tx: Transaction, name: str) -> run_pb2.Run:
    """A run. Raises NotFound."""
    names.require(name, names.RUN, "name")
    rows = await tx.all(f"SELECT {_COLUMNS} FROM {_TABLE} WHERE name = %(name)s", name=name)
    if not rows:
        raise NotFound(name)
    return (await _complete(tx, rows))[0]


async def require(tx: Transaction, name: str, field: str) -> None:
    """Raises NotFound if there is no such run, InvalidArgument if the name is none of a run."""
    names.require(name, names.RUN, field)
    if await tx.one("SELECT 1 AS one FROM runs WHERE name = %(name)s", name=name) is None:
        raise NotFound(name)


async def list_page(
    tx: Transaction, request: registry_service_pb2.ListRunsRequest
) -> registry_service_pb2.ListRunsResponse:
    """A page of runs, newest first."""
    if request.dataset:
        names.require(request.dataset, names.DATASET, "dataset")
    page = await newest_first(
        tx,
        _TABLE,
        request,
        columns=_COLUMNS,
        payload="spec",
        where="kind = 'run'",
        state=int(request.state),
        dataset=request.dataset,
    )
    return registry_service_pb2.ListRunsResponse(
        runs=await _complete(tx, page.rows), next_page_token=page.next_page_token
    )


async def _complete(tx: Transaction, rows: Sequence[Row]) -> list[run_pb2.Run]:
    wanted = [row["name"] for row in rows]
    summaries: dict[str, list[Row]] = defaultdict(list)
    evaluations: dict[str, list[str]] = defaultdict(list)
    for row in await tx.all(
        'SELECT * FROM metric_summary WHERE run = ANY(%(runs)s) ORDER BY run, metric COLLATE "C"', runs=wanted
    ):
        summaries[row["run"]].append(row)
    for row in await tx.all(
        "SELECT run, name FROM evaluations WHERE run = ANY(%(runs)s) AND run <> '' ORDER BY name", runs=wanted
    ):
        evaluations[row["run"]].append(row["name"])
    return [messages.run(row, summaries[row["name"]], evaluations[row["name"]]) for row in rows]
