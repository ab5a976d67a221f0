"""The leaderboard: only comparable evaluations are ranked together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tunix_rt.jobs.judge_spec import is_calibration, is_judged_by
from tunix_rt.registry import datasets, tasks
from tunix_rt.registry.database import Row, Transaction
from tunix_rt.registry.lifecycle import State
from tunix_rt.registry.specs import shared_spec
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import InvalidArgument, Violation
from tunix_rt.v1 import evaluation_pb2, registry_service_pb2


@dataclass(frozen=True)
class Candidate:
    """A succeeded evaluation. `identity` is the same for a run and for the model version made from it."""

    evaluation: str
    subject: str
    identity: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Ranked:
    """The best evaluation of a subject, with its rank and the number of the subject's evaluations."""

    rank: int
    best: Candidate
    count: int


def rank(candidates: Iterable[Candidate]) -> list[Ranked]:
    """The best candidate of each identity, best first; of equal ones the first given.

    A rank begins with an entry, and those after it whose interval overlaps the interval of that entry
    share it; the next rank counts the entries before it (1, 1, 3).
    """
    of_identity: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        of_identity[candidate.identity].append(candidate)
    best = [(max(group, key=lambda each: each.mean), len(group)) for group in of_identity.values()]
    best.sort(key=lambda pair: -pair[0].mean)
    ranked: list[Ranked] = []
    first: Ranked | None = None
    for position, (candidate, count) in enumerate(best, start=1):
        if first and candidate.high >= first.best.low and candidate.low <= first.best.high:
            ranked.append(Ranked(first.rank, candidate, count))
        else:
            first = Ranked(position, candidate, count)
            ranked.append(first)
    return ranked


async def get(
    tx: Transaction, request: registry_service_pb2.GetLeaderboardRequest
) -> registry_service_pb2.Leaderboard:
    """The boards of a dataset, or those of a task, the one with the most entries first."""
    if request.task:
        dataset, where = await _dataset_of_task(tx, request), "e.board = ANY(%(boards)s::text[])"
        boards = await tasks.boards(tx, request.task, "task")
    else:
        dataset, where, boards = await _checked_dataset(tx, request), "j.dataset = %(dataset)s", []
    rows = await tx.all(
        "SELECT e.name, e.subject, e.dataset_sha256, e.board, e.weights_digest, e.result, j.spec,"
        " coalesce(r.name, e.subject) AS identity FROM evaluations e JOIN jobs j USING (name)"
        " LEFT JOIN model_versions v ON v.name = e.subject"
        " LEFT JOIN runs r ON r.name = v.run AND r.weights_digest = v.digest"
        f" WHERE j.kind = 'evaluation' AND {where} AND j.state = %(state)s"
        " ORDER BY j.create_time, e.name",
        dataset=dataset,
        boards=boards,
        state=int(State.SUCCEEDED),
    )
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if not is_calibration(evaluation_pb2.EvaluationSpec.FromString(row["spec"])):
            groups[row["board"]].append(row)
    named = await tasks.names_of(tx, groups)
    made = [_board(group, named.get(key, ())) for key, group in groups.items()]
    made = [board for board in made if not request.split or board.split == request.split]
    made.sort(key=lambda board: -len(board.entries))
    return registry_service_pb2.Leaderboard(dataset=dataset, boards=made)


async def _dataset_of_task(tx: Transaction, request: registry_service_pb2.GetLeaderboardRequest) -> str:
    """The dataset. Raises NotFound, InvalidArgument for a dataset or split beside the task."""
    spec = (await tasks.get(tx, request.task, "task")).spec
    text = f"is set beside `task`, which says it already: `{request.task}`. Leave it out."
    bad = [Violation(field, text) for field in ("dataset", "split") if getattr(request, field)]
    if bad:
        raise InvalidArgument(bad)
    return spec.dataset


async def _checked_dataset(tx: Transaction, request: registry_service_pb2.GetLeaderboardRequest) -> str:
    """The dataset. Raises NotFound, InvalidArgument for a split that it does not have."""
    name = names.require(request.dataset, names.DATASET, "dataset")
    dataset = await datasets.get(tx, name)
    known = [split.name for split in dataset.splits]
    if request.split and request.split not in known:
        text = f"is `{request.split[:80]}`; `{name}` has {', '.join(known)}."
        raise InvalidArgument.of("split", text)
    return name


def _board(rows: Sequence[Row], named: Iterable[str]) -> registry_service_pb2.Leaderboard.Board:
    results = {row["name"]: evaluation_pb2.EvaluationResult.FromString(row["result"]) for row in rows}
    digests = {row["name"]: row["weights_digest"] for row in rows}
    spec = shared_spec(evaluation_pb2.EvaluationSpec.FromString(rows[0]["spec"]))
    board = registry_service_pb2.Leaderboard.Board(
        split=spec.split, spec=spec, dataset_sha256=rows[0]["dataset_sha256"], tasks=named
    )
    candidates = [
        Candidate(
            evaluation=row["name"],
            subject=row["subject"],
            identity=row["identity"],
            mean=results[row["name"]].score.mean,
            low=results[row["name"]].score.low,
            high=results[row["name"]].score.high,
        )
        for row in rows
    ]
    board.unranked_reason = _unranked_reason(spec, results.values())
    for ranked in rank(candidates):
        result = results[ranked.best.evaluation]
        entry = board.entries.add(
            rank=0 if board.unranked_reason else ranked.rank,
            subject=ranked.best.subject,
            evaluation=ranked.best.evaluation,
            score=result.score,
            extracted_rate=result.extracted_rate,
            contaminated_count=result.contaminated_count,
            weights_digest=digests[ranked.best.evaluation],
            evaluation_count=ranked.count,
        )
        if result.HasField("likelihood"):
            entry.likelihood.CopyFrom(result.likelihood)
    return board


def _unranked_reason(
    spec: evaluation_pb2.EvaluationSpec, results: Iterable[evaluation_pb2.EvaluationResult]
) -> str:
    """Why entries that a judge has scored are not ranked; empty if they are, or if no judge scores."""
    if not is_judged_by(spec):
        return ""
    reasons = (
        result.judged.reason or "The judge's verdicts are missing."
        for result in results
        if not result.judged.may_rank
    )
    return next(reasons, "")
