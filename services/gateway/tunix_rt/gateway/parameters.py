"""Finds where run specs differ."""

from __future__ import annotations

from collections.abc import Sequence

from tunix_rt.jobs.parameters import flatten_spec
from tunix_rt.v1 import gateway_service_pb2, run_pb2


def differing_parameters(
    specs: Sequence[run_pb2.RunSpec | None],
) -> list[gateway_service_pb2.ParameterDifference]:
    """The parameters that differ, by path; None stands for a subject without spec, such as a model version.

    A subject without spec has empty values. Beside a single spec it makes all
    of that spec's parameters differ; beside several only what differs among them counts.
    """
    flat = [flatten_spec(spec) if spec is not None else {} for spec in specs]
    paths = sorted({path for values in flat for path in values})
    rows = [(path, [values.get(path, "") for values in flat]) for path in paths]
    several = len(specs) - specs.count(None) > 1
    counted = [index for index, spec in enumerate(specs) if spec is not None or not several]
    return [
        gateway_service_pb2.ParameterDifference(path=path, values=values)
        for path, values in rows
        if len({values[index] for index in counted}) > 1
    ]
