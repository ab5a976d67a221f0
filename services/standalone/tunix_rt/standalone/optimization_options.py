"""The options of `train` about the optimizer, precision, averages, stopping and devices."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tunix_rt.rpc.errors import InvalidArgument, Violation
from tunix_rt.v1.run_pb2 import OptimizerSpec, RunSpec

Whole = int | None
Number = float | None
_CHOICES: dict[str, dict[str, int]] = {
    "optimizer.algorithm": {
        "adamw": OptimizerSpec.ADAMW,
        "adafactor": OptimizerSpec.ADAFACTOR,
        "lion": OptimizerSpec.LION,
        "muon": OptimizerSpec.MUON,
    },
    "compute_type": {"float32": RunSpec.FLOAT32, "bfloat16": RunSpec.BFLOAT16},
}


def optimization(
    *,
    algorithm: Annotated[
        str | None, typer.Option("--algorithm", help="adamw, adafactor, lion or muon. (default adamw)")
    ] = None,
    decay_steps: Annotated[Whole, typer.Option("--decay-steps", help="The last steps, of wsd.")] = None,
    final_ratio: Annotated[
        Number, typer.Option("--final-ratio", help="The share of the learning rate where decay ends.")
    ] = None,
    clip_norm: Annotated[
        Number, typer.Option("--clip-norm", help="The largest gradient norm; 0 turns clipping off.")
    ] = None,
    beta1: Annotated[Number, typer.Option("--beta1")] = None,
    beta2: Annotated[Number, typer.Option("--beta2")] = None,
    epsilon: Annotated[Number, typer.Option("--epsilon")] = None,
    no_decay: Annotated[
        list[str] | None,
        typer.Option("--no-decay", help="norms, biases, embedding or head: without decay; repeatable."),
    ] = None,
    skip_spikes: Annotated[
        Number, typer.Option("--skip-spikes", help="Skip gradients over this many times the median.")
    ] = None,
    spike_window: Annotated[
        Whole, typer.Option("--spike-window", help="The norms of that median. (default 50)")
    ] = None,
    spikes_in_a_row: Annotated[
        Whole, typer.Option("--spikes-in-a-row", help="Fail after more skipped steps. (default 10)")
    ] = None,
    lora_dropout: Annotated[
        Number, typer.Option("--lora-dropout", help="The share of adapters' inputs dropped in training.")
    ] = None,
    micro_batch_size: Annotated[
        Whole, typer.Option("--micro-batch-size", help="Rows at a time: less memory, the same update.")
    ] = None,
    compute_type: Annotated[str | None, typer.Option("--compute-type", help="float32 or bfloat16.")] = None,
    ema_decay: Annotated[
        Number, typer.Option("--ema-decay", help="Validate and export a moving average of the weights.")
    ] = None,
    early_stopping: Annotated[
        Whole, typer.Option("--early-stopping", help="Stop after as many validations that are no better.")
    ] = None,
    early_stopping_metric: Annotated[
        str | None,
        typer.Option("--early-stopping-metric", help="validation/loss or validation/token_accuracy."),
    ] = None,
    early_stopping_min_delta: Annotated[
        Number, typer.Option("--early-stopping-min-delta", help="What a value must be better by.")
    ] = None,
    data: Annotated[
        Whole, typer.Option("--data", help="Devices that divide rows. (default: all that --fsdp leaves)")
    ] = None,
    fsdp: Annotated[
        Whole, typer.Option("--fsdp", help="Devices that divide parameters as well. (default 1)")
    ] = None,
    processes: Annotated[
        Whole, typer.Option("--processes", help="Processes of the run on its host. (default 1)")
    ] = None,
) -> dict[str, Any]:
    """The values that were given, by the paths of their fields."""
    given = {
        "optimizer.algorithm": algorithm,
        "optimizer.decay_steps": decay_steps,
        "optimizer.final_ratio": final_ratio,
        "optimizer.clip_norm": clip_norm,
        "optimizer.beta1": beta1,
        "optimizer.beta2": beta2,
        "optimizer.epsilon": epsilon,
        "optimizer.no_decay": no_decay or None,
        "optimizer.spikes.ratio": skip_spikes,
        "optimizer.spikes.window": spike_window,
        "optimizer.spikes.max_in_a_row": spikes_in_a_row,
        "lora.dropout": lora_dropout,
        "micro_batch_size": micro_batch_size,
        "compute_type": compute_type,
        "ema_decay": ema_decay,
        "early_stopping.patience": early_stopping,
        "early_stopping.metric": early_stopping_metric,
        "early_stopping.min_delta": early_stopping_min_delta,
        "sharding.data": data,
        "sharding.fsdp": fsdp,
        "sharding.processes": processes,
    }
    return {path: value for path, value in given.items() if value is not None}


def apply_optimization(spec: RunSpec, given: dict[str, Any]) -> None:
    """Sets the fields that were given. Raises InvalidArgument with all that are of no known value."""
    problems: list[Violation] = []
    if spec.HasField("full") and "lora.dropout" in given:
        problems.append(Violation("spec.lora.dropout", "needs adapters; give --lora-rank, or leave it out."))
    for path, value in given.items():
        choices = _CHOICES.get(path)
        if choices is not None and value not in choices:
            problems.append(
                Violation(f"spec.{path}", f"is `{value}`; it must be one of {', '.join(choices)}.")
            )
            continue
        try:
            _set(spec, path, value if choices is None else choices[value])
        except ValueError:
            problems.append(Violation(f"spec.{path}", f"is {value}; it is out of range."))
    if problems:
        raise InvalidArgument(problems)


def _set(message: Any, path: str, value: Any) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        message = getattr(message, parent)
    if isinstance(value, list):
        getattr(message, name)[:] = value
    else:
        setattr(message, name, value)
