"""The model families, and what each one's config.json says of the decoder."""

from collections.abc import Callable, Mapping
from typing import Any

from tunix_rt.lm.config_fields import (
    bad,
    flag,
    number,
    optional_id,
    optional_number,
    positive,
    token_ids,
)
from tunix_rt.lm.rope_fields import read_rope, read_ropes

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "gpt2": "GPT2LMHeadModel",
}
_ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
# Fields that would change the computation, and the values with which they do not; null never does.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "add_cross_attention": (False,),
    "attention_multiplier": (1,),
    "auto_map": ({},),
    "embedding_multiplier": (1,),
    "is_encoder_decoder": (False,),
    "logit_scale": (1,),
    "logits_scaling": (1,),
    "no_rope_layers": ([],),
    "num_experts": (0, 1),
    "num_local_experts": (0, 1),
    "partial_rotary_factor": (1,),
    "quantization_config": ({},),
    "residual_multiplier": (1,),
    "rope_interleaved": (False,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "scale_attn_weights": (True,),
    "use_bidirectional_attention": (False,),
}
Fields = dict[str, Any]


def read_fields(config: Mapping[str, Any]) -> Fields:
    """The arguments of ModelConfig that a config.json gives.

    A field that transformers' class of the family does not read changes nothing and is left alone; one that
    it reads is read here too, or refused by its name. Raises ModelError.
    """
    family = config.get("model_type")
    if family not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise bad("model_type", f"{family!r} is not supported.", f"Use a model of one of these: {known}.")
    architectures = config.get("architectures") or [ARCHITECTURES[family]]
    if architectures != [ARCHITECTURES[family]]:
        raise bad("architectures", f"{architectures!r} is not supported with model_type {family!r}.")
    for key, neutral in _NEUTRAL.items():
        if config.get(key) is not None and config[key] not in neutral:
            raise bad(key, f"{config[key]!r} is not supported.")
    ids = {
        "family": family,
        "vocab_size": positive(config, "vocab_size"),
        "bos_id": optional_id(config, "bos_token_id"),
        "eos_ids": token_ids(config, "eos_token_id"),
        "pad_id": optional_id(config, "pad_token_id") or 0,
    }
    return ids | _READERS[family](config)


