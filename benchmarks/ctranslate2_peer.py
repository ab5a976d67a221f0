"""Generate with CTranslate2, for `generation.py` to compare with.

    PYTHON benchmarks/ctranslate2_peer.py MODEL_DIRECTORY [TYPE]

TYPE is float32 or int8 (the default). Speaks as `transformers_peer.py` does. The model is converted into a
temporary folder first. Needs ctranslate2, transformers and torch.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import ctranslate2
from ctranslate2.converters import TransformersConverter
from transformers import PreTrainedTokenizerFast


def main() -> None:
    """Convert, then answer until the input ends."""
    source = sys.argv[1]
    kind = sys.argv[2] if len(sys.argv) > 2 else "int8"
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(Path(source) / "tokenizer.json"))
    with tempfile.TemporaryDirectory() as folder:
        target = str(Path(folder) / "model")
        TransformersConverter(source).convert(target, quantization=kind)
        generator = ctranslate2.Generator(target, compute_type=kind, intra_threads=2)
        for line in sys.stdin:
            request = json.loads(line)
            seconds, tokens = generate(generator, tokenizer, request["prompts"], request["new_tokens"])
            print(json.dumps({"seconds": seconds, "tokens": tokens}), flush=True)


def generate(
    generator, tokenizer, prompts: list[list[int]], new_tokens: int
) -> tuple[float, list[list[int]]]:
    """Seconds and new tokens; the end token is ignored."""
    texts = [tokenizer.convert_ids_to_tokens(prompt) for prompt in prompts]
    started = time.perf_counter()
    made = generator.generate_batch(
        texts,
        max_length=new_tokens,
        min_length=new_tokens,
        sampling_topk=1,
        include_prompt_in_result=False,
        max_batch_size=len(texts),
    )
    seconds = time.perf_counter() - started
    return seconds, [each.sequences_ids[0] for each in made]


if __name__ == "__main__":
    main()
