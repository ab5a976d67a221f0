"""Model directories in Hugging Face layout: config.json and safetensors."""

import hashlib
from collections.abc import Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.layout import check_tensors
from tunix_rt.lm.lora import has_lora
from tunix_rt.lm.model import Decoder
from tunix_rt.lm.model_files import (
    float_shapes,
    read_json,
    read_tensor_file,
    write_json,
    write_tensor_file,
)
from tunix_rt.lm.tensor_names import own_tensors, tensors

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


def load_config(directory: Path | str) -> ModelConfig:
    """Read a model directory's config.json; stop ids of generation_config.json are added."""
    folder = Path(directory)
    settings = dict(read_json(folder / "config.json"))
    generation = folder / "generation_config.json"
    if generation.exists():
        settings["eos_token_id"] = read_json(generation).get("eos_token_id", settings.get("eos_token_id"))
    return ModelConfig.from_hf(settings)


def load_model(directory: Path | str) -> Decoder:
    """Load a model directory as a float32 decoder; one file or several with an index.

    Raises ModelError that names every tensor that is missing, unknown or of another shape.
    """
    folder = Path(directory)
    config = check_directory(folder)
    found: dict[str, np.ndarray] = {}
    for path in weight_files(folder):
        found.update(read_tensor_file(path))
    return build_model(config, found)


def check_directory(directory: Path | str) -> ModelConfig:
    """The config of a model directory whose tensors all fit it; reads headers only."""
    folder = Path(directory)
    config = load_config(folder)
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder):
        shapes.update(float_shapes(path))
    check_tensors(config, shapes, source=WEIGHTS_FILE)
    return config


def build_model(config: ModelConfig, found: Mapping[str, np.ndarray]) -> Decoder:
    """A decoder of tensors under Hugging Face names, of which every one must be there and fit."""
    model = Decoder(config, rngs=None)
    graph, state = nnx.split(model)
    flat = nnx.to_flat_state(state)
    own = own_tensors(config, found)
    places = {path: (tensor, index) for tensor in tensors(config) for index, path in enumerate(tensor.paths)}

    def filled(entry: tuple[Any, Any]) -> tuple[Any, Any]:
        path, variable = entry
        tensor, index = places[tuple(path)]
        values = own[tensor.name].T if tensor.transposed else own[tensor.name]
        values = np.split(values, len(tensor.paths))[index] if len(tensor.paths) > 1 else values
        return path, variable.replace(jnp.asarray(np.ascontiguousarray(values, np.float32)))

    with ThreadPoolExecutor() as pool:  # copying releases the interpreter's lock
        leaves = list(pool.map(filled, flat))
    loaded: Decoder = nnx.merge(graph, nnx.from_flat_state(leaves))
    return loaded


def save_model(model: Decoder, directory: Path | str) -> None:
    """Write config.json and model.safetensors (float32); merge or export adapters first."""
    if has_lora(model):
        raise ValueError("The model carries adapters; merge them, or export them, before saving.")
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", model.config.to_hf())
    write_tensor_file(folder / WEIGHTS_FILE, export_tensors(model))


def export_tensors(model: Decoder) -> dict[str, np.ndarray]:
    """The model's parameters under Hugging Face names, float32."""
    flat = _flat_parameters(model)
    made = {}
    for tensor in tensors(model.config):
        parts = [np.asarray(flat[path][...]) for path in tensor.paths]
        values = np.concatenate(parts) if len(parts) > 1 else parts[0]
        made[tensor.name] = np.ascontiguousarray(values.T if tensor.transposed else values)
    return made


def weight_files(folder: Path) -> list[Path]:
    """The directory's safetensors files, in the index's order; each exists, or ModelError."""
    remedy = "Give a directory in Hugging Face layout with float weights in safetensors."
    if (folder / WEIGHTS_FILE).exists():
        return [folder / WEIGHTS_FILE]
    if not (folder / INDEX_FILE).exists():
        raise ModelError(WEIGHTS_FILE, f"there is no such file in {folder.name}.", remedy=remedy)
    index = read_json(folder / INDEX_FILE).get("weight_map")
    if not isinstance(index, dict) or not all(isinstance(value, str) for value in index.values()):
        raise ModelError(f"{INDEX_FILE}: weight_map", "is not a mapping to file names.", remedy=remedy)
    names = list(dict.fromkeys(index.values()))
    for name in names:
        if Path(name).name != name:
            raise ModelError(f"{INDEX_FILE}: weight_map", f"{name!r} leaves the directory.", remedy=remedy)
        if not (folder / name).exists():
            raise ModelError(name, f"{INDEX_FILE} names this file, and it is missing.", remedy=remedy)
    return [folder / name for name in names]


def weights_digest(directory: Path | str) -> str:
    """SHA-256 of the weight files' names and bytes, as hexadecimal digits."""
    digest = hashlib.sha256()
    for path in weight_files(Path(directory)):
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _flat_parameters(model: Decoder) -> dict[tuple[Hashable, ...], Any]:
    return {tuple(path): variable for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param))}
