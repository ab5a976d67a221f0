"""What a parameter is for, by its place in the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from tunix_rt.trainer.optimizer_settings import SPARED

NORMS, BIASES, EMBEDDING, HEAD = SPARED
MATRICES = "matrices"


def roles(parameters: Any) -> Any:
    """The tree with each parameter's role in its place: norms, biases, embedding, head or matrices.

    A head that is tied to the embedding is the embedding; an adapter's parts are matrices.
    """
    return jax.tree_util.tree_map_with_path(_role, parameters)


def not_among(names: tuple[str, ...]) -> Callable[[Any], Any]:
    """The mask of the parameters whose role is none of `names`."""
    return lambda parameters: jax.tree.map(lambda role: role not in names, roles(parameters))


def _role(path: tuple[Any, ...], leaf: Any) -> str:
    names = [str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey)]
    if names[-1] == "bias":
        return BIASES
    if leaf.ndim < 2:
        return NORMS
    if "embedding" in names[0]:
        return EMBEDDING
    return HEAD if names[0] == "head" else MATRICES
