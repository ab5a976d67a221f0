import jax
import numpy as np

from tunix_rt.lm.dropout import drop, fold_keys

KEYS = jax.random.key_data(jax.random.split(jax.random.key(1), 4))
X = np.random.default_rng(2).normal(size=(4 * 25, 40)).astype(np.float32)


def test_kept_inputs_are_scaled_and_the_others_are_zero():
    made = np.asarray(drop(X, KEYS, 0.25))
    kept = made != 0
    np.testing.assert_allclose(made[kept], X[kept] / 0.75, rtol=1e-6)
    assert abs(kept.mean() - 0.75) < 0.02  # four standard deviations of 4,000 draws are 0.027


def test_a_rows_mask_does_not_depend_on_the_other_rows():
    whole = np.asarray(drop(X, KEYS, 0.5))
    alone = np.asarray(drop(X[50:75], KEYS[2:3], 0.5))
    np.testing.assert_array_equal(whole[50:75], alone)


def test_every_projection_has_masks_of_its_own():
    one, other = (np.asarray(drop(X, fold_keys(KEYS, number), 0.5)) for number in (0, 1))
    assert not np.array_equal(one, other)
