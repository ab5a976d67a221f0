import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.layout import parameter_count as count_from_config
from tunix_rt.lm.layout import tensor_shapes
from tunix_rt.lm.model import Decoder, parameter_count
from tunix_rt.lm.weights import export_tensors, load_config, load_model, save_model, weights_digest

UP = "model.layers.1.mlp.up_proj.weight"
Q = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture
def folder(tiny_directory: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_directory, tmp_path / "model")


def _rewrite(folder: Path, **changes: np.ndarray | None) -> None:
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in changes.items():
        tensors.pop(name, None)
        if tensor is not None:
            tensors[name] = tensor
    save_file(tensors, folder / "model.safetensors")


def test_saving_and_loading_keeps_every_bit(lively_model: Decoder, tmp_path: Path) -> None:
    save_model(lively_model, tmp_path)
    loaded = export_tensors(load_model(tmp_path))
    for name, tensor in export_tensors(lively_model).items():
        np.testing.assert_array_equal(loaded[name], tensor)
    assert load_config(tmp_path) == lively_model.config


def test_equal_models_have_equal_files(lively_model: Decoder, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_model(lively_model, tmp_path / name)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    assert weights_digest(tmp_path / "a") == weights_digest(tmp_path / "b")


def test_sharded_weights_load(folder: Path) -> None:
    whole = export_tensors(load_model(folder))
    places = {}
    for index, names in enumerate((list(whole)[:5], list(whole)[5:])):
        shard = f"model-{index}.safetensors"
        save_file({name: whole[name] for name in names}, folder / shard)
        places |= dict.fromkeys(names, shard)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    loaded = export_tensors(load_model(folder))
    assert all(np.array_equal(loaded[name], whole[name]) for name in whole)


def test_bfloat16_weights_load_as_float32(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    half = {name: tensor.astype(ml_dtypes.bfloat16) for name, tensor in tensors.items()}
    save_file(half, folder / "model.safetensors")
    model = load_model(folder)
    assert model.embedding[...].dtype == jnp.float32
    np.testing.assert_array_equal(model.embedding[...], half["model.embed_tokens.weight"].astype(np.float32))


def test_all_missing_tensors_are_named(folder: Path) -> None:
    _rewrite(folder, **{UP: None, Q: None})
    with pytest.raises(ModelError, match="missing") as caught:
        load_model(folder)
    assert caught.value.field == f"model.safetensors: {Q}, {UP}"


def test_a_wrong_shape_says_both_shapes(folder: Path) -> None:
    _rewrite(folder, **{UP: np.zeros((3, 4), np.float32)})
    with pytest.raises(ModelError, match=r"\[3, 4\], config.json says \[85, 32\]") as caught:
        load_model(folder)
    assert caught.value.field == f"model.safetensors: {UP}"


def test_an_unknown_tensor_is_refused(folder: Path) -> None:
    _rewrite(folder, **{"model.extra.weight": np.zeros(3, np.float32)})
    with pytest.raises(ModelError, match=r"unknown: model\.extra\.weight"):
        load_model(folder)


def test_whole_numbers_are_refused(folder: Path) -> None:
    _rewrite(folder, **{UP: np.zeros((85, 32), np.int8)})
    with pytest.raises(ModelError, match="I8"):
        load_model(folder)


def test_a_cut_off_file_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="safetensors") as caught:
        load_model(folder)
    assert caught.value.field == "model.safetensors"


@pytest.mark.parametrize(
    ("name", "content", "field"),
    [
        ("config.json", None, "config.json"),
        ("config.json", "{broken", "config.json"),
        ("config.json", "[]", "config.json"),
        ("model.safetensors", None, "model.safetensors"),
    ],
)
def test_a_missing_or_broken_file_is_named(folder: Path, name: str, content: str | None, field: str) -> None:
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    assert caught.value.field == field


@pytest.mark.parametrize("shard", ["absent.safetensors", "../other/model.safetensors"])
def test_an_index_cannot_name_other_files(folder: Path, shard: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {UP: shard}}))
    with pytest.raises(ModelError):
        load_model(folder)


def test_the_layout_of_a_config_is_the_models(lively_model: Decoder) -> None:
    assert {name: each.shape for name, each in export_tensors(lively_model).items()} == tensor_shapes(
        lively_model.config
    )
    assert count_from_config(lively_model.config) == parameter_count(lively_model)
