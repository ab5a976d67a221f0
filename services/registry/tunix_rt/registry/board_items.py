"""The item scores of many evaluations side by side, and the parts that the items belong to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunix_rt.registry.database import Transaction
from tunix_rt.traces.trace import family_of, part_name


@dataclass(frozen=True)
class ItemParts:
    """The family of an item, empty if it has none, and the names of its parts by key."""

    family: str
    names: Mapping[str, str]


@dataclass(frozen=True)
class ItemTable:
    """The mean score over samples of each item (evaluations, items); NaN where an evaluation lacks it."""

    evaluations: Mapping[str, int]
    items: Sequence[str]
    scores: NDArray[np.float64]

    def of(self, evaluations: Iterable[str]) -> NDArray[np.float64]:
        """The rows of some evaluations, in their order."""
        return self.scores[[self.evaluations[name] for name in evaluations]]


async def read_parts(tx: Transaction, dataset: str, split: str, keys: Sequence[str]) -> dict[str, ItemParts]:
    """The parts of the items of a split, or of all, by trace id."""
    where = "AND split = %(split)s" if split else ""
    rows = await tx.all(
        f"SELECT trace_id, record FROM traces WHERE dataset = %(dataset)s {where} ORDER BY position",
        dataset=dataset,
        split=split,
    )
    found = {}
    for row in rows:
        meta = json.loads(row["record"])["meta"]
        names = {key: part_name(meta, key) for key in keys}
        found[row["trace_id"]] = ItemParts(family_of(meta), names)
    return found


async def read_items(
    tx: Transaction, evaluations: Sequence[str], only: Sequence[str] | None = None
) -> ItemTable:
    """The scores of some evaluations, on all of their items or `only` on those with these trace ids.

    The scores come packed, and the ids once for all evaluations with the same items.
    """
    where = "evaluation = ANY(%(evaluations)s::text[])"
    where += "" if only is None else " AND trace_id = ANY(%(only)s::text[])"
    order = "position, trace_id, sample"
    rows = await tx.all(
        "SELECT evaluation, string_agg(float8send(score), '') AS scores,"
        " md5(string_agg(trace_id, chr(10))) AS items FROM"
        f" (SELECT evaluation, trace_id, score FROM item_scores WHERE {where}"
        f" ORDER BY evaluation, {order}) AS ordered GROUP BY evaluation",
        evaluations=list(evaluations),
        only=only,
    )
    ids: dict[str, list[str]] = {}
    for row in rows:
        if row["items"] not in ids:
            found = await tx.all(
                f"SELECT trace_id FROM item_scores WHERE {where} ORDER BY {order}",
                evaluations=[row["evaluation"]],
                only=only,
            )
            ids[row["items"]] = [each["trace_id"] for each in found]
    return _table({row["evaluation"]: (ids[row["items"]], row["scores"]) for row in rows}, evaluations)


def _table(packed: Mapping[str, tuple[Sequence[str], bytes]], evaluations: Sequence[str]) -> ItemTable:
    """The table of packed scores, each of which belongs to the item of the same place."""
    places: dict[str, int] = {}
    codes: dict[int, NDArray[np.int64]] = {}
    for ids, _ in packed.values():
        if id(ids) not in codes:
            codes[id(ids)] = np.array([places.setdefault(item, len(places)) for item in ids], np.int64)
    scores = np.full((len(evaluations), len(places)), np.nan)
    for row, name in enumerate(evaluations):
        if name not in packed:
            continue
        ids, data = packed[name]
        own = codes[id(ids)]
        counts = np.bincount(own, minlength=len(places))
        sums = np.bincount(own, weights=np.frombuffer(data, ">f8"), minlength=len(places))
        scores[row, counts > 0] = sums[counts > 0] / counts[counts > 0]
    return ItemTable({name: row for row, name in enumerate(evaluations)}, list(places), scores)
