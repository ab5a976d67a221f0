"""Which runs a list shows: a typed filter as SQL conditions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tunix_rt.registry.run_index import digest
from tunix_rt.rpc import names
from tunix_rt.v1 import registry_service_pb2, run_pb2

STATISTICS = {
    run_pb2.METRIC_STATISTIC_UNSPECIFIED: "last",
    run_pb2.METRIC_STATISTIC_LAST: "last",
    run_pb2.METRIC_STATISTIC_MIN: "min",
    run_pb2.METRIC_STATISTIC_MAX: "max",
}


@dataclass(frozen=True)
class Range:
    """Limits of a value, None where there is none."""

    table: str
    key: str
    column: str
    low: float | None
    high: float | None


@dataclass
class Conditions:
    """SQL conditions on `runs r` and, where `with_jobs`, `jobs j`, with their parameters.

    `visibility` is among the conditions; those beside it make the filter `narrow`. `ranges` are also among
    them: the limits of a value by the table, key and column that hold it, for an order by the same value.
    """

    visibility: int
    texts: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    with_jobs: bool = False
    ranges: list[Range] = field(default_factory=list)

    @property
    def narrow(self) -> bool:
        """Whether anything but the visibility is asked for."""
        return bool(self.texts)

    @property
    def source(self) -> str:
        """What stands after FROM."""
        return "runs r JOIN jobs j ON j.name = r.name" if self.with_jobs else "runs r"

    @property
    def where(self) -> str:
        """What stands after WHERE."""
        return " AND ".join([f"r.visibility = {self.visibility}", *self.texts])

    def add(self, text: str, /, **parameters: Any) -> None:
        """One more condition; `{name}` in it stands for a parameter of that name."""
        keys = {key: f"{key}_{len(self.parameters)}" for key in parameters}
        self.texts.append(text.format(**{key: f"%({numbered})s" for key, numbered in keys.items()}))
        self.parameters |= {keys[key]: value for key, value in parameters.items()}


def conditions(request: registry_service_pb2.ListRunsRequest) -> Conditions:
    """The conditions of a list whose filter is right."""
    wanted = request.filter
    made = Conditions(visibility=int(wanted.visibility) or int(run_pb2.RunFilter.ACTIVE))
    if request.state:
        _add_states(made, [request.state])
    if wanted.states:
        _add_states(made, wanted.states)
    if request.dataset:
        made.add("r.dataset = {dataset}", dataset=request.dataset)
    if wanted.datasets:
        made.add("r.dataset = ANY({datasets}::text[])", datasets=list(wanted.datasets))
    if wanted.models:
        _add_models(made, wanted.models)
    if wanted.sweeps:
        made.add("r.sweep <> '' AND r.sweep = ANY({sweeps}::text[])", sweeps=list(wanted.sweeps))
    if wanted.parent:
        made.add("r.parent <> '' AND r.parent = {parent}", parent=wanted.parent)
    if wanted.tags:
        made.add("r.tags <> '{{}}' AND r.tags @> {tags}::text[]", tags=list(wanted.tags))
    for key, value in sorted(wanted.labels.items()):
        _add_label(made, key, value)
    if wanted.HasField("created_from"):
        made.add("r.create_time >= {moment}", moment=moment_of(wanted.created_from))
    if wanted.HasField("created_before"):
        made.add("r.create_time < {moment}", moment=moment_of(wanted.created_before))
    for metric in wanted.metrics:
        _add_metric(made, metric)
    for parameter in wanted.parameters:
        _add_parameter(made, parameter)
    if wanted.text:
        text = wanted.text.casefold().replace("\0", "\n")
        made.add("position({text} IN r.search_text) > 0", text=text)
    return made


def _add_states(made: Conditions, states: Any) -> None:
    made.with_jobs = True
    listed = ", ".join(str(int(state)) for state in states)  # numbers of the enum, so that plans know them
    made.add(f"j.kind = 'run' AND j.state IN ({listed})")


def _add_models(made: Conditions, models: Any) -> None:
    versions = [model for model in models if names.matches(model, names.MODEL_VERSION)]
    whole = [model for model in models if model not in versions]
    either = []
    if versions:
        either.append("r.model = ANY({versions}::text[])")
    if whole:
        either.append("split_part(r.model, '/versions/', 1) = ANY({whole}::text[])")
    made.add(f"({' OR '.join(either)})", versions=versions, whole=whole)


def _add_label(made: Conditions, key: str, value: str) -> None:
    text = "l.run = r.number AND l.key_digest = {key}::bytea"
    if value:
        text += " AND l.text_digest = {value}::bytea"
    made.add(f"EXISTS (SELECT FROM run_labels l WHERE {text})", key=digest(key), value=digest(value))


def _add_metric(made: Conditions, wanted: run_pb2.MetricRange) -> None:
    column = f"v.{STATISTICS[wanted.statistic]}"
    text = f"v.run = r.number AND v.visibility = {made.visibility} AND v.metric = {{metric}}"
    text += f" AND {column} IS NOT NULL{_between(column, wanted)}"
    made.ranges.append(Range("run_values", wanted.metric, STATISTICS[wanted.statistic], *_limits(wanted)))
    made.add(
        f"EXISTS (SELECT FROM run_values v WHERE {text})",
        metric=wanted.metric,
        low=wanted.low,
        high=wanted.high,
    )


def _add_parameter(made: Conditions, wanted: run_pb2.ParameterMatch) -> None:
    text = "p.run = r.number AND p.path = {path}"
    number = None
    if wanted.HasField("text"):
        number = _number(wanted.text)
        same = "p.text_digest = {digest}::bytea"
        text += f" AND ({same} OR p.number = {{number}})" if number is not None else f" AND {same}"
    elif wanted.HasField("low") or wanted.HasField("high"):
        text += f" AND p.number IS NOT NULL{_between('p.number', wanted)}"
        made.ranges.append(Range("run_parameters", wanted.path, "number", *_limits(wanted)))
    made.add(
        f"EXISTS (SELECT FROM run_parameters p WHERE {text})",
        path=wanted.path,
        digest=digest(wanted.text),
        number=number,
        low=wanted.low,
        high=wanted.high,
    )


def _limits(wanted: run_pb2.MetricRange | run_pb2.ParameterMatch) -> tuple[float | None, float | None]:
    low = wanted.low if wanted.HasField("low") else None
    return low, wanted.high if wanted.HasField("high") else None


def _between(column: str, wanted: run_pb2.MetricRange | run_pb2.ParameterMatch) -> str:
    low = f" AND {column} >= {{low}}" if wanted.HasField("low") else ""
    return low + (f" AND {column} <= {{high}}" if wanted.HasField("high") else "")


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return None if math.isnan(number) else number


def moment_of(timestamp: Any) -> datetime:
    """The moment of a proto. Raises ValueError outside of the years 1 to 9999."""
    moment: datetime = timestamp.ToDatetime(tzinfo=UTC)
    return moment
