from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from tunix_rt.lm.adapters import adapter_bytes, load_adapter
from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.lora import add_lora, export_lora, has_lora, lora_config, merge_lora
from tunix_rt.lm.model import Decoder
from tunix_rt.lm.model_files import read_json, write_json
from tunix_rt.lm.peft_import import import_peft
from tunix_rt.lm.weights import load_model, weights_digest


@pytest.fixture
def tuned(lively_model: Decoder) -> Decoder:
    model = nnx.clone(lively_model)
    add_lora(model, 4, alpha=8.0, targets=("q", "down"), rngs=nnx.Rngs(1))
    for layer in model.layers:
        layer.q.lora_b[...] = layer.q.lora_b[...] + 0.5
    return model


@pytest.fixture
def folder(tuned: Decoder, tmp_path: Path) -> Path:
    save_file(export_lora(tuned), tmp_path / "adapter_model.safetensors")
    write_json(tmp_path / "adapter_config.json", lora_config(tuned))
    return tmp_path


def test_logits_are_those_of_the_merged_model(lively_model, tuned, folder, full_logits) -> None:
    tokens = list(range(2, 40))
    made = full_logits(load_adapter(lively_model, folder), tokens)
    merge_lora(tuned)
    np.testing.assert_allclose(made, full_logits(tuned, tokens), atol=1e-4)


def test_the_base_is_shared_and_stays_as_it_is(lively_model, folder) -> None:
    model = load_adapter(lively_model, folder)
    assert not has_lora(lively_model)
    assert model.layers[0].q.weight[...] is lively_model.layers[0].q.weight[...]
    assert model.embedding[...] is lively_model.embedding[...]


def test_the_memory_of_an_adapter_is_read_from_its_header(tuned, folder) -> None:
    assert adapter_bytes(folder) == sum(tensor.nbytes for tensor in export_lora(tuned).values())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("peft_type", "LOHA"),
        ("use_dora", True),
        ("use_rslora", True),
        ("rank_pattern", {"q_proj": 8}),
        ("bias", "all"),
        ("lora_alpha", None),
        ("r", 8),
    ],
)
def test_an_adapter_that_would_not_be_applied_wholly_is_refused(lively_model, folder, key, value) -> None:
    config = read_json(folder / "adapter_config.json")
    write_json(folder / "adapter_config.json", {**config, key: value})
    with pytest.raises(ModelError, match=f"adapter_config.json: {key}"):
        load_adapter(lively_model, folder)


def test_an_import_is_merged_with_the_adapter_beside_it(tiny_directory, tmp_path, full_logits) -> None:
    model = load_model(tiny_directory)
    add_lora(model, 2, alpha=4.0, targets=("q", "down"), rngs=nnx.Rngs(1))
    for layer in model.layers:
        layer.q.lora_b[...] = layer.q.lora_b[...] + 0.5
    adapter = tmp_path / "mine"
    adapter.mkdir()
    save_file(export_lora(model), adapter / "adapter_model.safetensors")
    write_json(adapter / "adapter_config.json", lora_config(model))
    provenance = import_peft(adapter, tiny_directory, tmp_path / "made")
    merged = load_model(tmp_path / "made")
    tokens = list(range(2, 20))
    np.testing.assert_allclose(full_logits(merged, tokens), full_logits(model, tokens), atol=1e-4)
    kept = tmp_path / "made" / "adapter" / "adapter_model.safetensors"
    assert kept.read_bytes() == (adapter / "adapter_model.safetensors").read_bytes()
    assert (provenance.source, provenance.name) == ("peft", "mine")
    assert weights_digest(tiny_directory) in provenance.conversion


def test_a_directory_without_an_adapter_is_refused(tiny_directory, tmp_path) -> None:
    with pytest.raises(ModelError, match=r"adapter_config\.json"):
        import_peft(tiny_directory, tiny_directory, tmp_path / "made")
    assert not (tmp_path / "made").exists()
