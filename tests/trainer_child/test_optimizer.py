import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tunix_rt.trainer.optimizer import learning_rate, make_optimizer
from tunix_rt.trainer.specfile import OptimizerSettings

pytestmark = pytest.mark.usefixtures("compile_quickly")


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


def test_wsd_is_constant_and_falls_along_a_line_in_its_last_steps():
    found = rates(12, decay="WSD", decay_steps=4)
    np.testing.assert_allclose(found[4:], [0.1, 0.1, 0.1, 0.1, 0.1, 0.075, 0.05, 0.025], rtol=1e-6)


def test_wsd_decays_in_a_tenth_of_the_steps():
    np.testing.assert_allclose(rates(40, decay="WSD")[36:], [0.1, 0.075, 0.05, 0.025], rtol=1e-6)


def test_wsd_over_all_steps_after_warmup_is_the_line():
    np.testing.assert_allclose(rates(12, decay="WSD", decay_steps=8), rates(12, decay="LINEAR"), rtol=1e-6)


@pytest.mark.parametrize(
    ("decay", "expected"),
    [("LINEAR", [0.1, 0.085, 0.07, 0.055]), ("COSINE", [0.1, 0.1 * (0.4 + 0.6 * (1 + 2**-0.5) / 2), 0.07])],
)
def test_decay_ends_at_the_final_ratio(decay, expected):
    found = rates(8, decay=decay, final_ratio=0.4)[4:]
    np.testing.assert_allclose(found[: len(expected)], expected, rtol=1e-6)


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


SHAPES = {"embedding": (7, 6), "layers": {"q": {"weight": (5, 6), "bias": (5,)}}, "norm": {"scale": (6,)}}


def tree(seed, shapes=SHAPES):
    random = np.random.default_rng(seed)
    is_shape = lambda each: isinstance(each, tuple)  # noqa: E731
    return jax.tree.map(lambda shape: random.normal(size=shape), shapes, is_leaf=is_shape)


def updates_of(chosen, gradients, weights):
    """The updates for gradients that come one after the other, of weights that stay."""
    optimizer = make_optimizer(chosen)
    narrow = lambda given: jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), given)  # noqa: E731
    update = jax.jit(optimizer.update)
    state, updates = optimizer.init(narrow(weights)), None
    for gradient in gradients:
        updates, state = update(narrow(gradient), state, narrow(weights))
    return updates


def check_equal(found, expected):
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=2e-4, atol=1e-5), found, expected
    )


def adam_by_hand(gradients, beta1, beta2, epsilon=1e-8):
    first = second = 0.0
    for gradient in gradients:
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
    count = len(gradients)
    return first / (1 - beta1**count) / (np.sqrt(second / (1 - beta2**count)) + epsilon)


def test_epsilon_bounds_adams_update():
    gradients = [tree(1), tree(2)]
    found = updates_of(settings(epsilon=0.3), gradients, tree(0))
    check_equal(found, jax.tree.map(lambda *each: adam_by_hand(each, 0.9, 0.999, 0.3), *gradients))


def test_update_equals_lion_by_hand():
    """Chen et al. 2023, arXiv 2302.06675, algorithm 2."""
    gradients = [tree(1), tree(2)]
    found = updates_of(settings(algorithm="LION", beta2=0.99), gradients, tree(0))
    check_equal(found, jax.tree.map(lambda one, two: np.sign(0.9 * 0.01 * one + 0.1 * two), *gradients))


