"""The batches of a run."""

from __future__ import annotations

from tunix_rt.trainer.batches import TrainingBatches
from tunix_rt.trainer.rows.rendering import Rows
from tunix_rt.trainer.specfile import TrainSpec


def batches_of(spec: TrainSpec, rows: Rows) -> TrainingBatches:
    """The batches that a spec makes of its rows."""
    return TrainingBatches(
        rows.train,
        batch_size=spec.batch_size,
        max_length=spec.max_length,
        seed=spec.seed,
        padded=spec.batching == "PADDED",
        weights=(1.0, *(part.weight for part in spec.mixture)),
    )
