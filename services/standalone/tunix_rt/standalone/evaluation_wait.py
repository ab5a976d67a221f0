"""Waits for an evaluation with a progress bar."""

from __future__ import annotations

import time
from collections.abc import Callable

from tunix_rt.standalone.connection import CALL_SECONDS, Connection
from tunix_rt.standalone.follow import TERMINAL
from tunix_rt.standalone.progress import count_bar
from tunix_rt.v1 import evaluation_pb2 as evaluation_pb
from tunix_rt.v1 import job_pb2 as job_pb
from tunix_rt.v1 import registry_service_pb2 as registry_pb

_POLL_SECONDS = 0.25


def wait_for_evaluation(
    connection: Connection, name: str, *, quiet: bool = False
) -> evaluation_pb.Evaluation:
    """The evaluation after it has ended; shows its items as a bar."""
    first = get_evaluation(connection, name)
    done = 0
    with count_bar(f"Evaluating {first.spec.subject}", 0, quiet=quiet) as advance:

        def tell(status: job_pb.JobStatus) -> None:
            nonlocal done
            advance(status.progress - done, total=status.progress_total)
            done = status.progress

        return poll_evaluation(connection, name, tell)


def poll_evaluation(
    connection: Connection, name: str, tell: Callable[[job_pb.JobStatus], None]
) -> evaluation_pb.Evaluation:
    """The evaluation after it has ended; `tell` hears of its status four times a second."""
    while True:
        evaluation = get_evaluation(connection, name)
        tell(evaluation.status)
        if evaluation.status.state in TERMINAL:
            return evaluation
        time.sleep(_POLL_SECONDS)


def get_evaluation(connection: Connection, name: str) -> evaluation_pb.Evaluation:
    """The evaluation as it is."""
    request = registry_pb.GetEvaluationRequest(name=name)
    return connection.registry.GetEvaluation(request, timeout=CALL_SECONDS)
