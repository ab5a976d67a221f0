"""The numbers of the demo: its data, its training and its decoding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

GOLDEN = "golden@2"
GOLDEN_SIZE = 100
GOLDEN_SEED = 42


@dataclass(frozen=True)
class DemoSpec:
    """One demo. `run` has the fields of RunSpec beside model, dataset and evaluations.

    `limit` is the number of test items that are evaluated, 0 for all. `largest_p` is the p-value under
    which the tuned model must beat the base; None asks for no gain.
    """

    model_id: str
    dataset_id: str
    generator: str
    size: int
    seed: int
    config: Mapping[str, object]
    splits: Mapping[str, float]
    split_seed: int
    run: Mapping[str, object]
    max_tokens: int
    limit: int = 0
    largest_p: float | None = None
    remark: str = ""
    labels: Mapping[str, str] = field(default_factory=lambda: {"made-by": "demo"})


FULL = DemoSpec(
    model_id="smollm2-135m-instruct",
    dataset_id="arithmetic",
    generator="arithmetic@1",
    size=500,
    seed=7,
    config={},
    splits={"train": 0.75, "validation": 0.05, "test": 0.2},
    split_seed=7,
    run={
        "lora": {"rank": 16},
        "steps": 40,
        "batch_size": 2,
        "max_length": 256,
        "optimizer": {"learning_rate": 1e-3, "warmup_steps": 4},
        "validate_every": 20,
        "checkpoint_every": 20,
        "seed": 3,
        "format": "answer-line",
    },
    max_tokens=128,
    limit=100,
    largest_p=0.01,
)

TINY = DemoSpec(
    model_id="tiny",
    dataset_id="arithmetic",
    generator="arithmetic@1",
    size=160,
    seed=7,
    config={"min_terms": 2, "max_terms": 3, "max_digits": 1, "families": {"chain_sum": 1.0}},
    splits={"train": 0.7, "validation": 0.15, "test": 0.15},
    split_seed=0,
    run={
        "full": {},
        "steps": 60,
        "batch_size": 4,
        "max_length": 128,
        "optimizer": {"learning_rate": 3e-3, "warmup_steps": 5},
        "checkpoint_every": 30,
        "seed": 1,
    },
    max_tokens=32,
    remark="The small model starts from random weights: this shows that the loop works, not a gain.",
)
