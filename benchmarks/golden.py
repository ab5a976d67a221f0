"""Whether training learns: the golden set in a model of distilgpt2's shape with random weights.

    python benchmarks/golden.py DIRECTORY [--steps 400]

Four fifths of `golden@2`, split by content, are trained on until the last step, by the trainer's own child;
then the model answers every prompt, greedily, those that it has learnt and those that it has never seen.
Prints the loss at the start and at the end, and both accuracies. A directory that was interrupted (SIGTERM
saves first) goes on where it was. The model has 6 layers, 768 wide, 12 heads, and a tokenizer made of the
training traces.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tunix_rt.answers.score import score_output
from tunix_rt.jobs.directory import JobDirectory, read_json, write_json
from tunix_rt.lm.generate import Generator
from tunix_rt.lm.render import render_prompt
from tunix_rt.lm.tiny import make_tiny_model
from tunix_rt.lm.tokenizer import Tokenizer
from tunix_rt.lm.weights import load_model
from tunix_rt.traces.golden import golden_v2
from tunix_rt.traces.splits import assign_split
from tunix_rt.traces.text import completion_text, prompt_messages
from tunix_rt.traces.trace import Trace, canonical_json, content_digest
from tunix_rt.trainer import job
from tunix_rt.trainer.rows.by_hand import render_directory

SHAPE = {"family": "gpt2", "num_layers": 6, "hidden_size": 768, "head_dim": 64, "vocab_size": 1024}
SPEC = {
    "batch_size": 1,
    "max_length": 512,
    "optimizer": {"learning_rate": 5e-4, "warmup_steps": 20},
    "validation_split": "test",
    "seed": 1,
}
LAST = 20  # steps, about an epoch, whose mean loss is the loss at the end
BAR = 0.1
MOST_TOKENS = 96


def splits() -> dict[str, list[Trace]]:
    """The golden traces in the two splits."""
    found: dict[str, list[Trace]] = {"train": [], "test": []}
    for trace in golden_v2():
        found[assign_split(content_digest(trace), {"train": 0.8, "test": 0.2}, 42)].append(trace)
    return found


def prepare(directory: JobDirectory, traces: dict[str, list[Trace]], steps: int) -> None:
    """Write the model, the spec and the rows, once."""
    directory.root.mkdir(parents=True, exist_ok=True)
    texts = [text for trace in traces["train"] for text in (trace.prompt, completion_text(trace))]
    make_tiny_model(directory.base, texts, seed=0, **SHAPE)  # type: ignore[arg-type]
    write_json(directory.spec, {**SPEC, "steps": steps, "checkpoint_every": steps, "validate_every": LAST})
    lines = [canonical_json(trace, split) + b"\n" for split in traces for trace in traces[split]]
    directory.traces.write_bytes(b"".join(lines))
    render_directory(directory)


def accuracy(directory: JobDirectory, traces: Sequence[Trace]) -> tuple[int, int]:
    """How many of the answers are right, and of how many."""
    tokenizer = Tokenizer.load(directory.model)
    generator = Generator(load_model(directory.model), eos_ids=tokenizer.eos_ids)
    prompts = [tuple(render_prompt(tokenizer, prompt_messages(trace.prompt))) for trace in traces]
    right = 0
    for trace, made in zip(traces, generator.generate(prompts, MOST_TOKENS), strict=True):
        text = tokenizer.decode(made.tokens)
        found = score_output(text, trace.final_answer, trace.answer_type, finish_reason=made.finish_reason)
        right += found.outcome == "correct"
    return right, len(traces)


def report(directory: JobDirectory, traces: dict[str, list[Trace]]) -> bool:
    """Print what was learnt; whether the loss is under the bar."""
    rows = [json.loads(line) for line in directory.metrics.read_text().splitlines()]
    losses = {row["step"]: row["values"]["train/loss"] for row in rows}
    last = statistics.mean(list(losses.values())[-LAST:])
    under = next((step for step, loss in losses.items() if loss < BAR), None)
    facts, values = read_json(directory.facts), rows[-1]["values"]
    print(f"{facts['parameters']:,} parameters, {len(traces['train'])} traces in {facts['rows']} rows")
    print(f"training loss {losses[1]:.4f} → {last:.4f} (mean of the last {LAST} of {len(losses)} steps)")
    print(f"first step under {BAR}: {under}")
    seconds = statistics.median(row["values"]["train/step_time"] for row in rows)
    print(f"median step {seconds:.2f} s, {values['train/epoch']:.1f} epochs")
    print(
        f"held-out loss {values['validation/loss']:.4f}, "
        f"held-out token accuracy {values['validation/token_accuracy']:.4f}"
    )
    for split, of in traces.items():
        right, count = accuracy(directory, of)
        print(f"answers right, {split}: {right} of {count}")
    return last < BAR


def main() -> int:
    """Train, or go on, and report when all steps are done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args()
    directory, traces = JobDirectory(options.directory), splits()
    if not directory.rows.exists():
        prepare(directory, traces, options.steps)
    began = time.monotonic()
    if code := job.main([str(directory.root)]):
        return code
    if read_json(directory.outcome)["state"] != "succeeded":
        return 0
    print(f"{time.monotonic() - began:.0f} s in this process")
    return 0 if report(directory, traces) else 1


if __name__ == "__main__":
    sys.exit(main())
