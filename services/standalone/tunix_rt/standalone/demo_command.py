"""`demo`: the whole loop on real input, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunix_rt.standalone.options import JsonOption


def demo(
    *,
    tiny: Annotated[
        bool, typer.Option("--tiny", help="A small model made on the spot: the same loop in under a minute.")
    ] = False,
    state: Annotated[
        Path | None,
        typer.Option(
            "--state", metavar="DIR", help="New, or an earlier demo's; else demo/ in the state folder."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Import a model, build datasets, evaluate, train, evaluate again, rank and compare."""
    from tunix_rt.standalone.demo import run_demo

    raise typer.Exit(run_demo(tiny=tiny, state=state, json=json))
