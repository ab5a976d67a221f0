"""`tunix-rt runs` against a registry; the gateway forwards these calls as they are."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Callable

import pytest

from tunix_rt.standalone.cli import main
from tunix_rt.v1 import job_service_pb2, run_pb2


@pytest.fixture
def command(registry, capsys: pytest.CaptureFixture[str]) -> Callable:
    """Runs a command and returns what it printed."""

    async def run(*arguments: str) -> str:
        capsys.readouterr()
        address = f"127.0.0.1:{registry.server.port}"
        code = await asyncio.to_thread(main, [*arguments, "--gateway", address])
        lines = capsys.readouterr().out.splitlines(keepends=True)
        assert code == 0
        return "".join(line for line in lines if " [info " not in line)

    return run


@pytest.fixture
async def runs(registry):
    """The runs low and high, with losses 1 and 2; high has a rank."""
    dataset, model = (await registry.sealed_dataset()).name, await registry.model()
    for name, loss in (("low", 1.0), ("high", 2.0)):
        spec = run_pb2.RunSpec(model=model, dataset=dataset, seed=7)
        if name == "high":
            spec.lora.rank = 8
        job = job_service_pb2.Job(name=f"runs/{name}", run=spec, labels={"team": name})
        await registry.jobs.EnqueueJob(job_service_pb2.EnqueueJobRequest(job=job))
        claimed = await registry.claim(worker=name)
        point = run_pb2.MetricPoint(metric="validation/loss", step=1, value=loss)

        async def messages(claimed=claimed, point=point):
            yield job_service_pb2.StreamMetricsRequest(name=claimed.name, attempt=1, points=[point])

        assert [answer.committed async for answer in registry.jobs.StreamMetrics(messages())][-1] == 1
        await registry.succeed_run(claimed)


async def names_of(command, *arguments):
    return [
        run["name"] for run in json.loads(await command("runs", "list", "--json", *arguments)).get("runs", [])
    ]


async def test_runs_are_listed_by_filter_and_order(command, runs):
    assert await names_of(command, "--sort", "-validation/loss") == ["runs/high", "runs/low"]
    assert await names_of(command, "--sort", "validation/loss") == ["runs/low", "runs/high"]
    assert await names_of(command, "--where", "validation/loss<=1") == ["runs/low"]
    assert await names_of(command, "--where", "lora.rank>=8", "--state", "succeeded") == ["runs/high"]
    assert await names_of(command, "--label", "team=low", "--model", "tiny") == ["runs/low"]


async def test_columns_are_shown_and_counted(command, runs):
    shown = await command(
        "runs", "list", "--columns", "state,validation/loss,lora.rank", "--count", "--limit", "1"
    )
    for part in ("runs/high", "succeeded", "lora.rank", "1 of 2 runs"):
        assert part in shown
    assert "runs/low" not in shown


async def test_runs_are_exported(command, runs, tmp_path):
    columns = "validation/loss,lora.rank"
    text = await command("runs", "export", "--columns", columns, "--sort", "validation/loss")
    assert list(csv.reader(io.StringIO(text))) == [
        ["name", "validation/loss", "lora.rank"],
        ["runs/low", "1.0", ""],
        ["runs/high", "2.0", "8.0"],
    ]
    text = await command("runs", "export")
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(text))}
    assert (rows["runs/high"]["parameters.seed"], rows["runs/low"]["min:validation/loss"]) == ("7.0", "1.0")
    file = tmp_path / "runs.jsonl"
    await command("runs", "export", "--format", "jsonl", "--output", str(file))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["name"] for line in lines] == ["runs/high", "runs/low"]
    assert lines[0]["spec"]["lora"]["rank"] == 8


async def test_a_run_is_updated(command, runs, tmp_path):
    notes = tmp_path / "notes.md"
    notes.write_text("# Why\n")
    changed = json.loads(
        await command(
            "runs", "update", "low", "--description", "the first", "--notes", f"@{notes}", "--label", "a=b",
            "--remove-label", "team", "--tag", "x", "--tag", "y", "--parent", "high", "--json",
        )
    )  # fmt: skip
    assert changed["labels"] == {"a": "b"}
    assert (changed["notes"], changed["tags"], changed["parent"]) == ("# Why\n", ["x", "y"], "runs/high")
    shown = await command("runs", "show", "low")
    for part in ("the first", "a=b", "x, y", "runs/high", "# Why"):
        assert part in shown


async def test_runs_are_archived_deleted_restored_and_collected(command, runs, registry):
    assert "runs/low is archived." in await command("runs", "archive", "low")
    assert await names_of(command) == ["runs/high"]
    assert await names_of(command, "--archived") == ["runs/low"]
    await command("runs", "unarchive", "low")
    await command("runs", "delete", "low", "high")
    assert await names_of(command) == []
    await command("runs", "restore", "high")
    assert await names_of(command, "--deleted") == ["runs/low"]
    assert "1 runs with 1 artifacts" in await command("runs", "gc", "--min-age-days", "0")
    removed = json.loads(await command("runs", "gc", "--remove", "--min-age-days", "0", "--json"))
    assert removed["runs"] == ["runs/low"]
    assert await names_of(command, "--deleted") == []
