"""`train`: a spec from options or a file, a run, and its live picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from tunix_rt.rpc.channel import new_request_id
from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.standalone.connection import Connection, connect
from tunix_rt.standalone.optimization_options import apply_optimization, optimization
from tunix_rt.standalone.options import GatewayOption, JsonOption, parse_labels
from tunix_rt.standalone.output import console, errors, print_json
from tunix_rt.standalone.preview_view import preview_view
from tunix_rt.standalone.resources import dataset_name, model_version_name, run_name, task_version_name
from tunix_rt.standalone.row_options import apply_rows
from tunix_rt.standalone.run_change_commands import read_notes
from tunix_rt.standalone.run_commands import finish, follow_or_detach
from tunix_rt.standalone.spec_file import read_spec, set_fields
from tunix_rt.standalone.spec_options import with_options_of
from tunix_rt.v1 import evaluation_pb2 as evaluation_pb
from tunix_rt.v1 import job_pb2 as job_pb
from tunix_rt.v1 import run_pb2 as run_pb
from tunix_rt.v1 import trainer_service_pb2 as trainer_pb

RENDER_SECONDS = 300.0  # a run is created when its traces are rendered
DEFAULT_BATCH_SIZE = 8
DEFAULT_MAX_LENGTH = 256
DEFAULT_LORA_RATE = 1e-3
DEFAULT_FULL_RATE = 1e-4
_DECAYS = {"cosine": 1, "linear": 2, "constant": 3, "wsd": 4}


@with_options_of(optimization, takes="optimizing")
def train(
    *,
    spec: Annotated[
        Path | None, typer.Option("--spec", help="A RunSpec as YAML or JSON; options given beside it win.")
    ] = None,
    model: Annotated[str, typer.Option("--model", help="The model version to start from.")] = "",
    dataset: Annotated[str, typer.Option("--dataset", help="The sealed dataset.")] = "",
    steps: Annotated[int | None, typer.Option("--steps", help="Optimizer steps.")] = None,
    epochs: Annotated[float | None, typer.Option("--epochs", help="Passes over the data.")] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="Rows of a step. (default 8)")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option("--max-length", help="Tokens of a row. (default 256)")
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option("--learning-rate", help="The peak. (default 1e-3 for LoRA, 1e-4 for full)"),
    ] = None,
    warmup_steps: Annotated[int | None, typer.Option("--warmup-steps")] = None,
    decay: Annotated[str | None, typer.Option("--decay", help="cosine, linear, constant or wsd.")] = None,
    weight_decay: Annotated[float | None, typer.Option("--weight-decay")] = None,
    optimizing: dict[str, Any],
    lora_rank: Annotated[int | None, typer.Option("--lora-rank", help="Train adapters of this rank.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Train every weight.")] = False,
    seed: Annotated[int | None, typer.Option("--seed")] = None,
    validate_every: Annotated[
        int | None, typer.Option("--validate-every", help="Steps; 0 turns it off.")
    ] = None,
    checkpoint_every: Annotated[int | None, typer.Option("--checkpoint-every", help="Steps.")] = None,
    keep_last: Annotated[
        int | None, typer.Option("--keep-last", help="The newest checkpoints kept. (default 1)")
    ] = None,
    keep_every: Annotated[
        int | None, typer.Option("--keep-every", help="Keep the checkpoint of every so many steps too.")
    ] = None,
    best_metric: Annotated[
        str | None,
        typer.Option(
            "--best-metric",
            help="validation/loss or validation/token_accuracy: the step with the best value is the result.",
        ),
    ] = None,
    text_format: Annotated[str | None, typer.Option("--format", help="answer-line, tags or boxed.")] = None,
    mixture: Annotated[
        list[str] | None,
        typer.Option(
            "--mixture", help="Also train on DATASET, DATASET:SPLIT or DATASET:SPLIT=WEIGHT; repeatable."
        ),
    ] = None,
    batching: Annotated[str | None, typer.Option("--batching", help="packed or padded.")] = None,
    overlong: Annotated[
        str | None,
        typer.Option("--overlong", help="Traces over --max-length: refuse, drop or cut-prompt."),
    ] = None,
    system_prompt: Annotated[str | None, typer.Option("--system-prompt")] = None,
    remat: Annotated[bool, typer.Option("--remat", help="Recompute activations: less memory.")] = False,
    sample_every: Annotated[
        int | None, typer.Option("--sample-every", help="Steps between samples of validation prompts.")
    ] = None,
    sample_prompt: Annotated[
        list[str] | None, typer.Option("--sample-prompt", help="Sample this prompt in place; repeatable.")
    ] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Keep a JAX profile of three steps.")] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any field of the spec, as optimizer.beta2=0.95; repeatable."),
    ] = None,
    evaluate_after: Annotated[
        list[str] | None,
        typer.Option(
            "--evaluate-after",
            help="Evaluate the result on DATASET or DATASET:SPLIT, or by tasks/TASK; repeatable.",
        ),
    ] = None,
    run_id: Annotated[str, typer.Option("--id", help="The run's id; else the server makes one.")] = "",
    description: Annotated[str, typer.Option("--description")] = "",
    label: Annotated[list[str] | None, typer.Option("--label", help="key=value; repeatable.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="A word; repeatable.")] = None,
    parent: Annotated[str, typer.Option("--parent", help="The run that it goes on from or varies.")] = "",
    notes: Annotated[str, typer.Option("--notes", help="Markdown; @FILE reads a file.")] = "",
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once the run is queued.")] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Show the rows with their weights, and train nothing.")
    ] = False,
    preview_rows: Annotated[int, typer.Option("--preview-rows", help="How many rows to show.")] = 3,
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Fine-tune a model on a dataset and follow the run live."""
    run_spec = run_pb.RunSpec()
    if spec:
        read_spec(spec, run_spec)
    given: dict[str, object] = {
        "epochs": epochs,
        "steps": steps,
        "batch_size": batch_size,
        "max_length": max_length,
        "seed": seed,
        "validate_every": validate_every,
        "checkpoint_every": checkpoint_every,
        "format": text_format,
        "system_prompt": system_prompt,
        "remat": remat or None,
    }
    apply_options(run_spec, given, from_file=spec is not None)
    apply_rows(run_spec, mixture=mixture or [], batching=batching, overlong=overlong)
    apply_tuning(run_spec, lora_rank=lora_rank, full=full)
    apply_optimization(run_spec, optimizing)
    retention = {"keep_last": keep_last, "keep_every": keep_every, "best_metric": best_metric}
    apply_retention(run_spec, retention)
    optimizer = {"learning_rate": learning_rate, "warmup_steps": warmup_steps, "weight_decay": weight_decay}
    apply_optimizer(run_spec, optimizer, decay=decay, from_file=spec is not None)
    apply_shown(run_spec, sample_every=sample_every, sample_prompts=sample_prompt or [], profile=profile)
    set_fields(run_spec, settings or [])
    run = run_pb.Run(
        spec=run_spec,
        description=description,
        labels=parse_labels(label or []),
        tags=tag or [],
        parent=run_name(parent, "parent") if parent else "",
        notes=read_notes(notes),
    )
    with connect(gateway) as connection:
        run.spec.model = model_version_name(connection, model or run_spec.model, "spec.model")
        run.spec.dataset = dataset_name(dataset or run_spec.dataset, "spec.dataset")
        run.spec.evaluate_after.extend(parse_evaluations(connection, evaluate_after or [], run.spec))
        if preview:
            show_preview(connection, run.spec, count=preview_rows, json=json)
            return
        request = trainer_pb.CreateRunRequest(run_id=run_id, run=run, request_id=new_request_id())
        made = connection.trainer.CreateRun(request, timeout=RENDER_SECONDS)
        if not json:
            errors.print(f"{made.name} is queued.", markup=False)
        if not detach:
            made = follow_or_detach(connection, made.name, quiet=json)
    if not json:
        if not detach:
            finish(made)
        return
    print_json(made)
    if not detach and made.status.state != job_pb.JOB_STATE_SUCCEEDED:
        raise typer.Exit(1)


