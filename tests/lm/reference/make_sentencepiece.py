"""Write the ids that sentencepiece gives some texts, with a small model of its own.

    .reference-venv/bin/python tests/lm/reference/make_sentencepiece.py

Runs in the environment that make_families.py describes. The model's pieces, scores and kinds stand in
sentencepiece.json as a GGUF file would hold them.
"""

import io
import json
from pathlib import Path

import sentencepiece

CORPUS = (
    "What is 17 + 25? 17 + 25 = 42, so the answer is 42.",
    "She sold 48 clips in April and then half as many in May; how many did she sell altogether?",
    "The train leaves at nine and the other train leaves later, but they arrive at the same time.",
    "Reasoning is showing the work: every step is written, then the answer.",
) * 20
TEXTS = (
    "What is 48 + 17? The answer is 65.",
    "They arrive later, altogether: nine trains!",
    "Unseen ünïcode ✓ and  two spaces",
    "step by step",
)


def kind(model: sentencepiece.SentencePieceProcessor, index: int) -> int:
    """GGUF's token type."""
    if model.IsUnknown(index):
        return 2
    if model.IsControl(index):
        return 3
    return 6 if model.IsByte(index) else 1


if __name__ == "__main__":
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=made,
        model_type="bpe",
        vocab_size=420,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=made.getvalue())
    size = range(processor.vocab_size())
    stored = {
        "tokens": [processor.IdToPiece(index) for index in size],
        "scores": [processor.GetScore(index) for index in size],
        "types": [kind(processor, index) for index in size],
        "texts": {text: processor.encode(text) for text in TEXTS},
    }
    target = Path(__file__).parent / "sentencepiece.json"
    target.write_text(json.dumps(stored, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
