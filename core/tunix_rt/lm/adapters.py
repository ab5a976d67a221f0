"""Adapter directories in PEFT's layout, on a base whose arrays several models share."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax import nnx

from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.lora import import_lora
from tunix_rt.lm.model import Decoder
from tunix_rt.lm.model_files import float_shapes, read_json, read_tensor_file

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_FILE = "adapter_model.safetensors"
_PLAIN = "Use a plain LoRA adapter, or merge it into its base model and import that."
_NOT_SUPPORTED = (
    "alpha_pattern",
    "layer_replication",
    "lora_bias",
    "modules_to_save",
    "rank_pattern",
    "use_dora",
    "use_rslora",
)


def load_adapter(base: Decoder, directory: Path | str) -> Decoder:
    """A model of the base and an adapter; it shares the base's arrays, and the base stays as it is.

    Raises ModelError for an adapter of another kind or of another base.
    """
    folder = Path(directory)
    alpha = _alpha(read_json(folder / ADAPTER_CONFIG), folder)
    model: Decoder = nnx.merge(*nnx.split(base))  # new modules around the same arrays
    import_lora(model, read_tensor_file(folder / ADAPTER_FILE), alpha=alpha)
    return model


def adapter_bytes(directory: Path | str) -> int:
    """The memory of an adapter in float32; reads headers only."""
    total = 0
    for shape in float_shapes(Path(directory) / ADAPTER_FILE).values():
        size = 4
        for axis in shape:
            size *= axis
        total += size
    return total


def _alpha(config: Mapping[str, Any], folder: Path) -> float:
    """The adapter's `lora_alpha`, once the config says nothing that would be left out."""
    if config.get("peft_type") != "LORA":
        raise _bad("peft_type", f"{config.get('peft_type')!r} is not supported.")
    for key in _NOT_SUPPORTED:
        if config.get(key):
            raise _bad(key, f"{config[key]!r} is not supported.")
    if config.get("bias", "none") != "none":
        raise _bad("bias", f"{config['bias']!r} is not supported.")
    alpha, rank = config.get("lora_alpha"), config.get("r")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or alpha <= 0:
        raise _bad("lora_alpha", f"is {alpha!r}; it must be a positive number.")
    for name, shape in float_shapes(folder / ADAPTER_FILE).items():
        if name.endswith("lora_A.weight") and shape[:1] != (rank,):
            raise _bad("r", f"is {rank!r}, but {name} has rank {shape[0] if shape else 0}.")
    return float(alpha)


def _bad(key: str, problem: str) -> ModelError:
    return ModelError(f"{ADAPTER_CONFIG}: {key}", problem, remedy=_PLAIN)
