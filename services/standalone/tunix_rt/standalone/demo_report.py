"""What the demo prints at its end: the results, and how to look further."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from tunix_rt.gateway.pairs import deciding_p_value
from tunix_rt.gateway.sentence import applied_test
from tunix_rt.standalone.charts import interval_bar, sparkline
from tunix_rt.standalone.comparison_views import verdict_sentence
from tunix_rt.standalone.demo_steps import Timing
from tunix_rt.standalone.output import console, message_dict, new_table
from tunix_rt.standalone.state import StateDirectory
from tunix_rt.standalone.views import number_text, outcome_text, probability_text, score_text
from tunix_rt.v1 import evaluation_pb2 as evaluation_pb
from tunix_rt.v1 import gateway_service_pb2 as gateway_pb
from tunix_rt.v1 import registry_service_pb2 as registry_pb
from tunix_rt.v1 import run_pb2 as run_pb


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured."""

    model: str
    run: run_pb.Run
    base: evaluation_pb.Evaluation
    tuned: evaluation_pb.Evaluation
    leaderboard: registry_pb.Leaderboard
    comparison: gateway_pb.Comparison
    pair: gateway_pb.PairedComparison


def print_result(result: DemoResult, timings: Sequence[Timing], *, remark: str = "") -> None:
    """Prints base against tuned, the training, the times, the verdict, and a remark on it."""
    _print_scores(result)
    _print_training(result)
    console.print(_times(timings))
    console.print(Text(verdict_sentence(result.pair, result.model), style="bold"))
    if remark:
        console.print(Text(remark, style="dim"))


def print_look_further(result: DemoResult, directory: StateDirectory) -> None:
    """Prints how to go on with what the demo made."""
    model, run = result.model, result.run.name
    console.print("\n[bold]Look further[/]")
    for command, purpose in (
        (
            f"tunix-rt up --state {directory.root}",
            "serve these results again, with the web page at http://127.0.0.1:8080",
        ),
        (f"tunix-rt compare {model} {run}", "figures, curves and the items that changed"),
        (f"tunix-rt leaderboard {result.leaderboard.dataset}", "the ranking with its intervals"),
        (f'tunix-rt generate {run} "What is 14 + 7 - 3?"', "ask the tuned model"),
        (f"tunix-rt models download {run} tuned-model", "the weights in Hugging Face layout"),
        ("python examples/train_and_watch.py --help", "the same from a script, on the gRPC stubs"),
    ):
        console.print(Text.assemble(("  " + command, "cyan"), ("  # " + purpose, "dim")), soft_wrap=True)


def result_json(result: DemoResult, timings: Sequence[Timing]) -> dict[str, object]:
    """The results for programs."""
    return {
        "model": result.model,
        "run": message_dict(result.run),
        "base": message_dict(result.base),
        "tuned": message_dict(result.tuned),
        "pair": message_dict(result.pair),
        "seconds": {timing.label: round(timing.seconds, 2) for timing in timings},
    }


def _print_scores(result: DemoResult) -> None:
    columns = ("", "Score (95 % interval)", "0 % … 100 %", "Outcomes", "Tokens/s")
    table = new_table(*columns, title=f"{result.base.spec.dataset} · test split · greedy")
    for label, evaluation in (("base", result.base), ("tuned", result.tuned)):
        score = evaluation.result.score
        table.add_row(
            label,
            score_text(score),
            Text(interval_bar(score.low, score.mean, score.high), style="cyan"),
            outcome_text(evaluation.result.outcomes),
            number_text(evaluation.result.tokens_per_second or None),
        )
    pair = result.pair
    caption = (
        f"gained {pair.gained}, lost {pair.lost} of {pair.count} items, {applied_test(pair)} p = "
        f"{probability_text(deciding_p_value(pair))}"
    )
    console.print(table)
    console.print(Text(caption + "\n", style="dim"))


def _print_training(result: DemoResult) -> None:
    side = next(item for item in result.comparison.subjects if item.subject == result.run.name)
    facts = result.run.facts.fields
    table = new_table("Loss", "", "First → last", title="Training")
    for curve in result.comparison.curves:
        change = f"{number_text(curve.values[0])} → {number_text(curve.values[-1])}"
        table.add_row(curve.metric, Text(sparkline(curve.values), style="cyan"), change)
    seconds = 1 / side.steps_per_second if side.steps_per_second else None
    caption = (
        f"{number_text(facts['steps'].number_value)} steps, {number_text(seconds)} s a step, "
        f"{number_text(side.tokens_per_second)} tokens/s, "
        f"{facts['trainable_parameters'].number_value:,.0f} of {facts['parameters'].number_value:,.0f} "
        "parameters trained"
    )
    console.print(table)
    console.print(Text(caption + "\n", style="dim"))


def _times(timings: Sequence[Timing]) -> Table:
    table = new_table("Step", "Seconds", title="Time")
    table.columns[1].justify = "right"
    for timing in timings:
        table.add_row(timing.label, f"{timing.seconds:.1f}")
    table.add_row("all", f"{sum(timing.seconds for timing in timings):.1f}", style="bold")
    return table
