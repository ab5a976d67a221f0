import json
from pathlib import Path

import pytest

from tunix_rt.lm.families import ARCHITECTURES
from tunix_rt.lm.tiny import make_tiny_model
from tunix_rt.lm.tokenizer import Tokenizer
from tunix_rt.lm.weights import load_model, save_model

TEXTS = ["What is 3 + 4? The answer is 7."] * 5


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_tiny_model(tmp_path / name, TEXTS, seed=3, vocab_size=290, hidden_size=32, num_layers=1)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert all((tmp_path / "a" / each).read_bytes() == (tmp_path / "b" / each).read_bytes() for each in files)


def test_the_directory_is_a_complete_model(tiny_directory: Path) -> None:
    model, tokenizer = load_model(tiny_directory), Tokenizer.load(tiny_directory)
    assert model.config.vocab_size == tokenizer.vocab_size
    assert model.config.eos_ids == tokenizer.eos_ids == (2,)
    assert json.loads((tiny_directory / "provenance.json").read_text())["source"] == "generated"


@pytest.mark.parametrize("family", sorted(ARCHITECTURES))
def test_a_tiny_model_of_every_family_is_one_that_the_family_can_be(family: str, tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "a", TEXTS, vocab_size=290, hidden_size=32, num_layers=2, family=family)
    config = json.loads((tmp_path / "a/config.json").read_text())
    assert (config["model_type"], config["architectures"]) == (family, [ARCHITECTURES[family]])
    loaded = load_model(tmp_path / "a")
    save_model(loaded, tmp_path / "b")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
