"""Low-rank adapters: add them, merge them, and name their tensors as PEFT does."""

from collections.abc import Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tunix_rt.lm.dropout import DropoutKeys, fold_keys
from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.model import Decoder, Projection
from tunix_rt.lm.tensor_names import HF_MODULES, layer_modules, layer_prefix

TARGETS = tuple(HF_MODULES)


class LoraParam(nnx.Variable[jax.Array]):
    """An adapter's parameter; a filter on this type selects what LoRA training changes."""


def add_lora(
    model: Decoder,
    rank: int,
    *,
    alpha: float,
    targets: Sequence[str] = TARGETS,
    dropout: float = 0.0,
    rngs: nnx.Rngs,
) -> None:
    """Give the target projections of every layer an adapter that starts as zero change.

    The adapter adds (alpha / rank) x A B, with A (inputs, rank) random and B (rank, outputs) zero,
    as in Hu et al. 2021, arXiv 2106.09685. Targets are names of `TARGETS` or their q_proj forms; all of
    them stand for every projection of the model. Where transformers has one matrix for q, k and v, the
    targets among these share A, so that together they are an adapter of that matrix.
    `dropout` is the share of an adapter's inputs that is dropped once `drop_inputs` gives the keys.
    Raises ModelError for a target that the model's family does not have.
    """
    if rank < 1:
        raise ValueError(f"rank is {rank}; it must be positive.")
    chosen = {_short_name(target) for target in targets}
    own = {short for module in layer_modules(model.config) for short in module.projections}
    if chosen - own and chosen != set(TARGETS):
        absent = ", ".join(sorted(chosen - own))
        remedy = f"Choose among {', '.join(short for short in TARGETS if short in own)}."
        raise ModelError(
            f"lora targets: {absent}", f"{model.config.family} has no such projection.", remedy=remedy
        )
    for _, parts in _modules(model):
        adapted = [projection for short, projection in parts if short in chosen]
        if not adapted:
            continue
        inputs = adapted[0].shape[1]
        bound = inputs**-0.5
        a = LoraParam(
            jax.random.uniform(rngs.params(), (inputs, rank), jnp.float32, minval=-bound, maxval=bound)
        )
        for projection in adapted:
            projection.lora_a = a
            projection.lora_b = LoraParam(jnp.zeros((rank, projection.shape[0]), jnp.float32))
            projection.lora_scale = alpha / rank
            projection.lora_dropout = dropout


def drop_inputs(model: Decoder, row_keys: jax.Array) -> None:
    """Drop inputs of every adapter from now on, by keys (rows, 2) for the rows of the batch.

    A row's mask depends on its key, the linear map, and the place in the row alone.
    """
    for place, (_, parts) in enumerate(_modules(model)):
        for _, projection in parts:
            if projection.lora_a is not None:
                projection.lora_keys = DropoutKeys(fold_keys(row_keys, place))


def has_lora(model: Decoder) -> bool:
    """Whether any projection carries an adapter."""
    return any(p.lora_a is not None for _, parts in _modules(model) for _, p in parts)


def merge_lora(model: Decoder) -> None:
    """Fold every adapter into its matrix and remove it; outputs stay the same up to rounding."""
    for projection in (projection for _, parts in _modules(model) for _, projection in parts):
        if projection.lora_a is None or projection.lora_b is None:
            continue
        change = projection.lora_a[...] @ projection.lora_b[...] * jnp.float32(projection.lora_scale)
        projection.weight[...] = projection.weight[...] + change.T
        projection.lora_a = projection.lora_b = None
        projection.lora_scale = 0.0


def export_lora(model: Decoder) -> dict[str, np.ndarray]:
    """The adapters' tensors under PEFT's names, in PEFT's (outputs, inputs) order."""
    tensors = {}
    for name, parts in _modules(model):
        adapted = [projection for _, projection in parts if projection.lora_a is not None]
        if not adapted:
            continue
        a = adapted[0].lora_a
        assert a is not None and all(projection.lora_a is a for projection in adapted)
        b = np.concatenate([_b_of(projection, a.shape[1]) for _, projection in parts])
        tensors[f"{name}.lora_A.weight"] = np.ascontiguousarray(np.asarray(a[...]).T)
        tensors[f"{name}.lora_B.weight"] = b
    return tensors


def _b_of(projection: Projection, rank: int) -> np.ndarray:
    """B in PEFT's order; zeros where the projection has no adapter."""
    if projection.lora_b is None:
        return np.zeros((projection.shape[0], rank), np.float32)
    return np.ascontiguousarray(np.asarray(projection.lora_b[...]).T)


def lora_config(model: Decoder) -> dict[str, object]:
    """PEFT's adapter_config.json for the model's adapters."""
    found = [(name, p) for name, parts in _modules(model) for _, p in parts if p.lora_a is not None]
    if not found:
        raise ValueError("The model has no adapter.")
    first = found[0][1]
    assert first.lora_a is not None
    rank = first.lora_a.shape[1]
    turned = {"fan_in_fan_out": True} if model.config.family == "gpt2" else {}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": first.lora_scale * rank,
        "lora_dropout": first.lora_dropout,
        "target_modules": sorted({_target_module(name) for name, _ in found}),
        "bias": "none",
        **turned,
    }


def import_lora(model: Decoder, tensors: Mapping[str, np.ndarray], *, alpha: float) -> None:
    """Set the model's adapters from PEFT-named tensors; every tensor must fit, or ModelError."""
    left = dict(tensors)
    for name, parts in _modules(model):
        a, b = (left.pop(f"{name}.lora_{part}.weight", None) for part in "AB")
        if a is None and b is None:
            continue
        sizes = [projection.shape[0] for _, projection in parts]
        inputs = parts[0][1].shape[1]
        if a is None or b is None or a.shape[1] != inputs or b.shape != (sum(sizes), a.shape[0]):
            raise ModelError(name, "adapter tensors do not fit.", remedy="Use the adapter's own base model.")
        shared, start = LoraParam(jnp.asarray(a.T, jnp.float32)), 0
        for (_, projection), size in zip(parts, sizes, strict=True):
            projection.lora_a = shared
            projection.lora_b = LoraParam(jnp.asarray(b[start : start + size].T, jnp.float32))
            projection.lora_scale = alpha / a.shape[0]
            start += size
    if left:
        raise ModelError(
            ", ".join(sorted(left)), "no such projection.", remedy="Use the adapter's own base model."
        )


def _modules(model: Decoder) -> Iterator[tuple[str, list[tuple[str, Projection]]]]:
    """Each linear map under PEFT's name, and the projections that make it up."""
    modules = layer_modules(model.config)
    for index, layer in enumerate(model.layers):
        prefix = f"base_model.model.{layer_prefix(model.config, index)}"
        for module in modules:
            yield f"{prefix}.{module.name}", [(short, getattr(layer, short)) for short in module.projections]


def _target_module(name: str) -> str:
    """What PEFT finds the module by; GPT-2 has two of the name c_proj."""
    last = name.rsplit(".", 1)[1]
    return ".".join(name.rsplit(".", 2)[1:]) if last == "c_proj" else last


def _short_name(target: str) -> str:
    short = target.removesuffix("_proj")
    if short not in HF_MODULES:
        raise ValueError(f"LoRA target {target!r} is unknown; use some of {', '.join(TARGETS)}.")
    return short
