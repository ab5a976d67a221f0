import dataclasses

import pytest

from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.rope_scaling import RopeScaling

LLAMA = {
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 24,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rope_theta": 5000.0,
    "rms_norm_eps": 1e-6,
    "eos_token_id": [2, 3],
}


def test_reads_a_llama_config() -> None:
    config = ModelConfig.from_hf(LLAMA)
    assert config == ModelConfig(
        vocab_size=100,
        hidden_size=24,
        intermediate_size=64,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=6,
        max_positions=128,
        rope_theta=5000.0,
        norm_eps=1e-6,
        tie_word_embeddings=False,
        eos_ids=(2, 3),
    )


GEMMA3 = {
    "model_type": "gemma3_text",
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "max_position_embeddings": 32768,
    "query_pre_attn_scalar": 256,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
    "rope_theta": 1e6,
    "rope_local_base_freq": 1e4,
    "rope_scaling": None,
}


def test_gemma3_reads_the_older_names_of_its_layers_and_rotary_bases() -> None:
    config = ModelConfig.from_hf(GEMMA3)
    assert config.windows == (512,) * 5 + (None,)
    assert (config.rope_theta, config.local_rope_theta) == (1e6, 1e4)
    assert (config.query_scale, config.logit_softcap) == (None, None)


def test_the_first_gemmas_gelu_is_the_tanh_form() -> None:
    first = {key: GEMMA3[key] for key in list(GEMMA3)[1:9]} | {"model_type": "gemma", "hidden_act": "gelu"}
    assert ModelConfig.from_hf(first).activation == "gelu_tanh"


def test_qwen_has_a_window_only_where_it_is_switched_on() -> None:
    off = {
        **LLAMA,
        "model_type": "qwen2",
        "use_sliding_window": False,
        "sliding_window": 16,
        "max_window_layers": 1,
    }
    assert ModelConfig.from_hf(off).windows == ()
    assert ModelConfig.from_hf({**off, "use_sliding_window": True}).windows == (None, 16)


def test_the_older_rope_scaling_is_read() -> None:
    scaling = {"type": "linear", "factor": 4.0}
    assert ModelConfig.from_hf({**LLAMA, "rope_scaling": scaling}).rope_scaling == RopeScaling("linear", 4.0)


def test_fields_that_change_nothing_are_written_again() -> None:
    read = {**LLAMA, "_name_or_path": "mine", "attention_dropout": 0.0, "torch_dtype": "bfloat16"}
    assert ModelConfig.from_hf(read).to_hf() == {**read, "torch_dtype": "float32"}


def test_a_changed_config_is_written_as_it_is_now() -> None:
    config = dataclasses.replace(ModelConfig.from_hf({**LLAMA, "_name_or_path": "mine"}), vocab_size=120)
    assert ModelConfig.from_hf(config.to_hf()) == config
    assert config.to_hf()["_name_or_path"] == "mine"


def test_written_config_reads_back_the_same() -> None:
    config = ModelConfig.from_hf(LLAMA)
    assert ModelConfig.from_hf(config.to_hf()) == config


def test_reads_the_rope_parameters_of_newer_files() -> None:
    newer = {key: value for key, value in LLAMA.items() if key != "rope_theta"}
    newer["rope_parameters"] = {"rope_type": "default", "rope_theta": 7000.0}
    assert ModelConfig.from_hf(newer).rope_theta == 7000.0


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model_type": "bert"}, "config.json: model_type"),
        ({"model_type": "gemma3"}, "config.json: model_type"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "config.json: architectures"),
        ({"hidden_act": "relu"}, "config.json: hidden_act"),
        ({"attention_bias": "yes"}, "config.json: attention_bias"),
        ({"auto_map": {"AutoModelForCausalLM": "mine.Model"}}, "config.json: auto_map"),
        ({"residual_multiplier": 0.22}, "config.json: residual_multiplier"),
        ({"rope_interleaved": True}, "config.json: rope_interleaved"),
        ({"quantization_config": {"bits": 4}}, "config.json: quantization_config"),
        (
            {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
            "config.json: rope_scaling.low_freq_factor",
        ),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "config.json: rope_scaling.rope_type"),
        ({"rope_scaling": {"type": "linear", "factor": -1}}, "config.json: rope_scaling.factor"),
        (
            {"rope_scaling": {"type": "default", "mrope_section": [1]}},
            "config.json: rope_scaling.mrope_section",
        ),
        ({"rope_scaling": "linear"}, "config.json: rope_scaling"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "config.json: rope_parameters.factor"),
        (
            {"rope_parameters": {"partial_rotary_factor": 0.5}},
            "config.json: rope_parameters.partial_rotary_factor",
        ),
        ({"hidden_size": "24"}, "config.json: hidden_size"),
        ({"hidden_size": None}, "config.json: hidden_size"),
        ({"num_hidden_layers": 0}, "config.json: num_hidden_layers"),
        ({"num_key_value_heads": 3}, "config.json: num_key_value_heads"),
        ({"head_dim": 7}, "config.json: head_dim"),
        ({"rms_norm_eps": "small"}, "config.json: rms_norm_eps"),
        ({"eos_token_id": "</s>"}, "config.json: eos_token_id"),
    ],
)
def test_an_unusable_config_names_its_field(change: dict[str, object], field: str) -> None:
    with pytest.raises(ModelError) as caught:
        ModelConfig.from_hf({**LLAMA, **change})
    assert caught.value.field == field
    assert caught.value.remedy in str(caught.value)