def show_preview(connection: Connection, spec: run_pb.RunSpec, *, count: int, json: bool) -> None:
    """Prints the run as it would be trained; exits with 1 if it would be refused for its rows."""
    request = trainer_pb.PreviewRunRequest(spec=spec, row_count=count)
    seen = connection.trainer.PreviewRun(request, timeout=RENDER_SECONDS)
    if json:
        print_json(seen)
    else:
        for part in preview_view(seen):
            console.print(part, soft_wrap=not isinstance(part, Table))
    if any(problem.refused for problem in seen.problems):
        raise typer.Exit(1)


def apply_options(spec: run_pb.RunSpec, given: dict[str, object], *, from_file: bool) -> None:
    """Sets the options that were given; rows have defaults where no file says otherwise."""
    if not from_file:
        given["batch_size"] = DEFAULT_BATCH_SIZE if given["batch_size"] is None else given["batch_size"]
        given["max_length"] = DEFAULT_MAX_LENGTH if given["max_length"] is None else given["max_length"]
    for field, value in given.items():
        if value is not None:
            _set(spec, field, value, f"spec.{field}")
    if given["steps"] is not None and given["epochs"] is None:
        spec.ClearField("epochs")
    if given["epochs"] is not None and given["steps"] is None:
        spec.ClearField("steps")


