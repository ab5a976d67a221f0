"""`runs promote`: a model version from the final weights of a run."""

from __future__ import annotations

import uuid
from typing import Annotated

import typer

from tunix_rt.standalone.connection import CALL_SECONDS, LONG_CALL_SECONDS, connect
from tunix_rt.standalone.failures import CommandError
from tunix_rt.standalone.options import GatewayOption, JsonOption
from tunix_rt.standalone.output import console, print_json
from tunix_rt.standalone.resources import model_name, run_name
from tunix_rt.v1 import registry_service_pb2 as registry_pb

_NAMESPACE = uuid.UUID("5e0d2f9e-6a1c-4f57-9a43-0f0b7c1d2e33")


def promote(
    run: Annotated[str, typer.Argument(help="The run; it must have succeeded.", metavar="RUN")],
    *,
    model: Annotated[
        str, typer.Option("--as", help="The model that the version belongs to.", metavar="MODEL")
    ],
    version: Annotated[
        str, typer.Option("--version", help="The version's id; else the next of v1, v2, ….")
    ] = "",
    description: Annotated[str, typer.Option("--description")] = "",
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Make a model version from a run; the evaluations of the run are its evidence. No byte is copied."""
    with connect(gateway) as connection:
        request = registry_pb.GetRunRequest(name=run_name(run))
        found = connection.registry.GetRun(request, timeout=CALL_SECONDS)
        if not found.model_artifact:
            raise CommandError(
                "RUN_NOT_FINISHED", f"{found.name} has no final weights; it has not succeeded."
            )
        artifact = connection.registry.GetArtifact(
            registry_pb.GetArtifactRequest(name=found.model_artifact), timeout=CALL_SECONDS
        )
        base = connection.registry.GetModelVersion(
            registry_pb.GetModelVersionRequest(name=found.spec.model), timeout=CALL_SECONDS
        )
        create = registry_pb.CreateModelVersionRequest(parent=model_name(model, "as"), version_id=version)
        create.model_version.files.extend(artifact.files)
        create.model_version.run = found.name
        create.model_version.description = description
        licence = base.provenance.fields["license"].string_value
        create.model_version.provenance.update({"source": "run", "name": found.name, "base": base.name})
        if licence:
            create.model_version.provenance.update({"license": licence})
        create.request_id = str(uuid.uuid5(_NAMESPACE, create.SerializeToString(deterministic=True).hex()))
        made = connection.registry.CreateModelVersion(create, timeout=LONG_CALL_SECONDS)
    if json:
        print_json(made)
        return
    console.print(f"{made.name} is {found.name}, digest {made.digest}")
    for name in made.evaluations:
        console.print(f"  evidence: {name}")
