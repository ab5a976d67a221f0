"""The engine as a process among others: its streams and its end."""

from __future__ import annotations

import subprocess
import sys

import psutil

SERVER = """
import asyncio
from pathlib import Path
from tunix_rt.evaluator.engine_client import EngineClient, EngineModel
from tunix_rt.evaluator.messages import Decoding, Item

async def main():
    engine = EngineClient()
    asyncio.ensure_future(anext(engine.generate(
        EngineModel(Path("none"), "none"), [Item(0, tokens=(1,))], decoding=Decoding(1), stream=False)))
    while engine.pid is None:
        await asyncio.sleep(0.01)
    print("engine", engine.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_the_engine_dies_with_a_killed_server() -> None:
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    with server:
        assert server.stdout
        engine = psutil.Process(
            next(int(line.split()[1]) for line in server.stdout if line.startswith(b"engine "))
        )
        server.kill()
        engine.wait(20)
    assert not engine.is_running()


NOISY = """
import os
from tunix_rt.jobs.standard_streams import take_standard_streams
source, target = take_standard_streams()
print("noise")
os.write(1, b"noise")
os.system("echo noise; cat")
target.write(source.readline())
target.flush()
"""


def test_libraries_cannot_write_into_the_protocol() -> None:
    done = subprocess.run([sys.executable, "-c", NOISY], input=b"line\n", capture_output=True, check=True)
    assert done.stdout == b"line\n"
    assert done.stderr.count(b"noise") == 3
