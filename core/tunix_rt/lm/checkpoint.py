"""A training state on disk: trees of arrays as safetensors, and a small JSON record."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.model_files import (
    new_directory,
    read_json,
    read_tensor_file,
    write_json,
    write_tensor_file,
)

STATE_FILE = "state.json"


def save_checkpoint(directory: Path | str, *, trees: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write each tree of arrays to NAME.safetensors and `state` (step, key, position) to state.json.

    The directory appears complete or not at all; it must not exist before. Random keys must be given
    as their numbers (`jax.random.key_data`).
    """
    with new_directory(Path(directory)) as scratch:
        for name, tree in trees.items():
            write_tensor_file(scratch / f"{name}.safetensors", flatten_tree(tree))
        write_json(scratch / STATE_FILE, state)


def load_checkpoint(
    directory: Path | str, *, templates: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The trees, shaped like their templates, and the state record of a checkpoint.

    Raises ModelError that names every array that is missing, unknown or of another shape or type.
    """
    folder = Path(directory)
    state = read_json(folder / STATE_FILE)
    trees = {
        name: _unflatten(template, read_tensor_file(folder / f"{name}.safetensors"), name)
        for name, template in templates.items()
    }
    return trees, state


def flatten_tree(tree: Any) -> dict[str, np.ndarray]:
    """The arrays of a tree under their paths, such as "layers/0/q/kernel"."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {_path_name(path): np.asarray(leaf, order="C") for path, leaf in leaves}


def _unflatten(template: Any, arrays: Mapping[str, np.ndarray], name: str) -> Any:
    leaves, structure = jax.tree_util.tree_flatten_with_path(template)
    expected = {_path_name(path): leaf for path, leaf in leaves}
    wrong = [key for key in expected if key not in arrays or not _fits(expected[key], arrays[key])]
    wrong += [key for key in arrays if key not in expected]
    if wrong:
        problem = "these arrays are missing, unknown or of another shape than the run's."
        remedy = "Resume with the spec that wrote the checkpoint."
        raise ModelError(f"{name}.safetensors: {', '.join(wrong)}", problem, remedy=remedy)
    return jax.tree_util.tree_unflatten(structure, [jnp.asarray(arrays[key]) for key in expected])


def _fits(leaf: Any, array: np.ndarray) -> bool:
    return tuple(leaf.shape) == array.shape and leaf.dtype == array.dtype


def _path_name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
