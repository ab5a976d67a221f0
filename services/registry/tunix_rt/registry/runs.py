"""Runs with the summaries of their metrics and the evaluations that they asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from tunix_rt.registry import messages, run_list_check, run_pages
from tunix_rt.registry.database import Row, Transaction
from tunix_rt.registry.paging import cut, within_bytes
from tunix_rt.registry.run_filter import conditions
from tunix_rt.registry.run_pages import Order
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import NotFound
from tunix_rt.rpc.pages import decode_token, encode_token, page_size
from tunix_rt.v1 import registry_service_pb2, run_pb2

NO_METRICS = "-"
ALL_PARAMETERS = "*"

_STATUS = messages.JOB_COLUMNS.replace("name,", "j.name,").replace(
    "dataset, create_time", "j.dataset, j.create_time"
)
_OWN = (
    "r.number, r.model_artifact, r.weights_digest, r.sweep, r.parent, r.tags, r.notes, r.archive_time,"
    " r.delete_time, r.facts"
)
_COLUMNS = f"{_STATUS}, {_OWN}"


async def get(tx: Transaction, name: str) -> run_pb2.Run:
    """A run. Raises NotFound."""
    names.require(name, names.RUN, "name")
    return (await get_all(tx, [name]))[0]


async def get_all(tx: Transaction, wanted: Sequence[str]) -> list[run_pb2.Run]:
    """Runs in the order of their names. Raises NotFound for the first that is not there."""
    rows = await tx.all(
        f"SELECT {_COLUMNS} FROM runs r JOIN jobs j USING (name) WHERE r.name = ANY(%(names)s::text[])",
        names=list(wanted),
    )
    by_name = {row["name"]: row for row in rows}
    for name in wanted:
        if name not in by_name:
            raise NotFound(name)
    return await _complete(tx, [by_name[name] for name in wanted])


async def require(tx: Transaction, name: str, field: str) -> None:
    """Raises NotFound if there is no such run, InvalidArgument if the name is none of a run."""
    names.require(name, names.RUN, field)
    if await tx.one("SELECT 1 AS one FROM runs WHERE name = %(name)s", name=name) is None:
        raise NotFound(name)


async def list_page(
    tx: Transaction, request: registry_service_pb2.ListRunsRequest
) -> registry_service_pb2.ListRunsResponse:
    """A page of runs in the order asked for."""
    size = page_size(request.page_size)
    run_list_check.check(request)
    bound = _bound_fields(request)
    position = decode_token(request.page_token, bound, 2)
    after = run_pages.decode_place(position, request.page_token) if position else None
    wanted, order = conditions(request), Order.of(request.order)
    look = wanted.narrow or order.table == "run_parameters"
    few = await run_pages.matching_few(tx, wanted) if look else None
    places = await run_pages.page(tx, wanted, few, order, after, size + 1)
    rows, more = cut(await _rows(tx, request, [place.number for place in places[:size]]), size)
    more = more or len(places) > len(rows)
    made = registry_service_pb2.ListRunsResponse(runs=await _complete(tx, rows, request))
    if more:
        made.next_page_token = encode_token(run_pages.encode_place(places[len(rows) - 1]), bound)
    if request.with_count:
        made.total_count = len(few) if few is not None else await run_pages.count(tx, wanted)
    return made


def _bound_fields(request: registry_service_pb2.ListRunsRequest) -> list[object]:
    """What a page token holds for: all that decides which runs come in which order."""
    wanted = request.filter.SerializeToString(deterministic=True).hex()
    order = request.order.SerializeToString(deterministic=True).hex()
    return ["runs", int(request.state), request.dataset, wanted, order]


async def _rows(
    tx: Transaction, request: registry_service_pb2.ListRunsRequest, numbers: Sequence[int]
) -> list[Row]:
    """The rows of runs in the order of their numbers, as many as fit 4 MiB."""
    columns = _COLUMNS
    if request.summary_only:
        spec = "j.spec" if request.parameters else "''::bytea AS spec"
        columns = columns.replace("spec,", f"{spec},").replace("r.facts", "''::bytea AS facts")
    return await tx.all(
        within_bytes(
            f"SELECT {columns}, w.place FROM unnest(%(numbers)s::bigint[]) WITH ORDINALITY w (number, place)"
            " JOIN runs r USING (number) JOIN jobs j USING (name) ORDER BY w.place",
            "place",
            "(spec || notes || facts)",
        ),
        numbers=list(numbers),
    )


async def _complete(
    tx: Transaction,
    rows: Sequence[Row],
    request: registry_service_pb2.ListRunsRequest | None = None,
) -> list[run_pb2.Run]:
    request = request or registry_service_pb2.ListRunsRequest()
    wanted = [row["name"] for row in rows]
    summaries = await _summaries(tx, wanted, request.metrics)
    evaluations: dict[str, list[str]] = defaultdict(list)
    for row in await tx.all(
        "SELECT run, name FROM evaluations WHERE run = ANY(%(runs)s) AND run <> '' ORDER BY name", runs=wanted
    ):
        evaluations[row["run"]].append(row["name"])
    made = []
    for row in rows:
        run = messages.run(row, summaries[row["name"]], evaluations[row["name"]])
        if request.parameters:
            messages.add_parameters(run, None if ALL_PARAMETERS in request.parameters else request.parameters)
        if request.summary_only:
            run.ClearField("spec")
        made.append(run)
    return made


async def _summaries(tx: Transaction, wanted: Sequence[str], metrics: Sequence[str]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    if list(metrics) == [NO_METRICS]:
        return found
    named = " AND metric = ANY(%(metrics)s::text[])" if metrics else ""
    for row in await tx.all(
        f"SELECT * FROM metric_summary WHERE run = ANY(%(runs)s::text[]){named}"
        ' ORDER BY run, metric COLLATE "C"',
        runs=list(wanted),
        metrics=list(metrics),
    ):
        found[row["run"]].append(row)
    return found
