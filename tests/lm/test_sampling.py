import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tunix_rt.lm.sampling import (
    Draws,
    Sampling,
    choose_tokens,
    drop_unlikely,
    penalise,
    pick_tokens,
    restrict,
)

LOGITS = np.array([[2.0, 1.0, 0.0, -1.0, 3.0]], np.float32)
pick = jax.jit(pick_tokens)


def _draws(
    rows: int,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    min_p: float = 0.0,
) -> Draws:
    def whole(value: int) -> jax.Array:
        return jnp.full(rows, value, jnp.int32)

    items = jnp.arange(rows, dtype=jnp.int32)
    return Draws(
        temperature=jnp.full(rows, temperature),
        top_k=whole(top_k),
        top_p=jnp.full(rows, top_p),
        seed=whole(seed),
        item=items,
        sample=whole(0),
        min_p=jnp.full(rows, min_p),
        repetition_penalty=jnp.ones(rows),
    )


def test_greedy_rows_take_the_likeliest_token_that_is_given() -> None:
    given, seen = jnp.asarray([3], jnp.int32), jnp.zeros((1, 5), bool)
    chosen = choose_tokens(jnp.asarray(LOGITS), given, seen, _draws(1, temperature=0.0), given)
    assert chosen.tolist() == [3]


def test_a_penalty_alone_changes_the_choice_of_a_greedy_row() -> None:
    draws = _draws(1, temperature=0.0)._replace(repetition_penalty=jnp.full(1, 2.0))
    seen, given = jnp.zeros((1, 5), bool).at[0, 4].set(True), jnp.asarray([4], jnp.int32)
    assert choose_tokens(jnp.asarray(LOGITS), given, seen, draws, given).tolist() == [0]


@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"),
    [
        (0, 1.0, [0, 1, 2, 3, 4]),
        (1, 1.0, [4]),
        (3, 1.0, [0, 1, 4]),
        (0, 0.5, [4]),
        (0, 0.9, [0, 1, 4]),
        (2, 0.99, [0, 4]),
        (9, 1.0, [0, 1, 2, 3, 4]),
    ],
)
def test_restrict_keeps_the_likeliest(top_k: int, top_p: float, kept: list[int]) -> None:
    limited = jax.jit(restrict)(
        jnp.asarray(LOGITS), jnp.array([top_k], jnp.int32), jnp.array([top_p], jnp.float32)
    )
    assert np.flatnonzero(np.isfinite(limited[0])).tolist() == kept


def test_restrict_equals_a_sort_on_many_rows() -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((6, 400), np.float32) * 3
    top_k, top_p = (
        np.array([0, 5, 50, 0, 7, 400], np.int32),
        np.array([0.3, 1, 0.8, 0.95, 0.5, 1], np.float32),
    )
    limited = np.asarray(jax.jit(restrict)(jnp.asarray(logits), jnp.asarray(top_k), jnp.asarray(top_p)))
    for row in range(6):
        order = np.argsort(-logits[row])[: top_k[row] or 400]
        mass = np.exp(logits[row][order]) / np.exp(logits[row][order]).sum()
        before = np.cumsum(mass) - mass
        assert set(np.flatnonzero(np.isfinite(limited[row]))) == set(order[before < top_p[row]])


def test_min_p_keeps_what_is_probable_enough_beside_the_likeliest() -> None:
    rng = np.random.default_rng(2)
    logits = rng.standard_normal((5, 400), np.float32) * 3
    min_p = np.array([0, 0.01, 0.2, 0.9, 1], np.float32)
    limited = np.asarray(jax.jit(drop_unlikely)(jnp.asarray(logits), jnp.asarray(min_p)))
    shares = np.exp(logits.astype(np.float64))
    shares /= shares.sum(axis=1, keepdims=True)
    kept = shares >= min_p[:, None] * shares.max(axis=1, keepdims=True)
    assert (np.isfinite(limited) == kept).all()
    assert kept.sum(axis=1).tolist()[::4] == [400, 1]
    assert (limited[kept] == logits[kept]).all()


def test_min_p_is_measured_after_the_temperature() -> None:
    logits = jnp.asarray(np.repeat(LOGITS, 2_000, axis=0))
    places = jnp.zeros(2_000, jnp.int32)
    cold = pick(logits, _draws(2_000, temperature=0.5, min_p=0.2), places)
    warm = pick(logits, _draws(2_000, temperature=1.0, min_p=0.2), places)
    assert set(cold.tolist()) == {4}  # exp(-1 / 0.5) is below 0.2
    assert set(warm.tolist()) == {0, 4}


def test_the_penalty_makes_only_seen_tokens_less_likely() -> None:
    logits = jnp.asarray([[2.0, -1.0, 3.0, -4.0]] * 2)
    seen = jnp.asarray([[True, True, False, False]] * 2)
    penalised = jax.jit(penalise)(logits, seen, jnp.asarray([1.0, 2.0]))
    assert penalised.tolist() == [[2.0, -1.0, 3.0, -4.0], [1.0, -2.0, 3.0, -4.0]]


def test_temperature_zero_is_greedy() -> None:
    logits = jnp.asarray(np.repeat(LOGITS, 20, axis=0))
    assert pick(logits, _draws(20, temperature=0.0), jnp.zeros(20, jnp.int32)).tolist() == [4] * 20


def test_draws_follow_the_tempered_distribution() -> None:
    rows, temperature = 8_000, 2.0
    logits = jnp.asarray(np.repeat(LOGITS, rows, axis=0))
    tokens = pick(logits, _draws(rows, temperature=temperature), jnp.zeros(rows, jnp.int32))
    expected = np.exp(LOGITS[0] / temperature) / np.exp(LOGITS[0] / temperature).sum()
    np.testing.assert_allclose(np.bincount(tokens, minlength=5) / rows, expected, atol=0.02)


def test_a_draw_depends_on_its_own_row_only() -> None:
    logits = jnp.asarray(np.random.default_rng(1).standard_normal((4, 50), np.float32))
    draws, places = _draws(4, seed=3, top_k=9), jnp.arange(4, dtype=jnp.int32)
    together = pick(logits, draws, places)
    alone = []
    for row in range(4):
        one = jax.tree.map(lambda each, row=row: each[row : row + 1], (logits, draws, places))
        alone.append(int(pick(*one)[0]))
    assert together.tolist() == alone


def test_seed_item_and_place_each_change_the_draw() -> None:
    flat = jnp.zeros((1, 1000))
    base = _draws(1)
    one = jnp.ones(1, jnp.int32)
    cases = [
        (base, one * 0),
        (base, one),
        (base._replace(seed=one), one * 0),
        (base._replace(item=one), one * 0),
        (base._replace(sample=one), one * 0),
    ]
    assert len({int(pick(flat, draws, places)[0]) for draws, places in cases}) == 5


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"min_p": -0.1},
        {"min_p": 1.1},
        {"repetition_penalty": 0.9},
        {"repetition_penalty": float("nan")},
        {"repetition_penalty": float("inf")},
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        Sampling(**settings)
