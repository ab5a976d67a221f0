"""The config.json of a decoder, written for the class of its family in transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunix_rt.lm.rope_fields import Rope, written_rope

if TYPE_CHECKING:
    from tunix_rt.lm.config import ModelConfig

_ACTIVATIONS = {"silu": "silu", "gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh"}


def written_config(config: ModelConfig) -> dict[str, Any]:
    """The mapping from which `families.read_fields` reads the same config again."""
    sizes = _gpt2(config) if config.family == "gpt2" else _sizes(config)
    return {
        "architectures": [config.architecture],
        "model_type": config.family,
        "vocab_size": config.vocab_size,
        **sizes,
        "bos_token_id": config.bos_id,
        "eos_token_id": list(config.eos_ids) if len(config.eos_ids) != 1 else config.eos_ids[0],
        "pad_token_id": config.pad_id,
        "torch_dtype": "float32",
    }


def _sizes(config: ModelConfig) -> dict[str, Any]:
    rope = Rope(config.rope_theta, config.rope_scaling)
    made: dict[str, Any] = {
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_positions,
        "rope_theta": config.rope_theta,
        "rope_parameters": written_rope(rope),
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tie_word_embeddings,
    }
    if config.rope_scaling is not None:
        made["rope_scaling"] = {key: each for key, each in written_rope(rope).items() if key != "rope_theta"}
    return made | _of_family(config)


def _of_family(config: ModelConfig) -> dict[str, Any]:
    activation, biased = _ACTIVATIONS[config.activation], config.qkv_bias
    if config.family == "llama":
        return {"hidden_act": activation, "attention_bias": biased, "mlp_bias": config.mlp_bias}
    window = next((each for each in config.windows if each is not None), None)
    if config.family == "mistral":
        return {"hidden_act": activation, "sliding_window": window}
    kinds = ["full_attention" if config.window(i) is None else "sliding_attention" for i in _layers(config)]
    if config.family in ("qwen2", "qwen3"):
        made = {"hidden_act": activation, "use_sliding_window": window is not None, "sliding_window": window}
        made |= {"layer_types": kinds} if window is not None else {}
        return made | ({"attention_bias": biased} if config.family == "qwen3" else {})
    made = {"hidden_act": activation, "hidden_activation": activation, "attention_bias": biased}
    if config.family == "gemma":
        return made
    made |= {
        "layer_types": kinds,
        "sliding_window": window or config.max_positions,
        "query_pre_attn_scalar": _query_divisor(config),
        "attn_logit_softcapping": config.attention_softcap,
        "final_logit_softcapping": config.logit_softcap,
    }
    if config.local_rope_theta is not None:
        made["rope_local_base_freq"] = config.local_rope_theta
        made["rope_parameters"] = {
            "full_attention": written_rope(Rope(config.rope_theta, config.rope_scaling)),
            "sliding_attention": written_rope(Rope(config.local_rope_theta, None)),
        }
    return made


def _query_divisor(config: ModelConfig) -> float:
    """The number whose root divides the scores, whole where it is one."""
    divisor = config.head_dim if config.query_scale is None else config.query_scale**-2
    return round(divisor) if abs(divisor - round(divisor)) < 1e-6 else divisor


def _layers(config: ModelConfig) -> range:
    return range(config.num_layers)


def _gpt2(config: ModelConfig) -> dict[str, Any]:
    return {
        "n_embd": config.hidden_size,
        "n_inner": config.intermediate_size,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "n_positions": config.max_positions,
        "layer_norm_epsilon": config.norm_eps,
        "activation_function": _ACTIVATIONS[config.activation],
        "tie_word_embeddings": config.tie_word_embeddings,
    }
