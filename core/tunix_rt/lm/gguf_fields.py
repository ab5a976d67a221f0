"""What a GGUF file says of a model, as the mapping of a Hugging Face config.json."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.rope_scaling import RopeScaling, scaled_frequencies

MODEL_TYPES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
    "gpt2": "gpt2",
}
_LARGEST = {"gemma2": 46, "gemma3": 62}  # layers of the 27B models, whose scores have a divisor of their own
_OTHER = "Import the model's Hugging Face directory instead."


class GgufFields(dict[str, Any]):
    """A GGUF file's metadata; a field that is not there is an error that names it."""

    def __missing__(self, key: str) -> Any:
        raise ModelError(key, "is missing in the GGUF file.", remedy="Use a complete GGUF file.")

    @property
    def architecture(self) -> str:
        """`general.architecture`, one of those that are read. Raises ModelError."""
        named = self.get("general.architecture")
        if named not in MODEL_TYPES:
            remedy = f"Use a GGUF file of one of these: {', '.join(MODEL_TYPES)}."
            raise ModelError("general.architecture", f"{named!r} is not supported.", remedy=remedy)
        return str(named)

    def own(self, key: str, default: Any = None) -> Any:
        """A field of the architecture; ModelError where it is missing and has no default."""
        name = f"{self.architecture}.{key}"
        return self[name] if default is None else self.get(name, default)

    def pad_id(self) -> int:
        """The padding id, or 0 where the file says that padding and stop are one token."""
        pad = int(self.get("tokenizer.ggml.padding_token_id", 0))
        return 0 if pad == self["tokenizer.ggml.eos_token_id"] else pad


def config_mapping(
    fields: GgufFields, shapes: dict[str, tuple[int, ...]], frequency_factors: np.ndarray | None
) -> dict[str, Any]:
    """The config.json of a file with tensors of these shapes, under GGUF's names.

    `frequency_factors` is what its tensor rope_freqs divides the rotary frequencies by. Raises ModelError.
    """
    architecture = fields.architecture
    sizes = _gpt2(fields) if architecture == "gpt2" else _sizes(fields, shapes, frequency_factors)
    return sizes | {
        "model_type": MODEL_TYPES[architecture],
        "vocab_size": len(fields["tokenizer.ggml.tokens"]),
        "tie_word_embeddings": "output.weight" not in shapes,
        "bos_token_id": fields.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
        "pad_token_id": fields.pad_id(),
    }


