"""A JAX profile of some steps, which TensorBoard, XProf and Perfetto open."""

from __future__ import annotations

import shutil

import jax

from tunix_rt.jobs.directory import JobDirectory
from tunix_rt.trainer.shown_settings import ProfileSettings


class Profiler:
    """Records the spec's steps into `profile/`, which appears when the last of them has ended."""

    def __init__(self, settings: ProfileSettings, directory: JobDirectory) -> None:
        self._first, self._last = settings.first_step, settings.first_step + settings.steps - 1
        self._target = directory.profile
        self._partial = directory.root / ".profile.partial"
        self._running = False

    def before(self, step: int) -> None:
        """Starts with the first step."""
        if step == self._first and not self._target.exists():
            shutil.rmtree(self._partial, ignore_errors=True)
            jax.profiler.start_trace(self._partial)
            self._running = True

    def after(self, step: int) -> None:
        """Ends with the last step."""
        if step >= self._last:
            self.close()

    def close(self) -> None:
        """Ends a profile that is being recorded; what there is of it is kept."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()  # type: ignore[no-untyped-call]
            self._partial.replace(self._target)
