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
from tunix_rt.trainer.batches import Batch
from tunix_rt.trainer.gradient import Arrays, Forward, Graph, Tree, gradient_function, loss_function
from tunix_rt.trainer.loss import Gathered, Sums, gather_rows
from tunix_rt.trainer.mesh import Spread
from tunix_rt.trainer.update import Carried, Controls, apply_gradient


@dataclass(frozen=True)
class Program:
    """A run's steps over what is trained and what is frozen.

    `step(carried, frozen, arrays, controls)` gives the next carried state, whose buffers the compiled
    step takes over, and scalars: see `apply_gradient`. `validate(weights, frozen, arrays)` gives loss,
    accuracy and entropy. `micro_rows` rows are computed at a time; None means all of a batch.
    All that they take lies on the devices of `spread`.
    """

    graph: Graph
    spread: Spread
    step: Callable[..., tuple[Carried, dict[str, jax.Array]]]
    validate: Callable[..., dict[str, jax.Array]]
    micro_rows: int | None = None

    def step_arrays(self, batch: Batch) -> Arrays:
        """A batch as `step` takes it."""
        return self.spread.placed_rows(step_arrays(batch, self.micro_rows, parts=self.spread.size))

    def validation_arrays(self, batch: Batch) -> Arrays:
        """A batch as `validate` takes it."""
        return self.spread.placed_rows(batch_arrays(batch, parts=self.spread.size))

    def compiled(self, carried: Carried, frozen: Tree, *, batch: Batch, validates: bool) -> Program:
        """The same steps compiled now, so that no later step is slow; `batch` gives the shapes."""
        lowered = self.lowered(carried, frozen, self.step_arrays(batch))
        made = replace(self, step=lowered.compile(self.spread.compile_options(gradient=True)))
        if validates:
            shapes = self.validation_arrays(_rows_of(batch, 0, self.micro_rows or len(batch.tokens)))
            validate = jax.jit(self.validate).lower(carried.result, frozen, shapes)
            made = replace(made, validate=validate.compile(self.spread.compile_options(gradient=False)))
        return_free_memory()
        return made

    def lowered(self, carried: Carried, frozen: Tree, arrays: Arrays) -> jax.stages.Lowered:
        """The step, ready to be compiled for arrays, or for their shapes and where they lie."""
        placed: dict[str, Any] = {}
        if not self.spread.alone:
            placed["out_shardings"] = (self.spread.shardings(carried), None)
        step = jax.jit(self.step, donate_argnums=(0,), **placed)
        return step.lower(carried, frozen, arrays, self.spread.everywhere(Controls(np.float32(0))))


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
    spread: Spread | None = None,
) -> Program:
    """The run's steps, not yet compiled; without `spread` on one device."""
    spread = spread or Spread.of_one()
    loss_of = loss_function(graph, forward)
    gradient_of = gradient_function(loss_of, spread)
    summed = spread.summed(loss_of)

    def step(
        carried: Carried, frozen: Tree, arrays: Arrays, controls: Controls
    ) -> tuple[Carried, dict[str, jax.Array]]:
        graded = gradient_of(carried.trained, frozen, arrays, controls.key)
        return apply_gradient(optimizer, carried, graded, controls, ema_decay=ema_decay)

    def validate(weights: Tree, frozen: Tree, arrays: Arrays) -> dict[str, jax.Array]:
        sums: Sums = summed(weights, frozen, arrays)[1]
        return sums._asdict()

    return Program(graph, spread, step, validate, micro_rows)


def batch_arrays(
    batch: Batch, *, total: float | None = None, first_row: int = 0, parts: int = 1
) -> Mapping[str, Any]:
    """A batch as it is computed at once; weights are shares of `total`, or of the batch's own sum.

    For several devices, it is filled up with empty rows to as many for each of these `parts`, and
    what is gathered has an axis of them in front.
    """
    batch = _rows_of(batch, 0, -(-len(batch.tokens) // parts) * parts)
    return {
        "tokens": batch.tokens,
        "positions": batch.positions,
        "segments": batch.segments,
        "gathered": _gathered(batch, total, parts),
        "rows": np.arange(first_row, first_row + len(batch.tokens), dtype=np.int32),
    }


def _gathered(batch: Batch, total: float | None, parts: int) -> Gathered:
    if parts == 1:
        return gather_rows(batch.targets, batch.weights, total=total)
    total = float(batch.weights.sum(dtype=np.float64)) if total is None else total
    pairs = zip(np.split(batch.targets, parts), np.split(batch.weights, parts), strict=True)
    stacked: Gathered = jax.tree.map(
        lambda *each: np.stack(each), *[gather_rows(*pair, total=total) for pair in pairs]
    )
    return stacked


def step_arrays(batch: Batch, micro_rows: int | None, *, parts: int = 1) -> Arrays:
    """A batch cut into micro-batches, stacked in front; the last is filled up with empty rows.

    A batch that is one micro-batch has no axis in front. Weights are shares of the whole step's sum.
    """
    rows = len(batch.tokens)
    if micro_rows is None or micro_rows >= rows:
        return batch_arrays(batch, parts=parts)
    total = float(batch.weights.sum(dtype=np.float64))
    micros = [
        batch_arrays(_rows_of(batch, first, micro_rows), total=total, first_row=first, parts=parts)
        for first in range(0, rows, micro_rows)
    ]
    stacked: Arrays = jax.tree.map(lambda *leaves: np.stack(leaves), *micros)
    return stacked


def _rows_of(batch: Batch, first: int, count: int) -> Batch:
    """Some rows of a batch, filled up with empty ones."""
    if first == 0 and count == len(batch.tokens):
        return batch
    missing = max(0, first + count - len(batch.tokens))
    tokens, positions, segments, targets, weights = (
        np.pad(array[first : first + count], ((0, missing), (0, 0)))
        for array in (batch.tokens, batch.positions, batch.segments, batch.targets, batch.weights)
    )
    return Batch(tokens, positions, segments, targets, weights, traces=batch.traces)
