"""What a sealed dataset holds, computed from its stored bytes once and kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping

from tunix_rt.blobs.blobs import Blobs
from tunix_rt.registry import datasets, stored_files
from tunix_rt.registry.database import Database
from tunix_rt.rpc import names
from tunix_rt.traces.jsonl import read_canonical
from tunix_rt.traces.set_statistics import (
    VERSION,
    Quantiles,
    SetStatistics,
    SplitStatistics,
    set_statistics,
)
from tunix_rt.v1 import dataset_pb2


async def get(database: Database, blobs: Blobs, name: str) -> dataset_pb2.DatasetStatistics:
    """The statistics of a sealed dataset. Raises NotFound, FailedPrecondition."""
    names.require(name, names.DATASET, "name")
    async with database.transaction() as tx:
        dataset = await datasets.get_sealed(tx, name)
        row = await tx.one(
            "SELECT document FROM dataset_statistics WHERE dataset = %(name)s AND version = %(version)s",
            name=name,
            version=VERSION,
        )
    if row:
        return dataset_pb2.DatasetStatistics.FromString(row["document"])
    found = await asyncio.to_thread(_compute, blobs, dataset)
    made = _message(dataset, found)
    async with database.transaction() as tx:
        await tx.execute(
            "INSERT INTO dataset_statistics (dataset, version, document)"
            " VALUES (%(name)s, %(version)s, %(document)s) ON CONFLICT (dataset) DO UPDATE"
            " SET version = EXCLUDED.version, document = EXCLUDED.document",
            name=name,
            version=VERSION,
            document=made.SerializeToString(),
        )
    return made


def _compute(blobs: Blobs, dataset: dataset_pb2.Dataset) -> SetStatistics:
    with stored_files.translated():
        rows = read_canonical(_lines(blobs.read(dataset.sha256, 0)))
    return set_statistics(rows, [split.name for split in dataset.splits])


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a file that comes in chunks; canonical rows hold no newline."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
    if rest:
        yield rest


def _message(dataset: dataset_pb2.Dataset, found: SetStatistics) -> dataset_pb2.DatasetStatistics:
    return dataset_pb2.DatasetStatistics(
        dataset=dataset.name,
        sha256=dataset.sha256,
        total=_split(found.total),
        splits=[_split(each) for each in found.splits],
        overlaps=[
            dataset_pb2.SplitOverlap(
                first_split=each.first, second_split=each.second, exact=each.exact, normalised=each.normalised
            )
            for each in found.overlaps
        ],
    )


def _split(found: SplitStatistics) -> dataset_pb2.SplitStatistics:
    return dataset_pb2.SplitStatistics(
        split=found.split,
        trace_count=found.trace_count,
        steps=_quantiles(found.steps),
        prompt_characters=_quantiles(found.prompt_characters),
        completion_characters=_quantiles(found.completion_characters),
        answer_types=_counts(found.answer_types),
        families=_counts(found.families),
        family_count=found.family_count,
        exact_duplicates=found.exact_duplicates,
        normalised_duplicates=found.normalised_duplicates,
        baselines=[
            dataset_pb2.BaselineScore(rule=each.rule, accuracy=each.accuracy, item_count=each.items)
            for each in found.baselines
        ],
    )


def _quantiles(found: Quantiles | None) -> dataset_pb2.Quantiles | None:
    if found is None:
        return None
    return dataset_pb2.Quantiles(
        min=found.least, p50=found.p50, p90=found.p90, p99=found.p99, max=found.greatest, mean=found.mean
    )


def _counts(found: Mapping[str, int]) -> list[dataset_pb2.ValueCount]:
    return [dataset_pb2.ValueCount(value=value, count=count) for value, count in found.items()]
