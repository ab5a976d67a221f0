import json
from pathlib import Path

from tunix_rt.lm.tiny import make_tiny_model
from tunix_rt.lm.tokenizer import Tokenizer
from tunix_rt.lm.weights import load_model

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
