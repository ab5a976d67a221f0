"""What a stack runs: ports, addresses and settings."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tunix_rt.standalone.plan import Options, PortTakenError, blobs_url, free_port, make_plan
from tunix_rt.standalone.postgres import EmbeddedPostgres, socket_directory
from tunix_rt.standalone.state import StateDirectory


def plan(tmp_path: Path, options: Options):
    return make_plan(StateDirectory(tmp_path), options, database="postgresql://x", blobs="file:///b")


def test_every_service_knows_its_address_and_its_peers(tmp_path: Path) -> None:
    port = free_port()
    made = plan(tmp_path, Options(port, 0))
    services = {spec.name: spec for spec in made.services}
    assert list(services) == ["registry", "trainer", "evaluator", "gateway"]
    assert made.gateway == services["gateway"].address == f"127.0.0.1:{port}"
    assert len({spec.address for spec in made.services}) == 4
    for spec in made.services:
        assert spec.module == f"tunix_rt.{spec.name}"
        assert spec.environment["TUNIX_RT_LISTEN"] == spec.address
        assert spec.environment["TUNIX_RT_DATABASE"] == "postgresql://x"
        assert spec.environment["TUNIX_RT_BLOBS"] == "file:///b"
        assert spec.environment["TUNIX_RT_REGISTRY"] == services["registry"].address
        assert Path(spec.environment["TUNIX_RT_WORK"]).is_dir()
    assert len({spec.environment["TUNIX_RT_WORK"] for spec in made.services}) == 4


def test_a_taken_port_is_refused_but_the_page_gives_way(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortTakenError, match=str(port)):
            plan(tmp_path, Options(port, 0))
        assert plan(tmp_path, Options(0, port)).web != f"127.0.0.1:{port}"
        with pytest.raises(PortTakenError):
            plan(tmp_path, Options(0, port, web_port_fixed=True))


def test_the_object_store_is_a_folder_unless_the_environment_names_one(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "a b")
    assert blobs_url({}, state) == f"file://{tmp_path}/a%20b/blobs"
    assert blobs_url({"TUNIX_RT_BLOBS": "s3://x"}, state) == "s3://x"


@pytest.mark.parametrize("path", ["/state/postgres", "/" + "x" * 80])
def test_a_plain_short_path_holds_the_socket(path: str) -> None:
    assert socket_directory(Path(path)) == Path(path)


@pytest.mark.parametrize("path", ["/" + "x" * 100, "/with space/postgres", "/it's/postgres", "/ä/postgres"])
def test_other_paths_have_a_short_folder_for_the_socket(path: str) -> None:
    short = socket_directory(Path(path))
    assert short != Path(path)
    assert len(str(short / ".s.PGSQL.5432")) < 107
    assert short == socket_directory(Path(path))


def test_postgres_starts_is_taken_over_and_stops_under_an_awkward_path(state_folder: Path) -> None:
    data = state_folder / ("it's a long folder " + "x" * 60) / "postgres"
    first, second = EmbeddedPostgres(data), EmbeddedPostgres(data)
    first.start()
    pid = (data / "postmaster.pid").read_text().splitlines()[0]
    second.start()
    assert (data / "postmaster.pid").read_text().splitlines()[0] == pid
    second.stop()
    assert not (data / "postmaster.pid").exists()
    first.stop()


def test_each_service_serves_metrics_at_a_port_of_its_own(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    options = Options(port=0, web_port=0)
    for asked, found in (
        ("127.0.0.1:9464", [f"127.0.0.1:{port}" for port in (9464, 9465, 9466, 9467)]),
        ("127.0.0.1:0", ["127.0.0.1:0"] * 4),
        ("", [""] * 4),
    ):
        made = make_plan(state, options, database="postgresql://x", blobs="file:///b", metrics=asked)
        assert [service.environment["TUNIX_RT_METRICS"] for service in made.services] == found
