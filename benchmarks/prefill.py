"""Measure the reading of chat prompts that share their start, and of several samples a prompt.

    python benchmarks/prefill.py MODEL_DIRECTORY [--rounds 5]

`chat`: 32 questions under the chat template, with the system prompt that it adds by itself. `few_shot`:
16 questions after the same four examples. `samples`: 4 questions with 8 samples each. One token is made
of each prompt, so that nothing is decoded. Prints one JSON object a line, the median of the rounds after
one that compiles.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

from tunix_rt.lm.decoding import BatchDecoder
from tunix_rt.lm.packing import Request
from tunix_rt.lm.render import render_prompt
from tunix_rt.lm.tokenizer import Tokenizer
from tunix_rt.lm.weights import load_model

EXAMPLES = [
    f"Question: A shop sells {n} boxes of {n + 4} pens. How many pens?\nAnswer: {n * (n + 4)}"
    for n in range(5, 9)
]


def question(number: int) -> str:
    """A question of 20 to 60 tokens."""
    more = " Explain each step and check the sum at the end." * (number % 3)
    return (
        f"A farmer has {number + 11} cows and buys {number * 7 + 3} more. How many cows are there now?{more}"
    )


def main() -> None:
    """Load the model once and measure each workload."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    tokenizer = Tokenizer.load(arguments.model)

    def tokens(text: str) -> list[int]:
        return list(render_prompt(tokenizer, [{"role": "user", "content": text}]))

    shots = "\n\n".join(EXAMPLES)
    workloads = {
        "chat": [Request(tokens(question(number)), 1, item=number) for number in range(32)],
        "few_shot": [
            Request(tokens(f"{shots}\n\n{question(number)}"), 1, item=number) for number in range(16)
        ],
        "samples": [Request(tokens(question(at // 8)), 1, item=at // 8, sample=at % 8) for at in range(32)],
    }
    decoder = BatchDecoder(load_model(arguments.model), eos_ids=[])
    for name, requests in workloads.items():
        print(json.dumps({"workload": name, **measure(decoder, requests, arguments.rounds)}), flush=True)


def measure(decoder: BatchDecoder, requests: list[Request], rounds: int) -> dict[str, float]:
    """The median seconds of a prefill, and the first tokens' sum, which tells whether outputs changed."""
    seconds = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        first = [each.tokens[0] for each in decoder.prefill(requests)]
        seconds.append(time.perf_counter() - started)
    return {
        "prompts": len(requests),
        "prompt_tokens": sum(len(request.prompt) for request in requests),
        "first_seconds": round(seconds[0], 2),
        "seconds": round(statistics.median(seconds[1:]), 3),
        "first_tokens": first,
    }


if __name__ == "__main__":
    main()
