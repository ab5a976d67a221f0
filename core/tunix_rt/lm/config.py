"""The shape of a Llama-type decoder, and its config.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunix_rt.lm.errors import ModelError

_SUPPORTED = "Use a Llama-type model (model_type llama, SiLU, no biases, plain rotary positions)."


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and constants of a decoder; `head_dim` is even and `num_kv_heads` divides `num_heads`."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_positions: int
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = True
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()
    pad_id: int = 0

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> "ModelConfig":
        """Read the mapping of a Hugging Face config.json.

        Raises ModelError that names the first field that is missing, malformed or not supported.
        """
        _require_llama(config)
        heads = _positive(config, "num_attention_heads")
        hidden = _positive(config, "hidden_size")
        made = cls(
            vocab_size=_positive(config, "vocab_size"),
            hidden_size=hidden,
            intermediate_size=_positive(config, "intermediate_size"),
            num_layers=_positive(config, "num_hidden_layers"),
            num_heads=heads,
            num_kv_heads=_positive(config, "num_key_value_heads", heads),
            head_dim=_positive(config, "head_dim", hidden // heads),
            max_positions=_positive(config, "max_position_embeddings"),
            rope_theta=_rope_theta(config),
            rms_norm_eps=_number(config, "rms_norm_eps", 1e-6),
            tie_word_embeddings=bool(config.get("tie_word_embeddings", False)),
            bos_id=_optional_id(config, "bos_token_id"),
            eos_ids=_ids(config, "eos_token_id"),
            pad_id=_optional_id(config, "pad_token_id") or 0,
        )
        if made.num_heads % made.num_kv_heads:
            raise _bad("num_key_value_heads", f"{made.num_kv_heads} does not divide {made.num_heads} heads.")
        if made.head_dim % 2:
            raise _bad("head_dim", f"{made.head_dim} is odd; rotary positions need an even size.")
        return made

    def to_hf(self) -> dict[str, Any]:
        """The mapping to write as config.json, which transformers loads as LlamaForCausalLM."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.max_positions,
            "rope_theta": self.rope_theta,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            "rms_norm_eps": self.rms_norm_eps,
            "tie_word_embeddings": self.tie_word_embeddings,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "bos_token_id": self.bos_id,
            "eos_token_id": list(self.eos_ids) if len(self.eos_ids) != 1 else self.eos_ids[0],
            "pad_token_id": self.pad_id,
            "torch_dtype": "float32",
        }


def _bad(key: str, problem: str, remedy: str = _SUPPORTED) -> ModelError:
    return ModelError(f"config.json: {key}", problem, remedy=remedy)


def _require_llama(config: Mapping[str, Any]) -> None:
    if config.get("model_type") != "llama":
        raise _bad("model_type", f"{config.get('model_type')!r} is not supported.")
    architectures = config.get("architectures") or ["LlamaForCausalLM"]
    if list(architectures) != ["LlamaForCausalLM"]:
        raise _bad("architectures", f"{architectures!r} is not supported.")
    if config.get("hidden_act", "silu") not in ("silu", "swish"):
        raise _bad("hidden_act", f"{config['hidden_act']!r} is not supported.")
    for key in ("attention_bias", "mlp_bias", "quantization_config"):
        if config.get(key):
            raise _bad(key, f"{config[key]!r} is not supported.")
    scaling = config.get("rope_scaling")
    if scaling and (not isinstance(scaling, Mapping) or scaling.get("rope_type") != "default"):
        raise _bad("rope_scaling", f"{scaling!r} is not supported.")


def _rope_theta(config: Mapping[str, Any]) -> float:
    parameters = config.get("rope_parameters") or {}
    if not isinstance(parameters, Mapping) or parameters.get("rope_type", "default") != "default":
        raise _bad("rope_parameters", f"{parameters!r} is not supported.")
    source = parameters if "rope_theta" in parameters else config
    return _number(source, "rope_theta", 10_000.0)


def _positive(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = config.get(key)
    if value is None and default is not None:
        return default
    if value is None:
        raise _bad(key, "is missing.", "Copy the config.json that belongs to the weights.")
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _bad(key, f"is {value!r}; it must be a positive whole number.", "Correct config.json.")
    return value


def _number(config: Mapping[str, Any], key: str, default: float) -> float:
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise _bad(key, f"is {value!r}; it must be a positive number.", "Correct config.json.")
    return float(value)


def _optional_id(config: Mapping[str, Any], key: str) -> int | None:
    value = config.get(key)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise _bad(key, f"is {value!r}; it must be a token id or null.", "Correct config.json.")


def _ids(config: Mapping[str, Any], key: str) -> tuple[int, ...]:
    value = config.get(key)
    listed: Sequence[Any] = value if isinstance(value, list | tuple) else [] if value is None else [value]
    return tuple(_optional_id({key: each}, key) or 0 for each in listed)
