from __future__ import annotations

import pytest

from tunix_rt.rpc import names
from tunix_rt.rpc.errors import InvalidArgument


@pytest.mark.parametrize("name", ["runs/a", "runs/run-1", "runs/" + "a" * 63])
def test_run_names_that_are_right(name: str) -> None:
    assert names.check(name, names.RUN, "name") is None


@pytest.mark.parametrize(
    "name",
    ["", "runs/", "runs/A", "runs/a/b", "runs/-a", "runs/a-", "runs/" + "a" * 64, "../etc", "runs/a\n"],
)
def test_run_names_that_are_wrong(name: str) -> None:
    violation = names.check(name, names.RUN, "spec.run")
    assert violation
    assert violation.field == "spec.run"
    assert "runs/{run}" in violation.description


def test_a_path_in_place_of_an_id_is_named_with_the_form_wanted() -> None:
    with pytest.raises(InvalidArgument) as caught:
        names.require("/home/me/model", names.MODEL_VERSION, "spec.model")
    assert "models/{model}/versions/{version}" in caught.value.message
    assert "/home/me/model" in caught.value.message


def test_ids_are_cut_from_names() -> None:
    assert names.resource_id("models/smol/versions/v1") == "v1"
    assert names.parent("models/smol/versions/v1") == "models/smol"


def test_new_ids_are_right_and_differ() -> None:
    made = {names.new_id("run") for _ in range(50)}
    assert len(made) == 50
    assert all(names.check_id(value, "id") is None for value in made)
