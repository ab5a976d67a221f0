"""The options of `train` about rows, and how a preview looks."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.standalone.preview_view import preview_view
from tunix_rt.standalone.row_options import apply_rows
from tunix_rt.v1.run_pb2 import MixturePart, RunSpec
from tunix_rt.v1.trainer_service_pb2 import LengthCount, PreviewRow, PreviewToken, RowProblem, RunPreview


def test_options_fill_in_the_rows_of_a_spec() -> None:
    spec = RunSpec(mixture=[MixturePart(dataset="datasets/old")])
    apply_rows(spec, mixture=["a", "b:test=0.5"], batching="padded", overlong="cut-prompt")
    assert spec == RunSpec(
        mixture=[
            MixturePart(dataset="datasets/a"),
            MixturePart(dataset="datasets/b", split="test", weight=0.5),
        ],
        batching=RunSpec.PADDED,
        overlong=RunSpec.CUT_PROMPT,
    )


def test_what_is_not_given_stays() -> None:
    spec = RunSpec(mixture=[MixturePart(dataset="datasets/old")], overlong=RunSpec.DROP)
    apply_rows(spec, mixture=[], batching=None, overlong=None)
    assert (spec.mixture[0].dataset, spec.overlong) == ("datasets/old", RunSpec.DROP)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"batching": "loose"}, "spec.batching"),
        ({"overlong": "cut"}, "spec.overlong"),
        ({"mixture": ["a=x"]}, "spec.mixture[0].weight"),
        ({"mixture": ["a=0"]}, "spec.mixture[0].weight"),
        ({"mixture": ["a", "./b.jsonl"]}, "spec.mixture[1].dataset"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], field: str) -> None:
    given = {"mixture": [], "batching": None, "overlong": None, **options}
    with pytest.raises(InvalidArgument) as caught:
        apply_rows(RunSpec(), **given)  # type: ignore[arg-type]
    assert [each.field for each in caught.value.violations] == [field]


def shown(preview: RunPreview, *, colour: bool = False) -> str:
    system = "standard" if colour else None
    console = Console(file=io.StringIO(), width=160, force_terminal=colour, color_system=system)
    for part in preview_view(preview):
        console.print(part)
    return console.file.getvalue()  # type: ignore[attr-defined]


ROW = PreviewRow(
    trace="sum-1",
    dataset="datasets/sums",
    tokens=[PreviewToken(id=1, text="2+2?\n"), PreviewToken(id=2, text="4", weight=1)],
    cut_tokens=7,
)


def test_learnt_tokens_have_a_colour_of_their_own() -> None:
    text = shown(RunPreview(rows=[ROW]), colour=True)
    assert "\x1b[4;30;42m4\x1b[0m" in text  # black on green, underlined as every second token
    assert "\x1b[2m2+2?⏎" in text


def test_a_row_says_how_many_tokens_are_learnt_and_cut() -> None:
    assert "sum-1  datasets/sums  1 of 2 tokens, 7 cut off" in shown(RunPreview(rows=[ROW]))


def test_problems_lengths_and_figures_are_shown() -> None:
    problem = RowProblem(
        reason="TOO_LONG", message="Raise it.", count=5, examples=["a (9 tokens)"], refused=True
    )
    preview = RunPreview(
        problems=[problem],
        lengths=[LengthCount(up_to_tokens=64, count=30), LengthCount(up_to_tokens=128, count=10)],
        trace_count=40, row_count=12, token_count=1000, weighted_token_count=250, padding_share=0.1,
        steps_per_epoch=3, step_count=9, rows_sha256="ab",
    )  # fmt: skip
    text = shown(preview)
    for part in (
        "TOO_LONG",
        "the run is refused",
        "a (9 tokens)",
        "40 in 12 rows",
        "25% are learnt",
        "10.0%",
    ):
        assert part in text
