import pytest

from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.retention import Retention
from tunix_rt.trainer.sharding_settings import ShardingSettings
from tunix_rt.trainer.specfile import LoraSettings, MixtureSettings, OptimizerSettings, TrainSpec, parse_spec

SMALLEST = {"steps": 10, "batch_size": 2, "max_length": 64, "optimizer": {"learning_rate": 0.001}}


def message_of(spec: object) -> str:
    with pytest.raises(TrainingFailure) as caught:
        parse_spec(spec)
    assert caught.value.reason == "INVALID_FIELDS"
    return caught.value.message


def test_defaults_are_those_of_the_proto():
    assert parse_spec(SMALLEST) == TrainSpec(
        train_split="train",
        validation_split="validation",
        lora=None,
        steps=10,
        epochs=0.0,
        batch_size=2,
        max_length=64,
        optimizer=OptimizerSettings(0.001, 0, "COSINE", 0.0, 1.0, 0.9, 0.999),
        seed=0,
        validate_every=None,
        checkpoint_every=0,
        retention=Retention(keep_last=1, keep_every=0, best_metric=""),
        format="answer-line",
        system_prompt="",
        remat=False,
        samples=None,
        profile=None,
        micro_batch_size=2,
        compute_type="FLOAT32",
        ema_decay=0.0,
        early_stopping=None,
        mixture=(),
        batching="PACKED",
        overlong="REFUSE",
        sharding=ShardingSettings(data=0, fsdp=1, processes=1),
    )


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("ADAMW", (0.9, 0.999, 1e-8)),
        ("ADAFACTOR", (0.0, 0.0, 0.0)),
        ("LION", (0.9, 0.99, 0.0)),
        ("MUON", (0.95, 0.999, 1e-8)),
    ],
)
def test_betas_and_epsilon_are_those_of_the_algorithm(algorithm, expected):
    optimizer = parse_spec(
        {**SMALLEST, "optimizer": {"learning_rate": 0.1, "algorithm": algorithm}}
    ).optimizer
    assert (optimizer.beta1, optimizer.beta2, optimizer.epsilon) == expected


def test_lora_defaults_to_rank_16_and_twice_that_as_alpha():
    assert parse_spec({**SMALLEST, "lora": {}}).lora == LoraSettings(16, 32.0, ())


def test_fields_of_other_parts_are_allowed():
    parse_spec({**SMALLEST, "model": "models/m/versions/1", "dataset": "datasets/d", "evaluate_after": [{}]})


def test_all_bad_fields_are_reported_together():
    text = message_of(
        {
            **SMALLEST,
            "num_steps": 5,
            "batch_size": "2",
            "remat": 1,
            "optimizer": {"learning_rate": 2, "momentum": 0.9, "decay": "STEP"},
        }
    )
    for field in (
        "num_steps",
        "batch_size",
        "remat",
        "learning_rate",
        "optimizer.momentum",
        "optimizer.decay",
    ):
        assert field in text


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"steps": 0}, "steps and epochs"),
        ({"epochs": 1}, "steps and epochs"),
        ({"max_length": 8}, "max_length"),
        ({"optimizer": {}}, "optimizer.learning_rate"),
        ({"optimizer": {"learning_rate": float("nan")}}, "optimizer.learning_rate"),
        ({"optimizer": {"learning_rate": 0.1, "warmup_steps": 10}}, "optimizer.warmup_steps"),
        ({"optimizer": {"learning_rate": 0.1, "beta2": 1.0}}, "optimizer.beta2"),
        ({"full": {}, "lora": {}}, "full and lora"),
        ({"full": {"rank": 2}}, "full.rank"),
        ({"lora": {"targets": "q_proj"}}, "lora.targets"),
        ({"seed": True}, "seed"),
        ({"sharding": {"fsdp": -1}}, "sharding.fsdp"),
        ({"sharding": {"processes": 17}}, "sharding.processes"),
        ({"sharding": {"tensor": 2}}, "sharding.tensor"),
        ({"format": "xml"}, "format"),
        ({"lora": {"dropout": 1.0}}, "lora.dropout"),
        ({"micro_batch_size": 3}, "micro_batch_size"),
        ({"compute_type": "FLOAT16"}, "compute_type"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"early_stopping": {}}, "early_stopping.patience"),
        ({"early_stopping": {"patience": 1, "metric": "train/loss"}}, "early_stopping.metric"),
        ({"early_stopping": {"patience": 1}, "validate_every": 0}, "early_stopping: needs validations"),
        ({"optimizer": {"learning_rate": 0.1, "algorithm": "SGD"}}, "optimizer.algorithm"),
        ({"optimizer": {"learning_rate": 0.1, "algorithm": "ADAFACTOR", "beta1": 0.9}}, "optimizer.beta1"),
        ({"optimizer": {"learning_rate": 0.1, "algorithm": "LION", "epsilon": 0.1}}, "optimizer.epsilon"),
        ({"optimizer": {"learning_rate": 0.1, "epsilon": 0.0}}, "optimizer.epsilon"),
        ({"optimizer": {"learning_rate": 0.1, "decay_steps": 2}}, "optimizer.decay_steps"),
        ({"optimizer": {"learning_rate": 0.1, "decay": "WSD", "decay_steps": 11}}, "optimizer.decay_steps"),
        ({"optimizer": {"learning_rate": 0.1, "decay": "CONSTANT", "final_ratio": 0.1}}, "final_ratio"),
        ({"optimizer": {"learning_rate": 0.1, "no_decay": ["heads"]}}, "optimizer.no_decay"),
        ({"optimizer": {"learning_rate": 0.1, "spikes": {"ratio": 1.0}}}, "optimizer.spikes.ratio"),
        ({"optimizer": {"learning_rate": 0.1, "spikes": {"ratio": 2, "window": 3}}}, "spikes.window"),
    ],
)
def test_bad_field_is_named(change, field):
    assert field in message_of({**SMALLEST, **change})


def test_spec_must_be_an_object():
    assert "must be an object" in message_of([1])


def test_parts_of_a_mixture_are_completed():
    spec = parse_spec({**SMALLEST, "mixture": [{"dataset": "datasets/a"}, {"split": "all", "weight": 0.5}]})
    assert spec.mixture == (
        MixtureSettings("datasets/a", "train", 1.0),
        MixtureSettings("", "all", 0.5),
    )


def test_enums_are_read_by_their_names():
    spec = parse_spec({**SMALLEST, "batching": "PADDED", "overlong": "OVERLONG_UNSPECIFIED"})
    assert (spec.batching, spec.overlong) == ("PADDED", "REFUSE")


def test_bad_rows_are_reported_together():
    part = {"weight": 101, "part": 1}
    text = message_of({**SMALLEST, "batching": "LOOSE", "overlong": 3, "mixture": [part]})
    assert "batching: is 'LOOSE'" in text
    assert "overlong: is 3" in text
    assert "mixture[0].weight: is 101" in text
    assert "mixture[0].part: is unknown" in text
