"""The numbers of the runs on a page, in order; pages by key, so that runs that arrive shift nothing.

A run's number rises with its creation. Runs come by (value, number); those without a value come last, newest
first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tunix_rt.registry.database import Transaction
from tunix_rt.registry.run_filter import STATISTICS, Conditions
from tunix_rt.rpc.errors import InvalidArgument, Reason, Violation
from tunix_rt.v1 import run_pb2

FEW = 10_000
"""So many matching runs are sorted; of more, the order is followed until enough of them have come by."""


@dataclass(frozen=True)
class Place:
    """A run in an order: its number, and the value that it is ordered by, if it has one."""

    number: int
    value: float | None = None


@dataclass(frozen=True)
class Order:
    """The table, key and column that hold the values, if runs are ordered by one."""

    table: str = ""
    key: str = ""
    column: str = ""
    ascending: bool = False

    @classmethod
    def of(cls, order: run_pb2.RunOrder) -> Order:
        """The order of a request."""
        kind = order.WhichOneof("key")
        if kind == "metric":
            return cls("run_values", order.metric, STATISTICS[order.statistic], order.ascending)
        if kind == "parameter":
            return cls("run_parameters", order.parameter, "number", order.ascending)
        return cls(ascending=order.ascending)


async def matching_few(tx: Transaction, wanted: Conditions) -> list[int] | None:
    """The numbers of all runs that match; None if they are more than FEW."""
    row = await tx.one(
        f"SELECT coalesce(array_agg(number), '{{}}') AS numbers FROM (SELECT r.number FROM {wanted.source}"
        f" WHERE {wanted.where} LIMIT {FEW + 1}) t",
        **wanted.parameters,
    )
    assert row is not None
    return None if len(row["numbers"]) > FEW else list(row["numbers"])


async def count(tx: Transaction, wanted: Conditions) -> int:
    """How many runs match."""
    row = await tx.one(
        f"SELECT count(*) AS count FROM {wanted.source} WHERE {wanted.where}", **wanted.parameters
    )
    assert row is not None
    return int(row["count"])


async def page(
    tx: Transaction, wanted: Conditions, few: list[int] | None, order: Order, after: Place | None, size: int
) -> list[Place]:
    """The next runs after a place, at most `size`. `few` are all runs that match, where they are few."""
    if not order.table:
        return await _by_number(tx, wanted, few, after, size, ascending=order.ascending)
    entries: list[Place] = []
    if after is None or after.value is not None:
        entries = await _valued(tx, wanted, few, order, after, size)
        after = None
    if len(entries) < size:
        entries += await _without_value(tx, wanted, few, order, after, size - len(entries))
    return entries


async def _valued(
    tx: Transaction, wanted: Conditions, few: list[int] | None, order: Order, after: Place | None, size: int
) -> list[Place]:
    sign, direction = (">", "ASC") if order.ascending else ("<", "DESC")
    key = "metric" if order.table == "run_values" else "path"
    texts = [f"o.{key} = %(order_key)s", f"o.{order.column} IS NOT NULL"]
    if order.table == "run_values":
        texts.append(f"o.visibility = {wanted.visibility}")
    source = f"{order.table} o"
    if few is not None:
        texts.append("o.run = ANY(%(few)s::bigint[])")
    elif wanted.narrow or order.table != "run_values":
        source += f" JOIN LATERAL (SELECT FROM {wanted.source} WHERE r.number = o.run AND {wanted.where}"
        source += " OFFSET 0) m ON true"
    limits = _limits_of(wanted, order)
    texts += [f"o.{order.column} {'>=' if name.endswith('low') else '<='} %({name})s" for name in limits]
    if after is not None:
        texts.append(f"(o.{order.column}, o.run) {sign} (%(after_value)s, %(after_number)s)")
    rows = await tx.all(
        f"SELECT o.run AS number, o.{order.column} AS value FROM {source} WHERE {' AND '.join(texts)}"
        f" ORDER BY o.{order.column} {direction}, o.run {direction} LIMIT %(size)s",
        order_key=order.key,
        few=few,
        after_value=after.value if after else None,
        after_number=after.number if after else None,
        size=size,
        **wanted.parameters,
        **limits,
    )
    return [Place(row["number"], row["value"]) for row in rows]


def _limits_of(wanted: Conditions, order: Order) -> dict[str, float]:
    """The limits that the filter sets to the value of the order; what lies outside is not walked through."""
    found: dict[str, float] = {}
    for index, limits in enumerate(wanted.ranges):
        if (limits.table, limits.key, limits.column) == (order.table, order.key, order.column):
            values = {f"order_{index}_low": limits.low, f"order_{index}_high": limits.high}
            found |= {name: value for name, value in values.items() if value is not None}
    return found


async def _without_value(
    tx: Transaction, wanted: Conditions, few: list[int] | None, order: Order, after: Place | None, size: int
) -> list[Place]:
    key = "metric" if order.table == "run_values" else "path"
    absent = (
        f"NOT EXISTS (SELECT FROM {order.table} o WHERE o.run = r.number AND o.{key} = %(order_key)s"
        f" AND o.{order.column} IS NOT NULL)"
    )
    return await _by_number(
        tx, wanted, few, after, size, ascending=False, condition=absent, order_key=order.key
    )


async def _by_number(
    tx: Transaction,
    wanted: Conditions,
    few: list[int] | None,
    after: Place | None,
    size: int,
    *,
    ascending: bool,
    condition: str = "true",
    **parameters: Any,
) -> list[Place]:
    sign, direction = (">", "ASC") if ascending else ("<", "DESC")
    texts = [condition, wanted.where if few is None else "r.number = ANY(%(few)s::bigint[])"]
    if after is not None:
        texts.append(f"r.number {sign} %(after_number)s")
    rows = await tx.all(
        f"SELECT r.number FROM {wanted.source if few is None else 'runs r'} WHERE {' AND '.join(texts)}"
        f" ORDER BY r.number {direction} LIMIT %(size)s",
        few=few,
        after_number=after.number if after else None,
        size=size,
        **wanted.parameters,
        **parameters,
    )
    return [Place(row["number"]) for row in rows]


def encode_place(place: Place) -> list[str | int]:
    """What a page token holds of a place."""
    return ["" if place.value is None else repr(place.value), place.number]


def decode_place(position: list[str | int], token: str) -> Place:
    """The place in a page token. Raises InvalidArgument, reason INVALID_PAGE_TOKEN."""
    value, number = position
    try:
        return Place(int(number), float(value) if value != "" else None)
    except (ValueError, OverflowError) as error:
        text = f"is `{token[:40]}`, which this list did not return. Repeat the first call without a token."
        raise InvalidArgument([Violation("page_token", text)], Reason.INVALID_PAGE_TOKEN) from error
