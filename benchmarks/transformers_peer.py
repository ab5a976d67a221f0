"""Generate with transformers and its static cache, for `generation.py` to compare with.

    PYTHON benchmarks/transformers_peer.py MODEL_DIRECTORY

Reads one JSON object a line, {"prompts": token ids, "new_tokens": count}, generates greedily in
float32 for all prompts at once, and writes {"seconds", "tokens"} with the new ids of each prompt.
Needs torch and transformers only.
"""

import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM


def main() -> None:
    """Answer until the input ends."""
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
    for line in sys.stdin:
        request = json.loads(line)
        seconds, tokens = generate(model, request["prompts"], request["new_tokens"])
        print(json.dumps({"seconds": seconds, "tokens": tokens}), flush=True)


def generate(model, prompts: list[list[int]], new_tokens: int) -> tuple[float, list[list[int]]]:
    """Seconds and new tokens; prompts are padded on the left, the end token is ignored."""
    longest = max(map(len, prompts))
    padded = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    model.generation_config.eos_token_id = None
    started = time.perf_counter()
    with torch.inference_mode():
        made = model.generate(
            padded,
            attention_mask=mask,
            max_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=0,
            cache_implementation="static",
            disable_compile=True,
        )
    return time.perf_counter() - started, made[:, longest:].tolist()


if __name__ == "__main__":
    main()
