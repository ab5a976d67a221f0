"""Tasks through the command line and a real stack."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytestmark = pytest.mark.timeout(240)

BUILTIN = [
    "arithmetic-eval",
    "multistep-eval",
    "units-eval",
    "formatting-eval",
    "edge-cases-eval",
    "choices-eval",
]


@pytest.fixture
def dataset(command: Callable) -> str:
    return str(command("datasets", "create", "golden", "--generator", "golden@2", "--json").json["name"])


def test_a_task_shows_what_it_measures(command: Callable, dataset: str) -> None:
    made = command(
        "tasks", "create", "shown", "--dataset", dataset, "--prompt-template", "Q: {question}",
        "--description", "For everybody.", "--json",
    ).json  # fmt: skip
    assert (made["name"], made["spec"]["split"]) == ("tasks/shown/versions/v1", "test")
    assert command("tasks", "show", "shown", "--json").json == made
    text = command("tasks", "show", "tasks/shown/versions/v1").out
    for part in ("For everybody.", dataset, "greedy, up to 256 tokens", "Q: {question}", made["digest"]):
        assert part in text


def test_the_newest_version_of_a_task_is_meant(command: Callable, dataset: str) -> None:
    for limit in ("1", "2"):
        command("tasks", "create", "twice", "--dataset", dataset, "--limit", limit)
    assert command("tasks", "show", "twice", "--json").json["spec"]["limit"] == "2"
    listed = command("tasks", "list", "--task", "twice", "--json").json["task_versions"]
    assert [each["name"] for each in listed] == ["tasks/twice/versions/v2", "tasks/twice/versions/v1"]


def test_the_builtin_sets_are_added_once(command: Callable) -> None:
    first = command("tasks", "add-builtin", "--json").json["task_versions"]
    assert [each["name"] for each in first] == [f"tasks/{name}/versions/v1" for name in BUILTIN]
    assert first[2]["spec"]["dataset"] == "datasets/units-eval-1"
    assert [each["spec"]["method"] for each in first] == ["generation"] * 5 + ["multiple-choice"]
    assert first[2]["description"].startswith("240 items: length, mass")
    assert command("tasks", "add-builtin", "--json").json["task_versions"] == first
    assert "--task arithmetic-eval" in command("tasks", "add-builtin").out
    assert "240 items: length" in command("tasks", "list").out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("tasks", "show", "nothing"), "NOT_FOUND"),
        (("evaluate", "x", "--task", "nothing"), "NOT_FOUND"),
        (("evaluate", "x"), "INVALID_ARGUMENT"),
        (("leaderboard",), "INVALID_ARGUMENT"),
        (("leaderboard", "golden", "--task", "nothing"), "INVALID_ARGUMENT"),
        (("tasks", "create", "x"), "INVALID_ARGUMENT"),
        (("tasks", "create", "Not an id", "--dataset", "golden"), "INVALID_ARGUMENT"),
    ],
)
def test_what_cannot_be_done_says_why(command: Callable, arguments: tuple[str, ...], code: str) -> None:
    assert command(*arguments, "--json").error["code"] == code
