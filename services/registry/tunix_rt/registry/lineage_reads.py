"""The steps of a lineage in the database: what resources were made from, and what was made from them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

from tunix_rt.registry.database import Row, Transaction
from tunix_rt.v1 import dataset_pb2, evaluation_pb2, model_pb2, run_pb2

Node = model_pb2.LineageNode

# The evaluations of a run's final weights that had ended when a version was made of these weights.
_EVIDENCE = (
    "JOIN evaluations e ON e.subject = v.run AND e.weights_digest = v.digest"
    " JOIN jobs j ON j.name = e.name AND j.end_time <= v.create_time AND e.result IS NOT NULL"
)
_PRODUCTS = (
    "SELECT name FROM runs WHERE dataset = ANY(%(names)s::text[])",
    "SELECT name FROM runs WHERE model = ANY(%(names)s::text[])",
    "SELECT name FROM jobs WHERE dataset = ANY(%(names)s::text[]) AND kind = 'evaluation'",
    "SELECT name FROM evaluations WHERE subject = ANY(%(names)s::text[])",
    "SELECT name FROM artifacts WHERE owner = ANY(%(names)s::text[]) AND kind IN ('checkpoint', 'model')",
    "SELECT name FROM model_versions WHERE run <> '' AND run = ANY(%(names)s::text[])",
    f"SELECT v.name FROM model_versions v {_EVIDENCE} WHERE e.name = ANY(%(names)s::text[])",
)


async def load(tx: Transaction, wanted: Sequence[str]) -> list[Node]:
    """The resources of these names with their sources; those that are not there are left out."""
    of_kind: dict[str, list[str]] = defaultdict(list)
    for name in wanted:
        of_kind[name.split("/", 1)[0]].append(name)
    found = []
    for kind, read in _READS.items():
        if of_kind[kind]:
            found += await read(tx, of_kind[kind])
    return found


async def products(tx: Transaction, origins: Collection[str], *, limit: int) -> list[str]:
    """The names of what was made directly from some resources; at most `limit` of each kind.

    A dataset that is only a part of a run's mixture does not lead to the run.
    """
    found: dict[str, None] = {}
    for query in _PRODUCTS:
        rows = await tx.all(f"{query} ORDER BY 1 LIMIT %(limit)s", names=list(origins), limit=limit)
        found |= dict.fromkeys(row["name"] for row in rows)
    return list(found)


async def _datasets(tx: Transaction, wanted: list[str]) -> list[Node]:
    rows = await _rows(tx, "SELECT name, document FROM datasets WHERE name = ANY(%(names)s::text[])", wanted)
    return [
        Node(name=row["name"], kind="dataset", digest=dataset_pb2.Dataset.FromString(row["document"]).sha256)
        for row in rows
    ]


async def _runs(tx: Transaction, wanted: list[str]) -> list[Node]:
    rows = await _rows(
        tx,
        "SELECT name, weights_digest, spec FROM runs JOIN jobs USING (name)"
        " WHERE name = ANY(%(names)s::text[])",
        wanted,
    )
    made = []
    for row in rows:
        spec = run_pb2.RunSpec.FromString(row["spec"])
        sources = [spec.model, spec.dataset, *(part.dataset for part in spec.mixture)]
        made.append(_node(row["name"], "run", row["weights_digest"], sources))
    return made


async def _artifacts(tx: Transaction, wanted: list[str]) -> list[Node]:
    rows = await _rows(
        tx, "SELECT name, owner, digest FROM artifacts WHERE name = ANY(%(names)s::text[])", wanted
    )
    return [_node(row["name"], "checkpoint", row["digest"], [row["owner"]]) for row in rows]


async def _evaluations(tx: Transaction, wanted: list[str]) -> list[Node]:
    rows = await _rows(
        tx,
        "SELECT e.name, e.subject, e.weights_digest, j.dataset, j.spec, r.model_artifact,"
        " r.weights_digest AS run_digest FROM evaluations e JOIN jobs j USING (name)"
        " LEFT JOIN runs r ON r.name = e.subject WHERE e.name = ANY(%(names)s::text[])",
        wanted,
    )
    made = []
    for row in rows:
        judge = evaluation_pb2.EvaluationSpec.FromString(row["spec"]).judge
        final = row["model_artifact"] and row["run_digest"] == row["weights_digest"]
        subject = row["model_artifact"] if final else row["subject"]
        sources = [subject, row["dataset"], judge.subject, judge.calibration]
        made.append(_node(row["name"], "evaluation", "", sources))
    return made


async def _versions(tx: Transaction, wanted: list[str]) -> list[Node]:
    rows = await _rows(
        tx,
        "SELECT v.name, v.digest, v.run, r.model_artifact, r.weights_digest AS run_digest"
        " FROM model_versions v LEFT JOIN runs r ON r.name = v.run WHERE v.name = ANY(%(names)s::text[])",
        wanted,
    )
    evidence: dict[str, list[str]] = defaultdict(list)
    for row in await tx.all(
        f"SELECT v.name, e.name AS evaluation FROM model_versions v {_EVIDENCE}"
        " WHERE v.name = ANY(%(names)s::text[]) ORDER BY e.name",
        names=wanted,
    ):
        evidence[row["name"]].append(row["evaluation"])
    made = []
    for row in rows:
        final = row["model_artifact"] and row["run_digest"] == row["digest"]
        origin = row["model_artifact"] if final else row["run"]
        made.append(_node(row["name"], "model-version", row["digest"], [origin, *evidence[row["name"]]]))
    return made


async def _rows(tx: Transaction, query: str, wanted: list[str]) -> list[Row]:
    """The rows of a query in the order of the names."""
    found = {row["name"]: row for row in await tx.all(query, names=wanted)}
    return [found[name] for name in wanted if name in found]


def _node(name: str, kind: str, digest: str, sources: Sequence[str]) -> Node:
    known = [each for each in dict.fromkeys(sources) if each.split("/", 1)[0] in _READS]
    return Node(name=name, kind=kind, digest=digest, sources=known)


_READS = {
    "datasets": _datasets,
    "runs": _runs,
    "artifacts": _artifacts,
    "evaluations": _evaluations,
    "models": _versions,
}
