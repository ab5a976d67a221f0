"""`models alias`, `promote`, `events`, `baseline`, `check`, `card` and `lineage`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.standalone.connection import CALL_SECONDS, Connection, connect
from tunix_rt.standalone.failures import CommandError
from tunix_rt.standalone.model_views import check_view, event_table, lineage_trees, models_baseline_view
from tunix_rt.standalone.options import GatewayOption, JsonOption, LimitOption
from tunix_rt.standalone.output import console, print_json
from tunix_rt.standalone.resources import (
    alias_name,
    evaluation_name,
    lineage_name,
    model_name,
    model_version_name,
)
from tunix_rt.v1 import model_pb2 as model_pb
from tunix_rt.v1 import registry_service_pb2 as registry_pb

VersionArgument = Annotated[
    str,
    typer.Argument(
        help="A version: smollm2@champion, smollm2@v2, or smollm2 for the newest.", metavar="VERSION"
    ),
]
ModelArgument = Annotated[str, typer.Argument(help="The model.", metavar="MODEL")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept in the model's events for good.")]


class Stage(StrEnum):
    """The stages that a version can be moved to."""

    CANDIDATE = "candidate"
    PRODUCTION = "production"
    RETIRED = "retired"


def alias(
    name: Annotated[str, typer.Argument(help="Such as smollm2@champion.", metavar="MODEL@ALIAS")],
    version: Annotated[
        str, typer.Argument(help="The version that it is to point to, such as v2.", metavar="VERSION")
    ] = "",
    *,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the alias.")] = False,
    reason: ReasonOption = "",
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Point an alias to a version, or remove it."""
    if remove == bool(version):
        raise InvalidArgument.of("version", "is required, or --remove; give one of them.")
    full = alias_name(name)
    with connect(gateway) as connection:
        if remove:
            delete = registry_pb.DeleteModelAliasRequest(name=full, reason=reason)
            connection.registry.DeleteModelAlias(delete, timeout=CALL_SECONDS)
            if json:
                print_json({"name": full, "removed": True})
            else:
                console.print(f"{full} is removed.")
            return
        parent = full.rsplit("/", 2)[0]
        target = version if "/" in version or "@" in version else f"{parent}@{version}"
        request = registry_pb.SetModelAliasRequest(
            name=full, version=model_version_name(connection, target, "version"), reason=reason
        )
        made = connection.registry.SetModelAlias(request, timeout=CALL_SECONDS)
    if json:
        print_json(made)
    else:
        console.print(f"{made.name} points to {made.version}.")