def _llama(config: Mapping[str, Any]) -> Fields:
    heads, hidden = positive(config, "num_attention_heads"), positive(config, "hidden_size")
    biased = flag(config, "attention_bias")
    return {
        **_common(config, heads, head_dim=hidden // heads),
        **_rotary(config),
        "qkv_bias": biased,
        "o_bias": biased,
        "mlp_bias": flag(config, "mlp_bias"),
    }


def _mistral(config: Mapping[str, Any]) -> Fields:
    heads, hidden = positive(config, "num_attention_heads"), positive(config, "hidden_size")
    if config.get("layer_types") is not None:
        raise bad("layer_types", f"{config['layer_types']!r} is not supported with model_type 'mistral'.")
    layers = positive(config, "num_hidden_layers")
    window = None if config.get("sliding_window", 0) is None else positive(config, "sliding_window", 4096)
    return {
        **_common(config, heads, head_dim=hidden // heads),
        **_rotary(config),
        "windows": (window,) * layers if window else (),
    }


def _qwen2(config: Mapping[str, Any]) -> Fields:
    heads, hidden = positive(config, "num_attention_heads"), positive(config, "hidden_size")
    return {
        **_common(config, heads, head_dim=hidden // heads),
        **_rotary(config),
        "qkv_bias": True,
        "windows": _qwen_windows(config),
    }


def _qwen3(config: Mapping[str, Any]) -> Fields:
    heads, biased = positive(config, "num_attention_heads"), flag(config, "attention_bias")
    return {
        **_common(config, heads, head_dim=128),
        **_rotary(config),
        "qkv_bias": biased,
        "o_bias": biased,
        "qk_norm": True,
        "windows": _qwen_windows(config),
    }


def _qwen_windows(config: Mapping[str, Any]) -> tuple[int | None, ...]:
    if not flag(config, "use_sliding_window") or config.get("sliding_window", 0) is None:
        return ()
    first = config.get("max_window_layers", 28)
    if isinstance(first, bool) or not isinstance(first, int) or first < 0:
        raise bad("max_window_layers", f"is {first!r}; it must be a whole number.", "Correct config.json.")
    return _windows(config, lambda index: index >= first)


def _gemma(config: Mapping[str, Any]) -> Fields:
    heads = positive(config, "num_attention_heads")
    named = config.get("hidden_activation") or config.get("hidden_act") or "gelu"
    tanh = "gelu_pytorch_tanh" if named == "gelu" else named  # what the first files call gelu
    return {
        **_gemma_common({**config, "hidden_act": tanh}, heads, activation_key="hidden_act"),
        **_rotary(config),
    }


def _gemma2(config: Mapping[str, Any]) -> Fields:
    return {
        **_gemma_common(config, positive(config, "num_attention_heads")),
        **_rotary(config),
        **_gemma_attention(config, 50.0, 30.0),
        "windows": _windows(config, lambda index: index % 2 == 0),
    }


def _gemma3(config: Mapping[str, Any]) -> Fields:
    pattern = positive(config, "sliding_window_pattern", positive(config, "_sliding_window_pattern", 6))
    rope, local_theta = read_ropes(config)
    return {
        **_gemma_common(config, positive(config, "num_attention_heads")),
        **_gemma_attention(config, None, None),
        "rope_theta": rope.theta,
        "rope_scaling": rope.scaling,
        "local_rope_theta": local_theta,
        "qk_norm": True,
        "windows": _windows(config, lambda index: (index + 1) % pattern != 0),
    }


def _gemma_common(
    config: Mapping[str, Any], heads: int, *, activation_key: str = "hidden_activation"
) -> Fields:
    hidden, biased = positive(config, "hidden_size"), flag(config, "attention_bias")
    return {
        **_common(config, heads, head_dim=256, tied=True),
        "activation": _activation({"hidden_activation": "gelu_pytorch_tanh", **config}, activation_key),
        "norm": "rms_offset",
        "embedding_scale": hidden**0.5,
        "qkv_bias": biased,
        "o_bias": biased,
    }


def _gemma_attention(config: Mapping[str, Any], attention: float | None, logits: float | None) -> Fields:
    size = positive(config, "head_dim", 256)
    divisor = number(config, "query_pre_attn_scalar", 256.0)
    return {
        "post_norms": True,
        "query_scale": None if divisor == size else divisor**-0.5,
        "attention_softcap": optional_number(config, "attn_logit_softcapping", attention),
        "logit_softcap": optional_number(config, "final_logit_softcapping", logits),
    }


def _gpt2(config: Mapping[str, Any]) -> Fields:
    heads, hidden = positive(config, "n_head"), positive(config, "n_embd")
    if hidden % heads:
        raise bad("n_head", f"{heads} does not divide n_embd {hidden}.", "Correct config.json.")
    return {
        "hidden_size": hidden,
        "intermediate_size": positive(config, "n_inner", 4 * hidden),
        "num_layers": positive(config, "n_layer"),
        "num_heads": heads,
        "num_kv_heads": heads,
        "head_dim": hidden // heads,
        "max_positions": positive(config, "n_positions"),
        "norm_eps": number(config, "layer_norm_epsilon", 1e-5),
        "tie_word_embeddings": flag(config, "tie_word_embeddings", True),
        "activation": _activation({"activation_function": "gelu_new", **config}, "activation_function"),
        "gated_mlp": False,
        "norm": "layer",
        "qkv_bias": True,
        "o_bias": True,
        "mlp_bias": True,
        "learned_positions": True,
    }


_READERS: dict[str, Callable[[Mapping[str, Any]], Fields]] = {
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "gemma": _gemma,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "gpt2": _gpt2,
}


def _common(config: Mapping[str, Any], heads: int, *, head_dim: int, tied: bool = False) -> Fields:
    default = heads if "num_key_value_heads" in config else None
    shared = positive(config, "num_key_value_heads", heads if config["model_type"] == "llama" else default)
    size = positive(config, "head_dim", head_dim)
    if heads % shared:
        raise bad("num_key_value_heads", f"{shared} does not divide {heads} heads.")
    if size % 2:
        raise bad("head_dim", f"{size} is odd; rotary positions need an even size.")
    return {
        "hidden_size": positive(config, "hidden_size"),
        "intermediate_size": positive(config, "intermediate_size"),
        "num_layers": positive(config, "num_hidden_layers"),
        "num_heads": heads,
        "num_kv_heads": shared,
        "head_dim": size,
        "max_positions": positive(config, "max_position_embeddings"),
        "norm_eps": number(config, "rms_norm_eps", 1e-6),
        "tie_word_embeddings": flag(config, "tie_word_embeddings", tied),
        "activation": _activation({"hidden_act": "silu", **config}, "hidden_act"),
    }


def _rotary(config: Mapping[str, Any]) -> Fields:
    rope = read_rope(config)
    return {"rope_theta": rope.theta, "rope_scaling": rope.scaling}


def _activation(config: Mapping[str, Any], key: str) -> str:
    if config[key] not in _ACTIVATIONS:
        raise bad(key, f"{config[key]!r} is not supported; {', '.join(_ACTIVATIONS)} are.")
    return _ACTIVATIONS[config[key]]


def _windows(config: Mapping[str, Any], has_window: Callable[[int], bool]) -> tuple[int | None, ...]:
    """Each layer's window, by `layer_types` or, without them, by the family's rule; () if none has one."""
    layers = positive(config, "num_hidden_layers")
    if config.get("sliding_window", 0) is None:
        raise bad("sliding_window", "is null, but layers have a window.", "Correct config.json.")
    window = positive(config, "sliding_window", 4096)
    kinds = config.get("layer_types")
    if kinds is None:
        kinds = ["sliding_attention" if has_window(index) else "full_attention" for index in range(layers)]
    if not isinstance(kinds, list) or len(kinds) != layers:
        raise bad("layer_types", f"is {kinds!r}; it must name the kind of each of the {layers} layers.")
    for kind in kinds:
        if kind not in ("sliding_attention", "full_attention"):
            raise bad("layer_types", f"{kind!r} is not supported.")
    made = tuple(window if kind == "sliding_attention" else None for kind in kinds)
    return made if any(made) else ()
