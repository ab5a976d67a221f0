import jax.numpy as jnp
import numpy as np
import pytest

from tunix_rt.trainer.optimizer import learning_rate, make_optimizer
from tunix_rt.trainer.specfile import OptimizerSettings


def settings(**changes):
    plain = {"learning_rate": 0.1, "warmup_steps": 4, "decay": "COSINE", "weight_decay": 0.0}
    return OptimizerSettings(**{**plain, "clip_norm": 0.0, "beta1": 0.9, "beta2": 0.999, **changes})


def rates(steps, **changes):
    return [learning_rate(settings(**changes), step, steps=steps) for step in range(1, steps + 1)]


def test_warmup_rises_to_the_peak():
    np.testing.assert_allclose(rates(12)[:5], [0.025, 0.05, 0.075, 0.1, 0.1], rtol=1e-6)


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        ("CONSTANT", [0.1, 0.1, 0.1, 0.1]),
        ("LINEAR", [0.1, 0.075, 0.05, 0.025]),
        ("COSINE", [0.1, 0.1 * (1 + 2**-0.5) / 2, 0.05, 0.1 * (1 - 2**-0.5) / 2]),
    ],
)
def test_decay_after_warmup(decay, expected):
    np.testing.assert_allclose(rates(8, decay=decay)[4:], expected, rtol=1e-6)


def test_update_equals_adamw_by_hand():
    """Three steps of AdamW with clipping against the formula of Loshchilov and Hutter, algorithm 2."""
    chosen = settings(decay="CONSTANT", warmup_steps=0, weight_decay=0.1, clip_norm=0.5, beta2=0.99)
    optimizer = make_optimizer(chosen)
    weights = {"kernel": jnp.array([[0.5, -1.0]]), "scale": jnp.array([1.0])}
    state = optimizer.init(weights)
    by_hand = {name: np.asarray(value, np.float64) for name, value in weights.items()}
    first = {name: np.zeros_like(value) for name, value in by_hand.items()}
    second = {name: np.zeros_like(value) for name, value in by_hand.items()}
    for step in range(1, 4):
        gradient = {"kernel": np.array([[0.3 * step, 0.4]]), "scale": np.array([1.2])}
        given = {name: jnp.asarray(value, jnp.float32) for name, value in gradient.items()}
        updates, state = optimizer.update(given, state, weights)
        weights = {name: weights[name] - 0.1 * updates[name] for name in weights}
        norm = np.sqrt(sum((value**2).sum() for value in gradient.values()))
        for name, decay in (("kernel", 0.1), ("scale", 0.0)):
            clipped = gradient[name] * min(1.0, 0.5 / norm)
            first[name] = 0.9 * first[name] + 0.1 * clipped
            second[name] = 0.99 * second[name] + 0.01 * clipped**2
            adam = first[name] / (1 - 0.9**step) / (np.sqrt(second[name] / (1 - 0.99**step)) + 1e-8)
            by_hand[name] = by_hand[name] - 0.1 * (adam + decay * by_hand[name])
    for name, value in weights.items():
        np.testing.assert_allclose(value, by_hand[name], rtol=2e-5)
