"""The demo: a fresh stack, the main job, the results, and a clean stop."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import grpc

from tunix_rt.standalone import demo_checks as checks
from tunix_rt.standalone.background import start_in_background, stop_in_background
from tunix_rt.standalone.connection import connect
from tunix_rt.standalone.demo_job import main_job
from tunix_rt.standalone.demo_report import print_look_further, print_result, result_json
from tunix_rt.standalone.demo_spec import FULL, TINY
from tunix_rt.standalone.demo_steps import Steps
from tunix_rt.standalone.failures import CommandError
from tunix_rt.standalone.output import errors, print_json
from tunix_rt.standalone.plan import GATEWAY_PORT, WEB_PORT, Options, PortTakenError, check_port
from tunix_rt.standalone.postgres import EmbeddedPostgres
from tunix_rt.standalone.state import StackRecord, StackRunningError, StateDirectory

_MARKER = "demo"


def run_demo(*, tiny: bool = False, state: Path | None = None, json: bool = False) -> int:
    """Runs the demo; 0 if every step is as it must be, 1 with the reason otherwise."""
    spec = TINY if tiny else FULL
    directory = (
        StateDirectory.locate(state) if state else StateDirectory(StateDirectory.locate().root / "demo")
    )
    _make_fresh(directory)
    try:
        with Steps(quiet=json) as steps:
            try:
                record = _start(steps, directory)
                with connect(record.gateway) as connection:
                    result = main_job(steps, connection, spec, tiny=tiny)
            finally:
                _stop(steps, directory)
    except checks.DemoError as error:
        errors.print(
            f"The demo failed: {error}\nIts logs are in {directory.logs}.", style="red", markup=False
        )
        return 1
    except grpc.RpcError:
        if not json:
            errors.print(f"The demo's logs are in {directory.logs}.", markup=False)
        raise
    if json:
        print_json(result_json(result, steps.timings))
    else:
        print_result(result, steps.timings, remark=spec.remark)
        print_look_further(result, directory)
    try:
        checks.check_gain(result.pair, spec.largest_p)
    except checks.DemoError as error:
        errors.print(f"The demo failed: {error}", style="red", markup=False)
        return 1
    return 0


def _make_fresh(directory: StateDirectory) -> None:
    """Removes what an earlier demo left; leaves any other folder alone."""
    if directory.held():
        raise StackRunningError(str(directory.root))
    marker = directory.root / _MARKER
    if directory.root.exists() and any(directory.root.iterdir()):
        if not marker.exists():
            raise CommandError(
                "STATE_IN_USE",
                f"{directory.root} is not empty and no demo's; name another folder with --state.",
            )
        EmbeddedPostgres(directory.postgres).stop()  # a killed demo leaves it running
        shutil.rmtree(directory.root)
    directory.make()
    marker.touch()


def _start(steps: Steps, directory: StateDirectory) -> StackRecord:
    """Starts a stack of its own, whatever database or store the environment names."""
    with steps.step("Start PostgreSQL and four gRPC services") as step:
        last: StackRecord | None = None
        options = Options(_port_or_free(GATEWAY_PORT), WEB_PORT)
        plain = {key: value for key, value in os.environ.items() if not key.startswith("TUNIX_RT_")}
        for last in start_in_background(directory, options, with_parent=True, environment=plain):
            step.at(sum(service.state == "serving" for service in last.services), len(last.services))
            step.note(", ".join(s.name for s in last.services if s.state == "serving"))
        assert last is not None
        step.note(f"gateway {last.gateway}, page http://{last.web}")
        return last


def _port_or_free(port: int) -> int:
    try:
        return check_port(port)
    except PortTakenError:
        return 0


def _stop(steps: Steps, directory: StateDirectory) -> None:
    if directory.held():
        with steps.step("Stop everything"):
            for _ in stop_in_background(directory):
                pass
