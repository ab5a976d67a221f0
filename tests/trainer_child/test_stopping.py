import math

from tunix_rt.trainer.stopping import Stopping, StoppingSettings

LOSS, ACCURACY = "validation/loss", "validation/token_accuracy"


def after(values, *, metric=LOSS, patience=2, min_delta=0.0):
    settings = StoppingSettings(metric, patience, min_delta)
    found = Stopping()
    for step, value in enumerate(values, start=1):
        found = found.after(settings, step, {metric: value})
    return found, found.ended(settings)


def test_stops_after_patience_without_a_better_value():
    assert after([3.0, 2.0, 2.5, 2.0]) == (Stopping(2.0, 2, 2), True)


def test_a_better_value_starts_patience_again():
    assert after([3.0, 3.5, 2.0, 2.5]) == (Stopping(2.0, 3, 1), False)


def test_a_gain_of_min_delta_is_not_enough():
    assert after([3.0, 2.5, 2.0], min_delta=1.0) == (Stopping(3.0, 1, 2), True)
    assert after([3.0, 2.5, 1.9], min_delta=1.0) == (Stopping(1.9, 3, 0), False)


def test_higher_accuracy_is_better():
    assert after([0.5, 0.6, 0.4], metric=ACCURACY) == (Stopping(0.6, 2, 1), False)


def test_what_is_not_a_number_is_not_better():
    assert after([math.nan, 2.0, math.nan]) == (Stopping(2.0, 2, 1), False)


def test_without_settings_nothing_is_remembered():
    assert Stopping().after(None, 1, {}) == Stopping()
    assert not Stopping(waited=99).ended(None)


def test_text_names_value_step_and_count():
    settings = StoppingSettings(LOSS, 2, 0.0)
    text = "validation/loss was best with 2.5 at step 6; 2 validations since were not better"
    assert Stopping(2.5, 6, 2).text(settings) == text
