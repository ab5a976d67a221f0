"""Rendered rows as one safetensors file whose bytes are the same for the same rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tunix_rt.trainer.batches import Example
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.rows.problems import RowProblem
from tunix_rt.trainer.rows.recipe import RENDERER
from tunix_rt.trainer.rows.rendering import Rows

_HEADER = "rows"  # one key only: safetensors writes several in no fixed order
_NUMBERS = ("part", "prompt_length", "cut")


def rows_bytes(rows: Rows) -> bytes:
    """The file of some rows.

    For each of `train` and `validation`: `tokens` int32 end to end, `weights` uint8 beside them,
    `ends` int64 where each row ends; `ids` and `id_ends` alike for the ids in UTF-8; and a number a row
    for part, prompt length and cut tokens.
    """
    tensors = _tensors("train", rows.train) | _tensors("validation", rows.validation)
    header = {
        "renderer": RENDERER,
        "sources": list(rows.sources),
        "problems": [asdict(problem) for problem in rows.problems],
    }
    return save(tensors, {_HEADER: json.dumps(header, ensure_ascii=False, sort_keys=True)})


def read_rows(path: Path) -> Rows:
    """The rows of a file. Raises TrainingFailure, reason ROWS_INVALID, for a file that is none."""
    try:
        with safe_open(path, framework="np") as file:
            header = json.loads(file.metadata()[_HEADER])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header["renderer"] != RENDERER:
            raise ValueError(f"was made by {header['renderer']}, this is {RENDERER}")
        return Rows(
            _examples("train", tensors),
            _examples("validation", tensors),
            [RowProblem(**{**each, "examples": tuple(each["examples"])}) for each in header["problems"]],
            [(dataset, split) for dataset, split in header["sources"]],
        )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        remedy = "Render them again from the traces."
        raise TrainingFailure("ROWS_INVALID", f"{path.name} cannot be read: {error}. {remedy}") from error


def _tensors(split: str, examples: Sequence[Example]) -> dict[str, np.ndarray]:
    ids = [example.trace.encode() for example in examples]
    tensors = {
        "tokens": _joined([example.tokens for example in examples], np.int32),
        "weights": _joined([example.weights for example in examples], np.uint8),
        "ends": np.cumsum([len(example.tokens) for example in examples], dtype=np.int64),
        "ids": np.frombuffer(b"".join(ids), np.uint8),
        "id_ends": np.cumsum([len(each) for each in ids], dtype=np.int64),
    }
    for name in _NUMBERS:
        tensors[name] = np.array([getattr(example, name) for example in examples], np.int32)
    return {f"{split}.{name}": tensor for name, tensor in tensors.items()}


def _examples(split: str, tensors: Mapping[str, np.ndarray]) -> list[Example]:
    def pieces(values: str, ends: str) -> list[np.ndarray]:
        return np.split(tensors[f"{split}.{values}"], tensors[f"{split}.{ends}"])[:-1]

    numbers = zip(*(tensors[f"{split}.{name}"].tolist() for name in _NUMBERS), strict=True)
    rows = zip(pieces("ids", "id_ends"), pieces("tokens", "ends"), pieces("weights", "ends"), strict=True)
    return [
        Example(ids.tobytes().decode(), tokens, weights.astype(np.float32), *number)
        for (ids, tokens, weights), number in zip(rows, numbers, strict=True)
    ]


def _joined(arrays: Sequence[np.ndarray], kind: type) -> np.ndarray:
    return np.concatenate(arrays).astype(kind) if arrays else np.zeros(0, kind)
