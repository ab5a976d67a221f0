"""Training speed: our step against torch's, on the same weights and machine, in turn.

`ours` is the trainer's compiled step as it runs by default; each side is a process of its own that takes
one step when it is told to.

    python benchmarks/training.py full   --peer-python PYTHON [--model DIRECTORY] [--peers eager compile]
    python benchmarks/training.py traces --peer-python PYTHON --model DIRECTORY
    python benchmarks/training.py loop   --model DIRECTORY [--steps 200] [--checkpoint-every 50]

`full`: rows full of random tokens, all of them weighted; both sides' first batch must give the same loss
and gradient norm. `traces`: the project's families of traces mixed, as we pack them by default, and for the
peer as TRL's SFTTrainer lays them out: the same traces padded to the longest, whose loss and gradient norm
must be ours, a batch of its default size padded so, and its packing; weighted tokens a second. `loop`: a
whole run of the trainer's child, with its data, metrics and checkpoints, against its own compiled steps.
Without a model, `full` makes a small one (8 layers, 256 wide, vocabulary 4096).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from tunix_rt.jobs.directory import JobDirectory, write_json
from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.model import Decoder, parameter_count
from tunix_rt.lm.render import render_example
from tunix_rt.lm.tokenizer import Tokenizer
from tunix_rt.lm.weights import load_model, save_model
from tunix_rt.traces.arithmetic import arithmetic_traces
from tunix_rt.traces.dataset_sources import EVAL_SETS, build, default_size
from tunix_rt.traces.golden import GOLDEN
from tunix_rt.traces.text import completion_text, prompt_messages
from tunix_rt.traces.trace import canonical_json
from tunix_rt.trainer.batches import Batch, Example, TrainingBatches, fill_batch
from tunix_rt.trainer.gradient import Forward
from tunix_rt.trainer.optimizer import make_optimizer
from tunix_rt.trainer.optimizer_settings import OptimizerSettings
from tunix_rt.trainer.program import Program, build_program, take_apart
from tunix_rt.trainer.rows.by_hand import render_directory
from tunix_rt.trainer.training import train
from tunix_rt.trainer.update import Carried, Controls

SMALL = ModelConfig(
    vocab_size=4096,
    hidden_size=256,
    intermediate_size=704,
    num_layers=8,
    num_heads=8,
    num_kv_heads=4,
    head_dim=32,
    max_positions=1024,
)
SETTINGS = OptimizerSettings(1e-4, 0, "CONSTANT", 0.0, 1.0, 0.9, 0.999)
RATE = np.float32(1e-4)
TRL_BATCH = 8  # TrainingArguments.per_device_train_batch_size
PEER = Path(__file__).with_name("training_peer.py")
Step = Callable[[Batch], dict[str, float]]


def resident_bytes() -> int:
    """The most memory that this process has had."""
    return 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


def ours(directory: Path, batch: Batch, *, remat: bool) -> Step:
    """Our compiled step on batches of one shape."""
    graph, trained, frozen = take_apart(load_model(directory), lora=False)
    optimizer = make_optimizer(SETTINGS)
    carried = Carried(trained, optimizer.init(trained))
    program = build_program(graph, optimizer, Forward(lora=False, remat=remat)).compiled(
        carried, frozen, batch=batch, validates=False
    )

    def step(batch: Batch) -> dict[str, float]:
        nonlocal carried
        began = time.perf_counter()
        carried, scalars = program.step(carried, frozen, program.step_arrays(batch), Controls(RATE))
        found = {name: float(scalars[name]) for name in ("loss", "grad_norm")}
        return found | {"seconds": time.perf_counter() - began, "resident_bytes": resident_bytes()}

    return step


def serve(directory: Path, *, remat: bool) -> None:
    """Take the steps that standard input asks for: ours, in a process of its own like the peers'."""
    step: Step | None = None
    for line in sys.stdin:
        arrays = {name: np.array(value) for name, value in json.loads(line).items()}
        batch = Batch(
            *(arrays[name].astype(np.int32) for name in ("tokens", "positions", "segments", "targets")),
            arrays["weights"].astype(np.float32),
            traces=(),
        )
        step = step or ours(directory, batch, remat=remat)
        print(json.dumps(step(batch)), flush=True)


