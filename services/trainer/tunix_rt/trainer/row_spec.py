"""Checks and completes what a spec says about its rows: mixture, batching, what is too long; pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tunix_rt.rpc.errors import Violation
from tunix_rt.rpc.names import DATASET, check, check_id
from tunix_rt.v1.run_pb2 import RunSpec

MAX_PARTS = 16
MAX_WEIGHT = 100


def complete_rows(spec: RunSpec) -> None:
    """Fills in the defaults of a spec's rows, in place."""
    spec.batching = spec.batching or RunSpec.PACKED
    spec.overlong = spec.overlong or RunSpec.REFUSE
    for part in spec.mixture:
        part.split = part.split or "train"
        part.weight = part.weight or 1.0


def row_violations(spec: RunSpec) -> Iterator[Violation]:
    """Everything that is wrong with a spec's rows, with paths such as `spec.mixture[0].weight`."""
    if spec.batching not in RunSpec.Batching.values():
        yield Violation("spec.batching", f"is {spec.batching}; it must be PACKED or PADDED.")
    if spec.overlong not in RunSpec.Overlong.values():
        yield Violation("spec.overlong", f"is {spec.overlong}; it must be REFUSE, DROP or CUT_PROMPT.")
    if len(spec.mixture) > MAX_PARTS:
        yield Violation("spec.mixture", f"has {len(spec.mixture)} parts; at most {MAX_PARTS} are allowed.")
    seen = {(spec.dataset, spec.train_split or "train"): "spec.dataset"}
    for index, part in enumerate(spec.mixture[:MAX_PARTS]):
        path = f"spec.mixture[{index}]"
        named = [check(part.dataset, DATASET, f"{path}.dataset"), check_id(part.split, f"{path}.split")]
        yield from (violation for violation in named if violation)
        if not (math.isfinite(part.weight) and 0 <= part.weight <= MAX_WEIGHT):
            text = f"is {part.weight:g}; it must be in (0, {MAX_WEIGHT}], or 0 for 1."
            yield Violation(f"{path}.weight", text)
        key = (part.dataset, part.split or "train")
        if key in seen:
            text = f"is `{part.dataset}` with split `{key[1]}`, as in {seen[key]}; give each once."
            yield Violation(f"{path}.dataset", text)
        seen.setdefault(key, path)
