import pytest

from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.errors import ModelError

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
        rms_norm_eps=1e-6,
        tie_word_embeddings=False,
        eos_ids=(2, 3),
    )


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
        ({"model_type": "gpt2"}, "config.json: model_type"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "config.json: architectures"),
        ({"hidden_act": "gelu"}, "config.json: hidden_act"),
        ({"attention_bias": True}, "config.json: attention_bias"),
        ({"quantization_config": {"bits": 4}}, "config.json: quantization_config"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "config.json: rope_scaling"),
        ({"rope_scaling": "linear"}, "config.json: rope_scaling"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "config.json: rope_parameters"),
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
