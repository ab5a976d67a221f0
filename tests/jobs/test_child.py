"""The child process: its output, its end, and that it does not outlive its supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tunix_rt.jobs.child import Child, Exit
from tunix_rt.jobs.directory import JobDirectory

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
root = Path(sys.argv[1])
what = (root / "spec.json").read_text()
if what == "ignore":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
secret, leads = "TUNIX_RT_BLOBS" in os.environ, os.getpgrp() == os.getpid()
print("started", os.environ.get("MARK"), secret, leads, flush=True)
if what == "exit":
    print("bye", file=sys.stderr)
    sys.exit(3)
(root / "ready").write_text("ready")
while True:
    signal.pause()
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobDirectory:
    (tmp_path / "jobs_child_program.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("TUNIX_RT_BLOBS", "s3://key:secret@host/bucket")
    root = tmp_path / "job"
    root.mkdir()
    os.mkfifo(root / "ready")
    return JobDirectory(root)


async def start(directory: JobDirectory, what: str) -> Child:
    directory.spec.write_text(what)
    return await Child.start("jobs_child_program", directory, environment={"MARK": "here"})


async def ready(directory: JobDirectory) -> None:
    """Waits until the child opens its end of the pipe."""
    assert await asyncio.to_thread((directory.root / "ready").read_text) == "ready"


async def test_output_goes_to_the_log_and_the_exit_is_told(directory: JobDirectory) -> None:
    child = await start(directory, "exit")
    assert await child.wait() == Exit(3)
    assert directory.log.read_text() == "started here False True\nbye\n"
    child.terminate()
    child.kill()


async def test_stop_asks_with_sigterm(directory: JobDirectory) -> None:
    child = await start(directory, "pause")
    await ready(directory)
    ended = await child.stop(20)
    assert ended.text == "was killed by SIGTERM"


async def test_stop_kills_what_does_not_end(directory: JobDirectory) -> None:
    child = await start(directory, "ignore")
    await ready(directory)
    ended = await child.stop(0.2)
    assert ended.text == "was killed by SIGKILL"


def test_a_child_dies_with_a_killed_supervisor(directory: JobDirectory) -> None:
    directory.spec.write_text("pause")
    supervisor = f"""
import asyncio
from pathlib import Path
from tunix_rt.jobs.child import Child
from tunix_rt.jobs.directory import JobDirectory
async def main():
    child = await Child.start("jobs_child_program", JobDirectory(Path({str(directory.root)!r})))
    Path({str(directory.root / "ready")!r}).read_text()
    print(child.pid, flush=True)
    await child.wait()
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", supervisor], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        handle = os.pidfd_open(pid)
        try:
            process.send_signal(signal.SIGKILL)
            signalled = asyncio.run(_readable(handle))
        finally:
            os.close(handle)
    assert signalled


async def _readable(handle: int) -> bool:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(handle, ended.set)
    async with asyncio.timeout(20):
        await ended.wait()
    asyncio.get_running_loop().remove_reader(handle)
    return True


def test_a_child_whose_parent_is_gone_does_not_start(directory: JobDirectory) -> None:
    directory.spec.write_text("exit")
    command = [sys.executable, "-m", "tunix_rt.jobs.launch", "1", "jobs_child_program", str(directory.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "is gone" in done.stderr
    assert done.stdout == ""
