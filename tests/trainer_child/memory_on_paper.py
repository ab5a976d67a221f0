"""Prints the bytes that a training step of a Gemma-2B shape takes on each of 8 devices, by its layers.

Full tuning with AdamW and remat, 8 rows of 1,024 tokens. Everything is shapes: no weights are made.
"""

import json

import jax
import numpy as np
from flax import nnx

from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.model import Decoder
from tunix_rt.trainer.batches import Batch
from tunix_rt.trainer.gradient import Forward
from tunix_rt.trainer.mesh import Spread
from tunix_rt.trainer.optimizer import make_optimizer
from tunix_rt.trainer.optimizer_settings import OptimizerSettings
from tunix_rt.trainer.program import build_program, take_apart
from tunix_rt.trainer.sharding_settings import ShardingSettings
from tunix_rt.trainer.update import Carried

LAYERS = (1, 2)


def step_bytes(layers: int) -> int:
    config = ModelConfig(
        vocab_size=256_000,
        hidden_size=2048,
        intermediate_size=16_384,
        num_layers=layers,
        num_heads=8,
        num_kv_heads=1,
        head_dim=256,
        max_positions=8192,
    )
    spread = Spread.of(ShardingSettings(fsdp=8), jax.devices())
    model = spread.marked(nnx.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(0))))
    graph, trained, frozen = take_apart(model, lora=False)
    optimizer = make_optimizer(OptimizerSettings(1e-4, 0, "COSINE", 0.1, 1.0, 0.9, 0.999))
    carried = Carried(trained, jax.eval_shape(optimizer.init, trained))
    program = build_program(graph, optimizer, Forward(lora=False, remat=True), spread=spread)
    places = np.zeros((8, 1024), np.int32)
    batch = Batch(places, places, places, places, np.ones((8, 1024), np.float32), traces=())
    lowered = program.lowered(spread.shaped(carried), spread.shaped(frozen), program.step_arrays(batch))
    memory = lowered.compile(spread.compile_options(gradient=True)).memory_analysis()
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )


print(json.dumps({layers: step_bytes(layers) for layers in LAYERS}))
