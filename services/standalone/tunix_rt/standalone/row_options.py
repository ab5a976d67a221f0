"""The options of `train` about its rows: mixture, batching, and what is too long."""

from __future__ import annotations

from collections.abc import Sequence

from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.standalone.resources import dataset_name
from tunix_rt.v1 import run_pb2 as run_pb

_BATCHINGS = {"packed": run_pb.RunSpec.PACKED, "padded": run_pb.RunSpec.PADDED}
_OVERLONG = {
    "refuse": run_pb.RunSpec.REFUSE,
    "drop": run_pb.RunSpec.DROP,
    "cut-prompt": run_pb.RunSpec.CUT_PROMPT,
}


def apply_rows(
    spec: run_pb.RunSpec, *, mixture: Sequence[str], batching: str | None, overlong: str | None
) -> None:
    """Sets the options that were given. Raises InvalidArgument."""
    if batching is not None:
        if batching not in _BATCHINGS:
            raise InvalidArgument.of("spec.batching", _choice(batching, tuple(_BATCHINGS)))
        spec.batching = _BATCHINGS[batching]
    if overlong is not None:
        if overlong not in _OVERLONG:
            raise InvalidArgument.of("spec.overlong", _choice(overlong, tuple(_OVERLONG)))
        spec.overlong = _OVERLONG[overlong]
    if mixture:
        parts = [mixture_part(text, f"spec.mixture[{index}]") for index, text in enumerate(mixture)]
        del spec.mixture[:]
        spec.mixture.extend(parts)


def mixture_part(text: str, field: str) -> run_pb.MixturePart:
    """`chats`, `chats:train` or `chats:train=0.5` as a part. Raises InvalidArgument."""
    named, sign, weight = text.partition("=")
    dataset, _, split = named.partition(":")
    part = run_pb.MixturePart(dataset=dataset_name(dataset, f"{field}.dataset"), split=split)
    try:
        part.weight = float(weight) if sign else 0.0
    except ValueError as error:
        text = f"is `{weight}`; it must be a number, as in chats:train=0.5."
        raise InvalidArgument.of(f"{field}.weight", text) from error
    if sign and part.weight == 0:
        raise InvalidArgument.of(f"{field}.weight", "is 0; leave the part out.")
    return part


def _choice(given: str, known: tuple[str, ...]) -> str:
    return f"is `{given}`; it must be one of {', '.join(known)}."
