"""`train`: a spec from options or a file, a run, and its live picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunix_rt.rpc.channel import new_request_id
from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.standalone.connection import CALL_SECONDS, Connection, connect
from tunix_rt.standalone.options import GatewayOption, JsonOption, parse_labels
from tunix_rt.standalone.output import errors, print_json
from tunix_rt.standalone.resources import dataset_name, model_version_name, task_version_name
from tunix_rt.standalone.run_commands import finish, follow_or_detach
from tunix_rt.standalone.spec_file import read_spec
from tunix_rt.v1 import evaluation_pb2 as evaluation_pb
from tunix_rt.v1 import job_pb2 as job_pb
from tunix_rt.v1 import run_pb2 as run_pb
from tunix_rt.v1 import trainer_service_pb2 as trainer_pb

DEFAULT_BATCH_SIZE = 8
DEFAULT_MAX_LENGTH = 256
DEFAULT_LORA_RATE = 1e-3
DEFAULT_FULL_RATE = 1e-4
_DECAYS = {"cosine": 1, "linear": 2, "constant": 3}


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
    decay: Annotated[str | None, typer.Option("--decay", help="cosine, linear or constant.")] = None,
    weight_decay: Annotated[float | None, typer.Option("--weight-decay")] = None,
    lora_rank: Annotated[int | None, typer.Option("--lora-rank", help="Train adapters of this rank.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Train every weight.")] = False,
    seed: Annotated[int | None, typer.Option("--seed")] = None,
    validate_every: Annotated[
        int | None, typer.Option("--validate-every", help="Steps; 0 turns it off.")
    ] = None,
    checkpoint_every: Annotated[int | None, typer.Option("--checkpoint-every", help="Steps.")] = None,
    text_format: Annotated[str | None, typer.Option("--format", help="answer-line or tags.")] = None,
    system_prompt: Annotated[str | None, typer.Option("--system-prompt")] = None,
    remat: Annotated[bool, typer.Option("--remat", help="Recompute activations: less memory.")] = False,
    data: Annotated[
        int | None, typer.Option("--data", help="Devices that divide rows. (default: all that --fsdp leaves)")
    ] = None,
    fsdp: Annotated[
        int | None, typer.Option("--fsdp", help="Devices that divide parameters as well. (default 1)")
    ] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", help="Processes of the run on its host. (default 1)")
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
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once the run is queued.")] = False,
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
    apply_tuning(run_spec, lora_rank=lora_rank, full=full)
    apply_sharding(run_spec, {"data": data, "fsdp": fsdp, "processes": processes})
    optimizer = {"learning_rate": learning_rate, "warmup_steps": warmup_steps, "weight_decay": weight_decay}
    apply_optimizer(run_spec, optimizer, decay=decay, from_file=spec is not None)
    run = run_pb.Run(spec=run_spec, description=description, labels=parse_labels(label or []))
    with connect(gateway) as connection:
        run.spec.model = model_version_name(connection, model or run_spec.model, "spec.model")
        run.spec.dataset = dataset_name(dataset or run_spec.dataset, "spec.dataset")
        run.spec.evaluate_after.extend(parse_evaluations(connection, evaluate_after or [], run.spec))
        request = trainer_pb.CreateRunRequest(run_id=run_id, run=run, request_id=new_request_id())
        made = connection.trainer.CreateRun(request, timeout=CALL_SECONDS)
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


def apply_tuning(spec: run_pb.RunSpec, *, lora_rank: int | None, full: bool) -> None:
    """Sets what is trained. Raises InvalidArgument if both kinds are asked for."""
    if full and lora_rank is not None:
        raise InvalidArgument.of("spec.lora", "excludes `full`; give --lora-rank or --full, not both.")
    if full:
        spec.full.SetInParent()
    if lora_rank is not None:
        spec.lora.SetInParent()
        _set(spec.lora, "rank", lora_rank, "spec.lora.rank")


def apply_sharding(spec: run_pb.RunSpec, given: dict[str, int | None]) -> None:
    """Sets how the run is spread over devices, where that is given."""
    for field, value in given.items():
        if value is not None:
            _set(spec.sharding, field, value, f"spec.sharding.{field}")


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
    message: run_pb.RunSpec | run_pb.OptimizerSpec | run_pb.LoraTuning | run_pb.ShardingSpec,
    field: str,
    value: object,
    path: str,
) -> None:
    try:
        setattr(message, field, value)
    except ValueError as error:
        raise InvalidArgument.of(path, f"is {value}; it is out of range.") from error
