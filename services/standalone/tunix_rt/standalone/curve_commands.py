"""`runs curves`: the curves of runs, as tables, lines of CSV or JSON."""

from __future__ import annotations

import csv as csv_format
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Annotated

import typer

from tunix_rt.standalone.charts import sparkline
from tunix_rt.standalone.connection import CALL_SECONDS, connect
from tunix_rt.standalone.options import GatewayOption, JsonOption
from tunix_rt.standalone.output import console, new_table, print_json
from tunix_rt.standalone.resources import run_name
from tunix_rt.standalone.views import number_text
from tunix_rt.v1 import registry_service_pb2 as registry_pb


class AxisChoice(StrEnum):
    """What curves are laid out over."""

    STEP = "step"
    WALL_TIME = "wall-time"
    RELATIVE_TIME = "relative-time"
    TOKENS = "tokens"
    EPOCH = "epoch"


_AXES = {
    AxisChoice.STEP: registry_pb.GetCurvesRequest.STEP,
    AxisChoice.WALL_TIME: registry_pb.GetCurvesRequest.WALL_TIME,
    AxisChoice.RELATIVE_TIME: registry_pb.GetCurvesRequest.RELATIVE_TIME,
    AxisChoice.TOKENS: registry_pb.GetCurvesRequest.TOKENS,
    AxisChoice.EPOCH: registry_pb.GetCurvesRequest.EPOCH,
}


def curves(
    runs: Annotated[list[str], typer.Argument(help="The runs.", metavar="RUN...")],
    *,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", help="A metric; repeatable. By default train/loss.")
    ] = None,
    axis: Annotated[AxisChoice, typer.Option("--axis", help="What to lay it out over.")] = AxisChoice.STEP,
    smoothing: Annotated[
        float, typer.Option("--smoothing", help="Weight in [0, 1) of what came before in a moving average.")
    ] = 0.0,
    low: Annotated[float | None, typer.Option("--from", help="Only from this place of the axis on.")] = None,
    high: Annotated[float | None, typer.Option("--to", help="Only to this place of the axis.")] = None,
    max_points: Annotated[int, typer.Option("--max-points", help="At most this many points a curve.")] = 1000,
    whole: Annotated[bool, typer.Option("--whole", help="Every point.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print a line of CSV for each point.")] = False,
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Show curves of runs, over steps, time, tokens or epochs."""
    if csv and json:
        raise typer.BadParameter("--csv and --json exclude each other; give one.")
    request = registry_pb.GetCurvesRequest(
        runs=[run_name(run) for run in runs],
        metrics=metric or ["train/loss"],
        axis=_AXES[axis],
        smoothing=smoothing,
        x_low=low,
        x_high=high,
        max_points=max_points,
        whole=whole,
    )
    with connect(gateway) as connection:
        response = connection.registry.GetCurves(request, timeout=CALL_SECONDS)
    if json:
        print_json(response)
    elif csv:
        csv_format.writer(sys.stdout, lineterminator="\n").writerows(csv_rows(response.curves, axis))
    elif response.curves:
        _print(response.curves)
    else:
        console.print("No points there. `tunix-rt runs show RUN` tells which metrics a run has.")


def csv_rows(found: Sequence[registry_pb.Curve], axis: AxisChoice) -> Iterator[list[object]]:
    """A row of names, then one for each point; no `place` over steps, no `smoothed` unless asked for."""
    placed = axis is not AxisChoice.STEP
    smoothed = any(curve.smoothed for curve in found)
    yield ["run", "metric", "step", *(["place"] * placed), "value", *(["smoothed"] * smoothed)]
    for curve in found:
        columns: list[Sequence[float]] = [curve.steps]
        columns += [curve.places] * placed + [curve.values] + [curve.smoothed] * smoothed
        for row in zip(*columns, strict=True):
            yield [curve.run, curve.metric, *row]


def _print(found: Sequence[registry_pb.Curve]) -> None:
    table = new_table("run", "metric", "points", "steps", "from", "to", "curve")
    for curve in found:
        shown = curve.smoothed or curve.values
        shared = len(curve.values) < curve.total_count
        count = f"{len(curve.values)} of {curve.total_count}" if shared else str(curve.total_count)
        steps = f"{min(curve.steps)} to {max(curve.steps)}"
        first, last = number_text(shown[0]), number_text(shown[-1])
        table.add_row(curve.run, curve.metric, count, steps, first, last, sparkline(shown))
    console.print(table)
