"""What a request for a list of runs must look like."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tunix_rt.registry.run_filter import STATISTICS, moment_of
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import InvalidArgument, Violation
from tunix_rt.v1 import job_pb2, registry_service_pb2, run_pb2

MAX_VALUES = 100
MAX_RANGES = 10
MAX_TEXT = 200


def check(request: registry_service_pb2.ListRunsRequest) -> None:
    """Raises InvalidArgument that names all bad fields of a list."""
    if bad := [
        *_filter_violations(request),
        *_order_violations(request.order),
        *_projection_violations(request),
    ]:
        raise InvalidArgument(bad)


def _filter_violations(request: registry_service_pb2.ListRunsRequest) -> list[Violation]:
    """All that is wrong with the filter of a list."""
    wanted = request.filter
    found = [names.check(request.dataset, names.DATASET, "dataset") if request.dataset else None]
    if request.state and request.state not in job_pb2.JobState.values():
        found.append(Violation("state", f"is {request.state}; it must be a state of a job."))
    for index, state in enumerate(wanted.states):
        if state not in job_pb2.JobState.values()[1:]:
            found.append(Violation(f"filter.states[{index}]", f"is {state}; it must be a state of a job."))
    for label, values, patterns in (
        ("datasets", wanted.datasets, (names.DATASET,)),
        ("models", wanted.models, (names.MODEL_VERSION, names.MODEL)),
        ("sweeps", wanted.sweeps, (names.SWEEP,)),
    ):
        found += [
            names.check_any(value, patterns, f"filter.{label}[{index}]") for index, value in enumerate(values)
        ]
    if wanted.parent:
        found.append(names.check(wanted.parent, names.RUN, "filter.parent"))
    if wanted.visibility not in run_pb2.RunFilter.Visibility.values():
        text = f"is {wanted.visibility}; it must be ACTIVE, ARCHIVED or DELETED."
        found.append(Violation("filter.visibility", text))
    if len(wanted.text) > MAX_TEXT:
        text = f"has {len(wanted.text)} characters; at most {MAX_TEXT}."
        found.append(Violation("filter.text", text))
    found += [*_size_violations(wanted), *_range_violations(wanted), *_time_violations(wanted)]
    return [violation for violation in found if violation]


def _size_violations(wanted: run_pb2.RunFilter) -> Iterator[Violation]:
    for name in ("states", "datasets", "models", "sweeps", "labels", "tags"):
        if (count := len(getattr(wanted, name))) > MAX_VALUES:
            yield Violation(f"filter.{name}", f"has {count} entries; at most {MAX_VALUES}.")
    for name in ("metrics", "parameters"):
        if (count := len(getattr(wanted, name))) > MAX_RANGES:
            yield Violation(f"filter.{name}", f"has {count} entries; at most {MAX_RANGES}.")
    for index, tag in enumerate(wanted.tags):
        if not tag.isprintable() or not tag:
            yield Violation(f"filter.tags[{index}]", f"is `{tag[:80]}`; no run has such a tag.")


def _range_violations(wanted: run_pb2.RunFilter) -> Iterator[Violation]:
    for index, metric in enumerate(wanted.metrics):
        yield from _name_violations(metric.metric, f"filter.metrics[{index}].metric")
        if metric.statistic not in STATISTICS:
            text = f"is {metric.statistic}; it must be LAST, MIN or MAX."
            yield Violation(f"filter.metrics[{index}].statistic", text)
        yield from _bounds(metric, f"filter.metrics[{index}]")
    for index, parameter in enumerate(wanted.parameters):
        field = f"filter.parameters[{index}]"
        yield from _name_violations(parameter.path, f"{field}.path")
        if parameter.HasField("text") and (parameter.HasField("low") or parameter.HasField("high")):
            yield Violation(f"{field}.text", "is set beside `low` or `high`; set one or the other.")
        yield from _bounds(parameter, field)


def _name_violations(name: str, field: str) -> Iterator[Violation]:
    if not name:
        yield Violation(field, "is required.")
    elif len(name) > MAX_TEXT or not name.isprintable():
        yield Violation(field, f"is `{name[:80]!r}`; give at most {MAX_TEXT} printable characters.")


def _bounds(wanted: run_pb2.MetricRange | run_pb2.ParameterMatch, field: str) -> Iterator[Violation]:
    for name in ("low", "high"):
        if wanted.HasField(name) and math.isnan(getattr(wanted, name)):
            yield Violation(f"{field}.{name}", "is NaN; NaN lies in no range.")
    if wanted.HasField("low") and wanted.HasField("high") and wanted.low > wanted.high:
        yield Violation(f"{field}.low", f"is {wanted.low:g}, more than `high`, {wanted.high:g}.")


def _time_violations(wanted: run_pb2.RunFilter) -> Iterator[Violation]:
    for name in ("created_from", "created_before"):
        try:
            if wanted.HasField(name):
                moment_of(getattr(wanted, name))
        except (ValueError, OverflowError):
            yield Violation(f"filter.{name}", "is no time from the years 1 to 9999.")


def _order_violations(order: run_pb2.RunOrder) -> Iterator[Violation]:
    """All that is wrong with the order of a list."""
    key = order.WhichOneof("key")
    if key:
        yield from _name_violations(getattr(order, key), f"order.{key}")
    if order.statistic not in STATISTICS:
        yield Violation("order.statistic", f"is {order.statistic}; it must be LAST, MIN or MAX.")
    elif order.statistic and key != "metric":
        yield Violation("order.statistic", "is set without `metric`; leave it out.")


def _projection_violations(request: registry_service_pb2.ListRunsRequest) -> Iterator[Violation]:
    for name in ("metrics", "parameters"):
        values = getattr(request, name)
        if len(values) > MAX_VALUES:
            yield Violation(name, f"has {len(values)} entries; at most {MAX_VALUES}.")
        for index, value in enumerate(values[:MAX_VALUES]):
            yield from _name_violations(value, f"{name}[{index}]")
