import pytest

from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.specfile import LoraSettings, OptimizerSettings, ShardingSettings, TrainSpec, parse_spec

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
        format="answer-line",
        system_prompt="",
        remat=False,
        sharding=ShardingSettings(data=0, fsdp=1, processes=1),
    )


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
    ],
)
def test_bad_field_is_named(change, field):
    assert field in message_of({**SMALLEST, **change})


def test_spec_must_be_an_object():
    assert "must be an object" in message_of([1])