def test_update_equals_adafactor_by_hand():
    """Shazeer and Stern 2018, arXiv 1804.04235, algorithms 4 and 5, without a rate of its own."""
    shapes = {"large": (130, 140), "vector": (9,)}
    weights, gradients = tree(0, shapes), [tree(seed, shapes) for seed in (1, 2, 3)]
    found = updates_of(settings(algorithm="ADAFACTOR"), gradients, weights)

    def by_hand(weight, *history):
        rows = columns = second = 0.0
        for step, gradient in enumerate(history, start=1):
            share = 1 - step**-0.8
            squared = gradient**2 + 1e-30
            second = share * second + (1 - share) * squared
            if weight.ndim == 2:
                rows = share * rows + (1 - share) * squared.sum(axis=1)
                columns = share * columns + (1 - share) * squared.sum(axis=0)
        if weight.ndim == 2:
            second = np.outer(rows, columns) / rows.sum()
        update = history[-1] / np.sqrt(second)
        update = update / max(1.0, np.sqrt((update**2).mean()))
        return update * max(1e-3, np.sqrt((weight**2).mean()))

    check_equal(found, jax.tree.map(by_hand, weights, *gradients))


def orthogonal_by_hand(matrix):
    """Five quintic Newton-Schulz steps of Jordan et al. 2024."""
    x = matrix / np.linalg.norm(matrix)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x


def test_muon_orthogonalises_matrices_and_leaves_the_rest_to_adam():
    gradients = [tree(1), tree(2)]
    found = updates_of(settings(algorithm="MUON", beta1=0.95), gradients, tree(0))
    expected = jax.tree.map(lambda *each: adam_by_hand(each, 0.95, 0.999), *gradients)
    one, two = (gradient["layers"]["q"]["weight"] for gradient in gradients)
    momentum = (0.95 * 0.05 * one + 0.05 * two) / (1 - 0.95**3)
    looked_ahead = 0.95 * momentum + 0.05 * two / (1 - 0.95**2)
    size = 0.2 * np.sqrt(6)  # Liu et al. 2025, arXiv 2502.16982, equation 4
    expected["layers"]["q"]["weight"] = orthogonal_by_hand(looked_ahead) * size
    check_equal(found, expected)


@pytest.mark.parametrize(
    ("spared", "decayed"),
    [
        (("norms", "biases"), {"embedding", "weight"}),
        (("embedding",), {"weight", "bias", "scale"}),
        (("head", "norms"), {"embedding", "weight", "bias"}),
    ],
)
def test_weight_decay_spares_what_no_decay_names(spared, decayed):
    weights, zero = tree(0), jax.tree.map(np.zeros, SHAPES, is_leaf=lambda each: isinstance(each, tuple))
    found = updates_of(settings(weight_decay=0.5, no_decay=spared), [zero], weights)
    changed = {path[-1].key for path, leaf in jax.tree_util.tree_leaves_with_path(found) if leaf.any()}
    assert changed == decayed
    np.testing.assert_allclose(
        found["layers"]["q"]["weight"], 0.5 * weights["layers"]["q"]["weight"], rtol=1e-6
    )


@pytest.mark.parametrize("changes", [{}, {"clip_norm": 0.0}, {"weight_decay": 0.0}, {"no_decay": ()}])
def test_adamw_in_place_is_optaxs(changes):
    """Three steps of a tree with a leaf of many parts, two of them not full, and leaves of few numbers."""
    optimizer = make_optimizer(settings(**{"weight_decay": 0.1, "clip_norm": 0.5, **changes}))
    in_place, update = jax.jit(optimizer.in_place), jax.jit(optimizer.update)
    wide = {**SHAPES, "head": (131, 257)}
    first, *gradients = (
        jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree(seed, wide)) for seed in range(4)
    )
    weights, state, expected, expected_state = first, optimizer.init(first), first, optimizer.init(first)
    for gradient in gradients:
        weights, state, norm = in_place(gradient, optax.tree.norm(gradient), state, weights, 0.1)
        updates, expected_state = update(gradient, expected_state, expected)
        expected = jax.tree.map(lambda leaf, change: leaf - 0.1 * change, expected, updates)
        np.testing.assert_allclose(norm, optax.tree.norm(updates), rtol=1e-5)
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6),
        (weights, state),
        (expected, expected_state),
    )
