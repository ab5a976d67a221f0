"""The values of metrics by which runs are ordered; they follow the summaries within a second."""

from __future__ import annotations

import time

from tunix_rt.registry.database import Transaction

REFRESH_SECONDS = 1.0

_REFRESH = """
INSERT INTO run_values AS known (run, metric, visibility, last, min, max)
SELECT r.number, s.metric, r.visibility, nullif(s.last, 'NaN'), nullif(s.min, 'NaN'), nullif(s.max, 'NaN')
FROM runs r JOIN metric_summary s ON s.run = r.name WHERE r.name = %(run)s FOR SHARE OF r
ON CONFLICT (run, metric) DO UPDATE SET last = excluded.last, min = excluded.min, max = excluded.max
WHERE (known.last, known.min, known.max) IS DISTINCT FROM (excluded.last, excluded.min, excluded.max)
"""
_FORGET = """
DELETE FROM run_values v USING runs r WHERE r.name = %(run)s AND v.run = r.number
AND NOT EXISTS (SELECT FROM metric_summary s WHERE s.run = r.name AND s.metric = v.metric)
"""


class Refresher:
    """Refreshes the values of a run while its metrics stream in, at most once a second."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._due = 0.0

    async def after_write(self, tx: Transaction) -> None:
        """Refreshes the values in the transaction that wrote summaries, if it is time."""
        now = time.monotonic()
        if now >= self._due:
            await tx.execute(_REFRESH, run=self._run)
            self._due = now + REFRESH_SECONDS


async def settle(tx: Transaction, run: str) -> None:
    """Makes the values those of the summaries, in the transaction that ends a run."""
    await tx.execute(_REFRESH, run=run)
    await tx.execute(_FORGET, run=run)
