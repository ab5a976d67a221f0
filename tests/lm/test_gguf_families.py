"""GGUF files of every architecture, written as llama.cpp's converter does, against transformers' logits."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from tokenizers import Tokenizer as Backend

from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.gguf_fields import GgufFields
from tunix_rt.lm.gguf_import import import_gguf
from tunix_rt.lm.gguf_tensors import dequantised
from tunix_rt.lm.gguf_tokenizer import pre_tokenizer, write_tokenizer
from tunix_rt.lm.weights import export_tensors, load_config, load_model

ARCHITECTURES = {
    "llama": "llama",
    "llama_linear": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gpt2": "gpt2",
}
TOKENS = ["t", "1", "t1", *(f"token{index}" for index in range(61))]
KIND = gguf.GGMLQuantizationType


def assert_near(made: np.ndarray, wanted: np.ndarray) -> None:
    """Equal within 1e-5 of the largest wanted number."""
    np.testing.assert_allclose(made, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def converted(name: str, values: np.ndarray, architecture: str) -> np.ndarray:
    """What convert_hf_to_gguf.py does to a tensor of a family."""
    if architecture == "llama" and ("q_proj" in name or "k_proj" in name):
        heads = 4 if "q_proj" in name else 2
        halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
        return halves.swapaxes(1, 2).reshape(values.shape)
    if architecture.startswith("gemma") and name.endswith("norm.weight"):
        return values + np.float32(1)
    if architecture == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
        return values.T
    return values


def write_gguf(path: Path, case: str, reference, kind: gguf.GGMLQuantizationType = KIND.F32) -> None:
    """A file of a case's model whose matrices have a type."""
    architecture = ARCHITECTURES[case]
    writer = gguf.GGUFWriter(path, architecture)
    config, settings = reference.model.config, json.loads(reference.facts["config"])
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(4)
    writer.add_head_count_kv(config.num_kv_heads)
    if architecture == "gpt2":
        writer.add_layer_norm_eps(1e-5)
    else:
        writer.add_key_length(config.head_dim)
        writer.add_rope_freq_base(config.rope_theta)
        writer.add_layer_norm_rms_eps(1e-6)
    rope = settings.get("rope_parameters", {})
    if rope.get("rope_type", "default") != "default":
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope.get("original_max_position_embeddings", 64))
    if architecture == "gemma2":
        writer.add_sliding_window(8)
        writer.add_attn_logit_softcapping(4.0)
        writer.add_final_logit_softcapping(6.0)
    add_tokenizer(writer, "gpt2", "qwen2")
    names = gguf.get_tensor_name_map(
        next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == architecture), 2
    )
    for name, values in reference.weights.items():
        own = names.get_name(name, try_suffixes=(".weight", ".bias"))
        values = np.ascontiguousarray(converted(name, values, architecture))
        if values.ndim == 2 and values.shape[1] % 32 == 0 and kind != KIND.F32:
            writer.add_tensor(own, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(own, values)
    finish(writer)


def add_tokenizer(writer: gguf.GGUFWriter, model: str, pre: str) -> None:
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    writer.add_token_types([1] * 64)
    writer.add_token_merges(["t 1"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("case", ARCHITECTURES)
def test_a_float_file_gives_transformers_logits(case: str, tmp_path: Path, reference_of, logits_of) -> None:
    reference = reference_of(case)
    write_gguf(tmp_path / "model.gguf", case, reference)
    import_gguf(tmp_path / "model.gguf", tmp_path / "out")
    if case == "gemma2":  # GGUF has no place for query_pre_attn_scalar
        settings = json.loads((tmp_path / "out/config.json").read_text())
        (tmp_path / "out/config.json").write_text(json.dumps({**settings, "query_pre_attn_scalar": 24}))
    assert_near(logits_of(load_model(tmp_path / "out"), reference.ids[None])[0], reference.logits)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (KIND.F16, 2e-3),
        (KIND.BF16, 1e-2),
        (KIND.Q8_0, 0.01),
        (KIND.Q5_0, 0.1),
        (KIND.Q5_1, 0.1),
        (KIND.Q4_0, 0.2),
        (KIND.Q4_1, 0.2),
    ],
    ids=lambda each: getattr(each, "name", ""),
)
def test_quantised_matrices_are_near_the_floats(kind, error: float, tmp_path: Path, reference_of) -> None:
    write_gguf(tmp_path / "model.gguf", "qwen3", reference_of("qwen3"), kind)
    provenance = import_gguf(tmp_path / "model.gguf", tmp_path / "out")
    assert provenance.conversion == f"dequantised from {kind.name} to float32"
    made, wanted = export_tensors(load_model(tmp_path / "out")), reference_of("qwen3").weights
    for name, values in wanted.items():
        assert np.abs(made[name] - values).max() <= error * np.abs(values).max()


def test_q6_k_blocks_follow_the_formula(tmp_path: Path) -> None:
    """A weight is the block's scale times its sub-block's whole-number scale times a number in [-32, 31]."""
    random = np.random.default_rng(0)
    low, high = random.integers(0, 256, 128, np.uint8), random.integers(0, 256, 64, np.uint8)
    scales, scale = random.integers(-128, 128, 16, np.int8), np.float16(0.01)
    block = np.concatenate([low, high, scales.view(np.uint8), np.array([scale]).view(np.uint8)])
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_tensor("blk.0.attn_v.weight", block[None], raw_dtype=KIND.Q6_K)
    finish(writer)
    expected = np.zeros(256)
    for half in range(2):
        for place in range(32):
            nibbles = low[64 * half :][[place, place + 32, place, place + 32]] >> np.array([0, 0, 4, 4]) & 15
            for part in range(4):
                bits = high[32 * half + place] >> (2 * part) & 3
                at = 128 * half + 32 * part + place
                expected[at] = float(scale) * scales[at // 16] * (int(nibbles[part] | bits << 4) - 32)
    (tensor,) = gguf.GGUFReader(tmp_path / "model.gguf").tensors
    np.testing.assert_allclose(dequantised(tensor)[0], expected, rtol=1e-6)


def test_gemma3_and_its_layers_are_read(tmp_path: Path, reference_of, logits_of) -> None:
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "gemma3")
    reference = reference_of("gemma3")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(3)
    writer.add_feed_forward_length(48)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_key_length(16)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(8.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_sliding_window(8)
    writer.add_array("gemma3.attention.sliding_window_pattern", [True, False, True])
    writer.add_float32("gemma3.rope.freq_base_swa", 100.0)
    add_tokenizer(writer, "gpt2", "qwen2")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA3, 3)
    for name, values in reference.weights.items():
        own = names.get_name(name, try_suffixes=(".weight",))
        writer.add_tensor(own, converted(name, values, "gemma3"))
    finish(writer)
    import_gguf(tmp_path / "model.gguf", tmp_path / "out")
    settings = json.loads((tmp_path / "out/config.json").read_text())
    (tmp_path / "out/config.json").write_text(json.dumps({**settings, "query_pre_attn_scalar": 24}))
    assert_near(logits_of(load_model(tmp_path / "out"), reference.ids[None])[0], reference.logits)


def test_llama3s_frequency_factors_become_its_rope_scaling(tmp_path: Path) -> None:
    def factor(wave: float) -> float:
        low, high = 8192 / 1.0, 8192 / 4.0
        smooth = (8192 / wave - 1) / 3
        return 1.0 if wave < high else 32.0 if wave > low else 1 / ((1 - smooth) / 32 + smooth)

    waves = 2 * np.pi * 500_000.0 ** (np.arange(0, 64, 2) / 64)
    factors = np.array([factor(wave) for wave in waves], np.float32)
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_context_length(1024)
    writer.add_embedding_length(64)
    writer.add_block_count(1)
    writer.add_feed_forward_length(32)
    writer.add_head_count(1)
    writer.add_rope_freq_base(500_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    add_tokenizer(writer, "gpt2", "llama-bpe")
    shapes = {"attn_norm": 64, "attn_q": (64, 64), "attn_k": (64, 64), "attn_v": (64, 64), "ffn_norm": 64}
    shapes |= {"attn_output": (64, 64), "ffn_gate": (32, 64), "ffn_up": (32, 64), "ffn_down": (64, 32)}
    for name, shape in shapes.items():
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros(shape, np.float32))
    writer.add_tensor("token_embd.weight", np.zeros((64, 64), np.float32))
    writer.add_tensor("output_norm.weight", np.zeros(64, np.float32))
    writer.add_tensor("rope_freqs.weight", factors)
    finish(writer)
    import_gguf(tmp_path / "model.gguf", tmp_path / "out")
    scaling = load_config(tmp_path / "out").rope_scaling
    assert scaling is not None
    assert (scaling.kind, scaling.factor, scaling.original_positions) == ("llama3", 32.0, 8192)


def test_an_unknown_tokenizer_is_refused_by_name(tmp_path: Path, reference_of) -> None:
    write_gguf(tmp_path / "model.gguf", "qwen3", reference_of("qwen3"))
    changed = (
        (tmp_path / "model.gguf").read_bytes().replace(b"\x05\0\0\0\0\0\0\0qwen2", b"\x05\0\0\0\0\0\0\0other")
    )
    (tmp_path / "model.gguf").write_bytes(changed)
    with pytest.raises(ModelError, match="gpt2/other is not supported") as caught:
        import_gguf(tmp_path / "model.gguf", tmp_path / "out")
    assert caught.value.field == "tokenizer.ggml.pre"


@pytest.mark.parametrize(
    ("pre", "parts"),
    [
        ("qwen2", ["I", "'ll", "Ġpay", "Ġ", "1", "2", "3", "4", ".Ċ"]),
        ("llama-bpe", ["I", "'ll", "Ġpay", "Ġ", "123", "4", ".Ċ"]),
        ("gpt-2", ["I", "'ll", "Ġpay", "Ġ1234", ".", "Ċ"]),
        ("smollm", ["I", "'ll", "Ġpay", "Ġ", "1", "2", "3", "4", ".", "Ċ"]),
    ],
)
def test_texts_are_cut_as_the_tokenizers_name_says(pre: str, parts: list[str]) -> None:
    assert [part for part, _ in pre_tokenizer(pre).pre_tokenize_str("I'll pay 1234.\n")] == parts


def test_sentencepiece_scores_give_sentencepieces_ids(tmp_path: Path) -> None:
    stored = json.loads((Path(__file__).parent / "reference" / "sentencepiece.json").read_text())
    fields = GgufFields(
        {
            "general.architecture": "llama",
            "llama.context_length": 64,
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": stored["tokens"],
            "tokenizer.ggml.scores": stored["scores"],
            "tokenizer.ggml.token_type": stored["types"],
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2,
        }
    )
    write_tokenizer(fields, tmp_path)
    backend = Backend.from_file(str(tmp_path / "tokenizer.json"))
    for text, ids in stored["texts"].items():
        assert backend.encode(text, add_special_tokens=False).ids == ids
        assert backend.decode(ids) == text
