"""One board: the best evaluation of each subject, ranked by a paired test on its items; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunix_rt.jobs.judge_spec import is_judged_by
from tunix_rt.registry.board_items import ItemParts, ItemTable
from tunix_rt.registry.specs import shared_spec
from tunix_rt.rpc import names
from tunix_rt.scoring.shares import share_scores
from tunix_rt.stats.ranking import Place, rank_tied
from tunix_rt.v1 import evaluation_pb2, registry_service_pb2

RANDOM_SEED = 20_251_031  # that of comparisons, so that a pair has one p-value everywhere

Board = registry_service_pb2.Leaderboard.Board
Entry = registry_service_pb2.Leaderboard.Entry


@dataclass(frozen=True)
class Candidate:
    """A succeeded evaluation. `identity` is the same for a run and for the model version made from it.

    `model` is the version that the subject is or comes from; empty if there is none.
    """

    evaluation: str
    subject: str
    identity: str
    model: str
    weights_digest: str
    dataset_sha256: str
    spec: evaluation_pb2.EvaluationSpec
    result: evaluation_pb2.EvaluationResult

    @property
    def of_model(self) -> str:
        """The model that it counts for; the subject itself if it comes from none."""
        return names.parent(self.model) if self.model else self.identity


@dataclass(frozen=True)
class BoardRows:
    """What a board is made of: comparable evaluations, oldest first, and their item scores.

    With `by_part` the items are some of all, and scores are made from them anew.
    """

    candidates: Sequence[Candidate]
    items: ItemTable
    parts: Mapping[str, ItemParts]
    by_part: bool
    best_of_model: bool
    tasks: Sequence[str]
    split_size: int


def best_of(
    candidates: Iterable[Candidate], of_model: bool, means: Mapping[str, float] | None = None
) -> list[Candidate]:
    """The best of each subject, or of each model, the best first; of equal ones the first given.

    `means` are the scores by evaluation; if not given, those of the results.
    """

    def mean(candidate: Candidate) -> float:
        return means[candidate.evaluation] if means is not None else candidate.result.score.mean

    best: dict[str, Candidate] = {}
    for candidate in candidates:
        key = _key(candidate, of_model)
        if key not in best or mean(candidate) > mean(best[key]):
            best[key] = candidate
    order = {candidate.evaluation: at for at, candidate in enumerate(candidates)}
    return sorted(best.values(), key=lambda each: (-mean(each), order[each.evaluation]))


def make_board(rows: BoardRows) -> Board:
    """The board. Entries without an item of the part that is ranked by are left out."""
    candidates = list(rows.candidates)
    means = None
    if rows.by_part:
        means = _means(rows.items)
        candidates = [each for each in candidates if each.evaluation in means]
    entries = best_of(candidates, rows.best_of_model, means)
    spec = shared_spec(rows.candidates[0].spec)
    board = Board(
        split=spec.split,
        spec=spec,
        dataset_sha256=rows.candidates[0].dataset_sha256,
        tasks=rows.tasks,
        unranked_reason=_unranked_reason(spec, candidates),
    )
    scores = rows.items.of(entry.evaluation for entry in entries)
    places = [Place(0, None)] * len(entries) if board.unranked_reason else _ranked(rows, scores)
    shares = [candidate.result.score for candidate in entries]
    if rows.by_part:
        shares = share_scores([own[~np.isnan(own)].tolist() for own in scores])
    counts = Counter(_key(candidate, rows.best_of_model) for candidate in candidates)
    for place, candidate, share in zip(places, entries, shares, strict=True):
        entry = _entry(candidate, place, share, rows.split_size)
        entry.evaluation_count = counts[_key(candidate, rows.best_of_model)]
        board.entries.append(entry)
    return board


def _entry(candidate: Candidate, place: Place, score: evaluation_pb2.Score, split_size: int) -> Entry:
    result = candidate.result
    return Entry(
        rank=place.rank,
        subject=candidate.subject,
        evaluation=candidate.evaluation,
        score=score,
        extracted_rate=result.extracted_rate,
        contaminated_count=result.contaminated_count,
        weights_digest=candidate.weights_digest,
        likelihood=result.likelihood if result.HasField("likelihood") else None,
        override_reason=override_reason(result, split_size),
        tie_p_value=place.p_value,
        model=candidate.model,
    )


def override_reason(result: evaluation_pb2.EvaluationResult, split_size: int) -> str:
    """Why a result does not count fully: seen items, items left out, outputs without a score."""
    return "; ".join(_overrides(result, split_size))


def _overrides(result: evaluation_pb2.EvaluationResult, split_size: int) -> Iterator[str]:
    if count := result.contaminated_count:
        yield f"{count} of {result.score.count} items contaminated"
    if result.score.count < split_size:
        yield f"only {result.score.count} of {split_size} items"
    if failed := result.outcomes.failed:
        yield f"{failed} {'output' if failed == 1 else 'outputs'} failed"


def _key(candidate: Candidate, of_model: bool) -> str:
    return candidate.of_model if of_model else candidate.identity


def _means(items: ItemTable) -> dict[str, float]:
    """The mean score of each evaluation that has items."""
    rows = zip(items.evaluations, items.scores, strict=True)
    return {name: float(np.nanmean(own)) for name, own in rows if not np.isnan(own).all()}


def _ranked(rows: BoardRows, scores: NDArray[np.float64]) -> list[Place]:
    known = [rows.parts.get(item) for item in rows.items.items]
    return rank_tied(scores, seed=RANDOM_SEED, families=[part.family if part else "" for part in known])


def _unranked_reason(spec: evaluation_pb2.EvaluationSpec, candidates: Iterable[Candidate]) -> str:
    """Why entries that a judge has scored are not ranked; empty if they are, or if no judge scores."""
    if not is_judged_by(spec):
        return ""
    reasons = (
        each.result.judged.reason or "The judge's verdicts are missing."
        for each in candidates
        if not each.result.judged.may_rank
    )
    return next(reasons, "")
