"""The memory of a training step, estimated from the model's shape before anything is loaded; pure."""

from __future__ import annotations

from dataclasses import dataclass

from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.layout import parameter_count, tensor_shapes
from tunix_rt.trainer.specfile import TrainSpec

FLOAT_BYTES = 4
_BLOCK = 128  # queries of a block of attention
_HEAD_CHUNK = 3 * 128  # logits of a chunk of positions, their exponentials and gradient
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
    head = config.vocab_size * (_HEAD_CHUNK + (config.hidden_size if spec.lora is None else 0))
    layers = layer_numbers(config, length) * config.num_layers * rows * length
    return Memory(
        weights=FLOAT_BYTES * (weights + adapters),
        gradients=FLOAT_BYTES * trained,
        optimizer=FLOAT_BYTES * 2 * trained,
        activations=FLOAT_BYTES * (layers + head),
    )


def layer_numbers(config: ModelConfig, length: int) -> int:
    """The numbers that a layer keeps for the backward pass, a place of a row of `length` tokens.

    The factors are counted on the buffers that XLA assigns: six for the layer's width, three for that of
    queries, keys and values, four for the inner width, and three for each head and each key that a query
    computes with. Blocks of queries leave out the keys after them.
    """
    blocks = -(-length // _BLOCK)
    keys = sum(min(length, _BLOCK * (block + 1)) for block in range(blocks)) // blocks
    projected = (config.num_heads + 2 * config.num_kv_heads) * config.head_dim
    attention = config.num_heads * keys
    return 6 * config.hidden_size + 3 * projected + 4 * config.intermediate_size + 3 * attention


def _adapter_count(config: ModelConfig, spec: TrainSpec) -> int:
    assert spec.lora is not None
    targets = spec.lora.targets or _PROJECTIONS
    shapes = tensor_shapes(config)
    adapted = [shape for name, shape in shapes.items() if name.split(".")[-2] in targets]
    return sum(spec.lora.rank * (outputs + inputs) for outputs, inputs in adapted)
