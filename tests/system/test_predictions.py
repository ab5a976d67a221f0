"""Predictions made elsewhere, from the command line to the page, and through a `kill -9` of the evaluator."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tunix_rt.v1 import evaluation_pb2, registry_service_pb2
from tunix_rt.v1.job_pb2 import JobState

SAMPLES = 32


@pytest.fixture(scope="module")
def items(system, dataset: str) -> list[tuple[str, str]]:
    """Id and answer of each item of the split `test`."""
    request = registry_service_pb2.ListTracesRequest(dataset=dataset, split="test", page_size=1000)
    return [(each.id, each.final_answer) for each in system.registry.ListTraces(request).traces]


def write(path: Path, records: list[dict]) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def imported(system, file: str, *options: str) -> dict:
    done = system.command_line("evaluations", "import", file, *options, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def pair(system, dataset: str, items: list[tuple[str, str]], tmp_path_factory) -> tuple[dict, dict]:
    """A predictor that is always right, and one that never is, with other keys and another order."""
    folder = tmp_path_factory.mktemp("predictions")
    right = [{"id": name, "prediction": f"Answer: {answer}", "model": "mine"} for name, answer in items]
    never = [{"trace_id": name, "predicted_answer": "no idea"} for name, _ in reversed(items)]
    options = ["--dataset", dataset, "--max-tokens", "77"]
    return (
        imported(system, write(folder / "right.jsonl", right), "--predictor", "right", *options),
        imported(system, write(folder / "never.jsonl", never), "--predictor", "never", *options),
    )


def page(system, path: str) -> str:
    address = system.services["gateway"].environment["TUNIX_RT_WEB"]
    with urllib.request.urlopen(f"http://{address}{path}", timeout=30) as response:
        return str(response.read().decode())


@pytest.mark.timeout(120)
def test_predictors_stand_on_the_leaderboard(system, pair, dataset: str) -> None:
    right, never = pair
    assert right["result"]["score"]["mean"] == 1.0
    assert "mean" not in never["result"]["score"]  # protobuf JSON leaves out 0
    assert right["weights_digest"] == right["spec"]["predictions"]
    board = registry_service_pb2.GetLeaderboardRequest(dataset=dataset)
    boards = [
        [entry.subject for entry in board.entries] for board in system.registry.GetLeaderboard(board).boards
    ]
    assert ["predictors/right", "predictors/never"] in boards
    shown = system.command_line("leaderboard", dataset).stdout
    assert "not checked" in shown


def test_predictors_are_compared_item_by_item(system, pair, items) -> None:
    done = system.command_line("compare", "predictors/never", "predictors/right", "--json")
    (found,) = json.loads(done.stdout)["pairs"]
    assert (found["gained"], found["count"]) == (str(len(items)), str(len(items)))
    assert found["verdict"] == "BETTER"


def test_the_pages_do_not_pretend_to_have_measured(system, pair, dataset: str) -> None:
    evaluation = page(system, f"/{pair[0]['name']}")
    assert "Contamination is not checked" in evaluation
    assert "<dt>Tokens a second</dt><dd>–</dd>" in evaluation
    assert " – tokens · ended by stop · –</p>" in evaluation
    assert "contamination not checked" in page(system, f"/leaderboard?dataset={dataset}")
    assert "contamination not checked" in page(
        system, f"/compare?subject=predictors/never&subject=predictors/right&dataset={dataset}"
    )


def test_the_faults_of_a_file_are_named_by_their_lines(system, dataset: str, items, tmp_path: Path) -> None:
    options = ["--predictor", "bad", "--dataset", dataset, "--json"]
    twice = [{"id": items[0][0], "prediction": "1"}] * 2
    file = write(tmp_path / "a.jsonl", [*twice, {"id": "x"}])
    failed = json.loads(system.command_line("evaluations", "import", file, *options).stderr)
    assert [each["field"] for each in failed["violations"]] == ["line 2: id", "line 3: prediction"]

    (tmp_path / "b.jsonl").write_text('\n\n{"id": "unknown", "prediction": "1"}\n')
    failed = json.loads(
        system.command_line("evaluations", "import", str(tmp_path / "b.jsonl"), *options).stderr
    )
    assert [each["field"] for each in failed["violations"]] == ["line 3: trace_id", "predictions"]
    assert f"lacks {len(items)} of {len(items)} outputs" in failed["violations"][1]["description"]


def test_the_artifact_of_an_evaluation_is_scored_again_like_it(system, pair, tmp_path: Path) -> None:
    name = pair[0]["name"]
    owned = registry_service_pb2.ListArtifactsRequest(owner=name)
    (artifact,) = system.registry.ListArtifacts(owned).artifacts
    read = registry_service_pb2.ReadBlobRequest(sha256=artifact.files[0].sha256)
    file = tmp_path / "predictions.jsonl"
    file.write_bytes(b"".join(each.data for each in system.registry.ReadBlob(read)))
    again = imported(system, str(file), "--predictor", "again", "--like", name)
    assert again["result"] == pair[0]["result"]
    assert again["spec"]["decoding"]["max_tokens"] == 77
    assert again["spec"]["predictions"] == pair[0]["spec"]["predictions"]


def test_predictions_are_imported_by_task(system, pair, dataset: str, items, tmp_path: Path) -> None:
    options = ["--dataset", dataset, "--max-tokens", "77", "--limit", "2", "--json"]
    made = system.command_line("tasks", "create", "two-items", *options)
    assert made.returncode == 0, made.stderr
    outputs = [{"id": name, "prediction": answer} for name, answer in items[:2]]
    file = write(tmp_path / "two.jsonl", outputs)
    found = imported(system, file, "--predictor", "two", "--task", "two-items")
    assert found["spec"]["task"] == "tasks/two-items/versions/v1"
    assert found["spec"]["decoding"] == pair[0]["spec"]["decoding"]
    assert found["result"]["score"]["count"] == "2"
    options = ["--predictor", "two", "--task", "two-items", "--limit", "3", "--json"]
    failed = json.loads(system.command_line("evaluations", "import", file, *options).stderr)
    assert [each["field"] for each in failed["violations"]] == ["evaluation.spec.limit"]


@pytest.mark.timeout(180)
def test_an_import_survives_the_kill_of_the_evaluator(system, tmp_path: Path) -> None:
    made = system.command_line("datasets", "create", "units", "--generator", "units-eval@1", "--json")
    assert made.returncode == 0, made.stderr
    request = registry_service_pb2.ListTracesRequest(dataset="datasets/units", page_size=1000)
    outputs = [
        {
            "id": each.id,
            "sample": n,
            "prediction": f"Answer: {each.final_answer}" if n % 2 else "I cannot say.",
        }
        for each in system.registry.ListTraces(request).traces
        for n in range(SAMPLES)
    ]
    file = write(tmp_path / "many.jsonl", outputs)
    options = ["--predictor", "many", "--dataset", "units", "--temperature", "1", "--detach"]
    name = imported(system, file, *options)["name"]
    evaluator = system.services["evaluator"]
    try:
        wait_for(lambda: bool(stored(system, name, pages=1)))
        evaluator.kill()
        count = len(stored(system, name))
    finally:
        evaluator.start()
        evaluator.wait_serving()
    assert 0 < count < len(outputs)
    wait_for(lambda: evaluation(system, name).status.state == JobState.JOB_STATE_SUCCEEDED)
    assert evaluation(system, name).status.attempt == 2
    places = [(each.position, each.sample) for each in stored(system, name)]
    assert places == [(position, n) for position in range(240) for n in range(SAMPLES)]
    assert evaluation(system, name).result.score.mean == 0.5


def evaluation(system, name: str) -> evaluation_pb2.Evaluation:
    return system.registry.GetEvaluation(registry_service_pb2.GetEvaluationRequest(name=name), timeout=30)


def stored(system, name: str, pages: int = 1000) -> list[evaluation_pb2.ItemScore]:
    found: list[evaluation_pb2.ItemScore] = []
    request = registry_service_pb2.ListItemScoresRequest(evaluation=name, page_size=1000)
    for _ in range(pages):
        answer = system.registry.ListItemScores(request, timeout=30)
        found += answer.item_scores
        request.page_token = answer.next_page_token
        if not request.page_token:
            break
    return found


def wait_for(condition: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
