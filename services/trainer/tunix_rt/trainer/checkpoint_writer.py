"""Writes the checkpoints of a run beside its training, and removes those that are no longer kept."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from tunix_rt.jobs.directory import JobDirectory
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.mesh import Spread
from tunix_rt.trainer.retention import Best, Retention, improved, kept
from tunix_rt.trainer.snapshot import Origin, Snapshot, host_snapshot, save_snapshot


class CheckpointWriter:
    """Saves snapshots in a thread, one at a time, in a `with` block that ends when all is written.

    Training waits while the arrays are copied, and for the write before if that has not ended. `sync_metrics`
    is called before a checkpoint is completed: what was measured up to it is then on disk. All processes of
    the run collect the arrays, and the one that leads writes them.
    """

    def __init__(
        self,
        directory: JobDirectory,
        origin: Origin,
        retention: Retention,
        spread: Spread,
        *,
        sync_metrics: Callable[[], None],
        report: Callable[[str], None],
    ) -> None:
        self._directory = directory
        self._origin = origin
        self._retention = retention
        self._spread = spread
        self._sync_metrics = sync_metrics
        self._report = report
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoints")
        self._writing: Future[str] | None = None

    def __enter__(self) -> CheckpointWriter:
        if not self._spread.leads:
            return self
        self._directory.checkpoints.mkdir(parents=True, exist_ok=True)
        for partial in self._directory.checkpoints.glob(".*"):
            shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True)
        if error is None:
            self._settle()

    def after_step(self, snapshot: Snapshot, values: Mapping[str, float], *, due: bool) -> None:
        """Save the snapshot where that is due, or where its validation is the best so far.

        Raises TrainingFailure if an earlier checkpoint could not be written.
        """
        if self._writing is not None and self._writing.done():
            self._settle()
        if self._note_best(snapshot, values) or due:
            began = time.monotonic()
            self._settle()
            copied = host_snapshot(snapshot, self._spread)
            if self._spread.leads:
                self._writing = self._thread.submit(self._write, copied, time.monotonic() - began)

    def _note_best(self, snapshot: Snapshot, values: Mapping[str, float]) -> bool:
        metric = self._retention.best_metric
        if not metric or metric not in values or not improved(snapshot.best, values[metric], metric):
            return False
        snapshot.best = Best(step=snapshot.step, value=values[metric])
        return True

    def _write(self, snapshot: Snapshot, waited: float) -> str:
        began = time.monotonic()
        self._sync_metrics()
        save_snapshot(self._directory, snapshot, self._origin)
        self._remove_others(snapshot)
        seconds = time.monotonic() - began
        return f"saved step {snapshot.step} in {seconds:.2f} s, training waited {waited:.2f} s"

    def _remove_others(self, newest: Snapshot) -> None:
        """Remove what is not kept, and later steps, which are of an abandoned attempt."""
        found = {step for step, _ in self._directory.complete_checkpoints()}
        best = newest.best.step if newest.best else None
        keep = kept([step for step in found if step <= newest.step], self._retention, best=best)
        for step in found - keep:
            self._directory.remove_checkpoint(step)

    def _settle(self) -> None:
        """Wait for the write in progress. Raises TrainingFailure with what went wrong."""
        if self._writing is None:
            return
        writing, self._writing = self._writing, None
        try:
            self._report(writing.result())
        except OSError as error:
            raise TrainingFailure(
                "CHILD_FAILED",
                f"A checkpoint could not be written: {error}. Free space for the trainer's work folder, or "
                "correct its permissions; the run goes on from the checkpoint before.",
                retryable=True,
            ) from error
