"""The life of a stack: services that die, a second `up`, a killed supervisor, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

PROGRAM = str(Path(sys.executable).parent / "tunix-rt")

pytestmark = pytest.mark.timeout(240)


def test_the_stack_says_where_it_is(stack) -> None:
    system = stack.program("status", "--json").json
    assert {service["service"] for service in system["services"] if service["serving"]} == {
        "registry",
        "trainer",
        "evaluator",
        "gateway",
    }
    assert stack.record.state == "serving"
    assert all((stack.state.logs / f"{service.name}.log").exists() for service in stack.record.services)


def test_a_second_stack_in_the_same_folder_is_refused(stack) -> None:
    answer = stack.program("up", "--detach", "--port", "0", "--json")
    assert answer.error["reason"] == "STACK_RUNNING"


def test_a_killed_service_is_started_again(stack) -> None:
    before = stack.record.service("trainer")
    os.kill(before.pid, signal.SIGKILL)
    record = stack.wait_for(
        lambda now: now.service("trainer").restarts == 1 and now.service("trainer").state == "serving"
    )
    after = record.service("trainer")
    assert after.pid != before.pid
    assert after.address == before.address
    assert "SIGKILL" in after.reason
    assert stack.program("status", "--json").json["services"]


def test_another_stack_beside_it_survives_a_kill_of_its_supervisor(stack, state_folder: Path) -> None:
    """Up, kill -9, up again in the foreground, Ctrl-C: no process and no record stays behind."""
    state = str(state_folder / "beside")
    ports = ["--port", "0", "--web-port", "0", "--state", state, "--json"]
    record = stack.program("up", "--detach", *ports).json
    assert record["gateway"] != stack.record.gateway
    services = [psutil.Process(service["pid"]) for service in record["services"]]
    os.kill(record["pid"], signal.SIGKILL)
    _, alive = psutil.wait_procs(services, timeout=20)
    assert not alive
    environment = {**stack.environment, "TUNIX_RT_STATE": state}
    with subprocess.Popen(
        [PROGRAM, "up", *ports], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as foreground:
        assert foreground.stdout is not None
        lines = []
        while not lines or lines[-1] != "}\n":
            lines.append(foreground.stdout.readline())
        again = json.loads("".join(lines))
        assert again["state"] == "serving"
        foreground.send_signal(signal.SIGINT)
        assert foreground.wait(60) == 0
        assert "Traceback" not in foreground.stderr.read()
    assert not (Path(state) / "stack.json").exists()
    assert not (Path(state) / "postgres" / "postmaster.pid").exists()
    assert stack.program("down", "--state", state, "--json").json == {"state": "stopped"}


def test_a_service_that_cannot_start_is_named_with_its_log(stack, state_folder: Path) -> None:
    environment = {**stack.environment, "TUNIX_RT_LEASE_SECONDS": "no number"}
    state = state_folder / "failing"
    command = [PROGRAM, "up", "--detach", "--port", "0", "--state", str(state), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)
    assert done.returncode == 1
    error = json.loads(done.stderr)
    assert error["reason"] == "STACK_FAILED"
    assert "ended while starting" in error["message"]
    assert "lease_seconds" in error["message"].lower()
    assert not (state / "postgres" / "postmaster.pid").exists()