def promote(
    version: VersionArgument,
    *,
    stage: Annotated[Stage, typer.Option("--stage", help="The stage to move to.")] = Stage.PRODUCTION,
    override: Annotated[
        bool, typer.Option("--override", help="Although the gate does not hold; marked for ever.")
    ] = False,
    reason: ReasonOption = "",
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Move a version to a stage; production is reached only past the gate of the model's baseline."""
    with connect(gateway) as connection:
        request = registry_pb.PromoteModelVersionRequest(
            name=model_version_name(connection, version, "version"),
            stage=model_pb.ModelStage.Value(f"MODEL_STAGE_{stage.name}"),
            reason=reason,
            override_gate=override,
        )
        made = connection.registry.PromoteModelVersion(request, timeout=CALL_SECONDS)
    if json:
        print_json(made)
        return
    console.print(f"{made.name}: {stage.value}" + (", gate overridden" if made.gate_overridden else ""))


def events(
    model: ModelArgument, *, limit: LimitOption = 50, gateway: GatewayOption = None, json: JsonOption = False
) -> None:
    """List what was done to a model's aliases, stages and baselines, newest first."""
    request = registry_pb.ListModelEventsRequest(parent=model_name(model), page_size=limit)
    with connect(gateway) as connection:
        page = connection.registry.ListModelEvents(request, timeout=CALL_SECONDS)
    if json:
        print_json(page)
    elif page.events:
        console.print(event_table(page.events))
    else:
        console.print(f"Nothing was done to {request.parent} yet.")


def baseline(
    model: ModelArgument,
    evaluation: Annotated[
        str, typer.Argument(help="The evaluation to pin; without one the present baseline is shown.")
    ] = "",
    *,
    margin: Annotated[
        float, typer.Option("--margin", help="How much worse a version may be; else 0.02.")
    ] = 0.0,
    confidence: Annotated[
        float, typer.Option("--confidence", help="Of the one-sided test; else 0.95.")
    ] = 0.0,
    floor: Annotated[
        list[str] | None,
        typer.Option("--floor", help="SECTION=SCORE, or family=NAME=SCORE; repeatable."),
    ] = None,
    reason: ReasonOption = "",
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Pin the evaluation that versions of a model are held against, or show it."""
    name = model_name(model)
    with connect(gateway) as connection:
        if evaluation:
            pinned = model_pb.Baseline(
                model=name,
                evaluation=evaluation_name(evaluation),
                margin=margin,
                confidence=confidence,
                floors=[parse_floor(text) for text in floor or []],
            )
            request = registry_pb.SetBaselineRequest(baseline=pinned, reason=reason)
            shown = connection.registry.SetBaseline(request, timeout=CALL_SECONDS)
        else:
            shown = present_baseline(connection, name)
    if json:
        print_json(shown)
    else:
        console.print(models_baseline_view(shown))


def check(
    model: ModelArgument,
    evaluation: Annotated[str, typer.Argument(help="The evaluation to hold against its baseline.")],
    *,
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Hold an evaluation against a model's baseline; exit code 1 if it does not hold."""
    request = registry_pb.CheckBaselineRequest(
        model=model_name(model), evaluation=evaluation_name(evaluation)
    )
    with connect(gateway) as connection:
        found = connection.registry.CheckBaseline(request, timeout=CALL_SECONDS)
    if json:
        print_json(found)
    else:
        check_view(found, console)
    if not found.passed:
        raise typer.Exit(1)


def card(
    version: VersionArgument,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", help="A file to write, such as README.md.")
    ] = None,
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Print the model card of a version, written from what is recorded."""
    with connect(gateway) as connection:
        request = registry_pb.GetModelCardRequest(name=model_version_name(connection, version, "version"))
        made = connection.registry.GetModelCard(request, timeout=CALL_SECONDS)
    if output is not None:
        output.write_text(made.markdown, encoding="utf-8")
    if json:
        print_json(made)
    elif output is None:
        typer.echo(made.markdown, nl=False)
    else:
        console.print(f"The card of {request.name} is in {output}.")


def lineage(
    name: Annotated[
        str, typer.Argument(help="A model version, runs/…, datasets/… or evaluations/….", metavar="NAME")
    ],
    *,
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Draw what something comes from, and what came of it."""
    with connect(gateway) as connection:
        request = registry_pb.GetLineageRequest(name=lineage_name(connection, name))
        found = connection.registry.GetLineage(request, timeout=CALL_SECONDS)
    if json:
        print_json(found)
        return
    for tree in lineage_trees(found, request.name):
        console.print(tree)
    if found.truncated:
        console.print(f"There is more; these are the first {len(found.nodes)}.")


def parse_floor(text: str) -> model_pb.SectionFloor:
    """`units=0.8` or `family=chain_sum=0.8` as a floor. Raises InvalidArgument."""
    section, sign, score = text.rpartition("=")
    try:
        if not sign or not section:
            raise ValueError
        return model_pb.SectionFloor(section=section, min_score=float(score))
    except ValueError as error:
        raise InvalidArgument.of("floor", f"is `{text}`; give SECTION=SCORE, such as units=0.8.") from error


def present_baseline(connection: Connection, name: str) -> model_pb.Baseline:
    """The baseline of a model. Raises CommandError if it has none."""
    request = registry_pb.ListModelsRequest(model=name)
    page = connection.registry.ListModels(request, timeout=CALL_SECONDS)
    for model in page.models:
        if model.HasField("baseline"):
            return model.baseline
    text = f"{name} has no baseline; `tunix-rt models baseline {name} EVALUATION` sets one."
    raise CommandError("BASELINE_MISSING", text)
