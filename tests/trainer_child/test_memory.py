"""The memory estimate against the buffers that XLA assigns to the compiled step."""

import jax
import pytest
from flax import nnx

from tunix_rt.lm import recomputation
from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.model import Decoder
from tunix_rt.trainer import loss, memory
from tunix_rt.trainer.batches import fill_batch
from tunix_rt.trainer.gradient import Forward
from tunix_rt.trainer.memory import estimate_memory
from tunix_rt.trainer.optimizer import make_optimizer
from tunix_rt.trainer.program import build_program, take_apart
from tunix_rt.trainer.specfile import parse_spec
from tunix_rt.trainer.update import Carried

TINY = ModelConfig(
    vocab_size=512, hidden_size=96, intermediate_size=256, num_layers=3, num_heads=6, num_kv_heads=3,
    head_dim=16, max_positions=1024,
)  # fmt: skip
SMOLLM2_4_LAYERS = ModelConfig(
    vocab_size=49152, hidden_size=576, intermediate_size=1536, num_layers=4, num_heads=9, num_kv_heads=3,
    head_dim=64, max_positions=8192,
)  # fmt: skip
SPEC = {"steps": 1, "batch_size": 8, "max_length": 256, "optimizer": {"learning_rate": 0.01}}


def compiled_bytes(config, spec):
    """What the step holds at its peak; no weights are made."""
    model = nnx.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(0)))
    graph, trained, frozen = take_apart(model, lora=False)
    optimizer = make_optimizer(spec.optimizer)
    carried = Carried(trained, jax.eval_shape(optimizer.init, trained))
    program = build_program(graph, optimizer, Forward(lora=False), micro_rows=spec.micro_batch_size)
    batch = fill_batch([], [], batch_size=spec.batch_size, max_length=spec.max_length)
    memory = program.compiled(carried, frozen, batch=batch, validates=False).step.memory_analysis()
    kept = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return kept + memory.temp_size_in_bytes


def test_the_constants_are_those_of_the_step():
    assert (memory.CHUNK, memory.WIDE_BYTES) == (loss.CHUNK, recomputation.WIDE_BYTES)


@pytest.mark.parametrize("config", [TINY, SMOLLM2_4_LAYERS], ids=["tiny", "smollm2 of 4 layers"])
def test_the_estimate_is_within_30_percent_of_the_compiled_step(config):
    spec = parse_spec(SPEC)
    estimate = estimate_memory(config, spec, rows=spec.batch_size, length=spec.max_length)
    assert estimate.total == pytest.approx(compiled_bytes(config, spec), rel=0.3)


def test_adapters_need_gradients_and_moments_of_their_own_only():
    full = estimate_memory(TINY, parse_spec(SPEC), rows=8, length=256)
    lora = estimate_memory(
        TINY, parse_spec({**SPEC, "lora": {"rank": 2, "targets": ["q_proj"]}}), rows=8, length=256
    )
    adapters = 3 * 2 * (96 + 96)
    assert lora.weights == full.weights + 4 * adapters
    assert (lora.gradients, lora.optimizer) == (4 * adapters, 8 * adapters)
