"""Which values of a layer are kept for the backward pass, and which are computed again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
from jax.ad_checkpoint import checkpoint_name

WIDE_BYTES = 512 << 20  # more than this of a step's feed-forward values is not kept
_NARROW, _WIDE = "narrow", "wide"
_KEPT: dict[str, tuple[str, ...]] = {"inputs": (), "narrow": (_NARROW,), "all": (_NARROW, _WIDE)}


def keep(x: jax.Array) -> jax.Array:
    """Mark a value that is costly to make again and as wide as the layer's input, or about so."""
    named: jax.Array = checkpoint_name(x, _NARROW)  # type: ignore[no-untyped-call]
    return named


def keep_wide(x: jax.Array) -> jax.Array:
    """Mark a value of the feed-forward part, several times as wide as the layer's input."""
    named: jax.Array = checkpoint_name(x, _WIDE)  # type: ignore[no-untyped-call]
    return named


def recomputed(
    layer: Callable[..., jax.Array], *, kept: Literal["inputs", "narrow", "all"]
) -> Callable[..., jax.Array]:
    """The layer, whose first argument is static, with only what is marked kept for its gradient."""
    policy = jax.checkpoint_policies.save_only_these_names(*_KEPT[kept])
    made: Callable[..., jax.Array] = jax.checkpoint(layer, policy=policy, static_argnums=(0,))
    return made


def compile_options() -> dict[str, str | bool]:
    """What XLA has to be told so that it computes again what is not kept.

    On the CPU it removes the barriers between the two computations, finds them equal and keeps everything.
    """
    return {"xla_disable_hlo_passes": "cse_barrier_expander"} if jax.default_backend() == "cpu" else {}
