"""What something comes from, and what came of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from tunix_rt.registry import lineage_reads
from tunix_rt.registry.database import Transaction
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import InvalidArgument, NotFound
from tunix_rt.v1 import model_pb2, registry_service_pb2

MAX_NODES = 1000
_ASKED = (names.MODEL_VERSION, names.RUN, names.DATASET, names.EVALUATION)
Node = model_pb2.LineageNode


async def get(tx: Transaction, request: registry_service_pb2.GetLineageRequest) -> model_pb2.Lineage:
    """The lineage of a resource: all that it comes from first, then what came of it, up to MAX_NODES.

    What came of it also has its other sources beside it. Raises NotFound.
    """
    if bad := names.check_any(request.name, _ASKED, "name"):
        raise InvalidArgument([bad])
    found: dict[str, Node] = {}
    truncated = await _add_sources(tx, found, [request.name])
    if request.name not in found:
        raise NotFound(request.name)
    truncated = await _add_products(tx, found, request.name) or truncated
    return model_pb2.Lineage(nodes=in_order(found.values()), truncated=truncated)


def in_order(nodes: Iterable[Node]) -> list[Node]:
    """The nodes with sources before what was made from them, else in the given order."""
    by_name = {node.name: node for node in nodes}
    ordered: dict[str, Node] = {}
    for first in by_name:
        waiting = [first]
        while waiting:
            node = by_name[waiting[-1]]
            missing = (name for name in node.sources if name in by_name and name not in ordered)
            source = next((name for name in missing if name not in waiting), None)
            if source:
                waiting.append(source)
            else:
                ordered[waiting.pop()] = node
    return list(ordered.values())


async def _add_sources(tx: Transaction, found: dict[str, Node], wanted: Sequence[str]) -> bool:
    """Adds resources and all that they come from; whether they did not fit."""
    missing = [name for name in dict.fromkeys(wanted) if name not in found]
    while missing:
        if len(found) + len(missing) > MAX_NODES:
            return True
        loaded = await lineage_reads.load(tx, missing)
        found |= {node.name: node for node in loaded}
        sources = dict.fromkeys(source for node in loaded for source in node.sources)
        missing = [name for name in sources if name not in found]
    return False


async def _add_products(tx: Transaction, found: dict[str, Node], origin: str) -> bool:
    """Adds what came of a resource; whether there is more than fits."""
    seen: set[str] = {origin}
    front: Collection[str] = [origin]
    while front:
        products = await lineage_reads.products(tx, front, limit=MAX_NODES + 1)
        front = [name for name in products if name not in seen]
        seen |= set(front)
        room = MAX_NODES - len(found)
        fresh = [name for name in front if name not in found]
        if await _add_sources(tx, found, fresh[: max(0, room)]) or len(fresh) > room:
            return True
    return False
