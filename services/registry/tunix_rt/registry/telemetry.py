"""What the registry counts, and what it measures at a scrape: the pool of connections and the queue."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from tunix_rt.registry import queue
from tunix_rt.registry.database import Database
from tunix_rt.registry.lifecycle import State
from tunix_rt.rpc.metrics import Metrics


class Ingested:
    """Counts what was stored; points, lines and traces that are sent again count once."""

    def __init__(self, metrics: Metrics) -> None:
        self.points = metrics.counter("tunix_rt_metric_points", "Points of metrics that were stored.")
        self.log_lines = metrics.counter("tunix_rt_log_lines", "Lines of logs that were stored.")
        self.traces = metrics.counter("tunix_rt_traces", "Traces that were appended to datasets.")
        self.item_scores = metrics.counter("tunix_rt_item_scores", "Scores of items that were recorded.")


class Measured:
    """Measures the registry."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def pool(self) -> Iterable[Metric]:
        """The connections of the pool, and the calls that wait for one."""
        use = self._database.pool_use()
        connections = GaugeMetricFamily(
            "tunix_rt_database_connections",
            "Connections of the pool; at most 10 are open.",
            labels=["state"],
        )
        connections.add_metric(["busy"], use.size - use.idle)
        connections.add_metric(["idle"], use.idle)
        text = "Calls that wait for a connection of the pool."
        return [connections, GaugeMetricFamily("tunix_rt_database_waiting", text, value=use.waiting)]

    async def jobs(self) -> Iterable[Metric]:
        """The jobs by kind and state."""
        async with self._database.transaction() as tx:
            counted = await queue.count(tx)
        jobs = GaugeMetricFamily("tunix_rt_jobs", "Jobs by kind and state.", labels=["kind", "state"])
        for each in counted.counts:
            jobs.add_metric([each.kind, State(each.state).name], each.count)
        return [jobs]
