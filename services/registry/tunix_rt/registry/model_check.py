"""Whether stored files are a model: config, tokenizer, and every tensor that the config asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunix_rt.blobs.blobs import Blobs
from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.layout import check_tensors, header_length, header_shapes, parameter_count
from tunix_rt.v1 import artifact_pb2

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_MAX_JSON_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class ModelFacts:
    """What the files say about the model."""

    architecture: str
    parameter_count: int


def check_model(files: Sequence[artifact_pb2.File], blobs: Blobs) -> ModelFacts:
    """Reads configs and safetensors headers from the object store; blocks.

    Raises ModelError that names the file and what is missing in it.
    """
    by_path = {file.path: file for file in files}
    weights = INDEX if INDEX in by_path else WEIGHTS
    for path in (CONFIG, TOKENIZER, weights):
        if path not in by_path:
            raise ModelError(path, "is not among the files.", remedy="Add it; a model needs it.")
    config = ModelConfig.from_hf(_json(blobs, by_path[CONFIG]))
    _json(blobs, by_path[TOKENIZER])
    shapes = _sharded_shapes(blobs, by_path) if weights == INDEX else _shapes(blobs, by_path[WEIGHTS])
    check_tensors(config, shapes, source=weights)
    return ModelFacts(config.architecture, parameter_count(config))


def _sharded_shapes(blobs: Blobs, by_path: Mapping[str, artifact_pb2.File]) -> dict[str, tuple[int, ...]]:
    index = _json(blobs, by_path[INDEX])
    places = index.get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(each, str) for each in places.values()):
        raise ModelError(f"{INDEX}: weight_map", "is missing.", remedy="Export the model again.")
    shapes: dict[str, tuple[int, ...]] = {}
    for shard in sorted(set(places.values())):
        if shard not in by_path:
            raise ModelError(shard, f"is named in {INDEX} but not among the files.", remedy="Add it.")
        found = _shapes(blobs, by_path[shard])
        absent = sorted(name for name, place in places.items() if place == shard and name not in found)
        if absent:
            text = f"does not hold {', '.join(absent)}, though {INDEX} says so."
            raise ModelError(shard, text, remedy="Export the model again.")
        shapes |= found
    return shapes


def _shapes(blobs: Blobs, file: artifact_pb2.File) -> dict[str, tuple[int, ...]]:
    length = header_length(_prefix(blobs, file, 8), source=file.path)
    header = _prefix(blobs, file, 8 + length)[8:]
    if len(header) < length:
        raise ModelError(file.path, "ends inside its header.", remedy="Upload the whole file.")
    shapes = header_shapes(header, source=file.path)
    entries: dict[str, Any] = json.loads(header)
    try:
        end = max((entry["data_offsets"][1] for name, entry in entries.items() if name in shapes), default=0)
        whole = 8 + length + end == file.size_bytes
    except (KeyError, TypeError, IndexError) as error:
        raise ModelError(file.path, "has a malformed header.", remedy="Export the file again.") from error
    if not whole:
        text = f"has {file.size_bytes} bytes, but its header describes {8 + length + end}."
        raise ModelError(file.path, text, remedy="Upload the whole file.")
    return shapes


def _json(blobs: Blobs, file: artifact_pb2.File) -> dict[str, Any]:
    if file.size_bytes > _MAX_JSON_BYTES:
        text = f"has {file.size_bytes} bytes; at most {_MAX_JSON_BYTES} are read."
        raise ModelError(file.path, text, remedy="Use the file that belongs to the model.")
    try:
        value = json.loads(_prefix(blobs, file, file.size_bytes))
    except ValueError as error:
        raise ModelError(file.path, f"is not JSON ({error}).", remedy="Export the file again.") from error
    if not isinstance(value, dict):
        raise ModelError(file.path, "is not a JSON object.", remedy="Export the file again.")
    return value


def _prefix(blobs: Blobs, file: artifact_pb2.File, size: int) -> bytes:
    """The first bytes of a file; fewer if it is shorter."""
    found = bytearray()
    for chunk in blobs.read(file.sha256):
        found += chunk
        if len(found) >= size:
            break
    return bytes(found[:size])
