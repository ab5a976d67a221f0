"""The evaluator as a process: its settings and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, "-m", "tunix_rt.evaluator"]


def clean_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("TUNIX_RT_")}


def test_missing_settings_are_named() -> None:
    done = subprocess.run(COMMAND, env=clean_environment(), capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("Set TUNIX_RT_REGISTRY, TUNIX_RT_BLOBS")


def test_it_serves_without_a_registry_and_ends_when_asked(tmp_path: Path) -> None:
    environment = clean_environment() | {
        "TUNIX_RT_REGISTRY": "127.0.0.1:1",
        "TUNIX_RT_BLOBS": (tmp_path / "blobs").as_uri(),
        "TUNIX_RT_WORK": str(tmp_path / "work"),
        "TUNIX_RT_LISTEN": "127.0.0.1:0",
    }
    server = subprocess.Popen(COMMAND, env=environment, stderr=subprocess.PIPE, text=True)
    with server:
        assert server.stderr
        assert any('"serving"' in line for line in server.stderr)
        server.send_signal(signal.SIGTERM)
        assert "stopped" in server.stderr.read()
    assert server.returncode == 0
