"""A whole training job on a directory: read, train, write."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from tunix_rt.jobs.directory import JobDirectory, write_json
from tunix_rt.lm.lora import TARGETS, add_lora
from tunix_rt.lm.model import Decoder, parameter_count
from tunix_rt.lm.weights import load_model
from tunix_rt.trainer.export import export_model
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.inputs import Inputs, read_inputs
from tunix_rt.trainer.loop import Training
from tunix_rt.trainer.mesh import Spread
from tunix_rt.trainer.metrics_file import open_metrics
from tunix_rt.trainer.optimizer import make_optimizer
from tunix_rt.trainer.program import Program, build_program, take_apart
from tunix_rt.trainer.snapshot import Snapshot, load_snapshot, save_snapshot
from tunix_rt.trainer.specfile import TrainSpec

Report = Callable[[str], None]


def train(directory: JobDirectory, stop_asked: Callable[[], bool], *, report: Report) -> dict[str, Any]:
    """Do the directory's job, from its newest checkpoint where there is one, and give its outcome.

    Raises TrainingFailure and ModelError for what is wrong with the spec, the traces or the model.
    """
    inputs = read_inputs(directory)
    spread = Spread.of(inputs.spec.sharding, jax.devices())
    report = report if spread.leads else _nothing
    with spread.loading():
        model = spread.marked(_model(directory, inputs.spec))
    graph, trained, frozen = take_apart(model, lora=inputs.spec.lora is not None)
    facts = _facts(inputs, parameters=parameter_count(model), trained=_size(trained)) | spread.facts()
    del model  # its arrays are given away to the first step
    if spread.leads:
        write_json(directory.facts, facts)
    optimizer = make_optimizer(inputs.spec.optimizer)
    trained, frozen = spread.placed(trained), spread.placed(frozen)
    start = Snapshot(
        step=0, weighted_tokens=0, trained=trained, optimizer=spread.made(optimizer.init, trained)
    )
    with spread.loading():
        snapshot = load_snapshot(directory, start, identity=inputs.identity)
    if snapshot is not start:
        snapshot.trained, snapshot.optimizer = map(spread.placed, (snapshot.trained, snapshot.optimizer))
    del start, trained  # as the model's
    report(_opening(facts, snapshot.step))
    program = build_program(
        graph, optimizer, lora=inputs.spec.lora is not None, remat=inputs.spec.remat, spread=spread
    )
    if snapshot.step < inputs.plan.steps and not stop_asked():
        program = _compiled(program, inputs, snapshot, frozen=frozen, report=report)
    metrics_path = directory.metrics if spread.leads else Path(os.devnull)
    with open_metrics(metrics_path, step=snapshot.step) as metrics:
        snapshot = Training(
            spec=inputs.spec,
            plan=inputs.plan,
            program=program,
            frozen=frozen,
            batches=inputs.batches,
            validation=inputs.splits.validation,
            metrics=metrics,
            save=lambda reached: _save(directory, reached, spread, identity=inputs.identity),
            stop_asked=stop_asked,
            report=report,
        ).run(snapshot)
    if snapshot.step < inputs.plan.steps:
        return {"state": "stopped", "step": snapshot.step}
    with spread.loading():
        whole = [spread.collected(tree) for tree in (snapshot.trained, frozen)]
        if spread.leads:
            export_model(nnx.merge(graph, *whole), directory)
    return {"state": "succeeded"}


def _save(directory: JobDirectory, reached: Snapshot, spread: Spread, *, identity: str) -> None:
    """Collect the state from all devices, and write it by the process that leads."""
    whole = replace(
        reached, trained=spread.collected(reached.trained), optimizer=spread.collected(reached.optimizer)
    )
    if spread.leads:
        save_snapshot(directory, whole, identity=identity)


def _nothing(_line: str) -> None:
    """Reports nothing; the process that leads does."""


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
            rngs=nnx.Rngs(_word(f"adapters:{spec.seed}")),
        )
    return model


def _word(text: str) -> int:
    """A number below 2**32 that depends on all of the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _compiled(
    program: Program, inputs: Inputs, snapshot: Snapshot, *, frozen: Any, report: Report
) -> Program:
    began = time.monotonic()
    made = program.compiled(
        snapshot.trained,
        snapshot.optimizer,
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