@contextmanager
def process(command: Sequence[str]) -> Iterator[Step]:
    """A process that takes a step for each line."""
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None
    assert child.stdout is not None

    def step(batch: Batch) -> dict[str, float]:
        names = ("tokens", "positions", "segments", "targets", "weights")
        asked = {name: getattr(batch, name).tolist() for name in names}
        asked["mask"] = (batch.segments > 0).astype(int).tolist()
        print(json.dumps(asked), file=child.stdin, flush=True)
        answer: dict[str, float] = json.loads(child.stdout.readline())
        return answer

    try:
        yield step
    finally:
        child.stdin.close()
        child.wait()


def full_batches(count: int, rows: int, length: int, vocabulary: int) -> list[Batch]:
    """Rows full of random tokens, all weighted."""
    random = np.random.default_rng(0)
    ones = np.ones(length + 1, np.float32)
    made = []
    for _ in range(count):
        lines = random.integers(0, vocabulary, (rows, length + 1)).astype(np.int32)
        made.append(
            Batch(
                tokens=lines[:, :-1],
                positions=np.tile(np.arange(length, dtype=np.int32), (rows, 1)),
                segments=np.ones((rows, length), np.int32),
                targets=lines[:, 1:],
                weights=np.tile(ones[1:], (rows, 1)),
                traces=(),
            )
        )
    return made


def trace_examples(directory: Path) -> list[Example]:
    """The golden set, the demonstration's traces and those of the evaluation families, rendered and mixed.

    Evaluation sets are not to be trained on; here only how long their prompts and answers are matters.
    """
    tokenizer = Tokenizer.load(directory)
    sizes = {name: default_size(name) for name in (GOLDEN, *EVAL_SETS)} | {"arithmetic@1": 500}
    traces = [(name, trace) for name, size in sizes.items() for trace in build(name, 0, size)]
    examples = []
    for index in np.random.default_rng(0).permutation(len(traces)):
        name, trace = traces[index]
        messages = prompt_messages(trace.prompt, "answer-line", "")
        tokens, weights = render_example(tokenizer, messages, completion_text(trace, "answer-line"))
        arrays = np.array(tokens, np.int32), np.array(weights, np.float32)
        examples.append(Example(f"{name} {trace.id}", *arrays))
    return examples


def padded(examples: Sequence[Example]) -> Batch:
    """One trace a row, padded to the longest."""
    longest = max(len(example.tokens) for example in examples)
    rows = [[row] for row in range(len(examples))]
    return fill_batch(examples, rows, batch_size=len(rows), max_length=longest)


def trace_batches(
    examples: Sequence[Example], count: int, *, rows: int, length: int
) -> dict[str, list[Batch]]:
    """Batches of each side: ours by default, and the peer's three ways."""
    ours, apart = (
        TrainingBatches(examples, batch_size=rows, max_length=length, seed=0, share=share)
        for share in (True, False)
    )
    packed = [ours.batch(index) for index in range(count)]
    named = {example.trace: example for example in examples}
    print(
        f"{len(examples)} traces of {np.mean([len(each.tokens) for each in examples]):.0f} tokens, "
        f"{ours.shared_tokens} shared; rows of an epoch: {ours.rows}, unshared {apart.rows}; "
        f"{np.mean([len(batch.traces) for batch in packed]):.0f} traces a step"
    )
    firsts = range(0, count * TRL_BATCH, TRL_BATCH)
    return {
        "ours": packed,
        "padded, our traces": [padded([named[trace] for trace in batch.traces]) for batch in packed],
        f"padded, {TRL_BATCH} traces": [padded(examples[first : first + TRL_BATCH]) for first in firsts],
        "packed": [full_mask(apart.batch(index)) for index in range(count)],
    }


def full_mask(batch: Batch) -> Batch:
    """The batch as it is computed without attention that knows of packing: as whole rows."""
    return replace(batch, segments=np.ones_like(batch.segments))


def compare(steps: dict[str, Step], batches: dict[str, Sequence[Batch]], rounds: int) -> dict[str, list[Any]]:
    """Each side's answers of some rounds in turn, after one that compiles."""
    answers: dict[str, list[Any]] = {name: [] for name in steps}
    for index in range(rounds + 1):
        for name, step in steps.items():
            batch = batches[name][index % len(batches[name])]
            answers[name].append(step(batch) | {"weighted": batch.weighted_count})
    return answers


