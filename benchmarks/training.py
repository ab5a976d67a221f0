"""Training speed: our step against a plain one, on the same weights, traces and machine, in turn.

`plain` pads each trace to a row, holds all logits and keeps them for the backward pass. `ours` packs rows,
and visits only the weighted positions, a chunk at a time. Useful tokens are those that are no padding.

    python benchmarks/training.py [--model DIRECTORY] [--rounds 5] [--rows 8] [--length 256]

Without a model, a small one is made (8 layers, 256 wide, vocabulary 4096).
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.lora import add_lora
from tunix_rt.lm.model import Decoder, parameter_count
from tunix_rt.lm.weights import load_model
from tunix_rt.trainer.batches import Batch, Example, TrainingBatches, fill_batch
from tunix_rt.trainer.gradient import Forward
from tunix_rt.trainer.optimizer import make_optimizer
from tunix_rt.trainer.program import build_program, take_apart
from tunix_rt.trainer.specfile import OptimizerSettings
from tunix_rt.trainer.update import Carried, Controls

SMALL = ModelConfig(
    vocab_size=4096,
    hidden_size=256,
    intermediate_size=704,
    num_layers=8,
    num_heads=8,
    num_kv_heads=4,
    head_dim=32,
    max_positions=1024,
)
SETTINGS = OptimizerSettings(1e-4, 0, "CONSTANT", 0.0, 1.0, 0.9, 0.999)
RATE = np.float32(1e-4)
Step = Callable[[], int]  # takes one step and gives its useful tokens


def traces(count: int, length: int, vocabulary: int) -> list[Example]:
    """Random tokens in the lengths of verified traces: mean 147 of 512, six of ten tokens weighted."""
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(np.log(0.25 * length), 0.5, count), 8, length).astype(int)
    examples = []
    for number, size in enumerate(lengths):
        weights = (np.arange(size) >= 0.37 * size).astype(np.float32)
        tokens = random.integers(0, vocabulary, size).astype(np.int32)
        examples.append(Example(str(number), tokens, weights))
    return examples


def ours(model: Decoder, batches: Sequence[Batch], *, lora: bool, remat: bool) -> Step:
    """Our compiled step on packed rows."""
    graph, trained, frozen = take_apart(model, lora=lora)
    trained = jax.tree.map(jnp.copy, trained)
    optimizer = make_optimizer(SETTINGS)
    carried = Carried(trained, optimizer.init(trained))
    program = build_program(graph, optimizer, Forward(lora=lora, remat=remat)).compiled(
        carried, frozen, batch=batches[0], validates=False
    )
    taken = 0

    def step() -> int:
        nonlocal carried, taken
        batch = batches[taken % len(batches)]
        taken += 1
        carried, scalars = program.step(carried, frozen, program.step_arrays(batch), Controls(RATE))
        scalars["loss"].block_until_ready()
        return batch.token_count

    return step


def plain(model: Decoder, batches: Sequence[Batch]) -> Step:
    """optax's cross-entropy over all logits of padded rows."""
    graph, trained, _ = take_apart(model, lora=False)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-4))
    state = optimizer.init(trained)

    def loss_of(trained: Any, batch: dict[str, jax.Array]) -> jax.Array:
        merged = nnx.merge(graph, trained)
        logits = merged.logits(merged.hidden(batch["tokens"], batch["positions"], batch["segments"]))
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["targets"].reshape(-1))
        weights = batch["weights"].reshape(-1)
        return jnp.sum(losses * weights) / jnp.sum(weights)

    @jax.jit
    def update(trained: Any, state: Any, batch: dict[str, jax.Array]) -> tuple[Any, Any, jax.Array]:
        loss, gradient = jax.value_and_grad(loss_of)(trained, batch)
        updates, state = optimizer.update(gradient, state, trained)
        return optax.apply_updates(trained, updates), state, loss

    taken = 0

    def step() -> int:
        nonlocal trained, state, taken
        batch = batches[taken % len(batches)]
        taken += 1
        names = ("tokens", "positions", "segments", "targets", "weights")
        trained, state, loss = update(trained, state, {name: getattr(batch, name) for name in names})
        loss.block_until_ready()
        return batch.token_count

    step()  # compiles
    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=256)
    options = parser.parse_args()

    def model(lora: bool = False) -> Decoder:
        made = load_model(options.model) if options.model else Decoder(SMALL, rngs=nnx.Rngs(0))
        if lora:
            add_lora(made, 16, alpha=32.0, rngs=nnx.Rngs(1))
        return made

    shape = {"batch_size": options.rows, "max_length": options.length}
    examples = traces(options.rows * 64, options.length, model().config.vocab_size)
    packer = TrainingBatches(examples, seed=0, **shape)
    packed = [packer.batch(index) for index in range(options.rounds)]
    padded = [
        fill_batch(examples, [[first + row] for row in range(options.rows)], **shape)
        for first in range(0, options.rounds * options.rows, options.rows)
    ]
    steps = {
        "plain, padded": plain(model(), padded),
        "ours, packed": ours(model(), packed, lora=False, remat=False),
        "ours, packed, remat": ours(model(), packed, lora=False, remat=True),
        "ours, packed, LoRA 16": ours(model(lora=True), packed, lora=True, remat=False),
    }
    rates: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(options.rounds):
        for name, step in steps.items():
            began = time.perf_counter()
            tokens = step()
            rates[name].append(tokens / (time.perf_counter() - began))
    print(f"{parameter_count(model()):,} parameters, {options.rows} x {options.length}, "
          f"load {os.getloadavg()[0]:.1f}, median of {options.rounds}")  # fmt: skip
    first = statistics.median(rates["plain, padded"])
    for name, found in rates.items():
        rate = statistics.median(found)
        print(f"{name:24}{rate:10.0f} useful tokens/s {rate / first:6.2f} x")


if __name__ == "__main__":
    main()
