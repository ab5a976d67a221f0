"""Train with torch and transformers, for `training.py` to compare with.

    PYTHON benchmarks/training_peer.py MODEL_DIRECTORY [--compile]

Reads one JSON object a line: {"tokens", "targets", "weights", "mask"}, each rows of numbers of one length,
padded at the end. Takes a step of AdamW behind clipping by the global norm, in float32, on the weighted
mean of the losses from full logits, as the trainers of TRL and Hugging Face do, and writes {"seconds",
"loss", "grad_norm", "resident_bytes"}. Needs torch and transformers only.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM


def main() -> None:
    """Answer until the input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).train()
    model.config.use_cache = False
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.999), weight_decay=0.0)
    forward = torch.compile(model) if options.compile else model
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(step(model, forward, optimizer, request)), flush=True)


def step(model, forward, optimizer, request) -> dict[str, float]:
    """One step's seconds, loss and gradient norm, and the most memory that the process has had."""
    tokens, targets = torch.tensor(request["tokens"]), torch.tensor(request["targets"])
    weights = torch.tensor(request["weights"], dtype=torch.float32)
    mask = torch.tensor(request["mask"])
    began = time.perf_counter()
    logits = forward(input_ids=tokens, attention_mask=None if mask.all() else mask).logits
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    loss = (losses * weights.flatten()).sum() / weights.sum()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    seconds = time.perf_counter() - began
    status = Path("/proc/self/status").read_text().split("VmHWM:")[1]
    return {
        "seconds": seconds,
        "loss": loss.item(),
        "grad_norm": norm.item(),
        "resident_bytes": 1024 * int(status.split()[0]),
    }


if __name__ == "__main__":
    main()