def report(answers: dict[str, list[Any]], parameters: int) -> None:
    """Medians of the rounds after the first, ratios to ours, memory, and the first batch's loss and norm."""
    rounds = len(answers["ours"]) - 1
    print(f"{parameters:,} parameters, load {os.getloadavg()[0]:.1f}, median of {rounds}")
    rates = {
        name: statistics.median(each["weighted"] / each["seconds"] for each in found[1:])
        for name, found in answers.items()
    }
    for name, found in answers.items():
        gigabytes = found[-1]["resident_bytes"] / 1e9
        print(
            f"{name:32}{rates[name]:8.0f} weighted tokens/s  ours / it {rates['ours'] / rates[name]:5.2f}  "
            f"{gigabytes:5.2f} GB  loss {found[0]['loss']:.6f}  norm {found[0]['grad_norm']:.6f}"
        )


def small_model(directory: Path) -> Path:
    """A small model without a tokenizer."""
    directory.mkdir()
    save_model(Decoder(SMALL, rngs=nnx.Rngs(0)), directory)
    return directory


def run(options: argparse.Namespace, scratch: Path) -> None:
    """Start the sides, step them in turn, and print what was found."""
    directory = options.model or small_model(scratch / "model")
    config = ModelConfig.from_hf(json.loads((directory / "config.json").read_text()))
    if options.what == "full":
        given = full_batches(3, options.rows, options.length, config.vocab_size)
        ways = {"ours": given, "full": given}
    else:
        count = options.rounds + 1
        ways = trace_batches(trace_examples(directory), count, rows=options.rows, length=options.length)
    own = [sys.executable, __file__, "serve", "--model", str(directory)]
    commands = {"ours": own}
    if options.remat:
        commands["ours, remat"] = [*own, "--remat"]
    for peer in options.peers:
        command = [str(options.peer_python), str(PEER), str(directory)]
        commands[f"torch {peer}"] = [*command, "--compile"] if peer == "compile" else command
    with ExitStack() as stack:
        started = {name: stack.enter_context(process(command)) for name, command in commands.items()}
        sides = {
            name if way == "ours" else f"{name}, {way}": (step, given)
            for name, step in started.items()
            for way, given in ways.items()
            if name.startswith("ours") == (way == "ours")
        }
        steps = {side: step for side, (step, _) in sides.items()}
        batches = {side: given for side, (_, given) in sides.items()}
        answers = compare(steps, batches, options.rounds)
    report(answers, parameter_count(nnx.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(0)))))


def measure_loop(options: argparse.Namespace, scratch: Path) -> None:
    """The share of a run's time that its loop spends outside of the compiled steps."""
    directory = JobDirectory(scratch)
    spec = {"steps": options.steps, "batch_size": options.rows, "max_length": options.length,
            "optimizer": {"learning_rate": 1e-4}, "validate_every": 0,
            "checkpoint_every": options.checkpoint_every}  # fmt: skip
    write_json(directory.spec, spec)
    traces = [canonical_json(trace, "train") + b"\n" for trace in arithmetic_traces(1000, 0)]
    directory.traces.write_bytes(b"".join(traces))
    directory.base.symlink_to(options.model.resolve())
    render_directory(directory)
    times: list[tuple[float, float]] = []
    compiled = Program.compiled

    def timed(self: Program, *given: Any, **named: Any) -> Program:
        made = compiled(self, *given, **named)

        def step(*given: Any) -> Any:
            began = time.perf_counter()
            found = jax.block_until_ready(made.step(*given))
            times.append((began, time.perf_counter()))
            return found

        return replace(made, step=step)

    Program.compiled = timed  # type: ignore[method-assign]
    train(directory, lambda: False, report=print)
    whole = times[-1][1] - times[0][0]
    inside = sum(end - began for began, end in times)
    print(
        f"{len(times)} steps in {whole:.1f} s, {100 * (1 - inside / whole):.2f} % of it outside of the steps"
    )


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["full", "traces", "loop", "serve"])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--checkpoint-every", type=int, default=50)
    parser.add_argument("--remat", action="store_true", help="Also with every inner value computed again.")
    parser.add_argument("--peer-python", type=Path)
    parser.add_argument("--peers", nargs="*", choices=["eager", "compile"], default=["eager"])
    options = parser.parse_args()
    if options.what == "serve":
        serve(options.model, remat=options.remat)
        return
    with tempfile.TemporaryDirectory() as scratch:
        (measure_loop if options.what == "loop" else run)(options, Path(scratch))


if __name__ == "__main__":
    main()
