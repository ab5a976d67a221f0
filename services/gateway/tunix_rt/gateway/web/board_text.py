"""Words for the entries of a leaderboard, the same in the page and the command line."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tunix_rt.gateway.sentence import p_value_text
from tunix_rt.gateway.web.text import NONE
from tunix_rt.rpc.names import PREDICTOR, matches
from tunix_rt.v1 import registry_service_pb2

UNCHECKED = "contamination not checked"

Leaderboard = registry_service_pb2.Leaderboard


def rank_texts(board: Leaderboard.Board) -> list[str]:
    """The rank of each entry, such as `2`, or `2=` where several share it; a dash without ranks."""
    counts = Counter(entry.rank for entry in board.entries)
    return [
        NONE if not entry.rank else f"{entry.rank}=" if counts[entry.rank] > 1 else f"{entry.rank}"
        for entry in board.entries
    ]


def tie_text(entry: Leaderboard.Entry) -> str:
    """The p-value against the first entry of the rank; empty for that entry itself."""
    return p_value_text(entry.tie_p_value).removeprefix("p = ") if entry.HasField("tie_p_value") else ""


def mark_text(entry: Leaderboard.Entry) -> str:
    """Why an entry does not count fully, and for predictions that were made elsewhere what is not known."""
    unchecked = UNCHECKED if matches(entry.subject, PREDICTOR) else ""
    return "; ".join(text for text in (entry.override_reason, unchecked) if text)


FILTERS: dict[str, Any] = {"rank_texts": rank_texts, "tie": tie_text}
