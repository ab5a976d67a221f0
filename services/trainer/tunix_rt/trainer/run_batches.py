"""The batches of a run."""

from __future__ import annotations

from tunix_rt.trainer.batches import TrainingBatches
from tunix_rt.trainer.rows.rendering import Rows
from tunix_rt.trainer.specfile import TrainSpec


def batches_of(spec: TrainSpec, rows: Rows) -> TrainingBatches:
    """The batches that a spec makes of its rows.

    A start is not shared where inputs are dropped: its traces would all have the same mask there.
    """
    return TrainingBatches(
        rows.train,
        batch_size=spec.batch_size,
        max_length=spec.max_length,
        seed=spec.seed,
        padded=spec.batching == "PADDED",
        weights=(1.0, *(part.weight for part in spec.mixture)),
        share=spec.lora is None or spec.lora.dropout == 0,
    )
