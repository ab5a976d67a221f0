"""Reading and writing the files of a model directory, each whole or not at all."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.layout import check_float

_AGAIN = "Download or export the file again."
_PIECE_BYTES = 16 * 1024 * 1024
# In the order in which the library lays tensors out.
_TYPES = {
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
    "float32": "F32",
    "uint32": "U32",
    "int32": "I32",
    "bfloat16": "BF16",
    "float16": "F16",
    "uint16": "U16",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}


@contextmanager
def new_directory(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """A scratch directory that becomes `target` when the block ends well, and vanishes otherwise.

    Its files are on disk before the name appears. `target` must not exist, or be empty, unless it is to be
    replaced; until the block has ended well it is left alone.
    """
    if not replace and target.exists() and any(target.iterdir()):
        raise FileExistsError(f"{target} is not empty; give a new directory.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        made = Path(scratch) / target.name
        made.mkdir()
        yield made
        for path in [*made.iterdir(), made]:
            flush(path)
        if replace and target.exists():
            target.rename(Path(scratch) / "replaced")
        made.replace(target)
        flush(target.parent)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; ModelError where it is missing or is no object."""
    remedy = "Give a complete model directory in Hugging Face layout."
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(path.name, f"cannot be read ({error.strerror}).", remedy=remedy) from error
    except ValueError as error:
        raise ModelError(path.name, f"is not valid JSON ({error}).", remedy=remedy) from error
    if not isinstance(value, dict):
        raise ModelError(path.name, "is not a JSON object.", remedy=remedy)
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a mapping as indented JSON."""
    partial = path.with_name(f".{path.name}")
    partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    flush(partial)
    partial.replace(path)


def read_tensor_file(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file."""
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, TypeError) as error:
        raise _unreadable(path, error) from error


def float_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a safetensors file, from its header; all must be floats."""
    shapes = {}
    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 (not a mapping)
                part = file.get_slice(name)
                check_float(name, part.get_dtype(), source=path.name)
                shapes[name] = tuple(part.get_shape())
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error
    return shapes


def write_tensor_file(path: Path, tensors: Mapping[str, np.ndarray]) -> str:
    """Write a safetensors file and return its SHA-256; equal tensors give equal bytes.

    The bytes are those that the safetensors library writes, but no tensor is copied on the way, and other
    threads run meanwhile.
    """
    partial = path.with_name(f".{path.name}")
    names = _layout_order(tensors)
    digest = hashlib.sha256()
    with partial.open("wb", buffering=0) as file:
        for piece in (_header(tensors, names), *(_bytes(tensors[name]) for name in names)):
            for start in range(0, len(piece), _PIECE_BYTES):
                part = piece[start : start + _PIECE_BYTES]
                digest.update(part)
                while part:
                    part = part[file.write(part) :]
        os.fsync(file.fileno())
    partial.chmod(0o644)
    partial.replace(path)
    return digest.hexdigest()


def _layout_order(tensors: Mapping[str, np.ndarray]) -> list[str]:
    order = list(_TYPES)
    return sorted(tensors, key=lambda name: (order.index(tensors[name].dtype.name), name))


def _header(tensors: Mapping[str, np.ndarray], names: list[str]) -> memoryview:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        start, end = end, end + tensors[name].nbytes
        header[name] = {
            "dtype": _TYPES[tensors[name].dtype.name],
            "shape": tensors[name].shape,
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return memoryview(len(text).to_bytes(8, "little") + text)


def _bytes(tensor: np.ndarray) -> memoryview:
    return np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data


def _unreadable(path: Path, error: Exception) -> ModelError:
    return ModelError(path.name, f"cannot be read as safetensors ({error}).", remedy=_AGAIN)


def flush(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
