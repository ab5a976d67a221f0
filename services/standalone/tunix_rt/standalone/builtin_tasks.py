"""The built-in evaluation sets as datasets with a task each: what a new model is measured by."""

from __future__ import annotations

import uuid

from tunix_rt.jobs.evaluation_spec import MULTIPLE_CHOICE
from tunix_rt.rpc.names import TASK
from tunix_rt.standalone.connection import CALL_SECONDS, Connection
from tunix_rt.standalone.dataset_sources import default_splits, from_generator
from tunix_rt.standalone.dataset_upload import DatasetPlan, upload_dataset
from tunix_rt.standalone.options import parse_splits
from tunix_rt.standalone.transfers import Advance
from tunix_rt.traces.choices import CHOICES
from tunix_rt.traces.dataset_sources import EVAL_SETS
from tunix_rt.traces.questions import EvalSet
from tunix_rt.v1 import dataset_pb2 as dataset_pb
from tunix_rt.v1 import evaluation_pb2 as evaluation_pb
from tunix_rt.v1 import registry_service_pb2 as registry_pb
from tunix_rt.v1 import task_pb2 as task_pb

SEED = 42
_NAMESPACE = uuid.UUID("0b1f7a3e-5d53-4d0e-8f5b-1c2f86f5b0a9")


def add_builtin_tasks(
    connection: Connection, *, advance: Advance = lambda _: None
) -> list[task_pb.TaskVersion]:
    """The task of each built-in set, in their order; what is there already stays as it is.

    Of `units-eval@1` come the dataset `units-eval-1` and the task `units-eval`, version `v1`.
    `advance` hears of the sets that are done.
    """
    made = []
    for each in EVAL_SETS.values():
        made.append(_add(connection, each))
        advance(1)
    return made


def _add(connection: Connection, made: EvalSet) -> task_pb.TaskVersion:
    name, _, number = made.name.partition("@")
    source, traces = from_generator(made.name, seed=SEED, size=None, config={})
    dataset = dataset_pb.Dataset(source=source)
    shares = parse_splits(default_splits(made.name))
    dataset.splits.extend(dataset_pb.Split(name=key, fraction=share) for key, share in shares.items())
    sealed = upload_dataset(connection, DatasetPlan(f"{name}-{number}", dataset, traces))
    spec = evaluation_pb.EvaluationSpec(dataset=sealed.name)
    if all(CHOICES in trace.meta for trace in traces):
        spec.method = MULTIPLE_CHOICE
    sections = ", ".join(dict.fromkeys(section for section, _, _ in made.makers))
    request = registry_pb.CreateTaskVersionRequest(
        parent=TASK.format(task=name),
        version_id=f"v{number}",
        task_version=task_pb.TaskVersion(
            spec=spec,
            description=f"{len(traces)} items: {sections}.",
        ),
    )
    request.request_id = str(uuid.uuid5(_NAMESPACE, f"{request.parent} {sealed.sha256}"))
    return connection.registry.CreateTaskVersion(request, timeout=CALL_SECONDS)
