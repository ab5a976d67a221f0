"""How many steps a run has, and what happens after which of them."""

from __future__ import annotations

from dataclasses import dataclass

from tunix_rt.trainer.batches import TrainingBatches
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.optimizer_settings import schedule_problems
from tunix_rt.trainer.specfile import TrainSpec


@dataclass(frozen=True)
class Plan:
    """The steps of a run; it validates and saves every so many of them, 0 meaning never before the end."""

    steps: int
    validate_every: int
    checkpoint_every: int

    @classmethod
    def of(cls, spec: TrainSpec, batches: TrainingBatches) -> Plan:
        """The plan of a spec for its batches. Raises TrainingFailure when its schedule is longer."""
        steps = spec.steps or batches.steps(spec.epochs)
        if problems := schedule_problems(spec.optimizer, steps=steps):
            raise TrainingFailure("INVALID_FIELDS", " ".join(problems))
        every = max(1, steps // 10) if spec.validate_every is None else spec.validate_every
        return cls(steps=steps, validate_every=every, checkpoint_every=spec.checkpoint_every)

    def validates(self, step: int) -> bool:
        """Whether the step ends with a validation; the last one does, unless validation is off."""
        return self.validate_every > 0 and (step % self.validate_every == 0 or step == self.steps)

    def saves(self, step: int) -> bool:
        """Whether the step ends with a checkpoint."""
        return step == self.steps or (self.checkpoint_every > 0 and step % self.checkpoint_every == 0)
