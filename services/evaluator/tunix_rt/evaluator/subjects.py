"""What an evaluation needs from elsewhere: weights, items, training data."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunix_rt.blobs.blobs import Blobs, fetch_file
from tunix_rt.evaluator.engine_client import EngineModel
from tunix_rt.jobs.models import Subject, cached_adapter, cached_model
from tunix_rt.jobs.remote import CALL_SECONDS, answer, in_store
from tunix_rt.rpc.errors import FailedPrecondition, Reason
from tunix_rt.traces.contamination import Contamination, find_contamination
from tunix_rt.traces.jsonl import read_canonical
from tunix_rt.traces.trace import Trace, questions
from tunix_rt.v1 import registry_service_pb2 as registry_pb
from tunix_rt.v1.dataset_pb2 import Dataset
from tunix_rt.v1.evaluation_pb2 import EvaluationSpec

_SHOWN_EXAMPLES = 3
_PAGE = 500


async def engine_model(
    blobs: Blobs, subject: Subject, work: Path, weight_type: str = "float32"
) -> EngineModel:
    """The weights of a subject for the engine, fetched if need be: of an adapter's run, base and adapter.

    The merged weights of such a run are not fetched; `digest` is that of all of its files.
    """
    if subject.base is None:
        directory = await cached_model(blobs, subject, work)
        return EngineModel(directory, subject.digest, weight_type=weight_type)
    directory = await cached_model(blobs, subject.base, work)
    adapter = await cached_adapter(blobs, subject, work)
    return EngineModel(directory, subject.digest, subject.base.digest, adapter, weight_type)


class DatasetStore:
    """Sealed datasets, fetched by their SHA-256 and kept under `{work}/datasets`."""

    def __init__(self, registry: Any, blobs: Blobs, *, work: Path) -> None:
        self._registry = registry
        self._blobs = blobs
        self._folder = work / "datasets"

    async def get(self, name: str) -> Dataset:
        """A dataset. Raises FailedPrecondition, reason DATASET_NOT_SEALED, if it still takes traces."""
        request = registry_pb.GetDatasetRequest(name=name)
        dataset: Dataset = await answer(self._registry.GetDataset(request, timeout=CALL_SECONDS))
        if dataset.state != Dataset.SEALED:
            raise FailedPrecondition(
                Reason.DATASET_NOT_SEALED,
                f"Dataset `{name}` is open. Seal it with SealDataset, then create the evaluation.",
                {"resource": name},
            )
        return dataset

    async def traces(self, dataset: Dataset, split: str) -> list[Trace]:
        """The traces of a split, in the order of the dataset."""
        path = self._folder / f"{dataset.sha256}.jsonl"
        if not path.exists():
            await in_store(fetch_file, self._blobs, dataset.sha256, path)
        return await in_store(_read_split, path, split)


def require_split(dataset: Dataset, split: str) -> int:
    """The number of traces of a split. Raises FailedPrecondition, reason SPLIT_EMPTY, if there are none."""
    counts = {each.name: each.trace_count for each in dataset.splits}
    if counts.get(split, 0) > 0:
        return counts[split]
    known = ", ".join(f"{name} ({count})" for name, count in counts.items())
    raise FailedPrecondition(
        Reason.SPLIT_EMPTY,
        f"Dataset `{dataset.name}` has no traces in split `{split[:100]}`. Its splits are {known}.",
        {"resource": dataset.name, "split": split},
    )


def require_examples(dataset: Dataset, spec: EvaluationSpec) -> None:
    """Raises FailedPrecondition, reason SPLIT_EMPTY, if the split of the examples has too few traces."""
    if not spec.HasField("few_shot"):
        return
    split, wanted = spec.few_shot.split, spec.few_shot.count
    count = require_split(dataset, split)
    if count < wanted:
        raise FailedPrecondition(
            Reason.SPLIT_EMPTY,
            f"Split `{split}` of `{dataset.name}` has {count} traces, too few for {wanted} examples.",
            {"resource": dataset.name, "split": split},
        )


async def contamination(subject: Subject, items: Sequence[Trace], datasets: DatasetStore) -> Contamination:
    """The items that also occur in what the subject's weights were trained on."""
    seen: list[Trace] = []
    specs = [run.spec for run in subject.training_runs]
    trained = {(spec.dataset, spec.train_split) for spec in specs}
    trained |= {(part.dataset, part.split) for spec in specs for part in spec.mixture}
    for name, split in sorted(trained):
        for trace in await datasets.traces(await datasets.get(name), split or "train"):
            seen += questions(trace)
    return await asyncio.to_thread(find_contamination, seen, items)


def contaminated_count(found: Contamination) -> int:
    """How many items are also in the training data, in the same or nearly the same words."""
    return found.exact + found.normalised + found.near


def refuse_contamination(found: Contamination, subject: str) -> None:
    """Raises FailedPrecondition, reason CONTAMINATED, that counts the items and shows some."""
    count = contaminated_count(found)
    shown = "; ".join(
        f"item {each.eval_id} is training trace {each.train_id} (`{each.prompt[:120]}`)"
        for each in found.examples[:_SHOWN_EXAMPLES]
    )
    raise FailedPrecondition(
        Reason.CONTAMINATED,
        f"{count} of {found.eval_items} items also occur in the training data of `{subject}`: {shown}. "
        "Evaluate on another dataset or split, or set `allow_contamination`.",
        {
            "resource": subject,
            "count": count,
            "exact": found.exact,
            "normalised": found.normalised,
            "near": found.near,
        },
    )


async def stored_scores(registry: Any, evaluation: str) -> list[Any]:
    """The item scores that earlier attempts have stored."""
    found: list[Any] = []
    token = ""
    while True:
        request = registry_pb.ListItemScoresRequest(evaluation=evaluation, page_size=_PAGE, page_token=token)
        page = await answer(registry.ListItemScores(request, timeout=CALL_SECONDS))
        found += page.item_scores
        token = page.next_page_token
        if not token:
            return found


def _read_split(path: Path, split: str) -> list[Trace]:
    with path.open("rb") as lines:
        return [trace for trace, name in read_canonical(lines) if name == split]
