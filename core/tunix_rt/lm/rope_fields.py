"""The rotary settings of a config.json, in the older and the newer way to write them."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from tunix_rt.lm.config_fields import bad, flag, mapping, number, positive
from tunix_rt.lm.rope_scaling import ROPE_KINDS, RopeScaling

_KNOWN = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": (
        "factor",
        "original_max_position_embeddings",
        "beta_fast",
        "beta_slow",
        "truncate",
        "attention_factor",
        "mscale",
        "mscale_all_dim",
    ),
}
_ALWAYS = ("rope_type", "type", "rope_theta", "partial_rotary_factor")


class Rope(NamedTuple):
    """A base and how its frequencies are stretched."""

    theta: float
    scaling: RopeScaling | None


def read_rope(config: Mapping[str, Any]) -> Rope:
    """The settings that all layers share: `rope_scaling` and `rope_theta`, or `rope_parameters`."""
    newer, older = mapping(config, "rope_parameters"), mapping(config, "rope_scaling")
    key, chosen = ("rope_scaling", older) if older else ("rope_parameters", newer)
    theta = number({**_theta(config), **_theta(newer), **_theta(chosen)}, "rope_theta", 10_000.0)
    return Rope(theta, _scaling(config, chosen, key))


def read_ropes(config: Mapping[str, Any]) -> tuple[Rope, float]:
    """Gemma 3's settings of the layers that see everything, and the base of those with a window."""
    both = mapping(config, "rope_parameters")
    for name in both:
        if name not in ("full_attention", "sliding_attention"):
            raise bad(f"rope_parameters.{name}", f"{both[name]!r} is not supported.")
    full, local = mapping(both, "full_attention"), mapping(both, "sliding_attention")
    older = mapping(config, "rope_scaling")
    key, chosen = ("rope_scaling", older) if older else ("rope_parameters.full_attention", full)
    theta = number({**_theta(config), **_theta(full), **_theta(chosen)}, "rope_theta", 1_000_000.0)
    if _scaling(config, local, "rope_parameters.sliding_attention") is not None:
        raise bad("rope_parameters.sliding_attention", f"{dict(local)!r} is not supported.")
    local_theta = number(config, "rope_local_base_freq", 10_000.0)
    return Rope(theta, _scaling(config, chosen, key)), number(local, "rope_theta", local_theta)


def written_rope(rope: Rope) -> dict[str, Any]:
    """`rope_parameters` as transformers writes them."""
    scaling = rope.scaling
    made: dict[str, Any] = {"rope_type": "default" if scaling is None else scaling.kind}
    made["rope_theta"] = rope.theta
    if scaling is None:
        return made
    made["factor"] = scaling.factor
    if scaling.kind != "linear":
        made["original_max_position_embeddings"] = scaling.original_positions
    names: dict[str, tuple[str, ...]] = {
        "llama3": ("low_freq_factor", "high_freq_factor"),
        "yarn": ("beta_fast", "beta_slow", "truncate", "attention_factor"),
    }
    return made | {name: getattr(scaling, name) for name in names.get(scaling.kind, ())}


def _theta(source: Mapping[str, Any]) -> dict[str, Any]:
    return {"rope_theta": source["rope_theta"]} if source.get("rope_theta") is not None else {}


def _scaling(config: Mapping[str, Any], chosen: Mapping[str, Any], key: str) -> RopeScaling | None:
    kind = chosen.get("rope_type", chosen.get("type", "default"))
    if kind not in _KNOWN:
        raise bad(f"{key}.rope_type", f"{kind!r} is not supported; {', '.join(_KNOWN)} are.")
    for name, value in chosen.items():
        if name not in (*_ALWAYS, *_KNOWN[kind]) and value is not None:
            raise bad(f"{key}.{name}", f"{value!r} is not supported with rope_type {kind!r}.")
    if chosen.get("partial_rotary_factor") not in (None, 1):
        raise bad(f"{key}.partial_rotary_factor", f"{chosen['partial_rotary_factor']!r} is not supported.")
    kinds = {name: name for name in ROPE_KINDS}
    if kind not in kinds:
        return None
    path, factor = f"{key}.", number(chosen, "factor", path=f"{key}.")
    if kind == "linear":
        return RopeScaling(kinds[kind], factor)
    longest = positive(config, "max_position_embeddings")
    original = positive(chosen, "original_max_position_embeddings", longest)
    original = positive(config, "original_max_position_embeddings", original)
    if kind == "llama3":
        low, high = (number(chosen, name, path=path) for name in ("low_freq_factor", "high_freq_factor"))
        if low >= high:
            raise bad(path + "low_freq_factor", f"is {low}; it must be below high_freq_factor {high}.")
        return RopeScaling(kinds[kind], factor, original, low_freq_factor=low, high_freq_factor=high)
    return RopeScaling(
        kinds[kind],
        factor,
        original,
        beta_fast=number(chosen, "beta_fast", 32.0, path=path),
        beta_slow=number(chosen, "beta_slow", 1.0, path=path),
        truncate=flag(chosen, "truncate", True),
        attention_factor=_attention_factor(chosen, factor, path),
    )


def _attention_factor(chosen: Mapping[str, Any], factor: float, path: str) -> float:
    if chosen.get("attention_factor") is not None:
        return number(chosen, "attention_factor", path=path)
    if chosen.get("mscale") and chosen.get("mscale_all_dim"):
        over, under = (number(chosen, name, path=path) for name in ("mscale", "mscale_all_dim"))
        return _mscale(factor, over) / _mscale(factor, under)
    return _mscale(factor, 1.0)


def _mscale(factor: float, mscale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0
