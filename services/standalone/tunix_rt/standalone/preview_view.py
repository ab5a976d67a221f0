"""How the preview of a run looks in the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tunix_rt.standalone.output import new_table
from tunix_rt.standalone.views import fields_table, size_text
from tunix_rt.v1 import trainer_service_pb2 as pb

_LEARNT, _READ = "black on green", "dim"
_BAR = 40
_SPACES = {"\n": "⏎\n", "\t": "⇥"}


def preview_view(preview: pb.RunPreview) -> Iterator[RenderableType]:
    """The preview, part by part: rows, problems, lengths, then the figures."""
    for row in preview.rows:
        yield row_title(row)
        yield row_text(row)
        yield ""
    if preview.rows:
        yield Text.assemble(("learnt", _LEARNT), " counts in the loss, ", ("read", _READ), " does not.\n")
    if preview.problems:
        yield problems_table(preview)
    if preview.lengths:
        yield lengths_table(preview)
    yield fields_table(facts(preview))


def row_title(row: pb.PreviewRow) -> Text:
    """The trace, its dataset and how many of its tokens are learnt."""
    learnt = sum(token.weight > 0 for token in row.tokens)
    cut = f", {row.cut_tokens} cut off" if row.cut_tokens else ""
    return Text.assemble((row.trace, "bold"), f"  {row.dataset}  {learnt} of {len(row.tokens)} tokens{cut}")


def row_text(row: pb.PreviewRow) -> Text:
    """The exact tokens, those with a weight in colour; every second one is underlined to show borders."""
    text = Text()
    for number, token in enumerate(row.tokens):
        style = _LEARNT if token.weight > 0 else _READ
        shown = "".join(_SPACES.get(letter, letter) for letter in token.text) or f"⟨{token.id}⟩"
        text.append(shown, style=f"{style} underline" if number % 2 else style)
    return text


def problems_table(preview: pb.RunPreview) -> Table:
    """What is refused, left out or cut."""
    table = new_table("Problem", "Traces", "Examples", "What it means", lines=True)
    for problem in preview.problems:
        style = "red" if problem.refused else "yellow"
        outcome = "the run is refused" if problem.refused else "the run is accepted"
        examples = Text(", ".join(problem.examples))
        reason = Text.assemble((problem.reason, style), f"\n{outcome}")
        table.add_row(reason, f"{problem.count:,}", examples, Text(problem.message))
    return table


def lengths_table(preview: pb.RunPreview) -> Table:
    """How many traces have which length."""
    table = new_table("Tokens up to", "Traces", "")
    most = max(each.count for each in preview.lengths)
    for each in preview.lengths:
        bar = "█" * round(_BAR * each.count / most)
        table.add_row(f"{each.up_to_tokens}", f"{each.count:,}", Text(bar, style="cyan"))
    return table


def facts(preview: pb.RunPreview) -> list[tuple[str, str]]:
    """The figures of an epoch, the steps and the memory."""
    memory = preview.memory
    weighted = preview.weighted_token_count / preview.token_count if preview.token_count else 0.0
    parts = (
        f"weights {size_text(memory.weights_bytes)}, gradients {size_text(memory.gradients_bytes)}, "
        f"optimizer {size_text(memory.optimizer_bytes)}, activations {size_text(memory.activations_bytes)}"
    )
    return [
        ("traces an epoch", f"{preview.trace_count:,} in {preview.row_count:,} rows"),
        ("tokens an epoch", f"{preview.token_count:,}, of which {weighted:.0%} are learnt"),
        ("padding", f"{preview.padding_share:.1%}"),
        ("steps", f"{preview.step_count:,}; an epoch has {preview.steps_per_epoch:,}"),
        ("memory", f"about {size_text(memory.total_bytes)}: {parts}"),
        ("rows SHA-256", preview.rows_sha256),
    ]
