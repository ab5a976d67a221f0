"""A whole training job on a directory: read, train, write."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from tunix_rt.jobs.directory import JobDirectory, write_json
from tunix_rt.lm.lora import TARGETS, add_lora
from tunix_rt.lm.model import Decoder, parameter_count
from tunix_rt.lm.weights import load_model
from tunix_rt.trainer.export import export_model
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.gradient import Forward, Graph
from tunix_rt.trainer.inputs import Inputs, read_inputs
from tunix_rt.trainer.loop import Training
from tunix_rt.trainer.metrics_file import open_metrics
from tunix_rt.trainer.optimizer import make_optimizer
from tunix_rt.trainer.precision import slow_type
from tunix_rt.trainer.program import Program, build_program, take_apart
from tunix_rt.trainer.snapshot import Snapshot, load_snapshot, save_snapshot
from tunix_rt.trainer.specfile import TrainSpec

Report = Callable[[str], None]


def train(directory: JobDirectory, stop_asked: Callable[[], bool], *, report: Report) -> dict[str, Any]:
    """Do the directory's job, from its newest checkpoint where there is one, and give its outcome.

    Raises TrainingFailure and ModelError for what is wrong with the spec, the traces or the model.
    """
    inputs = read_inputs(directory)
    model = _model(directory, inputs.spec)
    graph, trained, frozen = take_apart(model, lora=inputs.spec.lora is not None)
    facts = _facts(inputs, parameters=parameter_count(model), trained=_size(trained))
    del model  # its arrays are given away to the first step
    write_json(directory.facts, facts)
    optimizer = make_optimizer(inputs.spec.optimizer)
    snapshot = load_snapshot(
        directory,
        _start(trained, optimizer, inputs.spec),
        identity=inputs.identity,
    )
    report(_opening(facts, snapshot.step))
    program = _program(graph, optimizer, inputs.spec)
    if line := slow_type(inputs.spec.compute_type, jax.devices()[0]):
        report(line)
    if snapshot.step < inputs.plan.steps and not stop_asked():
        program = _compiled(program, inputs, snapshot, frozen=frozen, report=report)
    with open_metrics(directory.metrics, step=snapshot.step) as metrics:
        training = Training(
            spec=inputs.spec,
            plan=inputs.plan,
            program=program,
            frozen=frozen,
            batches=inputs.batches,
            validation=inputs.splits.validation,
            metrics=metrics,
            save=lambda reached: save_snapshot(directory, reached, identity=inputs.identity),
            stop_asked=stop_asked,
            report=report,
        )
        snapshot = training.run(snapshot)
    if not training.ended(snapshot):
        return {"state": "stopped", "step": snapshot.step}
    export_model(nnx.merge(graph, snapshot.carried.result, frozen), directory)
    return {"state": "succeeded", **_early(inputs, snapshot, report)}


def _model(directory: JobDirectory, spec: TrainSpec) -> Decoder:
    """The base model, with adapters where the spec asks for them."""
    model = load_model(directory.base)
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


def _start(trained: Any, optimizer: optax.GradientTransformation, spec: TrainSpec) -> Snapshot:
    """The state before the first step; the average starts as the weights, in buffers of its own."""
    averaged = jax.tree.map(jnp.copy, trained) if spec.ema_decay else None
    return Snapshot(
        step=0, weighted_tokens=0, trained=trained, optimizer=optimizer.init(trained), averaged=averaged
    )


def _program(graph: Graph, optimizer: optax.GradientTransformation, spec: TrainSpec) -> Program:
    forward = Forward(
        lora=spec.lora is not None,
        remat=spec.remat,
        dropout=spec.lora is not None and spec.lora.dropout > 0,
        compute_type=spec.compute_type,
    )
    return build_program(
        graph, optimizer, forward, ema_decay=spec.ema_decay, micro_rows=spec.micro_batch_size
    )


def _early(inputs: Inputs, snapshot: Snapshot, report: Report) -> dict[str, Any]:
    """What the outcome and the log say of a run that ended before its last step."""
    stopping = inputs.spec.early_stopping
    if stopping is None or not snapshot.stopping.ended(stopping):
        return {}
    why = snapshot.stopping.text(stopping)
    report(f"stopped early after step {snapshot.step}: {why}")
    return {"stopped_early": why, "step": snapshot.step}


def _word(text: str) -> int:
    """A number below 2**32 that depends on all of the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _compiled(
    program: Program, inputs: Inputs, snapshot: Snapshot, *, frozen: Any, report: Report
) -> Program:
    began = time.monotonic()
    made = program.compiled(
        snapshot.carried,
        frozen,
        batch=inputs.batches.batch(snapshot.step),
        validates=inputs.plan.validate_every > 0,
    )
    report(f"compiled in {time.monotonic() - began:.1f} s")
    return made


def _size(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _facts(inputs: Inputs, *, parameters: int, trained: int) -> dict[str, Any]:
    device = jax.devices()[0]
    train, validation = inputs.splits.train, inputs.splits.validation
    return {
        "steps": inputs.plan.steps,
        "rows": inputs.batches.rows,
        "traces": len(train),
        "validation_traces": len(validation),
        "train_tokens": sum(len(example.tokens) for example in train),
        "weighted_tokens": sum(int((example.weights > 0).sum()) for example in train),
        "padding_share": round(inputs.batches.padding_share, 6),
        "parameters": parameters,
        "trainable_parameters": trained,
        "base_digest": inputs.base_digest,
        "jax": jax.__version__,
        "device": f"{device.platform} {device.device_kind}",
    }


def _opening(facts: Mapping[str, Any], step: int) -> str:
    resumed = f", resumed after step {step}" if step else ""
    return (
        f"{facts['steps']} steps on {facts['traces']} traces in {facts['rows']} rows, "
        f"{facts['trainable_parameters']:,} of {facts['parameters']:,} parameters trained{resumed}"
    )
