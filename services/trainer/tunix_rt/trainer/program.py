"""The compiled training step and validation step of one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
    step: Callable[..., tuple[Tree, Tree, dict[str, jax.Array]]]
    validate: Callable[..., dict[str, jax.Array]]

    def compiled(self, trained: Tree, state: Tree, frozen: Tree, *, batch: Batch, validates: bool) -> Program:
        """The same steps compiled now, so that no later step is slow; `batch` gives the shapes."""
        arrays = batch_arrays(batch)
        step = (
            jax.jit(self.step, donate_argnums=(0, 1))
            .lower(trained, state, frozen, arrays, np.float32(0))
            .compile()
        )
        if not validates:
            return Program(self.graph, step, self.validate)
        return Program(self.graph, step, jax.jit(self.validate).lower(trained, frozen, arrays).compile())


def take_apart(model: Decoder, *, lora: bool) -> tuple[nnx.GraphDef[Decoder], Tree, Tree]:
    """The model's structure, its trained parameters and its frozen ones."""
    graph, *states = nnx.split(model, LoraParam if lora else nnx.Param, ...)
    trained, frozen = states
    return graph, trained, frozen


def build_program(
    graph: nnx.GraphDef[Decoder], optimizer: optax.GradientTransformation, *, lora: bool, remat: bool
) -> Program:
    """The run's steps, not yet compiled."""

    def loss_of(trained: Tree, frozen: Tree, arrays: Arrays, remat: bool) -> tuple[jax.Array, jax.Array]:
        model = nnx.merge(graph, trained, frozen)
        hidden = model.hidden(arrays["tokens"], arrays["positions"], arrays["segments"], remat=remat)
        head, softcap = model.head_weight(), model.config.logit_softcap
        return completion_loss(hidden, head, arrays["gathered"], train_head=not lora, softcap=softcap)

    def step(
        trained: Tree, state: Tree, frozen: Tree, arrays: Arrays, rate: jax.Array
    ) -> tuple[Tree, Tree, dict[str, jax.Array]]:
        graded = jax.value_and_grad(loss_of, has_aux=True)
        (loss, accuracy), gradient = graded(trained, frozen, arrays, remat)
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
        loss, accuracy = loss_of(trained, frozen, arrays, False)
        return {"loss": loss, "accuracy": accuracy}

    return Program(graph, step, validate)


def batch_arrays(batch: Batch) -> Arrays:
    """A batch as the steps take it."""
    return {
        "tokens": batch.tokens,
        "positions": batch.positions,
        "segments": batch.segments,
        "gathered": gather_rows(batch.targets, batch.weights),
    }
