"""The filters of a leaderboard in the address of its page."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.v1 import registry_service_pb2

_TEXTS = ("dataset", "task", "split", "section", "category")
FILTERS = ("split", "section", "category", "model", "label", "since", "best")


def board_request(query: QueryParams) -> registry_service_pb2.GetLeaderboardRequest:
    """The request of an address; empty parameters are left out.

    `model` and `label` (`key` or `key=value`) may be repeated, `since` is a day or a time in UTC, and
    `best=model` leaves one entry a model. Raises InvalidArgument for a time that is none.
    """
    request = registry_service_pb2.GetLeaderboardRequest(
        **{name: query.get(name, "") for name in _TEXTS},
        models=[model for model in query.getlist("model") if model],
        best_of_model=query.get("best", "") == "model",
    )
    for label in filter(None, query.getlist("label")):
        key, _, value = label.partition("=")
        request.labels[key] = value
    if since := query.get("since", ""):
        request.ended_from.FromDatetime(_moment(since))
    return request


def board_link(query: QueryParams, **changes: str) -> str:
    """The address of a leaderboard with some parameters changed; an empty one is left out."""
    kept = [(name, value) for name, value in query.multi_items() if value and name not in changes]
    return "/leaderboard?" + urlencode([*kept, *((name, value) for name, value in changes.items() if value)])


def is_filtered(query: QueryParams) -> bool:
    """Whether an address asks for less than all of a dataset or task."""
    return any(query.get(name) for name in FILTERS)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidArgument.of("since", f"is `{text[:80]}`; give a day such as 2026-01-31.") from error
