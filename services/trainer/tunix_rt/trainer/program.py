"""The compiled training step and validation step of one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

from tunix_rt.lm.lora import LoraParam
from tunix_rt.lm.memory import return_free_memory
from tunix_rt.lm.model import Decoder
from tunix_rt.lm.recomputation import compile_options
from tunix_rt.trainer.batches import Batch
from tunix_rt.trainer.gradient import Arrays, Forward, Graph, Tree, gradient_function, loss_function
from tunix_rt.trainer.loss import gather_rows
from tunix_rt.trainer.update import Carried, Controls, apply_gradient


@dataclass(frozen=True)
class Program:
    """A run's steps over what is trained and what is frozen.

    `step(carried, frozen, arrays, controls)` gives the next carried state, whose buffers the compiled
    step takes over, and scalars: see `apply_gradient`. `validate(weights, frozen, arrays)` gives loss,
    accuracy and entropy. `micro_rows` rows are computed at a time; None means all of a batch.
    """

    graph: Graph
    step: Callable[..., tuple[Carried, dict[str, jax.Array]]]
    validate: Callable[..., dict[str, jax.Array]]
    micro_rows: int | None = None

    def step_arrays(self, batch: Batch) -> Arrays:
        """A batch as `step` takes it."""
        return step_arrays(batch, self.micro_rows)

    def compiled(self, carried: Carried, frozen: Tree, *, batch: Batch, validates: bool) -> Program:
        """The same steps compiled now, so that no later step is slow; `batch` gives the shapes."""
        arrays = self.step_arrays(batch)
        lowered = jax.jit(self.step, donate_argnums=(0,)).lower(
            carried, frozen, arrays, Controls(np.float32(0))
        )
        made = replace(self, step=lowered.compile(compile_options()))
        if validates:
            shapes = batch_arrays(_rows_of(batch, 0, self.micro_rows or len(batch.tokens)))
            validate = jax.jit(self.validate).lower(carried.result, frozen, shapes).compile()
            made = replace(made, validate=validate)
        return_free_memory()
        return made


def take_apart(model: Decoder, *, lora: bool) -> tuple[Graph, Tree, Tree]:
    """The model's structure, its trained parameters and its frozen ones."""
    graph, *states = nnx.split(model, LoraParam if lora else nnx.Param, ...)
    trained, frozen = states
    return graph, trained, frozen


def build_program(
    graph: Graph,
    optimizer: optax.GradientTransformation,
    forward: Forward,
    *,
    ema_decay: float = 0.0,
    micro_rows: int | None = None,
) -> Program:
    """The run's steps, not yet compiled."""
    loss_of = loss_function(graph, forward)
    gradient_of = gradient_function(loss_of)

    def step(
        carried: Carried, frozen: Tree, arrays: Arrays, controls: Controls
    ) -> tuple[Carried, dict[str, jax.Array]]:
        graded = gradient_of(carried.trained, frozen, arrays, controls.key)
        return apply_gradient(optimizer, carried, graded, controls, ema_decay=ema_decay)

    def validate(weights: Tree, frozen: Tree, arrays: Arrays) -> dict[str, jax.Array]:
        return loss_of(weights, frozen, arrays)[1]._asdict()

    return Program(graph, step, validate, micro_rows)


def batch_arrays(batch: Batch, *, total: float | None = None, first_row: int = 0) -> Mapping[str, Any]:
    """A batch as it is computed at once; weights are shares of `total`, or of the batch's own sum."""
    return {
        "tokens": batch.tokens,
        "positions": batch.positions,
        "segments": batch.segments,
        "gathered": gather_rows(batch.targets, batch.weights, total=total),
        "rows": np.arange(first_row, first_row + len(batch.tokens), dtype=np.int32),
    }


def step_arrays(batch: Batch, micro_rows: int | None) -> Arrays:
    """A batch cut into micro-batches, stacked in front; the last is filled up with empty rows.

    A batch that is one micro-batch has no axis in front. Weights are shares of the whole step's sum.
    """
    rows = len(batch.tokens)
    if micro_rows is None or micro_rows >= rows:
        return batch_arrays(batch)
    total = float(batch.weights.sum(dtype=np.float64))
    parts = [
        batch_arrays(_rows_of(batch, first, micro_rows), total=total, first_row=first)
        for first in range(0, rows, micro_rows)
    ]
    stacked: Arrays = jax.tree.map(lambda *leaves: np.stack(leaves), *parts)
    return stacked


def _rows_of(batch: Batch, first: int, count: int) -> Batch:
    """Some rows of a batch, filled up with empty ones."""
    missing = max(0, first + count - len(batch.tokens))
    tokens, positions, segments, targets, weights = (
        np.pad(array[first : first + count], ((0, missing), (0, 0)))
        for array in (batch.tokens, batch.positions, batch.segments, batch.targets, batch.weights)
    )
    return Batch(tokens, positions, segments, targets, weights, traces=batch.traces)
