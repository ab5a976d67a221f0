"""The memory of a training step, estimated from the model's shape before anything is loaded; pure."""

from __future__ import annotations

from dataclasses import dataclass

from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.layout import parameter_count, tensor_shapes
from tunix_rt.trainer.specfile import TrainSpec

FLOAT_BYTES = 4
CHUNK = 256  # positions that the loss visits at a time: loss.CHUNK, which servers cannot import
WIDE_BYTES = 512 << 20  # of feed-forward values that are kept: recomputation.WIDE_BYTES
_MOMENTS = {"ADAMW": 2, "ADAFACTOR": 0, "LION": 1, "MUON": 2}  # MUON: at most, as its matrices have one
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
    """The memory of a step that computes `rows` rows of `length` tokens at a time.

    Weights, gradients, moments and the moving average are in float32. Counted is what a layer keeps, and what
    one layer needs while its gradient is made; not what the kernels of an accelerator need beside.
    """
    weights = parameter_count(config)
    trained = _adapter_count(config, spec) if spec.lora is not None else weights
    adapters = trained if spec.lora is not None else 0
    places = rows * length
    wide = 2 * config.intermediate_size
    keeps_wide = not spec.remat and FLOAT_BYTES * config.num_layers * places * wide <= WIDE_BYTES
    kept = 0 if spec.remat else _narrow(config) + wide * keeps_wide
    layers = config.num_layers * (config.hidden_size + kept)
    at_work = _narrow(config) + (1 if keeps_wide else 2) * wide + 3 * config.hidden_size
    head = 2 * config.vocab_size * CHUNK  # logits of a chunk and their gradient
    moments = _MOMENTS[spec.optimizer.algorithm] + (1 if spec.ema_decay else 0)
    return Memory(
        weights=FLOAT_BYTES * (weights + adapters),
        gradients=FLOAT_BYTES * trained,
        optimizer=FLOAT_BYTES * moments * trained,
        activations=FLOAT_BYTES * (places * (layers + at_work) + head),
    )


def _narrow(config: ModelConfig) -> int:
    """Numbers a place: queries, keys, values, what was attended to, and the sum after attention."""
    queries, shared = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    return 2 * queries + 2 * shared + config.hidden_size


def _adapter_count(config: ModelConfig, spec: TrainSpec) -> int:
    assert spec.lora is not None
    targets = spec.lora.targets or _PROJECTIONS
    shapes = tensor_shapes(config)
    adapted = [shape for name, shape in shapes.items() if name.split(".")[-2] in targets]
    return sum(spec.lora.rank * (outputs + inputs) for outputs, inputs in adapted)
