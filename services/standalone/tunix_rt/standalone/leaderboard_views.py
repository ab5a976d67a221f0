"""Leaderboards in the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tunix_rt.gateway.web.board_text import mark_text, rank_texts, tie_text
from tunix_rt.gateway.web.text import spec_text
from tunix_rt.standalone.charts import interval_bar
from tunix_rt.standalone.output import new_table
from tunix_rt.standalone.views import number_text, score_text
from tunix_rt.v1 import registry_service_pb2 as registry_pb

_TIES = "=: the paired test does not separate it from the first of its rank; p is that test's."


def leaderboard_view(leaderboard: registry_pb.Leaderboard, *, filtered: bool = False) -> RenderableType:
    """The boards of a dataset, each with its entries and interval bars."""
    if not leaderboard.boards:
        if filtered:
            return Text(f"No evaluation on {leaderboard.dataset} passes these filters.")
        return Text(
            f"No evaluation on {leaderboard.dataset} has succeeded yet; `tunix-rt evaluate` makes one."
        )
    parts: list[RenderableType] = []
    for board in leaderboard.boards:
        parts.append(_board(leaderboard.dataset, board))
        if board.unranked_reason:
            parts.append(Text(f"Not ranked. {board.unranked_reason}", style="red"))
    if any(entry.HasField("tie_p_value") for board in leaderboard.boards for entry in board.entries):
        parts.append(Text(_TIES, style="dim"))
    return Group(*parts)


def is_filtered(request: registry_pb.GetLeaderboardRequest) -> bool:
    """Whether a request asks for less than all of a dataset or task."""
    return any(field.name not in ("dataset", "task") for field, _ in request.ListFields())


def verification_view(name: str, found: registry_pb.VerifyEvaluationResponse) -> Text:
    """What came of a verification, in a sentence."""
    if found.unverifiable_reason:
        return Text(f"{name} cannot be verified here. {found.unverifiable_reason}", style="yellow")
    if found.verified:
        return Text(
            f"{name} is verified: its {found.item_count} outputs, scored again by {found.scorer},"
            " give the stored result.",
            style="green",
        )
    return Text(f"{name} is not what its items give: {found.difference}.", style="red")


def _board(dataset: str, board: registry_pb.Leaderboard.Board) -> Table:
    title = " · ".join([dataset, *board.tasks, spec_text(board.spec)])
    score = "Token probability" if board.spec.method == "perplexity" else "Score"
    by_likelihood = board.spec.method in ("multiple-choice", "perplexity")
    last = "Perplexity" if by_likelihood else "Answered"
    columns = ("#", "Subject", f"{score} (95 % interval)", "0 % … 100 %", "p", last, "Marks")
    table = new_table(*columns, title=title)
    for rank, entry in zip(rank_texts(board), board.entries, strict=True):
        found = number_text(entry.likelihood.perplexity)
        table.add_row(
            rank,
            entry.subject,
            score_text(entry.score),
            Text(interval_bar(entry.score.low, entry.score.mean, entry.score.high), style="cyan"),
            tie_text(entry),
            found if by_likelihood else f"{entry.extracted_rate * 100:.0f} %",
            Text(mark_text(entry), style="red" if entry.override_reason else "dim"),
        )
    return table
