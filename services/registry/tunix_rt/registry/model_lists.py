"""Models by name: their aliases, newest and production versions, and baselines."""

from __future__ import annotations

from collections import defaultdict

from tunix_rt.registry import baselines
from tunix_rt.registry.aliases import alias_of
from tunix_rt.registry.database import Row, Transaction
from tunix_rt.rpc import names
from tunix_rt.rpc.pages import decode_token, encode_token, page_size
from tunix_rt.v1 import model_pb2, registry_service_pb2


async def list_page(
    tx: Transaction, request: registry_service_pb2.ListModelsRequest
) -> registry_service_pb2.ListModelsResponse:
    """A page of models by name."""
    size = page_size(request.page_size)
    if request.model:
        names.require(request.model, names.MODEL, "model")
    filters = ["models", request.model]
    (after,) = decode_token(request.page_token, filters, 1) or ("",)
    rows = await tx.all(
        "SELECT parent, count(*) AS count, max(name) FILTER (WHERE stage = %(production)s) AS production,"
        " (array_agg(name ORDER BY create_time DESC, name DESC))[1] AS newest FROM model_versions"
        """ WHERE parent COLLATE "C" > %(after)s AND %(model)s IN ('', parent)"""
        ' GROUP BY parent ORDER BY parent COLLATE "C" LIMIT %(limit)s',
        production=model_pb2.MODEL_STAGE_PRODUCTION,
        after=str(after),
        model=request.model,
        limit=size + 1,
    )
    kept = rows[:size]
    parents = [row["parent"] for row in kept]
    aliases: dict[str, list[Row]] = defaultdict(list)
    for row in await tx.all(
        "SELECT * FROM model_aliases WHERE parent = ANY(%(parents)s::text[]) ORDER BY name", parents=parents
    ):
        aliases[row["parent"]].append(row)
    pinned = await baselines.get_all(tx, parents)
    return registry_service_pb2.ListModelsResponse(
        models=[
            model_pb2.Model(
                name=row["parent"],
                aliases=map(alias_of, aliases[row["parent"]]),
                newest_version=row["newest"],
                production_version=row["production"] or "",
                version_count=row["count"],
                baseline=pinned.get(row["parent"]),
            )
            for row in kept
        ],
        next_page_token=encode_token([parents[-1]], filters) if len(rows) > size else "",
    )
