"""Which tensors a model's files must hold, from its config alone; imports no jax, so servers can check."""

import json
import struct
from collections.abc import Mapping
from typing import Any, Literal

from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.tensor_names import own_tensors, tensors

FLOAT_TYPES = frozenset({"F16", "BF16", "F32", "F64"})
WeightType = Literal["float32", "int8"]
WEIGHT_TYPES: tuple[WeightType, ...] = ("float32", "int8")
MAX_HEADER_BYTES = 100_000_000
_OWN_CONFIG = "Use the config.json and the weights of one and the same model."


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor, in Hugging Face's names and order of axes."""
    return {tensor.name: tensor.shape for tensor in tensors(config)}


def parameter_count(config: ModelConfig) -> int:
    """How many numbers the tensors hold."""
    count = 0
    for shape in tensor_shapes(config).values():
        size = 1
        for axis in shape:
            size *= axis
        count += size
    return count


def weight_bytes(config: ModelConfig, weight_type: WeightType = "float32") -> int:
    """The memory of the parameters as a decoder holds them: float32, or int8 matrices with float32 scales."""
    if weight_type == "float32":
        return 4 * parameter_count(config)
    matrices = [tensor for tensor in tensors(config) if tensor.matrix]
    in_matrices = sum(tensor.shape[0] * tensor.shape[1] for tensor in matrices)
    scales = sum(tensor.outputs for tensor in matrices)
    return in_matrices + 4 * (scales + parameter_count(config) - in_matrices)


def check_tensors(config: ModelConfig, found: Mapping[str, tuple[int, ...]], *, source: str) -> None:
    """Raise ModelError that names every missing, unknown and wrongly shaped tensor."""
    expected, found = tensor_shapes(config), own_tensors(config, found)
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    misshapen = [name for name in expected if name in found and found[name] != expected[name]]
    problems = [f"missing: {', '.join(missing)}."] if missing else []
    problems += [f"unknown: {', '.join(unknown)}."] if unknown else []
    for name in misshapen:
        problems.append(f"{name} is {list(found[name])}, config.json says {list(expected[name])}.")
    if problems:
        field = f"{source}: {', '.join(missing + unknown + misshapen)}"
        raise ModelError(field, " ".join(problems), remedy=_OWN_CONFIG)


def header_length(prefix: bytes, *, source: str) -> int:
    """The length of a safetensors header from the first 8 bytes of a file. Raises ModelError."""
    if len(prefix) < 8:
        raise ModelError(source, "is shorter than a safetensors header.", remedy="Export the file again.")
    (length,) = struct.unpack("<Q", prefix[:8])
    if not 2 <= length <= MAX_HEADER_BYTES:
        raise ModelError(source, f"announces a header of {length} bytes.", remedy="Export the file again.")
    return int(length)


def header_shapes(header: bytes, *, source: str) -> dict[str, tuple[int, ...]]:
    """The tensors' shapes in a safetensors header. Raises ModelError if it is malformed or not of floats."""
    try:
        entries: dict[str, Any] = json.loads(header)
        tensors = {name: entry for name, entry in entries.items() if name != "__metadata__"}
        kinds = {name: str(entry["dtype"]) for name, entry in tensors.items()}
        shapes = {name: tuple(int(axis) for axis in entry["shape"]) for name, entry in tensors.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(source, "has a malformed header.", remedy="Export the file again.") from error
    for name, kind in kinds.items():
        check_float(name, kind, source=source)
    return shapes


def check_float(name: str, kind: str, *, source: str) -> None:
    """Raise ModelError unless a tensor's safetensors type is one of floats."""
    if kind not in FLOAT_TYPES:
        problem = f"has numbers of type {kind}, which is not supported."
        raise ModelError(f"{source}: {name}", problem, remedy="Use weights that are not quantised.")
