"""Low-rank adapters: add them, merge them, and name their tensors as PEFT does."""

from collections.abc import Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tunix_rt.lm.dropout import DropoutKeys, fold_keys
from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.model import Decoder, Projection

HF_MODULES = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
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
    as in Hu et al. 2021, arXiv 2106.09685. Targets are names of `TARGETS` or their q_proj forms.
    `dropout` is the share of an adapter's inputs that is dropped once `drop_inputs` gives the keys.
    """
    if rank < 1:
        raise ValueError(f"rank is {rank}; it must be positive.")
    chosen = {_short_name(target) for target in targets}
    for _, short, projection in _projections(model):
        if short not in chosen:
            continue
        outputs, inputs = projection.shape
        bound = inputs**-0.5
        a = jax.random.uniform(rngs.params(), (inputs, rank), jnp.float32, minval=-bound, maxval=bound)
        projection.lora_a = LoraParam(a)
        projection.lora_b = LoraParam(jnp.zeros((rank, outputs), jnp.float32))
        projection.lora_scale = alpha / rank
        projection.lora_dropout = dropout


def drop_inputs(model: Decoder, row_keys: jax.Array) -> None:
    """Drop inputs of every adapter from now on, by keys (rows, 2) for the rows of the batch.

    A row's mask depends on its key, the projection, and the place in the row alone.
    """
    for place, (_, _, projection) in enumerate(_projections(model)):
        if projection.lora_a is not None:
            projection.lora_keys = DropoutKeys(fold_keys(row_keys, place))


def has_lora(model: Decoder) -> bool:
    """Whether any projection carries an adapter."""
    return any(projection.lora_a is not None for _, _, projection in _projections(model))


def merge_lora(model: Decoder) -> None:
    """Fold every adapter into its matrix and remove it; outputs stay the same up to rounding."""
    for _, _, projection in _projections(model):
        if projection.lora_a is None or projection.lora_b is None:
            continue
        change = projection.lora_a[...] @ projection.lora_b[...] * jnp.float32(projection.lora_scale)
        projection.weight[...] = projection.weight[...] + change.T
        projection.lora_a = projection.lora_b = None
        projection.lora_scale = 0.0


def export_lora(model: Decoder) -> dict[str, np.ndarray]:
    """The adapters' tensors under PEFT's names, in PEFT's (outputs, inputs) order."""
    tensors = {}
    for prefix, _, projection in _projections(model):
        if projection.lora_a is not None and projection.lora_b is not None:
            tensors[f"{prefix}.lora_A.weight"] = np.ascontiguousarray(np.asarray(projection.lora_a[...]).T)
            tensors[f"{prefix}.lora_B.weight"] = np.ascontiguousarray(np.asarray(projection.lora_b[...]).T)
    return tensors


def lora_config(model: Decoder) -> dict[str, object]:
    """PEFT's adapter_config.json for the model's adapters."""
    found = [(short, p) for _, short, p in _projections(model) if p.lora_a is not None]
    if not found:
        raise ValueError("The model has no adapter.")
    first = found[0][1]
    assert first.lora_a is not None
    rank = first.lora_a.shape[1]
    targets = sorted({HF_MODULES[short].rsplit(".", 1)[1] for short, _ in found})
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": first.lora_scale * rank,
        "lora_dropout": first.lora_dropout,
        "target_modules": targets,
        "bias": "none",
    }


def import_lora(model: Decoder, tensors: Mapping[str, np.ndarray], *, alpha: float) -> None:
    """Set the model's adapters from PEFT-named tensors; every tensor must fit, or ModelError."""
    left = dict(tensors)
    for prefix, _, projection in _projections(model):
        a, b = (left.pop(f"{prefix}.lora_{part}.weight", None) for part in "AB")
        if a is None and b is None:
            continue
        outputs, inputs = projection.shape
        if a is None or b is None or a.shape[1] != inputs or b.shape != (outputs, a.shape[0]):
            raise ModelError(
                prefix, "adapter tensors do not fit.", remedy="Use the adapter's own base model."
            )
        projection.lora_a = LoraParam(jnp.asarray(a.T, jnp.float32))
        projection.lora_b = LoraParam(jnp.asarray(b.T, jnp.float32))
        projection.lora_scale = alpha / a.shape[0]
    if left:
        raise ModelError(
            ", ".join(sorted(left)), "no such projection.", remedy="Use the adapter's own base model."
        )


def _projections(model: Decoder) -> Iterator[tuple[str, str, Projection]]:
    for index, layer in enumerate(model.layers):
        for short, module in HF_MODULES.items():
            yield f"base_model.model.model.layers.{index}.{module}", short, getattr(layer, short)


def _short_name(target: str) -> str:
    short = target.removesuffix("_proj")
    if short not in HF_MODULES:
        raise ValueError(f"LoRA target {target!r} is unknown; use some of {', '.join(TARGETS)}.")
    return short
