"""How many floating-point operations a training step asks for, from the model's shape alone.

As in PaLM (Chowdhery et al. 2022, arXiv 2204.02311, appendix B), a multiplication and its addition are two
operations, and only what the model itself needs is counted: not what is computed again to save memory, not
padding, not keys that a token cannot see, not the head at positions without weight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.layout import tensor_shapes

_TABLES = ("embed_tokens", "lm_head", "wte", "wpe")


@dataclass(frozen=True)
class StepFlops:
    """The operations of one step per token, per weighted token, and per pair of a token and a key it sees."""

    per_token: float
    per_weighted: float
    per_pair: float

    def total(self, *, tokens: int, weighted: int, pairs: int) -> float:
        """The operations of a step with so many tokens, weighted tokens and visible keys."""
        return self.per_token * tokens + self.per_weighted * weighted + self.per_pair * pairs


def step_flops(config: ModelConfig, *, adapter_parameters: int | None = None) -> StepFlops:
    """Forward and backward pass of a decoder.

    With P weights in the layers' matrices, a token costs 2P forward, 2P for the gradient of its states and 2P
    for that of the weights; the last is left out where only adapters are trained, which cost 6 for each of
    their parameters. The head, vocabulary times width, is counted in the same way. Attention takes 4 times
    heads times head_dim in each layer for a key seen, and twice as much backward.
    """
    layers = sum(
        math.prod(shape)
        for name, shape in tensor_shapes(config).items()
        if len(shape) == 2 and not any(table in name for table in _TABLES)
    )
    head = config.vocab_size * config.hidden_size
    passes = 6 if adapter_parameters is None else 4
    return StepFlops(
        per_token=passes * layers + 6 * (adapter_parameters or 0),
        per_weighted=passes * head,
        per_pair=12 * config.num_layers * config.num_heads * config.head_dim,
    )
