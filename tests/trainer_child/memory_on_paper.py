"""Prints the bytes that a training step of a Gemma-2B shape takes on each device, with 2 and with 4 layers.

    python memory_on_paper.py FSDP ROWS LORA

Everything is shapes: no weights are made.
"""

import json
import sys

import jax
import numpy as np
from flax import nnx

from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.lora import add_lora
from tunix_rt.lm.model import Decoder
from tunix_rt.trainer.batches import Batch
from tunix_rt.trainer.mesh import Spread
from tunix_rt.trainer.optimizer import make_optimizer
from tunix_rt.trainer.program import build_program, take_apart
from tunix_rt.trainer.specfile import OptimizerSettings, ShardingSettings


def step_bytes(layers: int, *, fsdp: int, rows: int, lora: bool) -> int:
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

    def make() -> Decoder:
        model = Decoder(config, rngs=nnx.Rngs(0))
        if lora:
            add_lora(model, 16, alpha=32, rngs=nnx.Rngs(1))
        return model

    spread = Spread.of(ShardingSettings(fsdp=fsdp), jax.devices())
    graph, trained, frozen = take_apart(spread.marked(nnx.eval_shape(make)), lora=lora)
    optimizer = make_optimizer(OptimizerSettings(1e-4, 0, "COSINE", 0.1, 1.0, 0.9, 0.999))
    state = jax.eval_shape(optimizer.init, trained)
    program = build_program(graph, optimizer, lora=lora, remat=True, spread=spread)
    places = np.zeros((rows, 1024), np.int32)
    batch = Batch(places, places, places, places, np.ones((rows, 1024), np.float32), traces=())
    given = (spread.shaped(tree) for tree in (trained, state, frozen))
    step = program.lowered(*given, program.arrays(batch)).compile(program.options)
    memory = step.memory_analysis()
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )


fsdp, rows, lora = map(int, sys.argv[1:])
print(json.dumps([step_bytes(layers, fsdp=fsdp, rows=rows, lora=bool(lora)) for layers in (2, 4)]))
