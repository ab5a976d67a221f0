"""Store and read metrics with MLflow's own client and server, for `registry.py` to compare with.

    PYTHON benchmarks/mlflow_peer.py DATABASE_URI FOLDER

Starts `mlflow server` with its defaults on an empty PostgreSQL database (uvloop is used where it is
installed) and says {"ready", "version"}. Then reads one JSON object a line, {"what", ...}, does it, and
writes {"seconds"}, or {"megabytes"} of resident memory for "memory". Needs mlflow, psycopg2 and psutil.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ |= {
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
}

import mlflow
import psutil
from mlflow import MlflowClient
from mlflow.entities import Metric

MESSAGE_POINTS = 1000  # the most that the server takes in a call
CLIENTS = 4
NINE = tuple(f"train/metric_{i}" for i in range(9))


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the libraries print goes to the error stream
    database, folder = sys.argv[1:]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [str(Path(sys.executable).parent / "mlflow"), "server", "--backend-store-uri", database,
         "--artifacts-destination", f"{folder}/artifacts", "--host", "127.0.0.1", "--port", str(port)],
        cwd=folder,
    )  # fmt: skip
    try:
        wait_for(address, server)
        with ProcessPoolExecutor(CLIENTS) as clients:
            list(clients.map(warm_up, [address] * CLIENTS))
            peer = Peer(address, server, clients)
            print(json.dumps({"ready": True, "version": mlflow.__version__}), file=answers, flush=True)
            for line in sys.stdin:
                print(json.dumps(peer.answer(**json.loads(line))), file=answers, flush=True)
    finally:
        for process in (*psutil.Process(server.pid).children(recursive=True), server):
            process.terminate()
        server.wait(30)


class Peer:
    def __init__(self, address: str, server: subprocess.Popen, clients: ProcessPoolExecutor) -> None:
        self.address, self.server, self.clients = address, server, clients
        self.client = MlflowClient(address)
        self.curves: list[str] = []

    def answer(self, what: str, **fields: int) -> dict[str, float]:
        if what == "memory":
            processes = [psutil.Process(self.server.pid)]
            processes += processes[0].children(recursive=True)
            return {"megabytes": sum(process.memory_info().rss for process in processes) / 1e6}
        return {"seconds": getattr(self, what)(**fields)}

    def ingest(self, clients: int, messages: int) -> float:
        """So many messages of 1000 points from each client, in nine metrics."""
        runs = [new_run(self.client) for _ in range(clients)]
        began = time.perf_counter()
        list(self.clients.map(send, [self.address] * clients, runs, [messages] * clients))
        return time.perf_counter() - began

    def single_points(self, calls: int) -> float:
        run = new_run(self.client)
        began = time.perf_counter()
        for step in range(calls):
            self.client.log_metric(run, "train/loss", 1.0 / (step + 1), timestamp=step, step=step)
        return time.perf_counter() - began

    def load_curves(self, points: int) -> float:
        """Two runs with one metric, for `sampled` and `whole`."""
        began = time.perf_counter()
        self.curves = [new_run(self.client) for _ in range(2)]
        messages = [points // MESSAGE_POINTS] * 2
        list(self.clients.map(send, [self.address] * 2, self.curves, messages, [("train/loss",)] * 2))
        return time.perf_counter() - began

    def sampled(self, points: int) -> float:
        query = "&".join([*(f"run_ids={run}" for run in self.curves), "metric_key=train%2Floss"])
        path = f"ajax-api/2.0/mlflow/metrics/get-history-bulk-interval?{query}&max_results={points}"
        began = time.perf_counter()
        with urllib.request.urlopen(f"{self.address}/{path}") as response:
            found = json.load(response)["metrics"]
        seconds = time.perf_counter() - began
        assert len(found) >= points, len(found)
        return seconds

    def whole(self, points: int) -> float:
        began = time.perf_counter()
        histories = [self.client.get_metric_history(run, "train/loss") for run in self.curves]
        seconds = time.perf_counter() - began
        assert [len(history) for history in histories] == [points] * 2
        return seconds


def new_run(client: MlflowClient) -> str:
    return client.create_run("0").info.run_id


def warm_up(address: str) -> None:
    MlflowClient(address).search_experiments()


def send(
    address: str,
    run: str,
    messages: int,
    names: tuple[str, ...] = NINE,
) -> None:
    client = MlflowClient(address)
    for message in range(messages):
        numbers = range(message * MESSAGE_POINTS, (message + 1) * MESSAGE_POINTS)
        client.log_batch(
            run,
            [
                Metric(names[n % len(names)], 1.0 / (n + 1), 1_760_000_000_000 + n, n // len(names) + 1)
                for n in numbers
            ],
        )


def wait_for(address: str, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=2).close()
            return
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


if __name__ == "__main__":
    main()
