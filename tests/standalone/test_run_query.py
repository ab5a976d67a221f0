"""Filters, orders and columns of lists of runs, as people write them."""

from __future__ import annotations

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict

from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.standalone.run_query import (
    Key,
    add_conditions,
    add_time,
    model_filter,
    project,
    sort_order,
    states_of,
)
from tunix_rt.v1 import registry_service_pb2, run_pb2

RUN = ParseDict(
    {
        "name": "runs/a",
        "status": {"state": "JOB_STATE_SUCCEEDED", "createTime": "2026-01-01T00:00:00Z"},
        "metrics": [{"metric": "validation/loss", "last": 2, "min": 1, "max": 3}],
        "parameters": {"lora.rank": 8, "remat": True},
        "labels": {"team": "red", "a": "b"},
        "tags": ["x", "y"],
    },
    run_pb2.Run(),
)


def as_dict(message):
    return MessageToDict(message, preserving_proto_field_name=True)


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("-validation/loss", {"metric": "validation/loss"}),
        ("validation/loss", {"metric": "validation/loss", "ascending": True}),
        ("-min:loss", {"metric": "loss", "statistic": "METRIC_STATISTIC_MIN"}),
        ("optimizer.learning_rate", {"parameter": "optimizer.learning_rate", "ascending": True}),
        ("-created", {}),
        ("created", {"ascending": True}),
    ],
)
def test_a_sort_is_an_order(text, order):
    made = as_dict(sort_order(text))
    if made.get("statistic") == "METRIC_STATISTIC_LAST":
        del made["statistic"]
    assert made == order


def test_comparisons_are_ranges_of_metrics_and_matches_of_parameters():
    found = run_pb2.RunFilter()
    add_conditions(
        found, ["validation/loss<=2", "max:train/loss>=1e-3", "lora.rank>=8", "optimizer.decay=COSINE"]
    )
    assert as_dict(found) == {
        "metrics": [
            {"metric": "validation/loss", "statistic": "METRIC_STATISTIC_LAST", "high": 2.0},
            {"metric": "train/loss", "statistic": "METRIC_STATISTIC_MAX", "low": 0.001},
        ],
        "parameters": [{"path": "lora.rank", "low": 8.0}, {"path": "optimizer.decay", "text": "COSINE"}],
    }


@pytest.mark.parametrize("text", ["validation/loss", "validation/loss<=x", "<=2"])
def test_what_is_no_comparison_is_refused(text):
    with pytest.raises(InvalidArgument) as caught:
        add_conditions(run_pb2.RunFilter(), [text])
    assert caught.value.violations[0].field == "where"


def test_times_and_states_are_checked():
    found = run_pb2.RunFilter()
    add_time(found, "created_from", "2026-01-31T12:00:00+01:00", "since")
    assert found.created_from.ToJsonString() == "2026-01-31T11:00:00Z"
    with pytest.raises(InvalidArgument):
        add_time(found, "created_from", "yesterday", "since")
    assert states_of(["succeeded", "FAILED"]) == [3, 4]
    with pytest.raises(InvalidArgument):
        states_of(["done"])


def test_a_bare_id_is_a_model():
    assert model_filter("smol") == "models/smol"
    assert model_filter("models/smol/versions/v1") == "models/smol/versions/v1"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("name", "runs/a"),
        ("state", "succeeded"),
        ("created", "2026-01-01T00:00:00Z"),
        ("ended", ""),
        ("labels", "a=b team=red"),
        ("tags", "x y"),
        ("validation/loss", 2.0),
        ("min:validation/loss", 1.0),
        ("train/loss", None),
        ("lora.rank", 8.0),
        ("remat", True),
        ("seed", None),
    ],
)
def test_a_column_shows_what_a_run_has(column, value):
    assert Key.parse(column).value(RUN) == value


def test_only_what_columns_show_is_asked_for():
    request = registry_service_pb2.ListRunsRequest()
    project(request, [Key.parse(text) for text in ("state", "min:a/b", "a/b", "lora.rank")])
    assert (list(request.metrics), list(request.parameters)) == (["a/b"], ["lora.rank"])
    request = registry_service_pb2.ListRunsRequest()
    project(request, [Key.parse("state")])
    assert (list(request.metrics), list(request.parameters)) == (["-"], [])
