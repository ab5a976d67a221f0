"""The checkpoints of a run that the registry has recorded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunix_rt.jobs.directory import read_json
from tunix_rt.jobs.remote import CALL_SECONDS, answer
from tunix_rt.trainer.retention import Retention, kept
from tunix_rt.v1 import registry_service_pb2
from tunix_rt.v1.artifact_pb2 import Artifact
from tunix_rt.v1.run_pb2 import CheckpointRetention

CHECKPOINT = "checkpoint"


@dataclass(frozen=True)
class Recorded:
    """A run's checkpoints by step, and those that a later attempt has taken the place of.

    An attempt that records a step goes on from before it: earlier attempts' checkpoints from that step on
    are of no more use.
    """

    current: Sequence[Artifact]
    superseded: Sequence[Artifact]

    @classmethod
    def of(cls, artifacts: Iterable[Artifact]) -> Recorded:
        """Sorts the recorded checkpoints of one run."""
        current: list[Artifact] = []
        superseded: list[Artifact] = []
        for artifact in sorted(artifacts, key=lambda each: (each.attempt, each.step), reverse=True):
            (superseded if current and artifact.step >= current[-1].step else current).append(artifact)
        return cls(current[::-1], superseded)

    def removable(
        self, retention: Retention, *, best: int | None, attempt: int, resumed_from: int
    ) -> list[Artifact]:
        """What is not kept, now that the attempt, which went on from a step, has recorded a checkpoint.

        Earlier attempts' later checkpoints are those that it could not use.
        """
        useful = [each for each in self.current if each.attempt == attempt or each.step <= resumed_from]
        keep = kept([artifact.step for artifact in useful], retention, best=best)
        left = [each for each in self.current if each not in useful or each.step not in keep]
        return [*self.superseded, *left]


async def recorded_checkpoints(registry: Any, run: str) -> Recorded:
    """Every recorded checkpoint of a run."""
    found: list[Artifact] = []
    token = ""
    while True:
        request = registry_service_pb2.ListArtifactsRequest(
            owner=run, kind=CHECKPOINT, page_size=1000, page_token=token
        )
        page = await answer(registry.ListArtifacts(request, timeout=CALL_SECONDS))
        found += page.artifacts
        token = page.next_page_token
        if not token:
            return Recorded.of(found)


def retention_of(spec: CheckpointRetention) -> Retention:
    """The retention that a spec asks for; the newest checkpoint alone where it says nothing."""
    return Retention(keep_last=spec.keep_last or 1, keep_every=spec.keep_every, best_metric=spec.best_metric)


def best_step(checkpoint: Path) -> int | None:
    """The step that was the best when a checkpoint was made, if any was."""
    best = read_json(checkpoint / "state.json").get("best")
    return int(best["step"]) if best else None
