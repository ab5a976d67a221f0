"""Measure greedy generation: new tokens a second at several batch sizes, beside transformers if asked.

    python benchmarks/generation.py MODEL_DIRECTORY [--compile-cache DIRECTORY] [--rounds 5]
                                    [--weight-type float32|int8] [--peer-python PATH [--peer PEER]]

Prompts have 32 to 128 random tokens and 64 new tokens each, with no stop token, so that every row
does the same work. Prints one JSON object a line; times hold prefill and decoding, not compilation.
`first_token_ms` is the time of one token after 64, warm. With `--peer-python`, an interpreter that has
the peer's packages, `transformers_peer.py` (or `ctranslate2_peer.py`, which has int8 weights, by `--peer
ctranslate2`) gets the same prompts, weights and machine, round by round in turn; `ratio` is the median
of the rounds' ratios.
"""

import argparse
import json
import statistics
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from tunix_rt.lm.compile_cache import use_compile_cache
from tunix_rt.lm.generate import Generator
from tunix_rt.lm.tiled import for_generation
from tunix_rt.lm.weights import load_model

NEW_TOKENS = 64
PEERS = ("transformers", "ctranslate2")


class Peer:
    """Another engine in an interpreter of its own."""

    def __init__(self, name: str, python: Path, model: Path) -> None:
        script = Path(__file__).with_name(f"{name}_peer.py")
        self._process = subprocess.Popen(
            [str(python), str(script), str(model)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait()

    def generate(self, prompts: list[list[int]]) -> tuple[float, list[list[int]]]:
        """Seconds and new tokens."""
        self._process.stdin.write(json.dumps({"prompts": prompts, "new_tokens": NEW_TOKENS}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"The peer ended with exit code {self._process.wait()}; see its messages above.")
        answer = json.loads(line)
        return answer["seconds"], answer["tokens"]


def main() -> None:
    """Load the model once and measure each batch size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--compile-cache", type=Path)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--weight-type", choices=["float32", "int8"], default="float32")
    parser.add_argument("--peer-python", type=Path)
    parser.add_argument("--peer", choices=PEERS, default=PEERS[0])
    arguments = parser.parse_args()
    if arguments.compile_cache:
        use_compile_cache(arguments.compile_cache)
    started = time.perf_counter()
    model = for_generation(load_model(arguments.model), arguments.weight_type)
    print(json.dumps({"load_seconds": round(time.perf_counter() - started, 2)}))
    print(json.dumps({"first_token_ms": first_token_ms(model, rounds=arguments.rounds)}), flush=True)
    with ExitStack() as stack:
        peer = None
        if arguments.peer_python:
            peer = stack.enter_context(Peer(arguments.peer, arguments.peer_python, arguments.model))
        for batch in arguments.batches:
            print(json.dumps(measure(model, batch, rounds=arguments.rounds, peer=peer)), flush=True)


def first_token_ms(model, *, rounds: int) -> float:
    """The median milliseconds to the first token after a prompt of 64, after a round that compiles."""
    prompt = np.random.default_rng(0).integers(17, model.config.vocab_size, 64).tolist()
    generator = Generator(model, eos_ids=[], batch_sizes=(1,))
    seconds = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        generator.generate([prompt], 1)
        seconds.append(time.perf_counter() - started)
    return round(1000 * statistics.median(seconds[1:]), 1)


def measure(model, batch: int, *, rounds: int, peer: Peer | None) -> dict[str, float]:
    """Median rates of some rounds, ours and the peer's in turn, after one that compiles."""
    rng = np.random.default_rng(batch)
    sizes = rng.integers(32, 129, batch)
    prompts = [rng.integers(17, model.config.vocab_size, size).tolist() for size in sizes]
    generator = Generator(model, eos_ids=[], batch_sizes=(batch,))
    ours, theirs = [], []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        made = [list(each.tokens) for each in generator.generate(prompts, NEW_TOKENS)]
        ours.append(time.perf_counter() - started)
        if peer:
            seconds, peers_tokens = peer.generate(prompts)
            theirs.append(seconds)
    count = sum(map(len, made))
    result = {
        "batch": batch,
        "first_seconds": round(ours[0], 2),
        "seconds": round(statistics.median(ours[1:]), 3),
        "tokens_per_second": round(count / statistics.median(ours[1:]), 1),
    }
    if peer:
        ratios = [b / a for a, b in zip(ours[1:], theirs[1:], strict=True)]
        result |= {
            "peer_tokens_per_second": round(count / statistics.median(theirs[1:]), 1),
            "ratio": round(statistics.median(ratios), 3),
            "equal_outputs": sum(a == b for a, b in zip(made, peers_tokens, strict=True)),
        }
    return result


if __name__ == "__main__":
    main()
