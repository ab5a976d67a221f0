"""Lists of runs as people ask for them: filters, orders and columns as texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from tunix_rt.rpc import names
from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.standalone.connection import CALL_SECONDS, Connection
from tunix_rt.v1 import job_pb2 as job_pb
from tunix_rt.v1 import registry_service_pb2 as registry_pb
from tunix_rt.v1 import run_pb2 as run_pb

CREATED = "created"
PAGE = 1000
STATISTICS = {
    "last": run_pb.METRIC_STATISTIC_LAST,
    "min": run_pb.METRIC_STATISTIC_MIN,
    "max": run_pb.METRIC_STATISTIC_MAX,
}
FIXED: dict[str, Callable[[run_pb.Run], str]] = {
    "name": lambda run: run.name,
    "state": lambda run: job_pb.JobState.Name(run.status.state).removeprefix("JOB_STATE_").lower(),
    "created": lambda run: _time(run.status.create_time),
    "started": lambda run: _time(run.status.start_time),
    "ended": lambda run: _time(run.status.end_time),
    "dataset": lambda run: run.spec.dataset,
    "model": lambda run: run.spec.model,
    "description": lambda run: run.description,
    "tags": lambda run: " ".join(run.tags),
    "labels": lambda run: " ".join(f"{key}={value}" for key, value in sorted(run.labels.items())),
    "parent": lambda run: run.parent,
    "sweep": lambda run: run.sweep,
}
_COMPARED = re.compile(r"(?P<key>[^<>=]+?)(?P<sign><=|>=|=)(?P<value>.*)")


@dataclass(frozen=True)
class Key:
    """What a column shows, a filter compares or an order goes by."""

    text: str
    metric: str = ""
    statistic: str = "last"
    parameter: str = ""

    @classmethod
    def parse(cls, text: str) -> Key:
        """`validation/loss` and `min:validation/loss` are metrics, `optimizer.learning_rate` a parameter."""
        statistic, sign, rest = text.partition(":")
        if sign and statistic in STATISTICS:
            return cls(text, metric=rest, statistic=statistic)
        if "/" in text:
            return cls(text, metric=text)
        return cls(text, parameter=text)

    def value(self, run: run_pb.Run) -> str | float | bool | None:
        """What a run has there; None where it has nothing."""
        if self.text in FIXED:
            return FIXED[self.text](run)
        if self.metric:
            found = [summary for summary in run.metrics if summary.metric == self.metric]
            return float(getattr(found[0], self.statistic)) if found else None
        value = dict(run.parameters.items()).get(self.parameter)
        return value if isinstance(value, str | float | bool) else None


def sort_order(text: str) -> run_pb.RunOrder:
    """The order of `validation/loss` (smallest first), `-validation/loss` (largest first) or `created`."""
    descending = text.startswith("-")
    key = Key.parse(text.removeprefix("-"))
    made = run_pb.RunOrder(ascending=not descending)
    if key.metric:
        made.metric, made.statistic = key.metric, STATISTICS[key.statistic]
    elif key.parameter != CREATED:
        made.parameter = key.parameter
    return made


def add_conditions(found: run_pb.RunFilter, texts: Iterable[str]) -> None:
    """Adds `validation/loss<=2`, `optimizer.learning_rate>=1e-4` or `optimizer.decay=COSINE` to a filter.

    Raises InvalidArgument.
    """
    for text in texts:
        match = _COMPARED.fullmatch(text)
        if match is None:
            raise InvalidArgument.of("where", f"is `{text}`; give KEY<=NUMBER, KEY>=NUMBER or KEY=VALUE.")
        key, sign, value = Key.parse(match["key"].strip()), match["sign"], match["value"].strip()
        if key.parameter and sign == "=":
            found.parameters.add(path=key.parameter, text=value)
            continue
        number = _number(text, value)
        low = number if sign in (">=", "=") else None
        high = number if sign in ("<=", "=") else None
        if key.metric:
            statistic = STATISTICS[key.statistic]
            found.metrics.add(metric=key.metric, statistic=statistic, low=low, high=high)
        else:
            found.parameters.add(path=key.parameter, low=low, high=high)


def add_time(found: run_pb.RunFilter, field: str, text: str, option: str) -> None:
    """Sets a time of a filter as `set_time` does."""
    if text:
        set_time(getattr(found, field), text, option)


def set_time(found: Timestamp, text: str, option: str) -> None:
    """Sets a time such as `2026-01-31` or `2026-01-31T12:00:00Z`, local where it names no zone.

    An empty text leaves it as it is. Raises InvalidArgument.
    """
    if not text:
        return
    try:
        moment = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidArgument.of(option, f"is `{text}`; give a time such as 2026-01-31T12:00.") from error
    found.FromDatetime(moment)


def states_of(texts: Iterable[str]) -> list[job_pb.JobState.ValueType]:
    """`succeeded` and its like as states. Raises InvalidArgument."""
    known = {name.removeprefix("JOB_STATE_").lower(): number for name, number in job_pb.JobState.items()[1:]}
    for text in texts:
        if text.lower() not in known:
            raise InvalidArgument.of("state", f"is `{text}`; it must be one of {', '.join(known)}.")
    return [known[text.lower()] for text in texts]


def model_filter(text: str) -> str:
    """A model or a version of it; a bare id is a model."""
    known = names.matches(text, names.MODEL) or names.matches(text, names.MODEL_VERSION)
    return text if known or "/" in text else f"models/{text}"


def project(request: registry_pb.ListRunsRequest, keys: Sequence[Key]) -> None:
    """Asks for what some columns show, and for no more."""
    metrics = sorted({key.metric for key in keys if key.metric})
    request.metrics.extend(metrics or ["-"])
    request.parameters.extend(sorted({key.parameter for key in keys if key.parameter not in FIXED} - {""}))


def list_all(
    connection: Connection, request: registry_pb.ListRunsRequest, limit: int = 0
) -> Iterator[run_pb.Run]:
    """The runs of all pages, at most `limit` if that is not 0."""
    left = limit
    while True:
        request.page_size = min(left or PAGE, PAGE)
        page = connection.registry.ListRuns(request, timeout=CALL_SECONDS)
        yield from page.runs
        left -= len(page.runs)
        if not page.next_page_token or (limit and left <= 0):
            return
        request.page_token = page.next_page_token


def _number(text: str, value: str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise InvalidArgument.of("where", f"is `{text}`; `{value}` is no number.") from error


def _time(moment: Timestamp) -> str:
    return str(moment.ToJsonString()) if moment.seconds else ""
