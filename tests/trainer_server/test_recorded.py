"""Which recorded checkpoints a run goes on from, and which are removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunix_rt.trainer.recorded import Recorded, retention_of
from tunix_rt.trainer.retention import Retention
from tunix_rt.v1 import registry_service_pb2
from tunix_rt.v1.artifact_pb2 import Artifact
from tunix_rt.v1.run_pb2 import CheckpointRetention, RunSpec


def recorded(*places: tuple[int, int]) -> Recorded:
    return Recorded.of(Artifact(attempt=attempt, step=step) for attempt, step in places)


def places(artifacts: Any) -> list[tuple[int, int]]:
    return [(each.attempt, each.step) for each in artifacts]


def test_checkpoints_of_one_attempt_are_in_the_order_of_their_steps() -> None:
    assert places(recorded((1, 20), (1, 5), (1, 10)).current) == [(1, 5), (1, 10), (1, 20)]


def test_an_attempt_that_went_on_from_before_takes_the_place_of_later_steps() -> None:
    found = recorded((1, 5), (1, 10), (1, 15), (2, 8), (2, 10))
    assert places(found.current) == [(1, 5), (2, 8), (2, 10)]
    assert places(found.superseded) == [(1, 15), (1, 10)]


def test_what_is_superseded_or_not_kept_is_removed() -> None:
    found = recorded((1, 5), (1, 10), (1, 15), (2, 8), (2, 12))
    went_on = {"attempt": 2, "resumed_from": 5}
    newest = found.removable(Retention(), best=None, **went_on)
    assert sorted(places(newest)) == [(1, 5), (1, 10), (1, 15), (2, 8)]
    two_and_best = found.removable(Retention(keep_last=2), best=5, **went_on)
    assert sorted(places(two_and_best)) == [(1, 10), (1, 15)]


def test_a_checkpoint_that_could_not_be_used_is_removed_whatever_is_kept() -> None:
    found = recorded((1, 5), (1, 10), (2, 12))
    removable = found.removable(Retention(keep_last=100), best=10, attempt=2, resumed_from=5)
    assert places(removable) == [(1, 10)]


def test_a_spec_that_says_nothing_keeps_the_newest() -> None:
    assert retention_of(CheckpointRetention()) == Retention(keep_last=1, keep_every=0, best_metric="")


@pytest.fixture
def keeping(spec: RunSpec) -> RunSpec:
    spec.retention.keep_last = 2
    return spec


async def test_old_checkpoints_are_removed_with_their_bytes(bench: Any, keeping: RunSpec) -> None:
    name = await bench.queue(keeping)
    await bench.run_until(name)
    assert await bench.checkpoints(name) == [(1, 4), (1, 6)]
    states = [path for path in blobs_of(bench) if b'"step"' in path.read_bytes()[:20]]
    assert sorted(path.read_text().split()[-2] for path in states) == ["4", "6"]


async def test_a_damaged_checkpoint_is_told_and_the_one_before_is_used(bench: Any, keeping: RunSpec) -> None:
    name, gate = await bench.queue(keeping), bench.gate(5)
    await bench.release_at(gate)
    assert await bench.checkpoints(name) == [(1, 4), (1, 5)]
    (state,) = [path for path in blobs_of(bench) if '"step": 5\n' in path.read_text(errors="replace")]
    state.write_text("rotten")
    run = await bench.run_until(name)
    assert await bench.points(name) == [(1, 1), (1, 2), (1, 3), (1, 4), (1, 5), (2, 5), (2, 6)]
    log = await bench.log(name)
    assert any(line.startswith("checkpoint 5 is damaged and not used: The stored bytes of") for line in log)
    assert "from step 5" in log
    assert run.status.attempt == 2
    assert await bench.checkpoints(name) == [(1, 4), (2, 6)]


async def test_another_host_goes_on_where_the_first_was_shut_down(
    bench: Any, spec: RunSpec, tmp_path: Path
) -> None:
    name, gate = await bench.queue(spec), bench.gate(3)
    await bench.release_at(gate)
    bench.work = tmp_path / "another host"
    await bench.run_until(name)
    assert await bench.points(name) == [(1, 1), (1, 2), (1, 3), (2, 4), (2, 5), (2, 6)]
    request = registry_service_pb2.GetArtifactRequest(name=(await bench.run(name)).model_artifact)
    assert (await bench.registry.stub.GetArtifact(request)).kind == "model"


def blobs_of(bench: Any) -> list[Path]:
    folder = Path(bench.registry.blobs_url.removeprefix("file://"))
    return [path for path in folder.rglob("*") if path.is_file()]
