"""A training state on disk: trees of arrays as safetensors, a small JSON record, and a manifest of both."""

import hashlib
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
MANIFEST_FILE = "manifest.json"
FORMAT = 1
_DAMAGED = "Use another checkpoint, or restore its files."


def host_copy(tree: Any) -> Any:
    """The tree with its arrays in host memory, sharing no byte with the device's buffers.

    On the CPU device a view would share them, and keep them from being donated to the next step.
    """
    leaves = jax.tree.leaves(tree)
    if all(device.platform == "cpu" for leaf in leaves for device in leaf.devices()):
        tree = jax.tree.map(jnp.copy, tree)
    else:
        for leaf in leaves:
            leaf.copy_to_host_async()
    return jax.tree.map(np.asarray, tree)


def save_checkpoint(directory: Path | str, *, trees: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write each tree of arrays to NAME.safetensors, `state` to state.json, and then the manifest.

    The directory appears complete and on disk, or not at all; one that is there is replaced. Random keys
    must be given as their numbers (`jax.random.key_data`).
    """
    with new_directory(Path(directory), replace=True) as scratch:
        digests = {}
        for name, tree in trees.items():
            path = scratch / f"{name}.safetensors"
            digests[path.name] = write_tensor_file(path, flatten_tree(tree))
        write_json(scratch / STATE_FILE, state)
        digests[STATE_FILE] = _sha256(scratch / STATE_FILE)
        files = {
            name: {"sha256": digest, "size_bytes": (scratch / name).stat().st_size}
            for name, digest in sorted(digests.items())
        }
        write_json(scratch / MANIFEST_FILE, {"format": FORMAT, "files": files})


def read_state(directory: Path | str) -> dict[str, Any]:
    """The state record of a checkpoint."""
    return read_json(Path(directory) / STATE_FILE)


def verify_checkpoint(directory: Path | str) -> None:
    """Raises ModelError that names every file that is missing or has other bytes than the manifest says."""
    folder = Path(directory)
    manifest = read_json(folder / MANIFEST_FILE)
    if manifest.get("format") != FORMAT:
        problem = f"has format {manifest.get('format')!r}; this version reads format {FORMAT}."
        raise ModelError(
            f"{folder.name}/{MANIFEST_FILE}", problem, remedy="Resume with the version it is of."
        )
    files = manifest.get("files")
    if not isinstance(files, dict) or STATE_FILE not in files:
        raise ModelError(f"{folder.name}/{MANIFEST_FILE}", "does not name the files.", remedy=_DAMAGED)
    damaged = [
        name
        for name, file in files.items()
        if not (folder / name).is_file()
        or (folder / name).stat().st_size != file["size_bytes"]
        or _sha256(folder / name) != file["sha256"]
    ]
    if damaged:
        problem = "these files are missing or damaged."
        raise ModelError(f"{folder.name}: {', '.join(damaged)}", problem, remedy=_DAMAGED)


def load_checkpoint(
    directory: Path | str, *, templates: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The trees, shaped like their templates, and the state record of a checkpoint.

    Raises ModelError that names every array that is missing, unknown or of another shape or type. Its files
    are not compared with the manifest; `verify_checkpoint` does that.
    """
    folder = Path(directory)
    trees = {
        name: _unflatten(template, read_tensor_file(folder / f"{name}.safetensors"), name)
        for name, template in templates.items()
    }
    return trees, read_state(folder)


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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
