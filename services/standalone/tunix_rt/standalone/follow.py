"""Follows a run through WatchRun: what is known of it so far, and the events as they come."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import grpc

from tunix_rt.standalone.connection import Connection
from tunix_rt.v1 import gateway_service_pb2 as gateway_pb
from tunix_rt.v1 import job_pb2 as job_pb
from tunix_rt.v1 import run_pb2 as run_pb

TERMINAL = frozenset({job_pb.JOB_STATE_SUCCEEDED, job_pb.JOB_STATE_FAILED, job_pb.JOB_STATE_CANCELLED})
_RECONNECT_SECONDS = 60.0


@dataclass
class RunView:
    """What is known of a run: its last message, and each metric's values by step."""

    run: run_pb.Run = field(default_factory=run_pb.Run)
    curves: dict[str, dict[int, float]] = field(default_factory=dict)
    first_step: tuple[int, float] | None = None
    last_log: str = ""

    def apply(self, event: gateway_pb.WatchRunResponse) -> None:
        """Takes in one event; a newer attempt's value replaces an older one's of the same step."""
        if event.HasField("run"):
            self.run = event.run
        for point in event.points.points:
            self.curves.setdefault(point.metric, {})[point.step] = point.value
            if self.first_step is None:
                self.first_step = (point.step, point.measure_time.ToNanoseconds() / 1e9)
        if event.log_lines.lines:
            self.last_log = event.log_lines.lines[-1].text

    @property
    def ended(self) -> bool:
        """Whether the run has reached a terminal state."""
        return self.run.status.state in TERMINAL

    @property
    def step(self) -> int:
        """The last step that has points, or the progress that the registry knows."""
        steps = self.curves.get("train/loss") or {0: 0.0}
        return max(max(steps), self.run.status.progress)

    @property
    def total(self) -> int:
        """The steps of the run; 0 until known."""
        return self.run.status.progress_total or self.run.spec.steps

    def last(self, metric: str) -> float | None:
        """The value of a metric at its last step."""
        curve = self.curves.get(metric)
        return curve[max(curve)] if curve else None

    def values(self, metric: str) -> list[float]:
        """The values of a metric by step."""
        curve = self.curves.get(metric, {})
        return [curve[step] for step in sorted(curve)]

    def remaining_seconds(self, now: float) -> float | None:
        """The time to the last step at the pace so far; None until two steps are known."""
        if self.first_step is None or not self.total or self.step <= self.first_step[0]:
            return None
        step, began = self.first_step
        return (self.total - self.step) * (now - began) / (self.step - step)


def watch_run(
    connection: Connection, name: str, resume_token: str = ""
) -> Iterator[gateway_pb.WatchRunResponse]:
    """The events of a run until it has ended.

    A stream that is lost after its first event is taken up again at the last token, for up to a
    minute without an event.
    """
    lost_since: float | None = None
    begun = False
    while True:
        request = gateway_pb.WatchRunRequest(name=name, resume_token=resume_token)
        try:
            for event in connection.gateway.WatchRun(request):
                lost_since, begun = None, True
                resume_token = event.resume_token or resume_token
                yield event
            return
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE or not begun:
                raise
            lost_since = lost_since or time.monotonic()
            if time.monotonic() - lost_since > _RECONNECT_SECONDS:
                raise
            time.sleep(0.5)