def _sizes(
    fields: GgufFields, shapes: dict[str, tuple[int, ...]], frequency_factors: np.ndarray | None
) -> dict[str, Any]:
    architecture = fields.architecture
    heads, width = fields.own("attention.head_count"), fields.own("embedding_length")
    head_dim = fields.own("attention.key_length", fields.own("rope.dimension_count", width // heads))
    if fields.own("attention.value_length", head_dim) != head_dim:
        value = fields.own("attention.value_length")
        problem = f"is {value}, but keys have {head_dim} numbers; that is not supported."
        raise ModelError(f"{architecture}.attention.value_length", problem, remedy=_OTHER)
    made = {
        "hidden_size": width,
        "intermediate_size": fields.own("feed_forward_length"),
        "num_hidden_layers": fields.own("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": fields.own("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "max_position_embeddings": fields.own("context_length"),
        "rope_theta": fields.own("rope.freq_base", 1_000_000.0 if architecture == "gemma3" else 10_000.0),
        "rope_scaling": _rope_scaling(fields),
        "rms_norm_eps": _shortest(fields.own("attention.layer_norm_rms_epsilon")),
    }
    if frequency_factors is not None:
        made["rope_scaling"] = _llama3_scaling(made, frequency_factors)
    return made | _OF_FAMILY[architecture](fields, shapes, made)


_Family = Callable[[GgufFields, dict[str, tuple[int, ...]], dict[str, Any]], dict[str, Any]]


def _llama(fields: GgufFields, shapes: dict[str, tuple[int, ...]], made: dict[str, Any]) -> dict[str, Any]:
    del fields, made
    return {"attention_bias": "blk.0.attn_q.bias" in shapes, "mlp_bias": "blk.0.ffn_up.bias" in shapes}


def _qwen(fields: GgufFields, shapes: dict[str, tuple[int, ...]], made: dict[str, Any]) -> dict[str, Any]:
    del fields, made
    return {"attention_bias": "blk.0.attn_output.bias" in shapes}


def _gemma(fields: GgufFields, shapes: dict[str, tuple[int, ...]], made: dict[str, Any]) -> dict[str, Any]:
    del fields, shapes, made
    return {"hidden_act": "gelu_pytorch_tanh"}


def _gemma2(fields: GgufFields, shapes: dict[str, tuple[int, ...]], made: dict[str, Any]) -> dict[str, Any]:
    del shapes
    return {
        "sliding_window": fields.own("attention.sliding_window", 4096),
        "query_pre_attn_scalar": _query_divisor(fields, made),
        "attn_logit_softcapping": fields.own("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": fields.own("final_logit_softcapping", 30.0),
    }


def _gemma3(fields: GgufFields, shapes: dict[str, tuple[int, ...]], made: dict[str, Any]) -> dict[str, Any]:
    del shapes
    pattern = fields.own("attention.sliding_window_pattern", 6)
    layers = made["num_hidden_layers"]
    if isinstance(pattern, list):
        kinds = ["sliding_attention" if each else "full_attention" for each in pattern]
    else:
        kinds = ["sliding_attention" if (i + 1) % pattern else "full_attention" for i in range(layers)]
    return {
        "sliding_window": fields.own("attention.sliding_window"),
        "layer_types": kinds,
        "query_pre_attn_scalar": _query_divisor(fields, made),
        "rope_local_base_freq": fields.own("rope.freq_base_swa", 10_000.0),
        "final_logit_softcapping": fields.get("gemma3.final_logit_softcapping"),
    }


_OF_FAMILY: dict[str, _Family] = {
    "llama": _llama,
    "qwen2": _qwen,
    "qwen3": _qwen,
    "gemma": _gemma,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
}


def _query_divisor(fields: GgufFields, made: dict[str, Any]) -> int:
    """Whose root divides the scores: GGUF does not say it, llama.cpp knows it by the number of layers."""
    if made["num_hidden_layers"] == _LARGEST[fields.architecture]:
        return int(made["hidden_size"] // made["num_attention_heads"])
    return int(made["head_dim"])


def _gpt2(fields: GgufFields) -> dict[str, Any]:
    return {
        "n_embd": fields.own("embedding_length"),
        "n_inner": fields.own("feed_forward_length"),
        "n_layer": fields.own("block_count"),
        "n_head": fields.own("attention.head_count"),
        "n_positions": fields.own("context_length"),
        "layer_norm_epsilon": _shortest(fields.own("attention.layer_norm_epsilon")),
        "activation_function": "gelu_new",
    }


def _rope_scaling(fields: GgufFields) -> dict[str, Any] | None:
    kind = fields.own("rope.scaling.type", "none")
    if kind == "none":
        return None
    if kind not in ("linear", "yarn"):
        field = f"{fields.architecture}.rope.scaling.type"
        raise ModelError(field, f"{kind!r} is not supported.", remedy=_OTHER)
    for key in ("attn_factor", "yarn_log_multiplier", "yarn_beta_fast", "yarn_beta_slow"):
        field = f"{fields.architecture}.rope.scaling.{key}"
        if field in fields:
            raise ModelError(field, f"{fields[field]!r} is not supported.", remedy=_OTHER)
    made = {"rope_type": kind, "factor": fields.own("rope.scaling.factor")}
    if kind == "yarn":
        made["original_max_position_embeddings"] = fields.own("rope.scaling.original_context_length")
    return made


def _llama3_scaling(made: dict[str, Any], factors: np.ndarray) -> dict[str, Any]:
    """The scaling of Llama 3.1 that these factors come from. Raises ModelError where there is none."""
    size, theta = made["head_dim"], made["rope_theta"]
    plain = [theta ** (-2 * index / size) for index in range(size // 2)]
    found = RopeScaling("llama3", float(factors.max()), 8192, low_freq_factor=1.0, high_freq_factor=4.0)
    wanted = [own / each for own, each in zip(plain, scaled_frequencies(size, theta, found), strict=True)]
    if factors.shape != (size // 2,) or not all(map(_close, factors.tolist(), wanted)):
        raise ModelError("rope_freqs.weight", "holds other factors than Llama 3's.", remedy=_OTHER)
    return {
        "rope_type": "llama3",
        "factor": found.factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-4)


def _shortest(value: float) -> float:
    """The shortest decimal that is the same float32: 1e-05 for 9.999999747378752e-06."""
    return float(str(np.float32(value)))
