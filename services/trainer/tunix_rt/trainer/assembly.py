"""A run's model, program and first state, as its spec asks for them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from tunix_rt.lm.lora import TARGETS, add_lora
from tunix_rt.lm.model import Decoder
from tunix_rt.lm.weights import load_model
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.gradient import Forward, Graph
from tunix_rt.trainer.mesh import Spread
from tunix_rt.trainer.program import Program, build_program
from tunix_rt.trainer.snapshot import Snapshot
from tunix_rt.trainer.specfile import TrainSpec


def make_model(base: Path, spec: TrainSpec) -> Decoder:
    """The base model, with adapters where the spec asks for them. Raises TrainingFailure, ModelError."""
    model = load_model(base)
    longest = model.config.max_positions
    if spec.max_length > longest:
        message = f"max_length is {spec.max_length}; the model has only {longest} positions."
        raise TrainingFailure("INVALID_FIELDS", message)
    if spec.lora is not None:
        add_lora(
            model,
            spec.lora.rank,
            alpha=spec.lora.alpha,
            targets=spec.lora.targets or TARGETS,
            dropout=spec.lora.dropout,
            rngs=nnx.Rngs(_word(f"adapters:{spec.seed}")),
        )
    return model


def first_snapshot(
    trained: Any, optimizer: optax.GradientTransformation, spec: TrainSpec, spread: Spread | None = None
) -> Snapshot:
    """The state before the first step; the average starts as the weights, in buffers of its own.

    `trained` is laid on the devices already, and so is what is made of it.
    """
    averaged = jax.tree.map(jnp.copy, trained) if spec.ema_decay else None
    state = spread.made(optimizer.init, trained) if spread else optimizer.init(trained)
    return Snapshot(step=0, weighted_tokens=0, trained=trained, optimizer=state, averaged=averaged)


def make_program(
    graph: Graph, optimizer: optax.GradientTransformation, spec: TrainSpec, spread: Spread | None = None
) -> Program:
    """The run's steps, not yet compiled; without `spread` on one device."""
    forward = Forward(
        lora=spec.lora is not None,
        remat=spec.remat,
        dropout=spec.lora is not None and spec.lora.dropout > 0,
        compute_type=spec.compute_type,
    )
    return build_program(
        graph,
        optimizer,
        forward,
        ema_decay=spec.ema_decay,
        micro_rows=spec.micro_batch_size,
        spread=spread,
    )


def _word(text: str) -> int:
    """A number below 2**32 that depends on all of the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
