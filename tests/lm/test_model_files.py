"""Tensor files are those of the safetensors library, byte for byte."""

import hashlib
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tunix_rt.lm.model_files import new_directory, write_tensor_file

TYPES = [
    "bool", "int8", "uint8", "int16", "uint16", "float16", ml_dtypes.bfloat16, "int32", "uint32", "float32",
    "float64", "int64", "uint64",
]  # fmt: skip


@pytest.fixture
def tensors() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    made = {}
    for number, kind in enumerate(TYPES):
        for name in "ba":
            made[f'{name}/{number}/é"'] = (random.random((3, number + 1)) * 9).astype(kind)
        made[f"empty/{number}"] = np.zeros((0, 2), kind)
        made[f"single/{number}"] = np.array(1, kind)
    return made


def test_the_bytes_are_those_of_the_library(tensors, tmp_path: Path) -> None:
    digest = write_tensor_file(tmp_path / "ours", tensors)
    save_file(tensors, tmp_path / "theirs", metadata={"format": "pt"})
    written = (tmp_path / "ours").read_bytes()
    assert written == (tmp_path / "theirs").read_bytes()
    assert digest == hashlib.sha256(written).hexdigest()


def test_a_tensor_that_is_not_contiguous_is_written_in_its_own_order(tmp_path: Path) -> None:
    tensor = np.arange(12, dtype=np.float32).reshape(3, 4).T
    write_tensor_file(tmp_path / "file", {"t": tensor})
    np.testing.assert_array_equal(load_file(tmp_path / "file")["t"], tensor)


def test_a_directory_is_replaced_only_when_the_new_one_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "old").write_text("old")
    with pytest.raises(RuntimeError), new_directory(target, replace=True) as scratch:
        (scratch / "new").write_text("new")
        raise RuntimeError
    assert [path.name for path in target.iterdir()] == ["old"]
    with new_directory(target, replace=True) as scratch:
        (scratch / "new").write_text("new")
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