def apply_shown(
    spec: run_pb.RunSpec, *, sample_every: int | None, sample_prompts: list[str], profile: bool
) -> None:
    """Sets samples, each tenth of the steps where only prompts are given, and the profile."""
    if sample_every is not None or sample_prompts:
        spec.samples.SetInParent()
        every = max(1, spec.steps // 10) if sample_every is None else sample_every
        _set(spec.samples, "every", every, "spec.samples.every")
        spec.samples.prompts.extend(sample_prompts)
    if profile:
        spec.profile.SetInParent()


def apply_tuning(spec: run_pb.RunSpec, *, lora_rank: int | None, full: bool) -> None:
    """Sets what is trained. Raises InvalidArgument if both kinds are asked for."""
    if full and lora_rank is not None:
        raise InvalidArgument.of("spec.lora", "excludes `full`; give --lora-rank or --full, not both.")
    if full:
        spec.full.SetInParent()
    if lora_rank is not None:
        spec.lora.SetInParent()
        _set(spec.lora, "rank", lora_rank, "spec.lora.rank")


def apply_retention(spec: run_pb.RunSpec, given: Mapping[str, object]) -> None:
    """Sets which checkpoints are kept, as far as it was said."""
    for field, value in given.items():
        if value is not None:
            _set(spec.retention, field, value, f"spec.retention.{field}")


def apply_optimizer(
    spec: run_pb.RunSpec, given: dict[str, float | None], *, decay: str | None, from_file: bool
) -> None:
    """Sets the optimizer's options; the learning rate has a default where no file says otherwise."""
    if given["learning_rate"] is None and not from_file:
        given["learning_rate"] = DEFAULT_LORA_RATE if spec.HasField("lora") else DEFAULT_FULL_RATE
    for field, value in given.items():
        if value is not None:
            _set(spec.optimizer, field, value, f"spec.optimizer.{field}")
    if decay is not None:
        if decay not in _DECAYS:
            description = f"is `{decay}`; it must be one of {', '.join(_DECAYS)}."
            raise InvalidArgument.of("spec.optimizer.decay", description)
        _set(spec.optimizer, "decay", _DECAYS[decay], "spec.optimizer.decay")


def parse_evaluations(
    connection: Connection, texts: list[str], spec: run_pb.RunSpec
) -> list[evaluation_pb.EvaluationSpec]:
    """`golden` and `golden:test` as evaluations in the run's own format, `tasks/sums` as one by its task.

    Raises InvalidArgument, NotFound.
    """
    made = []
    for index, text in enumerate(texts):
        field = f"spec.evaluate_after[{index}]"
        if text.startswith("tasks/"):
            task = task_version_name(connection, text, f"{field}.task")
            made.append(evaluation_pb.EvaluationSpec(task=task))
            continue
        name, _, split = text.partition(":")
        made.append(
            evaluation_pb.EvaluationSpec(
                dataset=dataset_name(name, f"{field}.dataset"),
                split=split,
                format=spec.format,
                system_prompt=spec.system_prompt,
            )
        )
    return made


def _set(
    message: run_pb.RunSpec
    | run_pb.OptimizerSpec
    | run_pb.LoraTuning
    | run_pb.SampleSpec
    | run_pb.CheckpointRetention,
    field: str,
    value: object,
    path: str,
) -> None:
    try:
        setattr(message, field, value)
    except ValueError as error:
        raise InvalidArgument.of(path, f"is {value}; it is out of range.") from error
