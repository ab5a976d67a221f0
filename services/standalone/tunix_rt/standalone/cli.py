"""The `tunix-rt` command line: a client of the gateway, and the stack on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated

import typer

_COMPLETION = "_TUNIX_RT_COMPLETE"


@dataclass(frozen=True)
class Entry:
    """A command or a group: where it is written, and its help, known without importing it."""

    name: str
    module: str
    attribute: str
    help: str


ENTRIES = (
    Entry(
        "up",
        "stack_commands",
        "up",
        "Start PostgreSQL, registry, trainer, evaluator and gateway on this machine.",
    ),
    Entry("down", "stack_commands", "down", "Stop the stack; running jobs go back to the queue."),
    Entry("status", "stack_commands", "status", "Show which services answer and what waits in the queue."),
    Entry(
        "backup",
        "backup_commands",
        "backup",
        "Write every row and stored file into FILE, as they are now; the stack may be in use.",
    ),
    Entry(
        "restore",
        "backup_commands",
        "restore",
        "Restore FILE into an empty database and a store, after its digests are checked.",
    ),
    Entry(
        "demo",
        "demo_command",
        "demo",
        "Import a model, build datasets, evaluate, train, evaluate again, rank and compare.",
    ),
    Entry(
        "models",
        "model_commands",
        "app",
        "Import, list, promote, check and download models; show what they come from.",
    ),
    Entry(
        "datasets", "dataset_commands", "app", "Create, check, list and show datasets of reasoning traces."
    ),
    Entry("train", "train_command", "train", "Fine-tune a model on a dataset and follow the run live."),
    Entry(
        "runs",
        "run_commands",
        "app",
        "List, show, watch, change and cancel training runs; read what they left.",
    ),
    Entry(
        "evaluate",
        "evaluation_commands",
        "evaluate",
        "Evaluate a run or a model version by a task, or on a split of a dataset.",
    ),
    Entry(
        "tasks", "task_commands", "app", "Create, list and show tasks: evaluations that everybody runs alike."
    ),
    Entry("judges", "judge_commands", "app", "Measure how far a judge can be believed."),
    Entry(
        "evaluations", "evaluations_commands", "app", "List, show and verify evaluations; import predictions."
    ),
    Entry(
        "generate",
        "evaluation_commands",
        "generate",
        "Answer questions with a model; the text streams as it is made.",
    ),
    Entry(
        "leaderboard",
        "comparison_commands",
        "leaderboard",
        "Rank what was evaluated on a dataset or by a task; only comparable evaluations share a board.",
    ),
    Entry(
        "compare",
        "comparison_commands",
        "compare",
        "Compare runs and model versions: paired test, figures, parameters, loss curves, changed items.",
    ),
)


def build_app(wanted: str | None) -> typer.Typer:
    """The command line with the `wanted` command imported; the others only have their names and help.

    All are imported if `wanted` is `*`. So `--help` needs no gRPC and is there at once.
    """
    app = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for entry in ENTRIES:
        if wanted not in {entry.name, "*"}:
            app.command(entry.name, help=entry.help)(_nothing)
            continue
        target = getattr(import_module(f"tunix_rt.standalone.{entry.module}"), entry.attribute)
        if isinstance(target, typer.Typer):
            app.add_typer(target, name=entry.name, help=entry.help, no_args_is_help=True)
        else:
            app.command(entry.name, help=entry.help)(target)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; every error that a person can meet is a few lines or JSON, and the exit code 1."""
    texts = list(sys.argv[1:] if arguments is None else arguments)
    wanted = "*" if _COMPLETION in os.environ else next((t for t in texts if not t.startswith("-")), None)
    try:
        build_app(wanted)(texts, prog_name="tunix-rt")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if not _told(error, texts):
            raise
        return 1
    return 0


def _root(
    *,
    show_version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=lambda value: _print_version(value))
    ] = False,
) -> None:
    """Fine-tune small language models so that they show their work."""


def _nothing() -> None:
    """Stands for a command that is not the wanted one."""


def _told(error: Exception, texts: Sequence[str]) -> bool:
    """Prints the error, if it is one that a person can meet."""
    from tunix_rt.standalone.failures import failure_json, failure_of, render_failure
    from tunix_rt.standalone.output import errors

    failure = failure_of(error, gateway=_address_in(texts))
    if failure is None:
        return False
    if "--json" in texts:
        sys.stderr.write(failure_json(failure) + "\n")
    else:
        render_failure(failure, errors)
    return True


def _address_in(texts: Sequence[str]) -> str:
    """The gateway that the command used, for the message that says it does not answer."""
    from tunix_rt.standalone.connection import gateway_address

    for text, following in zip(texts, [*texts[1:], ""], strict=True):
        if text == "--gateway":
            return following
        if text.startswith("--gateway="):
            return text.partition("=")[2]
    return gateway_address(os.environ.get("TUNIX_RT_GATEWAY"))


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        sys.stdout.write(version("tunix-rt") + "\n")
        raise typer.Exit


if __name__ == "__main__":
    sys.exit(main())
