"""Measure an evaluation end to end: items a second, beside lm-evaluation-harness if asked.

    python benchmarks/evaluation.py MODEL_DIRECTORY [--items 200] [--max-tokens 128] [--rounds 3]
                                    [--set formatting-eval@1] [--peer-python PATH] [--peer-batches 8 32 64]

Ours is what a user has: a stack of its own (`tunix-rt up`, a new state folder, an empty compile cache), the
model imported, then the time from CreateEvaluation to SUCCEEDED, with every item scored and stored. The
first evaluation is cold: the engine starts, loads and compiles. The others are warm; no output is cached.

With `--peer-python`, an interpreter that has torch, transformers and lm_eval, `lm_eval_peer.py` gets the
same model, items, system message, chat template, token limit and machine, greedy in float32. Its cold
time holds the start of its process. Of `--peer-batches` it gets the fastest on the first items; `auto` is
left out, for on a CPU it tries 64 rows of the model's full context, which no memory holds. Warm rounds are
taken in turn and `ratio` is the median of their ratios. The run ends with an error unless both sides
see the same token ids.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tunix_rt.lm.render import render_prompt
from tunix_rt.lm.tokenizer import Tokenizer
from tunix_rt.standalone.connection import Connection
from tunix_rt.traces.text import INSTRUCTIONS, prompt_messages
from tunix_rt.v1 import evaluation_pb2, evaluator_service_pb2, job_pb2, registry_service_pb2

PEER = Path(__file__).with_name("lm_eval_peer.py")
TASK = "tunix_rt_items"
FORMAT = "answer-line"
TUNING_ITEMS = 64
DEADLINE = 1800.0


class Ours:
    """A stack of its own with the model and the set in it."""

    def __init__(self, folder: Path, model: Path, *, items: str) -> None:
        self._state = folder / "state"
        started = time.perf_counter()
        self._command("up", "--detach", "--port", "0", "--web-port", "0")
        self.start_seconds = time.perf_counter() - started
        self._model = json.loads(self._command("models", "import", str(model), "--id", "measured"))["name"]
        self._dataset = json.loads(self._command("datasets", "create", "measured", "--generator", items))[
            "name"
        ]
        self._connection = Connection(json.loads((self._state / "stack.json").read_text())["gateway"])

    def __enter__(self) -> "Ours":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._command("down")

    def items(self, limit: int) -> list[dict[str, str]]:
        """The items with their questions and answers, in the order of the split."""
        request = registry_service_pb2.ListTracesRequest(dataset=self._dataset, split="test", page_size=1000)
        traces = self._connection.registry.ListTraces(request, timeout=60).traces[:limit]
        return [{"id": each.id, "prompt": each.prompt, "answer": each.final_answer} for each in traces]

    def evaluate(self, limit: int, max_tokens: int) -> tuple[float, evaluation_pb2.Evaluation]:
        """Seconds from the request to the succeeded evaluation."""
        spec = evaluation_pb2.EvaluationSpec(
            subject=self._model,
            dataset=self._dataset,
            split="test",
            limit=limit,
            format=FORMAT,
            decoding=evaluation_pb2.Decoding(max_tokens=max_tokens),
        )
        request = evaluator_service_pb2.CreateEvaluationRequest(
            evaluation=evaluation_pb2.Evaluation(spec=spec)
        )
        started = time.perf_counter()
        evaluation = self._connection.evaluator.CreateEvaluation(request, timeout=60)
        asked = registry_service_pb2.GetEvaluationRequest(name=evaluation.name)
        while evaluation.status.state in (job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING):
            if time.perf_counter() - started > DEADLINE:
                raise SystemExit(f"{evaluation.name} has not ended after {DEADLINE:.0f} s.")
            time.sleep(0.05)
            evaluation = self._connection.registry.GetEvaluation(asked, timeout=60)
        seconds = time.perf_counter() - started
        if evaluation.status.state != job_pb2.JOB_STATE_SUCCEEDED:
            raise SystemExit(f"{evaluation.name} did not succeed: {evaluation.status.error.message}")
        if evaluation.result.cached_count:
            raise SystemExit(f"{evaluation.result.cached_count} outputs came from the cache.")
        return seconds, evaluation

    def outputs(self, evaluation: str) -> list[str]:
        """The outputs by position."""
        request = registry_service_pb2.ListItemScoresRequest(evaluation=evaluation, page_size=1000)
        scores = self._connection.registry.ListItemScores(request, timeout=60).item_scores
        return [score.output for score in sorted(scores, key=lambda score: score.position)]

    def _command(self, *words: str) -> str:
        environment = os.environ | {"TUNIX_RT_STATE": str(self._state), "TUNIX_RT_OUTPUT_CACHE_BYTES": "0"}
        command = [str(Path(sys.executable).with_name("tunix-rt")), *words, "--json"]
        return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


class Peer:
    """The harness in an interpreter of its own."""

    def __init__(self, python: Path, model: Path, *, folder: Path, system: str) -> None:
        self._folder, self._system = folder, system
        started = time.perf_counter()
        self._process = subprocess.Popen(
            [str(python), str(PEER), str(model)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"HF_HOME": str(folder / "hf")},
        )
        self._answer()
        self.start_seconds = time.perf_counter() - started

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait()

    def evaluate(self, limit: int, batch: int) -> dict:
        """What the harness answers: seconds, outputs, prompts and score."""
        request = {"folder": str(self._folder), "task": TASK, "system": self._system}
        self._process.stdin.write(json.dumps(request | {"limit": limit, "batch": batch}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"The peer ended with exit code {self._process.wait()}; see its messages above.")
        return json.loads(line)


def main() -> None:
    """Start both sides, check that they do the same, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", default="formatting-eval@1")
    parser.add_argument("--peer-python", type=Path)
    parser.add_argument("--peer-batches", type=int, nargs="+", default=[8, 32, 64])
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tunix-rt-bench-")))
        folder.chmod(0o755)
        ours = stack.enter_context(Ours(folder, arguments.model, items=arguments.set))
        items = ours.items(arguments.items)
        show(side="ours", start_seconds=ours.start_seconds, items=len(items), set=arguments.set)
        seconds, evaluation = ours.evaluate(len(items), arguments.max_tokens)
        show(side="ours", state="cold", seconds=seconds, items_per_second=len(items) / seconds)
        outputs = ours.outputs(evaluation.name)
        peer, batch = None, 0
        if arguments.peer_python:
            write_task(folder, items, max_tokens=arguments.max_tokens)
            peer = stack.enter_context(
                Peer(arguments.peer_python, arguments.model, folder=folder, system=INSTRUCTIONS[FORMAT])
            )
            show(side="peer", start_seconds=peer.start_seconds)
            first = peer.evaluate(len(items), max(arguments.peer_batches))
            cold = peer.start_seconds + first["seconds"]
            show(side="peer", state="cold", seconds=cold, items_per_second=len(items) / cold)
            check_prompts(arguments.model, items, first["prompts"])
            equal = sum(a.strip() == b.strip() for a, b in zip(outputs, first["outputs"], strict=True))
            show(
                equal_outputs=equal,
                of=len(items),
                score=evaluation.result.score.mean,
                peer_score=first["score"],
            )
            batch = best_batch(peer, arguments.peer_batches, len(items))
        measure(ours, peer, arguments=arguments, count=len(items), batch=batch)


