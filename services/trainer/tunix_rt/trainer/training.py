"""A whole training job on a directory: read, train, write."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import jax
from flax import nnx

from tunix_rt.jobs.directory import JobDirectory, read_json, write_json
from tunix_rt.lm.lora import TARGETS, add_lora
from tunix_rt.lm.model import Decoder, parameter_count
from tunix_rt.lm.tokenizer import Tokenizer
from tunix_rt.lm.weights import load_model, weights_digest
from tunix_rt.trainer.batches import TrainingBatches
from tunix_rt.trainer.examples import Splits, read_examples
from tunix_rt.trainer.export import export_model
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.loop import Plan, Training
from tunix_rt.trainer.metrics_file import open_metrics
from tunix_rt.trainer.optimizer import make_optimizer
from tunix_rt.trainer.program import build_program, take_apart
from tunix_rt.trainer.snapshot import Snapshot, load_snapshot, save_snapshot
from tunix_rt.trainer.specfile import TrainSpec, parse_spec


def train(
    directory: JobDirectory, stop_asked: Callable[[], bool], *, report: Callable[[str], None]
) -> dict[str, Any]:
    """Do the directory's job, from its newest checkpoint where there is one, and give its outcome.

    Raises TrainingFailure and ModelError for what is wrong with the spec, the traces or the model.
    """
    spec = _read_spec(directory)
    base_digest = weights_digest(directory.base)
    splits = read_examples(directory.traces, Tokenizer.load(directory.base), spec)
    batches = TrainingBatches(
        splits.train, batch_size=spec.batch_size, max_length=spec.max_length, seed=spec.seed
    )
    plan = Plan.of(spec, batches)
    model = _model(directory, spec)
    graph, trained, frozen = take_apart(model, lora=spec.lora is not None)
    facts = _facts(splits, batches, plan, model=model, base_digest=base_digest)
    facts["trainable_parameters"] = sum(leaf.size for leaf in jax.tree.leaves(trained))
    del model
    write_json(directory.facts, facts)
    optimizer = make_optimizer(spec.optimizer, steps=plan.steps)
    identity = _identity(directory, spec, base_digest)
    start = Snapshot(step=0, weighted_tokens=0, trained=trained, optimizer=optimizer.init(trained))
    snapshot = load_snapshot(directory, start, identity=identity)
    report(_opening(facts, snapshot.step))
    began = time.monotonic()
    program = build_program(graph, optimizer, lora=spec.lora is not None, remat=spec.remat).compiled(
        snapshot.trained,
        snapshot.optimizer,
        frozen,
        batch=batches.batch(snapshot.step),
        validates=plan.validate_every > 0,
    )
    report(f"compiled in {time.monotonic() - began:.1f} s")
    with open_metrics(directory.metrics, step=snapshot.step) as metrics:
        snapshot = Training(
            spec=spec,
            plan=plan,
            program=program,
            frozen=frozen,
            batches=batches,
            validation=splits.validation,
            metrics=metrics,
            save=lambda reached: save_snapshot(directory, reached, identity=identity),
            stop_asked=stop_asked,
            report=report,
        ).run(snapshot)
    if snapshot.step < plan.steps:
        return {"state": "stopped", "step": snapshot.step}
    export_model(nnx.merge(graph, snapshot.trained, frozen), directory)
    return {"state": "succeeded"}


def _read_spec(directory: JobDirectory) -> TrainSpec:
    try:
        return parse_spec(read_json(directory.spec))
    except (OSError, ValueError) as error:
        raise TrainingFailure("INVALID_FIELDS", f"spec.json cannot be read: {error}.") from error


def _model(directory: JobDirectory, spec: TrainSpec) -> Decoder:
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


def _identity(directory: JobDirectory, spec: TrainSpec, base_digest: str) -> str:
    """What must be the same for a checkpoint to be gone on from: spec, dataset and base model."""
    with directory.traces.open("rb") as file:
        traces = hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(json.dumps([asdict(spec), traces, base_digest]).encode()).hexdigest()


def _facts(
    splits: Splits, batches: TrainingBatches, plan: Plan, *, model: Decoder, base_digest: str
) -> dict[str, Any]:
    device = jax.devices()[0]
    return {
        "steps": plan.steps,
        "rows": batches.rows,
        "traces": len(splits.train),
        "validation_traces": len(splits.validation),
        "train_tokens": sum(len(example.tokens) for example in splits.train),
        "weighted_tokens": sum(int((example.weights > 0).sum()) for example in splits.train),
        "padding_share": round(batches.padding_share, 6),
        "parameters": parameter_count(model),
        "base_digest": base_digest,
        "jax": jax.__version__,
        "device": f"{device.platform} {device.device_kind}",
    }


def _opening(facts: Mapping[str, Any], step: int) -> str:
    resumed = f", resumed after step {step}" if step else ""
    return (
        f"{facts['steps']} steps on {facts['traces']} traces in {facts['rows']} rows, "
        f"{facts['trainable_parameters']:,} of {facts['parameters']:,} parameters trained{resumed}"
    )
