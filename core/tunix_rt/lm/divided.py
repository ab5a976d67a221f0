"""Parameters of which a device holds a part, collected when they are read inside `jax.shard_map`."""

from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
from flax import nnx

_State = TypeVar("_State")


class Part(nnx.Variable[jax.Array]):
    """A device's part of an array that is divided along `whole_axis` among the devices of `mesh_axis`."""

    def get_value(self, **index: Any) -> jax.Array:
        """The whole array; its gradient goes back to the parts, summed over those devices."""
        part = super().get_value(**index)
        whole: jax.Array = jax.lax.all_gather(part, self.mesh_axis, axis=self.whole_axis, tiled=True)
        return whole

    def rows(self, indices: jax.Array) -> jax.Array:
        """The rows at indices (n,), each from the device that has it; the whole array never exists."""
        part = super().get_value()
        asked = jax.lax.all_gather(indices, self.mesh_axis, tiled=True)
        own = asked - jax.lax.axis_index(self.mesh_axis) * part.shape[0]
        here = (own >= 0) & (own < part.shape[0])
        found = jnp.where(here[:, None], jnp.take(part, own, axis=0, mode="clip"), 0)
        answered: jax.Array = jax.lax.psum_scatter(  # type: ignore[no-untyped-call]
            found, self.mesh_axis, tiled=True
        )
        return answered


def rows_of(table: nnx.Variable[jax.Array], indices: jax.Array) -> jax.Array:
    """The rows of a table at indices (n,)."""
    if isinstance(table, Part) and table.whole_axis == 0:
        return table.rows(indices)
    return jnp.take(table[...], indices, axis=0)


def collected_after(state: _State, x: jax.Array) -> _State:
    """A module's state, whose parts are collected no sooner than x exists; without parts, as it is.

    Otherwise XLA may collect the matrices of all layers at the beginning, and hold them.
    """
    if not any(isinstance(variable, Part) for variable in jax.tree.leaves(state, is_leaf=_is_variable)):
        return state
    tied, _ = jax.lax.optimization_barrier((state, x))  # type: ignore[no-untyped-call]
    return cast(_State, tied)


def _is_variable(node: Any) -> bool:
    return isinstance(node, nnx.Variable)
