"""The shape of a decoder, and its config.json."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tunix_rt.lm.families import ARCHITECTURES, read_fields
from tunix_rt.lm.family_configs import written_config
from tunix_rt.lm.rope_scaling import RopeScaling

Activation = Literal["silu", "gelu", "gelu_tanh"]
NormKind = Literal["rms", "rms_offset", "layer"]


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and constants of a decoder; `head_dim` is even and `num_kv_heads` divides `num_heads`.

    `family` is the model_type of config.json; it names the tensors, the other fields alone say what is
    computed. `norm` is "rms", "rms_offset" (the scale is 1 + weight) or "layer" (with a bias). `post_norms`
    are norms of what attention and feed-forward add. Scores are multiplied by `query_scale`, else by
    head_dim^-1/2. A soft-cap c makes x into c tanh(x / c). `windows` says of each layer how many tokens a
    token sees, itself included, None for all before it; () stands for no windows. `local_rope_theta` is the
    base of the layers with a window, which are not stretched. `source` is the text of the config.json that
    was read.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_positions: int
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    tie_word_embeddings: bool = True
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()
    pad_id: int = 0
    family: str = "llama"
    activation: Activation = "silu"
    gated_mlp: bool = True
    norm: NormKind = "rms"
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    post_norms: bool = False
    embedding_scale: float = 1.0
    query_scale: float | None = None
    attention_softcap: float | None = None
    logit_softcap: float | None = None
    windows: tuple[int | None, ...] = ()
    rope_scaling: RopeScaling | None = None
    local_rope_theta: float | None = None
    learned_positions: bool = False
    source: str = field(default="", compare=False, repr=False)

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> "ModelConfig":
        """Read the mapping of a Hugging Face config.json.

        Raises ModelError that names the first field that is missing, malformed or not supported.
        """
        return cls(**read_fields(config), source=json.dumps(config))

    @property
    def architecture(self) -> str:
        """The class of transformers that loads the model."""
        return ARCHITECTURES[self.family]

    def window(self, index: int) -> int | None:
        """How many tokens a token sees in a layer, None for all before it."""
        return self.windows[index] if self.windows else None

    def to_hf(self) -> dict[str, Any]:
        """The mapping to write as config.json, for float32 weights.

        What was read is written again, fields that are not used here included, unless this config differs.
        """
        if not self.source:
            return written_config(self)
        read: dict[str, Any] = json.loads(self.source)
        if ModelConfig.from_hf(read) != self:
            return {**read, **written_config(self)}
        return read | {key: "float32" for key in read if key in ("dtype", "torch_dtype")}
