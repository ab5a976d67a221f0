"""A whole training job on a directory: read, train, write."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from tunix_rt.jobs.directory import JobDirectory, write_json
from tunix_rt.lm.model import parameter_count
from tunix_rt.lm.tokenizer import Tokenizer
from tunix_rt.lm.weights import load_config
from tunix_rt.trainer.assembly import first_snapshot, make_model, make_program
from tunix_rt.trainer.checkpoint_writer import CheckpointWriter
from tunix_rt.trainer.export import export_model
from tunix_rt.trainer.fingerprint import differences, environment
from tunix_rt.trainer.flops import step_flops
from tunix_rt.trainer.gradient import Graph
from tunix_rt.trainer.inputs import Inputs, read_inputs
from tunix_rt.trainer.loop import Training
from tunix_rt.trainer.mesh import Spread
from tunix_rt.trainer.metrics_file import open_metrics, sync_metrics
from tunix_rt.trainer.optimizer import make_optimizer
from tunix_rt.trainer.precision import slow_type
from tunix_rt.trainer.profiler import Profiler
from tunix_rt.trainer.program import Program, take_apart
from tunix_rt.trainer.row_lengths import by_length
from tunix_rt.trainer.samples import Sampler, sample_prompts
from tunix_rt.trainer.snapshot import Origin, Snapshot, load_snapshot, load_trained

Report = Callable[[str], None]


def train(directory: JobDirectory, stop_asked: Callable[[], bool], *, report: Report) -> dict[str, Any]:
    """Do the directory's job, from its newest checkpoint where there is one, and give its outcome.

    Raises TrainingFailure and ModelError for what is wrong with the spec, the traces or the model.
    """
    inputs = read_inputs(directory)
    spread = Spread.of(inputs.spec.sharding, jax.devices())
    report = report if spread.leads else _nothing
    with spread.loading():
        model = spread.marked(make_model(directory.base, inputs.spec))
    graph, trained, frozen = take_apart(model, lora=inputs.spec.lora is not None)
    facts = _facts(inputs, parameters=parameter_count(model), trained=_size(trained)) | spread.facts()
    del model  # its arrays are given away to the first step
    optimizer = make_optimizer(inputs.spec.optimizer)
    origin = _origin(inputs, spread)
    trained, frozen = spread.placed(trained), spread.placed(frozen)
    start = first_snapshot(trained, optimizer, inputs.spec, spread)
    with spread.loading():
        snapshot = load_snapshot(directory, start, origin, report=report)
    if snapshot is not start:
        snapshot.carry(spread.placed(snapshot.carried))
    del start, trained  # as the model's
    facts |= {"code_version": origin.environment["code_version"], "resumed_from_step": snapshot.step}
    facts |= _changes(snapshot)
    report(_opening(facts, snapshot.step))
    tools = _tools(directory, inputs, adapters=facts["trainable_parameters"] if inputs.spec.lora else None)
    _write_facts(directory, facts, spread)
    program = make_program(graph, optimizer, inputs.spec, spread)
    if line := slow_type(inputs.spec.compute_type, jax.devices()[0]):
        report(line)
    left = snapshot.step < inputs.plan.steps or snapshot.unvalidated is not None
    if left and not stop_asked():
        began = time.monotonic()
        program = _compiled(program, inputs, snapshot, frozen=frozen)
        facts["compile_seconds"] = round(time.monotonic() - began, 2)
        _write_facts(directory, facts, spread)
        report(f"compiled in {facts['compile_seconds']:.1f} s")
    metrics_path = directory.metrics if spread.leads else Path(os.devnull)
    with (
        open_metrics(metrics_path, step=snapshot.step) as metrics,
        CheckpointWriter(
            directory,
            origin,
            inputs.spec.retention,
            spread,
            sync_metrics=lambda: sync_metrics(metrics),
            report=report,
        ) as checkpoints,
    ):
        training = Training(
            spec=inputs.spec,
            plan=inputs.plan,
            program=program,
            frozen=frozen,
            batches=inputs.batches,
            longest_row=inputs.row_lengths[-1],
            validation=inputs.rows.validation,
            metrics=metrics,
            **tools,
            checkpoints=checkpoints,
            stop_asked=stop_asked,
            report=report,
        )
        snapshot = training.run(snapshot)
    if not training.ended(snapshot):
        return {"state": "stopped", "step": snapshot.step}
    if snapshot.best is not None:
        facts |= {"best_step": snapshot.best.step, "best_value": snapshot.best.value}
        _write_facts(directory, facts, spread)
        report(f"step {snapshot.best.step} is the best: its weights are the run's")
    with spread.loading():
        _export(directory, graph, snapshot, frozen, spread)
    return {"state": "succeeded", **_early(inputs, snapshot, report)}


def _export(directory: JobDirectory, graph: Graph, snapshot: Snapshot, frozen: Any, spread: Spread) -> None:
    """Write the model of the best step, or of the last one, by the process that leads."""
    result, rest = (spread.collected(tree) for tree in (snapshot.carried.result, frozen))
    if not spread.leads:
        return
    result, rest = jax.tree.map(jnp.asarray, (result, rest))
    if snapshot.best is not None and snapshot.best.step != snapshot.step:
        result = load_trained(directory, snapshot.best.step, snapshot).carried.result
    export_model(nnx.merge(graph, result, rest), directory)


def _write_facts(directory: JobDirectory, facts: Mapping[str, Any], spread: Spread) -> None:
    if spread.leads:
        write_json(directory.facts, facts)


def _nothing(_line: str) -> None:
    """Reports nothing; the process that leads does."""


def _early(inputs: Inputs, snapshot: Snapshot, report: Report) -> dict[str, Any]:
    """What the outcome and the log say of a run that ended before its last step."""
    stopping = inputs.spec.early_stopping
    if stopping is None or not snapshot.stopping.ended(stopping):
        return {}
    why = snapshot.stopping.text(stopping)
    report(f"stopped early after step {snapshot.step}: {why}")
    return {"stopped_early": why, "step": snapshot.step}


def _tools(directory: JobDirectory, inputs: Inputs, *, adapters: int | None) -> dict[str, Any]:
    """What the loop measures and shows with."""
    spec, config = inputs.spec, load_config(directory.base)
    sampler = None
    if spec.samples:
        tokenizer = Tokenizer.load(directory.base)
        sampler = Sampler(
            spec.samples,
            sample_prompts(spec, inputs.rows.validation, tokenizer),
            tokenizer=tokenizer,
            directory=directory,
            max_positions=config.max_positions,
        )
    profiler = Profiler(spec.profile, directory) if spec.profile and jax.process_index() == 0 else None
    flops = step_flops(config, adapter_parameters=adapters)
    return {"flops": flops, "sampler": sampler, "profiler": profiler}


def _compiled(program: Program, inputs: Inputs, snapshot: Snapshot, *, frozen: Any) -> Program:
    lengths = inputs.row_lengths
    made = {
        length: program.compiled(
            snapshot.carried,
            frozen,
            batch=inputs.batches.laid_out([], length),
            validates=inputs.plan.validate_every > 0 and length == lengths[-1],
        )
        for length in lengths
    }
    return by_length(made)


def _size(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _origin(inputs: Inputs, spread: Spread) -> Origin:
    return Origin(
        identity=inputs.identity,
        rows_sha256=inputs.rows_digest,
        spec=asdict(inputs.spec),
        environment={**environment(), "mesh": spread.text},
        epoch_rows=inputs.batches.rows,
        batch_size=inputs.spec.batch_size,
    )


def _changes(snapshot: Snapshot) -> dict[str, Any]:
    """After which steps the code, a library or the device changed; nothing where none did."""
    changed = [
        f"step {new['after_step']}: {differences(old, {**new, 'after_step': old['after_step']})}"
        for old, new in pairwise(snapshot.environments)
    ]
    return {"environment_changes": "; ".join(changed)} if changed else {}


def _facts(inputs: Inputs, *, parameters: int, trained: int) -> dict[str, Any]:
    device = jax.devices()[0]
    train, validation = inputs.rows.train, inputs.rows.validation
    return {
        "steps": inputs.plan.steps,
        "rows": inputs.batches.rows,
        "traces": len(train),
        "validation_traces": len(validation),
        "train_tokens": sum(len(example.tokens) for example in train),
        "weighted_tokens": sum(int((example.weights > 0).sum()) for example in train),
        "padding_share": round(inputs.batches.padding_share, 6),
        "shared_tokens": inputs.batches.shared_tokens,
        "rows_sha256": inputs.rows_digest,
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
