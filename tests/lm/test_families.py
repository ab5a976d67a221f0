"""Every model family against the reference numbers of transformers; see reference/make_families.py."""

import dataclasses
import hashlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.decoding import BatchDecoder
from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.layout import parameter_count, tensor_shapes, weight_bytes
from tunix_rt.lm.lora import add_lora, export_lora, import_lora, lora_config, merge_lora
from tunix_rt.lm.model import KeysValues
from tunix_rt.lm.model import parameter_count as parameters_of
from tunix_rt.lm.packing import Request
from tunix_rt.lm.tiled import TiledDecoder
from tunix_rt.lm.weights import check_directory, export_tensors, load_model, save_model

LENGTH = 24
PREFILLED = np.array([16, 12], np.int32)
CAPACITY = 32


FAMILIES = (
    "llama",
    "llama_biases",
    "llama_linear",
    "llama3",
    "mistral",
    "qwen2",
    "qwen2_window",
    "qwen3",
    "qwen3_biases",
    "gemma",
    "gemma2",
    "gemma3",
    "gpt2",
    "gpt2_gelu",
)


@pytest.fixture(scope="module", params=FAMILIES)
def reference(request: pytest.FixtureRequest, reference_of):
    return reference_of(request.param)


def assert_near(made: np.ndarray, wanted: np.ndarray) -> None:
    """Equal within 1e-5 of the largest wanted number."""
    np.testing.assert_allclose(made, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_logits_equal_transformers(reference, logits_of) -> None:
    assert_near(logits_of(reference.model, reference.ids[None])[0], reference.logits)


@pytest.mark.parametrize("case", ["qwen2_window", "gemma2", "gemma3", "gpt2"])
def test_cached_decoding_equals_transformers(case: str, reference_of) -> None:
    reference = reference_of(case)
    model = TiledDecoder(nnx.clone(reference.model))
    tokens = jnp.asarray(np.stack([reference.ids] * 2))
    positions = jnp.broadcast_to(jnp.arange(LENGTH, dtype=jnp.int32), tokens.shape)
    _, fresh = model.hidden_and_cache(tokens, positions, jnp.ones_like(tokens))
    cache, lengths = [cache_of(*each) for each in fresh], jnp.asarray(PREFILLED)
    for _ in range(LENGTH - PREFILLED.max()):
        hidden, cache = model.next_hidden(tokens[jnp.arange(2), lengths], lengths, cache)
        assert_near(np.asarray(model.logits(hidden)), reference.logits[np.asarray(lengths)])
        lengths = lengths + 1


def cache_of(keys: jnp.ndarray, values: jnp.ndarray) -> KeysValues:
    """The first keys and values of each row as decoding stores them, zeros behind."""
    kept = (jnp.arange(LENGTH)[None] < PREFILLED[:, None])[:, :, None, None]
    keys, values = (
        jnp.pad(jnp.where(kept, each, jnp.float32(0)), [(0, 0), (0, CAPACITY - LENGTH), (0, 0), (0, 0)])
        for each in (keys, values)
    )
    return keys.transpose(0, 2, 3, 1), values.transpose(0, 2, 1, 3)


def test_export_after_import_gives_the_same_bytes(reference, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(reference.facts["config"])
    save_file(reference.weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    save_model(load_model(tmp_path), tmp_path / "out")
    written = (tmp_path / "out/model.safetensors").read_bytes()
    assert hashlib.sha256(written).hexdigest() == reference.facts["sha256"]
    assert (tmp_path / "out/config.json").read_text() == reference.facts["config"]


def test_a_config_written_anew_reads_back_the_same(reference) -> None:
    config = reference.model.config
    anew = dataclasses.replace(config, source="").to_hf()
    assert ModelConfig.from_hf(anew) == config
    assert anew["architectures"] == json.loads(reference.facts["config"])["architectures"]


def test_the_layout_is_the_models(reference) -> None:
    config = reference.model.config
    assert {name: list(shape) for name, shape in tensor_shapes(config).items()} == reference.facts["shapes"]
    assert parameter_count(config) == parameters_of(reference.model)
    assert parameter_count(config) < weight_bytes(config, "int8") < weight_bytes(config)


def test_activations_take_the_type_of_the_embedding(reference_of, logits_of) -> None:
    reference = reference_of("gemma3")
    graph, state = nnx.split(reference.model)
    model = nnx.merge(graph, jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), state))
    made = logits_of(model, reference.ids[None])[0]
    assert made.dtype == jnp.bfloat16
    difference = made.astype(np.float32) - reference.logits
    spread = np.sqrt(np.mean(reference.logits**2))
    assert np.sqrt(np.mean(difference**2)) < 0.1 * spread  # eight bits through seven layers


def test_a_window_reaches_into_the_shared_start(reference_of, logits_of) -> None:
    """Two texts that share 10 tokens and lie apart in one pack have the logits that each has alone."""
    reference = reference_of("gemma2")
    ids = reference.ids
    shared, ends = ids[:10], (ids[10:], ids[10:][::-1])
    tokens = np.concatenate([shared, *ends]).astype(np.int32)[None]
    positions = np.concatenate([np.arange(10), np.arange(10, 24), np.arange(10, 24)]).astype(np.int32)[None]
    segments = np.repeat(np.array([1, 2, 3], np.int32), [10, 14, 14])[None]
    after = np.repeat(np.array([-1, 1, 1], np.int32), [10, 14, 14])[None]
    arrays = (jnp.asarray(each) for each in (tokens, positions, segments))
    packed = reference.model.logits(reference.model.hidden(*arrays, after=jnp.asarray(after)))
    alone = logits_of(reference.model, np.stack([np.concatenate([shared, end]) for end in ends]))
    assert_near(np.asarray(packed)[10:24], alone[0, 10:])
    assert_near(np.asarray(packed)[24:], alone[1, 10:])


def test_greedy_generation_equals_the_naive_forward_pass(reference_of, logits_of) -> None:
    reference = reference_of("gemma3")
    decoder = BatchDecoder(TiledDecoder(nnx.clone(reference.model)), eos_ids=[], batch_sizes=(1,))
    prompt, new = reference.ids[:6].tolist(), 14
    (first,) = decoder.prefill([Request(prompt, new)])
    made = list(first.tokens)
    while decoder.running:
        made += decoder.step_segment()[0].tokens
    naive = np.array([prompt + made], np.int32)
    assert made == logits_of(reference.model, naive)[0, 5:-1].argmax(axis=1).tolist()


def test_gpt2_files_without_prefix_and_with_masks_load_from_shards(tmp_path: Path, reference_of) -> None:
    reference = reference_of("gpt2")
    bare = {name.removeprefix("transformer."): values for name, values in reference.weights.items()}
    bare["h.0.attn.bias"] = np.ones((1, 1, 64, 64), np.float32)
    bare["lm_head.weight"] = bare["wte.weight"]
    (tmp_path / "config.json").write_text(reference.facts["config"])
    names = sorted(bare)
    places = {}
    for index, part in enumerate((names[:9], names[9:])):
        shard = f"model-{index}.safetensors"
        save_file({name: bare[name] for name in part}, tmp_path / shard)
        places |= dict.fromkeys(part, shard)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    check_directory(tmp_path)
    loaded = export_tensors(load_model(tmp_path))
    assert all(np.array_equal(loaded[name], reference.weights[name]) for name in reference.weights)


@pytest.mark.parametrize("case", ["gpt2", "qwen2"])
def test_an_adapter_of_peft_gives_pefts_logits_and_is_written_again(case, reference_of, logits_of) -> None:
    reference = reference_of(case)
    model = nnx.clone(reference.model)
    import_lora(model, reference.adapter, alpha=8.0)
    assert_near(logits_of(TiledDecoder(nnx.clone(model)), reference.ids[None])[0], reference.adapted)
    written = export_lora(model)
    assert set(written) == set(reference.adapter)
    assert all(np.array_equal(written[name], values) for name, values in reference.adapter.items())
    merge_lora(model)
    assert_near(logits_of(model, reference.ids[None])[0], reference.adapted)


def test_gpt2s_adapter_is_named_as_peft_does(reference_of) -> None:
    model = nnx.clone(reference_of("gpt2").model)
    add_lora(model, 4, alpha=8.0, rngs=nnx.Rngs(0))
    settings = lora_config(model)
    assert settings["target_modules"] == ["attn.c_proj", "c_attn", "c_fc", "mlp.c_proj"]
    assert settings["fan_in_fan_out"] is True
    assert {name: each.shape for name, each in export_lora(model).items()} == {
        name: each.shape for name, each in reference_of("gpt2").adapter.items()
    }


def test_an_adapter_of_q_alone_leaves_k_and_v_as_they_are(reference_of) -> None:
    model = nnx.clone(reference_of("gpt2").model)
    add_lora(model, 4, alpha=8.0, targets=["q_proj"], rngs=nnx.Rngs(0))
    for layer in model.layers:
        layer.q.lora_b[...] = layer.q.lora_b[...] + 1
    change = export_lora(model)["base_model.model.transformer.h.0.attn.c_attn.lora_B.weight"]
    assert (change[:32].all(), change[32:].any()) == (True, False)


def test_a_target_that_the_family_lacks_is_refused(reference_of) -> None:
    with pytest.raises(ModelError, match="gpt2 has no such projection"):
        add_lora(nnx.clone(reference_of("gpt2").model), 4, alpha=8.0, targets=["gate", "q"], rngs=nnx.Rngs(0))