def measure(ours: Ours, peer: Peer | None, *, arguments: argparse.Namespace, count: int, batch: int) -> None:
    """Warm rounds in turn, and their medians."""
    own, theirs = [], []
    for number in range(arguments.rounds):
        seconds, evaluation = ours.evaluate(count, arguments.max_tokens)
        own.append(seconds)
        result = evaluation.result
        show(
            side="ours",
            round=number,
            seconds=seconds,
            tokens=result.completion_tokens,
            engine_tokens_per_second=result.tokens_per_second,
        )
        if peer:
            theirs.append(peer.evaluate(count, batch)["seconds"])
            show(side="peer", round=number, seconds=theirs[-1], batch=batch)
    medians = {"items": count, "items_per_second": count / statistics.median(own)}
    if peer:
        ratios = [their / our for our, their in zip(own, theirs, strict=True)]
        medians |= {
            "peer_items_per_second": count / statistics.median(theirs),
            "ratio": statistics.median(ratios),
            "ratios": [round(ratio, 2) for ratio in ratios],
        }
    show(state="warm", **medians)


def best_batch(peer: Peer, batches: Sequence[int], count: int) -> int:
    """The batch size with which the peer is fastest on the first items; with one there is no choice."""
    if len(batches) == 1:
        return batches[0]
    items = min(TUNING_ITEMS, count)
    rates = {batch: items / peer.evaluate(items, batch)["seconds"] for batch in batches}
    show(side="peer", items_per_second_by_batch={batch: round(rate, 3) for batch, rate in rates.items()})
    return max(rates, key=rates.__getitem__)


def check_prompts(model: Path, items: Sequence[dict[str, str]], seen: Sequence[Sequence[int]]) -> None:
    """Ends the run unless the peer's model saw the token ids that ours renders, item by item."""
    tokenizer = Tokenizer.load(model)
    rendered = {tuple(render_prompt(tokenizer, prompt_messages(item["prompt"], FORMAT))) for item in items}
    equal = len(rendered & {tuple(prompt) for prompt in seen})
    if equal < len(rendered):
        raise SystemExit(f"Only {equal} of {len(rendered)} prompts are the same token ids on both sides.")
    show(equal_prompts=equal, of=len(rendered))


def write_task(folder: Path, items: Sequence[dict[str, str]], *, max_tokens: int) -> None:
    """The items as JSON lines, and the harness's task that reads them."""
    path = folder / "items.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    task = {
        "task": TASK,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(path)}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": [], "do_sample": False, "max_gen_toks": max_tokens},
        "filter_list": [
            {
                "name": "answer",
                "filter": [
                    {"function": "regex", "regex_pattern": "Answer: (.*)"},
                    {"function": "take_first"},
                ],
            }
        ],
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    (folder / f"{TASK}.yaml").write_text(json.dumps(task))  # JSON is YAML


def show(**values: object) -> None:
    """One JSON object a line, numbers to three digits."""
    rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in values.items()}
    print(json.dumps(rounded), flush=True)


if __name__ == "__main__":
    main()
