"""The gradient of one optimizer step over all its micro-batches, as a function to be compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from tunix_rt.lm.lora import drop_inputs
from tunix_rt.lm.model import Decoder
from tunix_rt.trainer.loss import Sums, completion_loss
from tunix_rt.trainer.mesh import Spread, opened
from tunix_rt.trainer.roles import NORMS, roles

Tree = Any
Arrays = Mapping[str, Any]
Graph = nnx.GraphDef[Decoder]
LossOf = Callable[..., tuple[jax.Array, Sums]]


@dataclass(frozen=True)
class Forward:
    """How a model computes: what is trained, with which numbers, and whether activations are kept."""

    lora: bool
    remat: bool = False
    dropout: bool = False
    compute_type: str = "FLOAT32"


class Graded(NamedTuple):
    """The sums over a step's rows, and the gradient of their loss."""

    sums: Sums
    gradient: Tree


def loss_function(graph: Graph, forward: Forward) -> LossOf:
    """Loss and all sums of (trained, frozen, arrays), and of a key where inputs of adapters are dropped.

    Without a key nothing is dropped and no activation is computed twice, as in validation.
    """

    def loss_of(
        trained: Tree, frozen: Tree, arrays: Arrays, key: jax.Array | None = None
    ) -> tuple[jax.Array, Sums]:
        # Copies, because NNX forbids a layer that is recomputed to write to variables of an outer trace.
        head = opened(nnx.merge(graph, trained, frozen, copy=True)).head_weight()
        narrowed = _narrowed((trained, frozen), forward.compute_type)
        model = opened(nnx.merge(graph, *narrowed, copy=True))
        if key is not None and forward.dropout:
            drop_inputs(model, _row_keys(key, arrays["rows"]))
        remat = forward.remat and key is not None
        hidden = model.hidden(arrays["tokens"], arrays["positions"], arrays["segments"], remat=remat)
        # A CPU multiplies faster in float32.
        sums = completion_loss(
            hidden.astype(jnp.float32) if jax.default_backend() == "cpu" else hidden,
            head,
            arrays["gathered"],
            train_head=not forward.lora,
            softcap=model.config.logit_softcap,
        )
        return sums.loss, sums

    return loss_of


def gradient_function(loss_of: LossOf, spread: Spread) -> Callable[..., Graded]:
    """The gradient by `trained` of (trained, frozen, arrays, key); one micro-batch needs no loop.

    Arrays with a micro axis in front are visited one micro-batch after the other, and losses and
    gradients are added: each position's weight is already its share of the whole step. The rows of each
    are spread over the devices.
    """
    graded = spread.graded(loss_of)

    def once(trained: Tree, frozen: Tree, arrays: Arrays, key: jax.Array) -> Graded:
        (_, sums), gradient = graded(trained, frozen, arrays, key)
        return Graded(sums, gradient)

    def gradient_of(trained: Tree, frozen: Tree, arrays: Arrays, key: jax.Array) -> Graded:
        if arrays["tokens"].ndim == 2:
            return once(trained, frozen, arrays, key)

        def visit(added: Graded, micro: Arrays) -> tuple[Graded, None]:
            return jax.tree.map(jnp.add, added, once(trained, frozen, micro, key)), None

        zero = jnp.zeros((), jnp.float32)
        start = Graded(Sums(zero, zero, zero), jax.tree.map(jnp.zeros_like, trained))
        added, _ = lax.scan(visit, start, arrays)
        return added

    return gradient_of


def _narrowed(trees: tuple[Tree, Tree], compute_type: str) -> tuple[Tree, Tree]:
    """The parameters as they are computed with: all but the norms in 16 bits, where that is asked for."""
    if compute_type != "BFLOAT16":
        return trees

    def narrow(leaf: jax.Array, role: str) -> jax.Array:
        return leaf if role == NORMS else leaf.astype(jnp.bfloat16)

    trained, frozen = (jax.tree.map(narrow, tree, roles(tree)) for tree in trees)
    return trained, frozen


def _row_keys(key: jax.Array, rows: jax.Array) -> jax.Array:
    """A key (2,) for each row by its place in the step, whatever micro-batch it is in."""
    return jax.vmap(lambda row: jax.random.key_data(jax.random.fold_in(jax.random.wrap_key_data(key), row)))(
        rows
    )
