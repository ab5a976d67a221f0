"""`up`, `down` and `status`."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import Iterable
from typing import Annotated

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tunix_rt.standalone.options import GatewayOption, JsonOption, StateOption
from tunix_rt.standalone.output import console, errors, new_table, print_json
from tunix_rt.standalone.state import ServiceRecord, StackRecord, StateDirectory

_STYLES = {"serving": "green", "starting": "yellow", "restarting": "red", "stopping": "yellow"}


def up(
    *,
    state: StateOption = None,
    port: Annotated[int, typer.Option("--port", help="The gateway's port; 0 for a free one.")] = 50050,
    web_port: Annotated[
        int | None,
        typer.Option("--web-port", help="The web page's port; 0 for a free one. (default 8080, if free)"),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when all services serve.")] = False,
    json: JsonOption = False,
) -> None:
    """Start PostgreSQL, registry, trainer, evaluator and gateway on this machine."""
    from tunix_rt.standalone.background import start_in_background
    from tunix_rt.standalone.plan import WEB_PORT, Options

    directory = StateDirectory.locate(state)
    options = Options(port, WEB_PORT if web_port is None else web_port, web_port_fixed=web_port is not None)
    if detach:
        record = show_changes(start_in_background(directory, options), quiet=json)
        _print_ready(directory, record, json=json)
        if not json:
            console.print("Stop it with `tunix-rt down`.")
        return
    _run_here(directory, options, json=json)


def down(*, state: StateOption = None, json: JsonOption = False) -> None:
    """Stop the stack; running jobs go back to the queue."""
    from tunix_rt.standalone.background import stop_in_background

    directory = StateDirectory.locate(state)
    ran = show_changes(stop_in_background(directory), quiet=json) is not None
    if json:
        print_json({"state": "stopped"})
    elif not ran:
        console.print(f"No stack runs in {directory.root}.")
    else:
        console.print(f"Stopped. What it made stays in {directory.root}.")


def status(*, gateway: GatewayOption = None, json: JsonOption = False) -> None:
    """Show which services answer and what waits in the queue."""
    from tunix_rt.standalone.connection import CALL_SECONDS, connect
    from tunix_rt.v1 import gateway_service_pb2 as gateway_pb
    from tunix_rt.v1 import job_pb2 as job_pb

    with connect(gateway) as connection:
        system = connection.gateway.GetSystemStatus(gateway_pb.GetSystemStatusRequest(), timeout=CALL_SECONDS)
        if json:
            print_json(system)
            return
        table = new_table("Service", "State", "Round trip", title=f"{connection.address} · {system.version}")
        for service in system.services:
            state = Text("serving", style="green") if service.serving else Text(service.reason, style="red")
            milliseconds = service.round_trip.ToMicroseconds() / 1000
            table.add_row(service.service, state, f"{milliseconds:.1f} ms" if service.serving else "")
        console.print(table)
        queue = new_table("Jobs", "State", "Count")
        for count in system.queue:
            label = job_pb.JobState.Name(count.state).removeprefix("JOB_STATE_").lower()
            queue.add_row(count.kind, label, str(count.count))
        if system.queue:
            console.print(queue)
    record = StateDirectory.locate().running()
    if record and record.gateway == connection.address:
        console.print(f"Web page http://{record.web} · logs in {StateDirectory.locate().logs}")


def show_changes(records: Iterable[StackRecord], *, quiet: bool) -> StackRecord | None:
    """Shows the services of a stack while it starts or stops; returns the last record."""
    if quiet:
        return next(iter(deque(records, maxlen=1)), None)
    last: StackRecord | None = None
    with Live(console=errors, refresh_per_second=10, transient=True) as live:
        for last in records:
            live.update(service_table(last))
    return last


def service_table(record: StackRecord) -> Table:
    """The services of a stack with their states."""
    table = Table.grid(padding=(0, 2))
    for service in record.services:
        restarts = f"restarted {service.restarts} ×" if service.restarts else ""
        table.add_row(
            Text(service.name, style="bold"),
            Text(service.state, style=_STYLES.get(service.state, "dim")),
            service.address,
            Text(f"{restarts} {service.reason}".strip(), style="dim"),
        )
    if not record.services:
        table.add_row(Text("PostgreSQL", style="bold"), Text(record.state, style="yellow"), "", "")
    return table


def _run_here(directory: StateDirectory, options: object, *, json: bool) -> None:
    from tunix_rt.standalone.plan import Options
    from tunix_rt.standalone.stack import Stack

    assert isinstance(options, Options)
    seen: dict[str, ServiceRecord] = {}

    def tell(record: StackRecord) -> None:
        if record.state == "serving" and not seen:
            _print_ready(directory, record, json=json)
            if not json:
                console.print("Stop it with Ctrl-C.")
        for service in record.services:
            before = seen.get(service.name)
            if record.state == "serving":
                if before and before.state != service.state:
                    errors.print(f"{service.name}: {service.state} ({service.reason})", markup=False)
                seen[service.name] = service

    async def serve() -> None:
        await Stack(directory, options, listener=tell).run()

    if not json:
        errors.print("Starting PostgreSQL and the four services …")
    asyncio.run(serve())
    if not json:
        console.print("Stopped.")


def _print_ready(directory: StateDirectory, record: StackRecord | None, *, json: bool) -> None:
    assert record is not None
    if json:
        print_json(dataclasses.asdict(record))
        return
    console.print(service_table(record))
    console.print(f"Gateway [bold]{record.gateway}[/] · web page [bold]http://{record.web}[/]")
    console.print(f"State in {directory.root}", markup=False)
