"""The filters of a leaderboard in the address of its page."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from tunix_rt.rpc import names
from tunix_rt.rpc.errors import InvalidArgument, Violation
from tunix_rt.v1 import registry_service_pb2

_TEXTS = ("dataset", "task", "split", "section", "category")
FILTERS = ("split", "section", "category", "model", "label", "since", "best")


def board_request(query: QueryParams) -> registry_service_pb2.GetLeaderboardRequest:
    """The request of an address; empty parameters are left out.

    `model` and `label` (`key` or `key=value`) may be repeated, `since` is a day or a time in UTC, and
    `best=model` leaves one entry a model. Raises InvalidArgument for a name or a time that is none.
    """
    bad = [
        names.check(query[name], pattern, name)
        for name, pattern in (("dataset", names.DATASET), ("task", names.TASK_VERSION))
        if query.get(name)
    ]
    moment, fault = _moment(query.get("since", ""))
    if violations := [each for each in (*bad, fault) if each]:
        raise InvalidArgument(violations)
    request = registry_service_pb2.GetLeaderboardRequest(
        models=[model for model in query.getlist("model") if model],
        best_of_model=query.get("best", "") == "model",
    )
    for name in _TEXTS:
        setattr(request, name, query.get(name, ""))
    for label in filter(None, query.getlist("label")):
        key, _, value = label.partition("=")
        request.labels[key] = value
    if moment:
        request.ended_from.FromDatetime(moment)
    return request


def board_link(query: QueryParams, **changes: str) -> str:
    """The address of a leaderboard with some parameters changed; an empty one is left out."""
    kept = [(name, value) for name, value in query.multi_items() if value and name not in changes]
    return "/leaderboard?" + urlencode([*kept, *((name, value) for name, value in changes.items() if value)])


def is_filtered(query: QueryParams) -> bool:
    """Whether an address asks for less than all of a dataset or task."""
    return any(query.get(name) for name in FILTERS)


def _moment(text: str) -> tuple[datetime | None, Violation | None]:
    """The time that a text means, if it is not empty, or what is wrong with it."""
    if not text:
        return None, None
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC), None
    except (ValueError, OverflowError):
        return None, Violation("since", f"is `{text[:80]}`; give a day such as 2026-01-31.")
