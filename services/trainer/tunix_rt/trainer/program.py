"""The compiled training step and validation step of one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from tunix_rt.lm.lora import LoraParam
from tunix_rt.lm.model import Decoder
from tunix_rt.trainer.batches import Batch
from tunix_rt.trainer.loss import completion_loss, gather_rows
from tunix_rt.trainer.mesh import Spread, opened
from tunix_rt.trainer.specfile import ShardingSettings

Tree = Any
Arrays = Mapping[str, Any]


@dataclass(frozen=True)
class Program:
    """A model taken apart into what is trained and what is frozen, and its compiled steps.

    `step(trained, optimizer_state, frozen, arrays, rate)` gives the next trained and optimizer_state, whose
    buffers the compiled step takes over, and the scalars loss, accuracy, grad_norm and finite; unless
    finite, nothing has changed. `validate(trained, frozen, arrays)` gives loss and accuracy.
    """

    graph: nnx.GraphDef[Decoder]
    spread: Spread
    options: dict[str, Any]
    step: Callable[..., tuple[Tree, Tree, dict[str, jax.Array]]]
    validate: Callable[..., dict[str, jax.Array]]

    def compiled(self, trained: Tree, state: Tree, frozen: Tree, *, batch: Batch, validates: bool) -> Program:
        """The same steps compiled now, so that no later step is slow; `batch` gives the shapes."""
        arrays = self.arrays(batch)
        step = self.lowered(trained, state, frozen, arrays).compile(self.options)
        if not validates:
            return replace(self, step=step)
        validate = jax.jit(self.validate).lower(trained, frozen, arrays)
        return replace(self, step=step, validate=validate.compile(self.options))

    def lowered(self, trained: Tree, state: Tree, frozen: Tree, arrays: Arrays) -> jax.stages.Lowered:
        """The step, ready to be compiled for arrays, or for their shapes and shardings."""
        placed: dict[str, Any] = {}
        if not self.spread.alone:
            placed["out_shardings"] = (*map(self.spread.shardings, (trained, state)), None)
        step = jax.jit(self.step, donate_argnums=(0, 1), **placed)
        return step.lower(trained, state, frozen, arrays, self.spread.placed_scalar(np.float32(0)))

    def arrays(self, batch: Batch) -> Arrays:
        """A batch as the steps take it, on the devices."""
        return self.spread.placed_rows(batch_arrays(batch, parts=self.spread.size))


def take_apart(model: Decoder, *, lora: bool) -> tuple[nnx.GraphDef[Decoder], Tree, Tree]:
    """The model's structure, its trained parameters and its frozen ones."""
    graph, *states = nnx.split(model, LoraParam if lora else nnx.Param, ...)
    trained, frozen = states
    return graph, trained, frozen


def build_program(
    graph: nnx.GraphDef[Decoder],
    optimizer: optax.GradientTransformation,
    *,
    lora: bool,
    remat: bool,
    spread: Spread | None = None,
) -> Program:
    """The run's steps, not yet compiled; without `spread` on one device."""
    spread = spread or Spread.of(ShardingSettings(), jax.devices()[:1])

    def loss_of(remat: bool, trained: Tree, frozen: Tree, arrays: Arrays) -> tuple[jax.Array, jax.Array]:
        model = opened(nnx.merge(graph, trained, frozen, copy=True))
        hidden = model.hidden(arrays["tokens"], arrays["positions"], arrays["segments"], remat=remat)
        return completion_loss(hidden, model.head_weight(), arrays["gathered"], train_head=not lora)

    def step(
        trained: Tree, state: Tree, frozen: Tree, arrays: Arrays, rate: jax.Array
    ) -> tuple[Tree, Tree, dict[str, jax.Array]]:
        graded = spread.graded(partial(loss_of, remat))
        (loss, accuracy), gradient = graded(trained, frozen, arrays)
        norm = optax.tree.norm(gradient)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        updates, new_state = optimizer.update(gradient, state, trained)
        new_trained = jax.tree.map(lambda leaf, update: leaf - rate * update, trained, updates)
        keep = lambda new, old: jnp.where(finite, new, old)  # noqa: E731
        trained, state = jax.tree.map(keep, (new_trained, new_state), (trained, state))
        return (
            trained,
            state,
            {"loss": loss, "accuracy": accuracy, "grad_norm": norm, "finite": finite},
        )

    def validate(trained: Tree, frozen: Tree, arrays: Arrays) -> dict[str, jax.Array]:
        loss, accuracy = spread.summed(partial(loss_of, False))(trained, frozen, arrays)
        return {"loss": loss, "accuracy": accuracy}

    return Program(graph, spread, spread.compiler_options(remat=remat), step, validate)


def batch_arrays(batch: Batch, *, parts: int = 1) -> Arrays:
    """A batch as the steps take it; for several devices, filled up with empty rows to as many for each."""
    places = ("tokens", "positions", "segments", "targets", "weights")
    tokens, positions, segments, targets, weights = (_filled(getattr(batch, name), parts) for name in places)
    arrays = {"tokens": tokens, "positions": positions, "segments": segments}
    if parts == 1:
        return {**arrays, "gathered": gather_rows(targets, weights)}
    total = float(weights.sum(dtype=np.float64))
    own = [
        gather_rows(*pair, total)
        for pair in zip(np.split(targets, parts), np.split(weights, parts), strict=True)
    ]
    return {**arrays, "gathered": jax.tree.map(lambda *each: np.stack(each), *own)}


def _filled(rows: np.ndarray, parts: int) -> np.ndarray:
    missing = -len(rows) % parts
    return np.pad(rows, ((0, missing), (0, 0))) if missing else rows
