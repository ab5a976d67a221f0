import pytest
from google.protobuf import text_format

from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.standalone.optimization_options import apply_optimization, optimization
from tunix_rt.v1.run_pb2 import RunSpec

OPTIONS = {
    "algorithm": "muon",
    "decay_steps": 3,
    "final_ratio": 0.1,
    "clip_norm": 0.0,
    "beta1": 0.8,
    "beta2": 0.9,
    "epsilon": 0.5,
    "no_decay": ["norms", "head"],
    "skip_spikes": 4.0,
    "spike_window": 20,
    "spikes_in_a_row": 2,
    "lora_dropout": 0.25,
    "micro_batch_size": 2,
    "compute_type": "bfloat16",
    "ema_decay": 0.75,
    "early_stopping": 3,
    "early_stopping_metric": "validation/loss",
    "early_stopping_min_delta": 0.5,
}
SPEC = """
lora { dropout: 0.25 }
optimizer {
  algorithm: MUON decay_steps: 3 final_ratio: 0.1 clip_norm: 0 beta1: 0.8 beta2: 0.9 epsilon: 0.5
  no_decay: "norms" no_decay: "head" spikes { ratio: 4 window: 20 max_in_a_row: 2 }
}
micro_batch_size: 2 compute_type: BFLOAT16 ema_decay: 0.75
early_stopping { patience: 3 metric: "validation/loss" min_delta: 0.5 }
"""


def test_every_option_sets_its_field():
    spec = RunSpec()
    apply_optimization(spec, optimization(**OPTIONS))
    assert spec == text_format.Parse(SPEC, RunSpec())


def test_nothing_given_sets_nothing():
    spec = RunSpec()
    apply_optimization(spec, optimization())
    assert spec == RunSpec()


def test_options_win_over_the_file():
    spec = RunSpec()
    spec.optimizer.no_decay.append("biases")
    apply_optimization(spec, optimization(no_decay=["head"]))
    assert list(spec.optimizer.no_decay) == ["head"]


def test_all_unknown_values_are_named_together():
    with pytest.raises(InvalidArgument) as caught:
        apply_optimization(RunSpec(), optimization(algorithm="sgd", compute_type="int8"))
    assert [(each.field, each.description) for each in caught.value.violations] == [
        ("spec.optimizer.algorithm", "is `sgd`; it must be one of adamw, adafactor, lion, muon."),
        ("spec.compute_type", "is `int8`; it must be one of float32, bfloat16."),
    ]
