"""Measure greedy generation: new tokens a second at several batch sizes.

    python benchmarks/generation.py MODEL_DIRECTORY [--compile-cache DIRECTORY] [--rounds 3]

Prompts have 32 to 128 random tokens and 64 new tokens each, with no stop token, so that every row
does the same work. Prints one JSON object a line; times hold prefill and decoding, not compilation.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

from tunix_rt.lm.compile_cache import use_compile_cache
from tunix_rt.lm.generate import Generator
from tunix_rt.lm.weights import load_model

NEW_TOKENS = 64


def main() -> None:
    """Load the model once and measure each batch size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--compile-cache", type=Path)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.compile_cache:
        use_compile_cache(arguments.compile_cache)
    started = time.perf_counter()
    model = load_model(arguments.model)
    print(json.dumps({"load_seconds": round(time.perf_counter() - started, 2)}))
    for batch in arguments.batches:
        print(json.dumps(measure(model, batch, rounds=arguments.rounds)), flush=True)


def measure(model, batch: int, *, rounds: int) -> dict[str, float]:
    """Median rate of some rounds after one that compiles."""
    rng = np.random.default_rng(batch)
    sizes = rng.integers(32, 129, batch)
    prompts = [rng.integers(17, model.config.vocab_size, size).tolist() for size in sizes]
    generator = Generator(model, eos_ids=[], batch_sizes=(batch,))
    seconds = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        made = generator.generate(prompts, NEW_TOKENS)
        seconds.append(time.perf_counter() - started)
    tokens = sum(len(each.tokens) for each in made)
    return {
        "batch": batch,
        "first_seconds": round(seconds[0], 2),
        "seconds": round(statistics.median(seconds[1:]), 3),
        "tokens_per_second": round(tokens / statistics.median(seconds[1:]), 1),
    }


if __name__ == "__main__":
    main()
