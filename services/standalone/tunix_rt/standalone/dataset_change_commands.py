"""`datasets update`, `delete` and `restore`."""

from __future__ import annotations

from typing import Annotated

import typer

from tunix_rt.standalone.connection import CALL_SECONDS, connect
from tunix_rt.standalone.options import GatewayOption, JsonOption, parse_labels
from tunix_rt.standalone.output import console, print_json
from tunix_rt.standalone.resources import dataset_name
from tunix_rt.v1 import dataset_pb2 as dataset_pb
from tunix_rt.v1 import registry_service_pb2 as registry_pb

DatasetArgument = Annotated[str, typer.Argument(help="The dataset.", metavar="NAME")]
Texts = list[str] | None


def update(
    name: DatasetArgument,
    *,
    description: Annotated[str | None, typer.Option("--description")] = None,
    label: Annotated[Texts, typer.Option("--label", help="key=value to set; repeatable.")] = None,
    remove_label: Annotated[Texts, typer.Option("--remove-label", help="A key; repeatable.")] = None,
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Change what people wrote on a dataset; only what is given changes."""
    made = dataset_pb.Dataset(name=dataset_name(name, "name"), labels=parse_labels(label or []))
    paths = [f"labels.{key}" for key in [*made.labels, *(remove_label or [])]]
    if description is not None:
        made.description = description
        paths.append("description")
    request = registry_pb.UpdateDatasetRequest(dataset=made)
    request.update_mask.paths.extend(paths)
    with connect(gateway) as connection:
        changed = connection.registry.UpdateDataset(request, timeout=CALL_SECONDS)
    if json:
        print_json(changed)
    else:
        console.print(f"{changed.name}: {', '.join(paths)} changed.", markup=False)


def delete(name: DatasetArgument, *, gateway: GatewayOption = None, json: JsonOption = False) -> None:
    """Delete a dataset that nothing uses; `datasets restore` brings it back."""
    request = registry_pb.DeleteDatasetRequest(name=dataset_name(name, "name"))
    with connect(gateway) as connection:
        deleted = connection.registry.DeleteDataset(request, timeout=CALL_SECONDS)
    if json:
        print_json(deleted)
    else:
        console.print(f"{deleted.name} is deleted; `datasets restore` brings it back.")


def restore(name: DatasetArgument, *, gateway: GatewayOption = None, json: JsonOption = False) -> None:
    """Restore a deleted dataset."""
    request = registry_pb.UndeleteDatasetRequest(name=dataset_name(name, "name"))
    with connect(gateway) as connection:
        restored = connection.registry.UndeleteDataset(request, timeout=CALL_SECONDS)
    if json:
        print_json(restored)
    else:
        console.print(f"{restored.name} is back.")
