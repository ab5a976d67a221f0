"""The registry outlives its database connections, and says so while they are gone."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from importlib.resources import files

import grpc
import psycopg
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tunix_rt.registry.database import Database
from tunix_rt.registry.server import RegistryServer
from tunix_rt.registry.settings import Settings
from tunix_rt.rpc.errors import ApiError, Reason, Unavailable
from tunix_rt.v1 import job_service_pb2, registry_service_pb2, run_pb2


def kill_connections(database: str, last_statement: str = "%") -> int:
    with psycopg.connect(database, autocommit=True) as connection:
        return connection.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE %s",
            [last_statement],
        ).fetchone()[0]


async def test_a_transaction_whose_connection_dies_is_unavailable_and_stores_nothing(registry):
    database = Database(registry.database)
    await database.open()
    with pytest.raises(Unavailable) as caught:
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO requests (request_id, digest) VALUES ('a', 'b')")
            assert await asyncio.to_thread(kill_connections, registry.database) >= 2
            await tx.one("SELECT 1 AS one")
    assert caught.value.reason is Reason.DATABASE_UNAVAILABLE
    async with database.transaction() as tx:
        assert await tx.all("SELECT * FROM requests") == []
    await database.close()


async def test_calls_go_on_after_all_connections_were_killed(registry):
    job = await registry.running()
    for _ in range(3):
        await asyncio.to_thread(kill_connections, registry.database)
        request = registry_service_pb2.GetRunRequest(name=job.name)
        assert (await registry.registry.GetRun(request)).name == job.name


async def test_a_metric_stream_that_was_cut_goes_on_where_it_was_acknowledged(registry):
    job = await registry.running()
    points = [run_pb2.MetricPoint(metric="m", step=step, value=step) for step in range(1, 101)]
    committed = 0
    for cut in (30, 60, None):

        async def messages(first=committed, cut=cut):
            for offset in range(first, 100, 10):
                if offset == cut:
                    await asyncio.to_thread(kill_connections, registry.database)
                yield job_service_pb2.StreamMetricsRequest(
                    name=job.name, attempt=1, offset=offset, points=points[offset : offset + 10]
                )

        try:
            async for response in registry.jobs.StreamMetrics(messages()):
                committed = response.committed
        except grpc.aio.AioRpcError as error:
            assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert committed == 100
    listed = await registry.registry.ListMetrics(registry_service_pb2.ListMetricsRequest(run=job.name))
    assert [point.step for point in listed.points] == list(range(1, 101))


async def test_cancelled_calls_give_their_connections_back(registry):
    job = await registry.running()
    request = registry_service_pb2.GetRunRequest(name=job.name)
    for _ in range(5):
        calls = [registry.registry.GetRun(request) for _ in range(20)]
        await calls[0]
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    answers = await asyncio.gather(*(registry.registry.GetRun(request) for _ in range(20)))
    assert {answer.name for answer in answers} == {job.name}


async def test_a_waiting_list_wakes_although_its_listener_was_killed(registry):
    job = await registry.running()
    request = registry_service_pb2.ListMetricsRequest(run=job.name, wait=Duration(seconds=20))
    waiting = registry.registry.ListMetrics(request)
    while not await asyncio.to_thread(kill_connections, registry.database, "LISTEN%"):
        pass  # it is not connected yet
    await registry.succeed_run(job)
    assert (await waiting).state == 3


async def test_a_server_without_its_database_does_not_start(tmp_path):
    settings = Settings(
        database="postgresql://postgres@127.0.0.1:1/none?connect_timeout=1",
        blobs=f"file://{tmp_path}",
        listen="127.0.0.1:0",
    )
    database = Database(settings.database, connect_seconds=1)
    with pytest.raises(ApiError) as caught:
        await database.open()
    assert caught.value.reason is Reason.DATABASE_UNAVAILABLE
    await database.close()


async def test_a_server_that_stops_answers_its_waiting_calls(open_registry):
    registry = await open_registry()
    request = job_service_pb2.ClaimJobRequest(kind="run", worker="w", wait=Duration(seconds=30))
    waiting = registry.jobs.ClaimJob(request)
    await registry.jobs.CountJobs(job_service_pb2.CountJobsRequest())
    await asyncio.wait_for(registry.server.stop(5), 10)
    assert not (await waiting).HasField("job")


async def test_migrations_run_once_however_many_servers_start(make_database, tmp_path):
    database = make_database()
    settings = Settings(database=database, blobs=f"file://{tmp_path}", listen="127.0.0.1:0")
    servers = [RegistryServer(settings) for _ in range(4)]
    await asyncio.gather(*(server.start() for server in servers))
    await asyncio.gather(*(server.stop(0) for server in servers))
    with psycopg.connect(database) as connection:
        applied = connection.execute("SELECT number FROM migrations ORDER BY number").fetchall()
        connection.execute("INSERT INTO migrations (number) VALUES (9999)")
    folder = files("tunix_rt.registry") / "migrations"
    numbers = sorted(int(file.name[:4]) for file in folder.iterdir() if file.name.endswith(".sql"))
    assert [number for (number,) in applied] == numbers
    with pytest.raises(RuntimeError, match="9999"):
        await Database(database).open()


async def test_the_program_serves_until_it_is_told_to_stop(make_database, tmp_path):
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tunix_rt.registry",
        env={
            **os.environ,
            "TUNIX_RT_DATABASE": make_database(),
            "TUNIX_RT_BLOBS": f"file://{tmp_path}",
            "TUNIX_RT_LISTEN": f"unix:{tmp_path}/socket",
        },
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with grpc.aio.insecure_channel(f"unix:{tmp_path}/socket") as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            answer = await check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=30)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        program.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(program.wait(), 20) == 0
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()


async def test_the_program_names_the_settings_that_are_missing():
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TUNIX_RT_")}
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "tunix_rt.registry"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert "TUNIX_RT_DATABASE, TUNIX_RT_BLOBS" in done.stderr


async def test_item_scores_of_an_older_database_are_their_first_sample(make_database, tmp_path):
    database = make_database()
    with psycopg.connect(database) as connection:
        sql = files("tunix_rt.registry") / "migrations" / "0001_initial.sql"
        connection.execute(sql.read_text())
        connection.execute(
            "CREATE TABLE migrations (number integer PRIMARY KEY, apply_time timestamptz DEFAULT now())"
        )
        connection.execute("INSERT INTO migrations (number) VALUES (1)")
        connection.execute("INSERT INTO datasets VALUES ('datasets/d', 2, 1, '', now())")
        connection.execute(
            "INSERT INTO jobs"
            " (name, kind, state, max_attempts, spec, description, labels, dataset, create_time)"
            " VALUES ('evaluations/e', 'evaluation', 2, 5, '', '', '', 'datasets/d', now())"
        )
        connection.execute(
            "INSERT INTO evaluations (name, subject, dataset_sha256, board)"
            " VALUES ('evaluations/e', 'runs/r', '', '')"
        )
        connection.execute("INSERT INTO item_scores VALUES ('evaluations/e', 't', 0, 1, 1, '')")
    server = RegistryServer(Settings(database=database, blobs=f"file://{tmp_path}", listen="127.0.0.1:0"))
    await server.start()
    await server.stop(0)
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT trace_id, sample FROM item_scores").fetchall() == [("t", 0)]
