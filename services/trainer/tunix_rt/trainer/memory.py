"""The memory of a training step, estimated from the model's shape before anything is loaded; pure."""

from __future__ import annotations

from dataclasses import dataclass

from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.layout import parameter_count, tensor_shapes
from tunix_rt.trainer.specfile import TrainSpec

FLOAT_BYTES = 4
_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Memory:
    """Bytes that the device holds while a step is computed."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.gradients + self.optimizer + self.activations


def estimate_memory(config: ModelConfig, spec: TrainSpec, *, rows: int, length: int) -> Memory:
    """The memory of a step on `rows` rows of `length` tokens.

    Weights are held in float32, gradients and two moments beside what is trained.
    """
    weights = parameter_count(config)
    trained = _adapter_count(config, spec) if spec.lora is not None else weights
    adapters = trained if spec.lora is not None else 0
    return Memory(
        weights=FLOAT_BYTES * (weights + adapters),
        gradients=FLOAT_BYTES * trained,
        optimizer=FLOAT_BYTES * 2 * trained,
        activations=FLOAT_BYTES * activation_count(config, rows=rows, length=length, remat=spec.remat),
    )


def activation_count(config: ModelConfig, *, rows: int, length: int, remat: bool) -> int:
    """The numbers that the forward pass keeps for the backward pass, and those of the layer in work.

    A layer keeps, a token: its two normed inputs and sums (5 times the width), queries, keys, values and
    their rotated forms and the attention's result, three times the inner width, and the attention's
    weights, one for each head and earlier token. With `remat` it keeps its input only, and one layer
    is in work at a time.
    """
    places = rows * length
    queries, shared = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    layer = 5 * config.hidden_size + 3 * queries + 3 * shared + 3 * config.intermediate_size
    attention = config.num_heads * length
    kept = config.hidden_size if remat else layer + attention
    return places * (config.num_layers * kept + (layer + attention if remat else 0))


def _adapter_count(config: ModelConfig, spec: TrainSpec) -> int:
    assert spec.lora is not None
    targets = spec.lora.targets or _PROJECTIONS
    shapes = tensor_shapes(config)
    adapted = [shape for name, shape in shapes.items() if name.split(".")[-2] in targets]
    return sum(spec.lora.rank * (outputs + inputs) for outputs, inputs in adapted)
