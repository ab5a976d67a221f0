"""What a compiled step needs in memory beside its arguments, and what it writes in place."""

import jax
import numpy as np
import pytest
from flax import nnx

from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.model import Decoder
from tunix_rt.trainer.batches import Example, fill_batch
from tunix_rt.trainer.gradient import Forward
from tunix_rt.trainer.optimizer import make_optimizer
from tunix_rt.trainer.optimizer_settings import OptimizerSettings
from tunix_rt.trainer.program import build_program, take_apart
from tunix_rt.trainer.update import Carried

CONFIG = ModelConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=128,
    num_layers=4,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    max_positions=256,
)


def size_of(tree) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


@pytest.fixture(scope="module", params=[False, True], ids=["default", "remat"])
def compiled(request):
    """Whether it recomputes all, the bytes of what is trained and of the optimizer, and what XLA plans."""
    graph, trained, frozen = take_apart(Decoder(CONFIG, rngs=nnx.Rngs(0)), lora=False)
    optimizer = make_optimizer(OptimizerSettings(1e-3, 0, "CONSTANT", 0.0, 1.0, 0.9, 0.999))
    carried = Carried(trained, optimizer.init(trained))
    tokens = np.arange(256, dtype=np.int32) % 64
    examples = [Example("one", tokens, np.ones(256, np.float32))]
    batch = fill_batch(examples, [[0]] * 4, batch_size=4, max_length=256)
    program = build_program(graph, optimizer, Forward(lora=False, remat=request.param))
    step = program.compiled(carried, frozen, batch=batch, validates=False).step
    return request.param, size_of(carried), step.memory_analysis()


def test_weights_and_moments_are_written_in_place(compiled):
    _, given, planned = compiled
    assert planned.alias_size_in_bytes >= given


def test_remat_keeps_less_than_the_activations_of_two_layers(compiled):
    remat, given, planned = compiled
    layer = 4 * 256 * 4 * (6 * 32 + 3 * 128)  # four rows, float32: six values of the hidden size, three wide
    activations = planned.temp_size_in_bytes - given // 3  # less the gradients
    assert (activations < 2 * layer) == remat
