"""How models, checks, events and lineage look in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from tunix_rt.rpc.names import resource_id
from tunix_rt.standalone.output import new_table
from tunix_rt.standalone.views import fields_table, time_text
from tunix_rt.v1 import model_pb2 as model_pb


def models_table(models: Iterable[model_pb.Model]) -> Table:
    """Models with their aliases as a table."""
    table = new_table("Model", "Versions", "Newest", "Production", "Aliases", "Baseline")
    for model in models:
        aliases = [f"{resource_id(alias.name)} → {resource_id(alias.version)}" for alias in model.aliases]
        table.add_row(
            model.name,
            str(model.version_count),
            resource_id(model.newest_version),
            resource_id(model.production_version),
            ", ".join(aliases),
            model.baseline.evaluation,
        )
    return table


def event_table(events: Iterable[model_pb.ModelEvent]) -> Table:
    """Events as a table."""
    table = new_table("When", "What", "Why")
    for event in events:
        style = "red" if event.override_gate else ""
        table.add_row(time_text(event.event_time), Text(event.description, style=style), Text(event.reason))
    return table


def models_baseline_view(baseline: model_pb.Baseline) -> Table:
    """A baseline as fields."""
    rows = [
        ("model", baseline.model),
        ("evaluation", baseline.evaluation),
        ("margin", f"{baseline.margin:g}"),
        ("confidence", f"{baseline.confidence:g}, one-sided"),
        *((f"floor {floor.section}", f"{floor.min_score:g}") for floor in baseline.floors),
        ("set", time_text(baseline.update_time)),
    ]
    return fields_table(rows)


def check_view(check: model_pb.BaselineCheck, console: Console) -> None:
    """Prints a check: the verdict, the figures, the floors, what was lost and why it fails."""
    verdict = Text("holds", style="green") if check.passed else Text("does not hold", style="red")
    console.print(Text.assemble(f"{check.evaluation} ", verdict, f" against {check.baseline.evaluation}."))
    clusters = f" of {check.cluster_count} families" if check.cluster_count else ""
    rows = [
        ("score", f"{check.score:.4f}, baseline {check.baseline_score:.4f}"),
        ("difference", f"{check.difference:+.4f}"),
        (
            "lower bound",
            f"{check.lower_bound:+.4f} ({check.method}{clusters}, {check.baseline.confidence:g} one-sided);"
            f" must be over {-check.baseline.margin:+g}",
        ),
        ("items", f"{check.item_count}, on one side only {check.missing_count}"),
    ]
    console.print(fields_table(rows))
    if check.floors:
        table = new_table("Section", "Items", "Score", "Baseline", "Floor", "")
        for floor in check.floors:
            mark = Text("holds", style="green") if floor.passed else Text("fails", style="red")
            figures = (f"{value:.3f}" for value in (floor.score, floor.baseline_score, floor.min_score))
            table.add_row(floor.section, str(floor.item_count), *figures, mark)
        console.print(table)
    for reason in check.reasons:
        console.print(f"- {reason}", markup=False)
    if check.lost_count:
        console.print(f"Lost items ({check.lost_count}): {', '.join(check.lost_items)}", markup=False)


def lineage_trees(lineage: model_pb.Lineage, name: str) -> list[Tree]:
    """What a thing comes from, and what came of it, as trees; what stands twice is drawn out once."""
    nodes = {node.name: node for node in lineage.nodes}
    sources = {node.name: [each for each in node.sources if each in nodes] for node in lineage.nodes}
    products: dict[str, list[str]] = {each: [] for each in nodes}
    for product, own in sources.items():
        for source in own:
            products[source].append(product)
    drawn = []
    for title, edges in (("comes from", sources), ("led to", products)):
        if edges[name]:
            tree = Tree(f"[bold]{name}[/] {title}")
            _grow(tree, name, nodes, edges, seen=set())
            drawn.append(tree)
    return drawn or [Tree(f"[bold]{name}[/] stands alone")]


def _grow(
    tree: Tree,
    name: str,
    nodes: Mapping[str, model_pb.LineageNode],
    edges: Mapping[str, list[str]],
    *,
    seen: set[str],
) -> None:
    for other in edges[name]:
        node = nodes[other]
        again = other in seen and bool(edges[other])
        digest = f" {node.digest[:12]}" if node.digest else ""
        label = Text.assemble((f"{node.kind} ", "dim"), other, (digest + (" …" if again else ""), "dim"))
        branch = tree.add(label)
        if not again:
            seen.add(other)
            _grow(branch, other, nodes, edges, seen=seen)
