"""Judges in the terminal: how far they can be believed, and what they said."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from tunix_rt.judges.words import Share, calibration_rows, calibration_sentences, calibration_verdict
from tunix_rt.standalone.charts import interval_bar
from tunix_rt.standalone.output import new_table
from tunix_rt.standalone.views import score_text
from tunix_rt.v1 import evaluation_pb2 as evaluation_pb

_BAR = 30


def calibration_view(found: evaluation_pb.JudgeCalibration) -> RenderableType:
    """A calibration: whether the judge may rank, its shares, and what they do not say."""
    table = new_table("", "95 % interval", "0 % … 100 %", "Of", "", title="Judge")
    for name, share, note in calibration_rows(found):
        bar = interval_bar(share.low, share.mean, share.high, width=_BAR)
        table.add_row(name, _share_text(share), Text(bar, style="cyan"), f"{share.count}", note)
    verdict = Text(calibration_verdict(found), style="green" if found.may_rank else "red")
    return Group(verdict, table, *(Text(f"  {line}") for line in calibration_sentences(found)))


def judged_rows(judged: evaluation_pb.JudgedScore) -> Iterator[tuple[str, str | Text]]:
    """What a judge said of an evaluation's outputs, as rows of its figures."""
    text = f"{score_text(judged.score)} accepted"
    if judged.undecided_count:
        text += f", {judged.undecided_count} without a verdict"
    yield "judge", text
    if judged.HasField("corrected"):
        low, high = judged.corrected_low * 100, judged.corrected_high * 100
        yield "corrected", f"{judged.corrected * 100:.1f} % [{low:.1f}, {high:.1f}] by the judge's errors"
    if judged.reason:
        yield "not ranked", Text(judged.reason, style="red")


def _share_text(share: Share) -> str:
    return f"{share.mean * 100:.1f} % [{share.low * 100:.1f}, {share.high * 100:.1f}]"
