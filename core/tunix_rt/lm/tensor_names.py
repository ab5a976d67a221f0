"""Which tensors a model's files hold and where the decoder keeps them, from the config alone; no jax."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from tunix_rt.lm.config import ModelConfig

HF_MODULES = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
GPT2_MODULES = {
    "attn.c_attn": ("q", "k", "v"),
    "attn.c_proj": ("o",),
    "mlp.c_fc": ("up",),
    "mlp.c_proj": ("down",),
}
Path = tuple[Hashable, ...]
T = TypeVar("T")


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file: the decoder's arrays at `paths` one below the other, turned if `transposed`.

    `matrix` says that it is multiplied with activations, or is the embedding.
    """

    name: str
    shape: tuple[int, ...]
    paths: tuple[Path, ...]
    transposed: bool = False
    matrix: bool = False

    @property
    def outputs(self) -> int:
        """How many outputs the matrix has."""
        return self.shape[1] if self.transposed else self.shape[0]


@dataclass(frozen=True)
class Module:
    """A linear map of a layer by its name in transformers, and the decoder's projections that make it up."""

    name: str
    projections: tuple[str, ...]


def layer_modules(config: ModelConfig) -> list[Module]:
    """The linear maps of each layer."""
    if config.family == "gpt2":
        return [Module(name, shorts) for name, shorts in GPT2_MODULES.items()]
    return [
        Module(name, (short,)) for short, name in HF_MODULES.items() if short != "gate" or config.gated_mlp
    ]


def layer_prefix(config: ModelConfig, index: int) -> str:
    """What the names of a layer's modules begin with."""
    return f"transformer.h.{index}" if config.family == "gpt2" else f"model.layers.{index}"


def tensors(config: ModelConfig) -> Iterator[Tensor]:
    """Every tensor, in Hugging Face's names and order of axes."""
    gpt2, hidden = config.family == "gpt2", config.hidden_size
    vocabulary = (config.vocab_size, hidden)
    embedding = "transformer.wte.weight" if gpt2 else "model.embed_tokens.weight"
    yield Tensor(embedding, vocabulary, (("embedding",),), matrix=True)
    if config.learned_positions:
        yield Tensor("transformer.wpe.weight", (config.max_positions, hidden), (("positions",),))
    for index in range(config.num_layers):
        yield from _layer(config, index)
    yield from _norm(config, "transformer.ln_f" if gpt2 else "model.norm", ("norm",), hidden)
    if not config.tie_word_embeddings:
        yield Tensor("lm_head.weight", vocabulary, (("head",),), matrix=True)


def own_tensors(config: ModelConfig, found: Mapping[str, T]) -> dict[str, T]:
    """What a file holds under the names of `tensors`; constants and the second copy of a tied head left out.

    Files of GPT-2 come with and without `transformer.` before the names, and with its attention masks.
    """
    made = {}
    for name, value in found.items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if name.endswith("rotary_emb.inv_freq"):
            continue
        own = name
        if config.family == "gpt2":
            if name.endswith((".attn.bias", ".attn.masked_bias")):
                continue
            bare = name.startswith(("h.", "wte.", "wpe.", "ln_f."))
            own = f"transformer.{name}" if bare else name
        made[own] = value
    return made


def _layer(config: ModelConfig, index: int) -> Iterator[Tensor]:
    layer: Path = ("layers", index)
    prefix, hidden = layer_prefix(config, index), config.hidden_size
    first, second = ("ln_1", "ln_2") if config.family == "gpt2" else ("input_layernorm", _second_norm(config))
    yield from _norm(config, f"{prefix}.{first}", (*layer, "input_norm"), hidden)
    for module in layer_modules(config):
        yield from _linear(config, f"{prefix}.{module.name}", layer, module.projections)
    if config.qk_norm:
        for short in ("q_norm", "k_norm"):
            yield from _norm(config, f"{prefix}.self_attn.{short}", (*layer, short), config.head_dim)
    yield from _norm(config, f"{prefix}.{second}", (*layer, "post_norm"), hidden)
    if config.post_norms:
        yield from _norm(config, f"{prefix}.post_attention_layernorm", (*layer, "attended_norm"), hidden)
        yield from _norm(config, f"{prefix}.post_feedforward_layernorm", (*layer, "fed_norm"), hidden)


def _second_norm(config: ModelConfig) -> str:
    return "pre_feedforward_layernorm" if config.post_norms else "post_attention_layernorm"


def _norm(config: ModelConfig, name: str, path: Path, size: int) -> Iterator[Tensor]:
    yield Tensor(f"{name}.weight", (size,), ((*path, "scale"),))
    if config.norm == "layer":
        yield Tensor(f"{name}.bias", (size,), ((*path, "bias"),))


def _linear(config: ModelConfig, name: str, layer: Path, shorts: tuple[str, ...]) -> Iterator[Tensor]:
    outputs, inputs = 0, 0
    for short in shorts:
        rows, inputs = projection_shape(config, short)
        outputs += rows
    turned = config.family == "gpt2"
    shape = (inputs, outputs) if turned else (outputs, inputs)
    paths = tuple((*layer, short, "weight") for short in shorts)
    yield Tensor(f"{name}.weight", shape, paths, transposed=turned, matrix=True)
    if has_bias(config, shorts[0]):
        yield Tensor(f"{name}.bias", (outputs,), tuple((*layer, short, "bias") for short in shorts))


def projection_shape(config: ModelConfig, short: str) -> tuple[int, int]:
    """Outputs and inputs of a projection."""
    hidden, inner = config.hidden_size, config.intermediate_size
    queries, shared = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    return {
        "q": (queries, hidden),
        "k": (shared, hidden),
        "v": (shared, hidden),
        "o": (hidden, queries),
        "gate": (inner, hidden),
        "up": (inner, hidden),
        "down": (hidden, inner),
    }[short]


def has_bias(config: ModelConfig, short: str) -> bool:
    """Whether a projection adds a bias."""
    if short in ("q", "k", "v"):
        return config.qkv_bias
    return config.o_bias if short == "o" else config.mlp_bias
