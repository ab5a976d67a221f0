"""The leaderboard: only comparable evaluations are ranked together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tunix_rt.jobs.judge_spec import is_calibration
from tunix_rt.registry import board_filter, board_items, datasets, tasks
from tunix_rt.registry.board import BoardRows, Candidate, best_of, make_board
from tunix_rt.registry.database import Row, Transaction
from tunix_rt.registry.lifecycle import State
from tunix_rt.rpc.errors import InvalidArgument, Violation
from tunix_rt.v1 import dataset_pb2, evaluation_pb2, registry_service_pb2

_COLUMNS = (
    "e.name, e.subject, e.dataset_sha256, e.board, e.weights_digest, e.result, j.spec,"
    " CASE WHEN v.name IS NULL OR o.weights_digest = v.digest THEN o.name END AS same_run,"
    " coalesce(v.name, (SELECT m.name FROM model_versions m WHERE m.run <> '' AND m.run = o.name"
    " AND m.digest = o.weights_digest ORDER BY m.create_time, m.name LIMIT 1), o.model, '') AS model"
)
_TABLES = (
    "evaluations e JOIN jobs j USING (name) LEFT JOIN model_versions v ON v.name = e.subject"
    " LEFT JOIN runs o ON o.name = coalesce(v.run, e.subject)"
)
_SHOWN_PARTS = 20


@dataclass(frozen=True)
class _Chosen:
    """The split that is asked for, empty for all, and the items that are ranked by, None for all."""

    split: str
    items: Sequence[str] | None
    parts: Mapping[str, board_items.ItemParts]


async def read(
    tx: Transaction, request: registry_service_pb2.GetLeaderboardRequest
) -> tuple[str, list[BoardRows]]:
    """The dataset that is asked for, and what its boards are made of. Raises NotFound, InvalidArgument."""
    board_filter.check(request)
    if request.task:
        spec = (await tasks.get(tx, request.task, "task")).spec
        dataset, split, where = spec.dataset, spec.split, "e.board = ANY(%(boards)s::text[])"
        boards = await tasks.boards(tx, request.task, "task")
    else:
        dataset, split, where, boards = request.dataset, request.split, "j.dataset = %(dataset)s", []
    found = await datasets.get(tx, dataset)
    chosen = await _choose(tx, request, found, split)
    condition = board_filter.conditions(request)
    rows = await tx.all(
        f"SELECT {_COLUMNS} FROM {_TABLES} WHERE j.kind = 'evaluation' AND {where} AND j.state = %(state)s"
        f"{condition.sql} ORDER BY j.create_time, e.name",
        dataset=dataset,
        boards=boards,
        state=int(State.SUCCEEDED),
        **condition.parameters,
    )
    groups = _groups(rows, split)
    named = await tasks.names_of(tx, groups)
    counts = {each.name: each.trace_count for each in found.splits}
    made = []
    for key, candidates in groups.items():
        kept = candidates if chosen.items is not None else best_of(candidates, request.best_of_model)
        evaluations = [candidate.evaluation for candidate in kept]
        made.append(
            BoardRows(
                candidates,
                await board_items.read_items(tx, evaluations, chosen.items),
                chosen.parts,
                by_part=chosen.items is not None,
                best_of_model=request.best_of_model,
                tasks=named.get(key, ()),
                split_size=counts.get(candidates[0].spec.split, 0),
            )
        )
    return dataset, made


def build(dataset: str, boards: Sequence[BoardRows]) -> registry_service_pb2.Leaderboard:
    """The boards that have entries, the one with the most first."""
    made = [board for rows in boards if (board := make_board(rows)).entries]
    made.sort(key=lambda board: -len(board.entries))
    return registry_service_pb2.Leaderboard(dataset=dataset, boards=made)


async def _choose(
    tx: Transaction,
    request: registry_service_pb2.GetLeaderboardRequest,
    dataset: dataset_pb2.Dataset,
    split: str,
) -> _Chosen:
    """Looks split, section and category up. Raises InvalidArgument for each that the dataset lacks."""
    known = [each.name for each in dataset.splits]
    wanted = board_filter.parts_of(request)
    bad = []
    if request.split and request.split not in known:
        text = f"is `{request.split[:80]}`; `{dataset.name}` has {', '.join(known)}."
        bad.append(Violation("split", text))
    parts = await board_items.read_parts(tx, dataset.name, "" if bad else split, board_filter.PART_KEYS)
    for key, value in wanted.items():
        values = dict.fromkeys(filter(None, (each.names[key] for each in parts.values())))
        if value not in values:
            shown = ", ".join(list(values)[:_SHOWN_PARTS]) or "none"
            bad.append(Violation(key, f"is `{value}`; the items of `{dataset.name}` have {shown}."))
    if bad:
        raise InvalidArgument(bad)
    items = [
        item for item, each in parts.items() if all(each.names[key] == value for key, value in wanted.items())
    ]
    return _Chosen(split, items if wanted else None, parts)


def _groups(rows: Iterable[Row], split: str) -> dict[str, list[Candidate]]:
    """The evaluations of each board, oldest first; those of a judge itself stand on none."""
    groups: dict[str, list[Candidate]] = defaultdict(list)
    for row in rows:
        spec = evaluation_pb2.EvaluationSpec.FromString(row["spec"])
        if is_calibration(spec) or split not in ("", spec.split):
            continue
        groups[row["board"]].append(
            Candidate(
                evaluation=row["name"],
                subject=row["subject"],
                identity=row["same_run"] or row["subject"],
                model=row["model"],
                weights_digest=row["weights_digest"],
                dataset_sha256=row["dataset_sha256"],
                spec=spec,
                result=evaluation_pb2.EvaluationResult.FromString(row["result"]),
            )
        )
    return groups
