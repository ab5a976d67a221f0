"""Evaluate with lm-evaluation-harness and its `hf` model, for `evaluation.py` to compare with.

    PYTHON benchmarks/lm_eval_peer.py MODEL_DIRECTORY

Loads the model in float32 on the CPU and says {"ready"}. Then reads one JSON object a line, {"folder",
"task", "system", "limit", "batch"} with the folder of the task's YAML, runs the whole of
`simple_evaluate` with the model's chat template, and writes {"seconds", "outputs", "prompts", "score"}:
the outputs by item, and the token ids that the model was given. Needs torch, transformers and lm_eval only.
"""

import json
import os
import sys
import time

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import lm_eval
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager


class Recorded(HFLM):
    """The `hf` model, which keeps the prompts that it was given, without their padding."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.prompts = []

    def _model_generate(self, context, max_length, stop, **settings):
        mask = settings["attention_mask"]
        self.prompts += [row[kept.bool()].tolist() for row, kept in zip(context, mask, strict=True)]
        return super()._model_generate(context, max_length, stop, **settings)


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the libraries print goes to the error stream
    model = Recorded(pretrained=sys.argv[1], device="cpu", dtype="float32", batch_size=1)
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(evaluate(model, json.loads(line))), file=answers, flush=True)


def evaluate(model: Recorded, request: dict) -> dict:
    """One evaluation, timed from the task's file to the aggregated score."""
    model.batch_size_per_gpu, model.prompts = request["batch"], []
    started = time.perf_counter()
    result = lm_eval.simple_evaluate(
        model=model,
        tasks=[request["task"]],
        task_manager=TaskManager(include_path=request["folder"], include_defaults=False),
        limit=request["limit"],
        apply_chat_template=True,
        system_instruction=request["system"],
        log_samples=True,
    )
    seconds = time.perf_counter() - started
    samples = sorted(result["samples"][request["task"]], key=lambda sample: sample["doc_id"])
    metrics = result["results"][request["task"]]
    return {
        "seconds": seconds,
        "outputs": [sample["resps"][0][0] for sample in samples],
        "prompts": model.prompts,
        "score": next(value for name, value in metrics.items() if name.startswith("exact_match,")),
    }


if __name__ == "__main__":
    main()
