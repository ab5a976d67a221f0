"""Reading and writing the files of a model directory, each whole or not at all."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.layout import check_float

_AGAIN = "Download or export the file again."


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """A scratch directory that becomes `target` when the block ends well, and vanishes otherwise.

    Its files are on disk before the name appears. `target` must not exist, or be empty.
    """
    if target.exists() and any(target.iterdir()):
        raise FileExistsError(f"{target} is not empty; give a new directory.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        made = Path(scratch) / target.name
        made.mkdir()
        yield made
        for path in [*made.iterdir(), made]:
            _flush(path)
        made.replace(target)
        _flush(target.parent)


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


def write_tensor_file(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a safetensors file; equal tensors give equal bytes."""
    partial = path.with_name(f".{path.name}")
    save_file(dict(tensors), partial, metadata={"format": "pt"})
    partial.chmod(0o644)
    _flush(partial)
    partial.replace(path)


def _unreadable(path: Path, error: Exception) -> ModelError:
    return ModelError(path.name, f"cannot be read as safetensors ({error}).", remedy=_AGAIN)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
