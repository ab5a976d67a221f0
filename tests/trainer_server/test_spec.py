"""What a run may ask for, and what it gets where it does not say."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tunix_rt.trainer.spec import complete, violations
from tunix_rt.v1.evaluation_pb2 import Decoding, EvaluationSpec
from tunix_rt.v1.run_pb2 import EarlyStopping, LoraTuning, OptimizerSpec, RunSpec, ShardingSpec, SpikeSkipping


def good() -> RunSpec:
    return RunSpec(
        model="models/smol/versions/v1",
        dataset="datasets/gsm",
        steps=100,
        batch_size=8,
        max_length=256,
        optimizer=OptimizerSpec(learning_rate=1e-4),
    )


def test_the_smallest_spec_is_completed() -> None:
    assert violations(good()) == []
    expected = good()
    expected.train_split, expected.validation_split = "train", "validation"
    expected.full.SetInParent()
    expected.validate_every = 10
    expected.format = "answer-line"
    expected.retention.keep_last = 1
    expected.batching, expected.overlong = RunSpec.PACKED, RunSpec.REFUSE
    expected.optimizer.decay = OptimizerSpec.COSINE
    expected.optimizer.weight_decay = 0
    expected.optimizer.clip_norm = 1
    expected.optimizer.beta1, expected.optimizer.beta2 = 0.9, 0.999
    expected.optimizer.algorithm = OptimizerSpec.ADAMW
    expected.optimizer.epsilon = 1e-8
    expected.optimizer.no_decay[:] = ["norms", "biases"]
    expected.micro_batch_size = 8
    expected.compute_type = RunSpec.FLOAT32
    assert complete(good()) == expected


def test_what_is_said_is_kept() -> None:
    spec = good()
    spec.validate_every = 0
    spec.optimizer.clip_norm = 0
    spec.optimizer.beta1 = 0
    spec.format = "tags"
    done = complete(spec)
    assert done.HasField("validate_every")
    assert (done.validate_every, done.optimizer.clip_norm, done.optimizer.beta1) == (0, 0, 0)
    assert done.format == "tags"


def test_completing_twice_changes_nothing() -> None:
    spec = good()
    spec.lora.rank = 4
    spec.evaluate_after.add(split="validation")
    assert complete(complete(spec)) == complete(spec)


def test_sharding_is_completed_where_there_is_any() -> None:
    spec = good()
    assert not complete(spec).HasField("sharding")
    spec.sharding.SetInParent()
    assert complete(spec).sharding == ShardingSpec(fsdp=1, processes=1)


def test_adapters_are_completed() -> None:
    spec = good()
    spec.lora.SetInParent()
    lora = complete(spec).lora
    assert (lora.rank, lora.alpha, len(lora.targets)) == (16, 32.0, 7)
    spec.lora.rank = 4
    assert complete(spec).lora.alpha == 8.0


@pytest.mark.parametrize(
    ("algorithm", "betas", "epsilon"),
    [
        (OptimizerSpec.ADAFACTOR, None, None),
        (OptimizerSpec.LION, (0.9, 0.99), None),
        (OptimizerSpec.MUON, (0.95, 0.999), 1e-8),
    ],
)
def test_an_algorithm_has_its_own_betas(algorithm, betas, epsilon) -> None:
    spec = good()
    spec.optimizer.algorithm = algorithm
    done = complete(spec).optimizer
    assert ((done.beta1, done.beta2) if done.HasField("beta1") else None) == betas
    assert (done.epsilon if done.HasField("epsilon") else None) == epsilon
    assert complete(complete(spec)) == complete(spec)


def test_wsd_decays_in_a_tenth_of_the_steps() -> None:
    spec = good()
    spec.optimizer.decay = OptimizerSpec.WSD
    assert complete(spec).optimizer.decay_steps == 10
    spec.steps, spec.epochs = 0, 2
    assert complete(spec).optimizer.decay_steps == 0


def test_spikes_and_early_stopping_are_completed() -> None:
    spec = good()
    spec.optimizer.spikes.ratio = 5
    spec.early_stopping.patience = 3
    done = complete(spec)
    assert (done.optimizer.spikes.window, done.optimizer.spikes.max_in_a_row) == (50, 10)
    assert done.early_stopping.metric == "validation/loss"


def test_validation_beside_epochs_is_left_to_the_trainer() -> None:
    spec = good()
    spec.steps, spec.epochs = 0, 0.5
    assert violations(spec) == []
    assert not complete(spec).HasField("validate_every")


def test_an_evaluation_takes_the_dataset_of_the_run() -> None:
    spec = good()
    spec.evaluate_after.add()
    spec.evaluate_after.add(
        dataset="datasets/other", decoding=Decoding(max_tokens=5, temperature=1, top_p=0.5)
    )
    first, second = complete(spec).evaluate_after
    assert first == EvaluationSpec(
        dataset="datasets/gsm",
        split="test",
        format="answer-line",
        scorer="exact-answer@2",
        decoding=Decoding(max_tokens=256, top_p=1, repetition_penalty=1),
        samples=1,
        method="generation",
        weight_type="float32",
    )
    assert (second.dataset, second.decoding.max_tokens, second.decoding.top_p) == ("datasets/other", 5, 0.5)


def test_an_empty_spec_names_everything_that_is_missing() -> None:
    assert [each.field for each in violations(RunSpec())] == [
        "spec.model",
        "spec.dataset",
        "spec.steps",
        "spec.batch_size",
        "spec.max_length",
        "spec.optimizer",
    ]


def ruled(spec: RunSpec, algorithm: OptimizerSpec.Algorithm, name: str, value: float) -> None:
    spec.optimizer.algorithm = algorithm
    setattr(spec.optimizer, name, value)


def decaying(spec: RunSpec, decay: OptimizerSpec.Decay, name: str, value: float) -> None:
    spec.optimizer.decay = decay
    setattr(spec.optimizer, name, value)


def unvalidated(spec: RunSpec) -> None:
    spec.validate_every = 0
    spec.early_stopping.patience = 1


NAN = float("nan")
BAD: list[tuple[str, Callable[[RunSpec], None]]] = [
    ("spec.model", lambda s: setattr(s, "model", "/etc/passwd")),
    ("spec.model", lambda s: setattr(s, "model", "models/smol/versions")),
    ("spec.dataset", lambda s: setattr(s, "dataset", "datasets/../x")),
    ("spec.train_split", lambda s: setattr(s, "train_split", "Train set")),
    ("spec.validation_split", lambda s: setattr(s, "validation_split", "a/b")),
    ("spec.steps", lambda s: setattr(s, "steps", 0)),
    ("spec.steps", lambda s: setattr(s, "steps", -1)),
    ("spec.steps", lambda s: setattr(s, "steps", 10_000_001)),
    ("spec.steps", lambda s: setattr(s, "epochs", 1.0)),
    ("spec.batch_size", lambda s: setattr(s, "batch_size", 0)),
    ("spec.batch_size", lambda s: setattr(s, "batch_size", 4097)),
    ("spec.max_length", lambda s: setattr(s, "max_length", 15)),
    ("spec.max_length", lambda s: setattr(s, "max_length", 8193)),
    ("spec.optimizer", lambda s: s.ClearField("optimizer")),
    ("spec.optimizer.learning_rate", lambda s: setattr(s.optimizer, "learning_rate", 0)),
    ("spec.optimizer.learning_rate", lambda s: setattr(s.optimizer, "learning_rate", 1.5)),
    ("spec.optimizer.learning_rate", lambda s: setattr(s.optimizer, "learning_rate", NAN)),
    ("spec.optimizer.warmup_steps", lambda s: setattr(s.optimizer, "warmup_steps", -1)),
    ("spec.optimizer.warmup_steps", lambda s: setattr(s.optimizer, "warmup_steps", 100)),
    ("spec.optimizer.decay", lambda s: setattr(s.optimizer, "decay", 9)),
    ("spec.optimizer.weight_decay", lambda s: setattr(s.optimizer, "weight_decay", 1.1)),
    ("spec.optimizer.clip_norm", lambda s: setattr(s.optimizer, "clip_norm", -1)),
    ("spec.optimizer.clip_norm", lambda s: setattr(s.optimizer, "clip_norm", float("inf"))),
    ("spec.optimizer.beta1", lambda s: setattr(s.optimizer, "beta1", 1)),
    ("spec.optimizer.beta2", lambda s: setattr(s.optimizer, "beta2", -0.1)),
    ("spec.optimizer.algorithm", lambda s: setattr(s.optimizer, "algorithm", 9)),
    ("spec.optimizer.beta1", lambda s: ruled(s, OptimizerSpec.ADAFACTOR, "beta1", 0.9)),
    ("spec.optimizer.beta2", lambda s: ruled(s, OptimizerSpec.ADAFACTOR, "beta2", 0.9)),
    ("spec.optimizer.epsilon", lambda s: ruled(s, OptimizerSpec.LION, "epsilon", 0.1)),
    ("spec.optimizer.epsilon", lambda s: setattr(s.optimizer, "epsilon", 0)),
    ("spec.optimizer.decay_steps", lambda s: setattr(s.optimizer, "decay_steps", 5)),
    ("spec.optimizer.decay_steps", lambda s: decaying(s, OptimizerSpec.WSD, "decay_steps", -1)),
    ("spec.optimizer.decay_steps", lambda s: decaying(s, OptimizerSpec.WSD, "decay_steps", 101)),
    ("spec.optimizer.final_ratio", lambda s: setattr(s.optimizer, "final_ratio", 1.1)),
    ("spec.optimizer.final_ratio", lambda s: decaying(s, OptimizerSpec.CONSTANT, "final_ratio", 0.1)),
    ("spec.optimizer.no_decay", lambda s: s.optimizer.no_decay.append("matrices")),
    ("spec.optimizer.no_decay", lambda s: s.optimizer.no_decay.extend(["head", "head"])),
    ("spec.optimizer.spikes.ratio", lambda s: s.optimizer.spikes.SetInParent()),
    ("spec.optimizer.spikes.window", lambda s: s.optimizer.spikes.CopyFrom(SpikeSkipping(ratio=2, window=3))),
    (
        "spec.optimizer.spikes.max_in_a_row",
        lambda s: s.optimizer.spikes.CopyFrom(SpikeSkipping(ratio=2, max_in_a_row=-1)),
    ),
    ("spec.lora.dropout", lambda s: s.lora.CopyFrom(LoraTuning(dropout=1))),
    ("spec.micro_batch_size", lambda s: setattr(s, "micro_batch_size", 9)),
    ("spec.micro_batch_size", lambda s: setattr(s, "micro_batch_size", -1)),
    ("spec.compute_type", lambda s: setattr(s, "compute_type", 9)),
    ("spec.ema_decay", lambda s: setattr(s, "ema_decay", 1)),
    ("spec.early_stopping.patience", lambda s: s.early_stopping.SetInParent()),
    (
        "spec.early_stopping.metric",
        lambda s: s.early_stopping.CopyFrom(EarlyStopping(patience=1, metric="x")),
    ),
    (
        "spec.early_stopping.min_delta",
        lambda s: s.early_stopping.CopyFrom(EarlyStopping(patience=1, min_delta=-1)),
    ),
    ("spec.early_stopping", lambda s: unvalidated(s)),
    ("spec.sharding.data", lambda s: s.sharding.CopyFrom(ShardingSpec(data=-1))),
    ("spec.sharding.fsdp", lambda s: s.sharding.CopyFrom(ShardingSpec(fsdp=4097))),
    ("spec.sharding.processes", lambda s: s.sharding.CopyFrom(ShardingSpec(processes=17))),
    ("spec.lora.rank", lambda s: s.lora.CopyFrom(LoraTuning(rank=513))),
    ("spec.lora.alpha", lambda s: s.lora.CopyFrom(LoraTuning(alpha=-1))),
    ("spec.lora.targets", lambda s: s.lora.CopyFrom(LoraTuning(targets=["lm_head"]))),
    ("spec.lora.targets", lambda s: s.lora.CopyFrom(LoraTuning(targets=["q_proj", "q_proj"]))),
    ("spec.validate_every", lambda s: setattr(s, "validate_every", -1)),
    ("spec.checkpoint_every", lambda s: setattr(s, "checkpoint_every", -1)),
    ("spec.retention.keep_last", lambda s: setattr(s.retention, "keep_last", 101)),
    ("spec.retention.keep_last", lambda s: setattr(s.retention, "keep_last", -1)),
    ("spec.retention.keep_every", lambda s: setattr(s.retention, "keep_every", -1)),
    ("spec.retention.keep_every", lambda s: setattr(s.retention, "keep_every", 10)),
    ("spec.retention.best_metric", lambda s: setattr(s.retention, "best_metric", "train/loss")),
    ("spec.format", lambda s: setattr(s, "format", "xml")),
    ("spec.system_prompt", lambda s: setattr(s, "system_prompt", "x" * 20_000)),
    ("spec.evaluate_after", lambda s: s.evaluate_after.extend([EvaluationSpec()] * 21)),
]
BAD_EVALUATIONS = [
    ("subject", EvaluationSpec(subject="runs/r")),
    ("dataset", EvaluationSpec(dataset="gsm")),
    ("split", EvaluationSpec(split="A")),
    ("format", EvaluationSpec(format="none")),
    ("scorer", EvaluationSpec(scorer="exact-answer@1")),
    ("limit", EvaluationSpec(limit=-1)),
    ("decoding.max_tokens", EvaluationSpec(decoding=Decoding(max_tokens=4097))),
    ("decoding.temperature", EvaluationSpec(decoding=Decoding(temperature=NAN))),
    ("decoding.top_k", EvaluationSpec(decoding=Decoding(top_k=-1))),
    ("decoding.top_k", EvaluationSpec(decoding=Decoding(top_k=5))),
    ("decoding.top_p", EvaluationSpec(decoding=Decoding(temperature=1, top_p=1.1))),
    ("decoding.seed", EvaluationSpec(decoding=Decoding(temperature=1, seed=2**31))),
]


@pytest.mark.parametrize(("field", "spoil"), BAD)
def test_a_bad_field_is_named(field: str, spoil: Callable[[RunSpec], None]) -> None:
    spec = good()
    spoil(spec)
    assert [each.field for each in violations(spec)] == [field]


@pytest.mark.parametrize(("field", "evaluation"), BAD_EVALUATIONS)
def test_a_bad_field_of_an_evaluation_is_named(field: str, evaluation: EvaluationSpec) -> None:
    spec = good()
    spec.evaluate_after.extend([EvaluationSpec(), evaluation])
    assert [each.field for each in violations(spec)] == [f"spec.evaluate_after[1].{field}"]


def test_all_bad_fields_are_named_together_with_values_and_remedies() -> None:
    spec = good()
    spec.steps = 0
    spec.optimizer.learning_rate = 2
    spec.evaluate_after.add(decoding=Decoding(max_tokens=-1))
    assert [(each.field, each.description) for each in violations(spec)] == [
        ("spec.steps", "is 0; it must be in [1, 10000000], unless epochs is set."),
        ("spec.optimizer.learning_rate", "is 2; it must be in (0, 1]."),
        ("spec.evaluate_after[0].decoding.max_tokens", "is -1; it must be in [1, 4096], or 0 for 256."),
    ]


def test_a_best_checkpoint_needs_validation() -> None:
    spec = good()
    spec.validate_every = 0
    spec.retention.best_metric = "validation/loss"
    (found,) = violations(spec)
    assert found.field == "spec.retention.best_metric"
    assert found.description == "is `validation/loss`, but validate_every is 0; turn validation on."


@pytest.mark.parametrize("epochs", [-1.0, 1000.5, NAN, float("inf")])
def test_epochs_have_a_range(epochs: float) -> None:
    spec = good()
    spec.steps, spec.epochs = 0, epochs
    assert [each.field for each in violations(spec)] == ["spec.epochs"]


def test_samples_and_profile_are_completed() -> None:
    spec = good()
    spec.samples.every = 10
    spec.profile.SetInParent()
    done = complete(spec)
    assert (done.samples.count, done.samples.max_new_tokens) == (4, 128)
    assert (done.profile.first_step, done.profile.steps) == (3, 3)
    spec.samples.prompts.append("What is 2 + 2?")
    assert complete(spec).samples.count == 0


def test_everything_wrong_with_samples_and_profile_is_named() -> None:
    spec = good()
    spec.validate_every = 0
    spec.samples.count, spec.samples.max_new_tokens = 33, 2000
    spec.profile.first_step, spec.profile.steps = 101, 101
    assert {each.field for each in violations(spec)} == {
        "spec.samples.every",
        "spec.samples.count",
        "spec.samples.max_new_tokens",
        "spec.samples.prompts",
        "spec.profile.first_step",
        "spec.profile.steps",
    }


def test_prompts_go_without_a_count_and_are_texts() -> None:
    spec = good()
    spec.samples.every, spec.samples.count = 1, 2
    spec.samples.prompts.extend(["fine", " "])
    assert {each.field for each in violations(spec)} == {"spec.samples.count", "spec.samples.prompts[1]"}
