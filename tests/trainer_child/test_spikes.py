import math

from tunix_rt.trainer.spikes import Spikes, SpikeSettings

SETTINGS = SpikeSettings(ratio=2.0, window=4, max_in_a_row=2)


def after(*norms):
    found = Spikes()
    for norm in norms:
        found = found.after(SETTINGS, norm, skipped=norm > found.largest_norm(SETTINGS))
    return found


def test_nothing_is_skipped_before_the_window_is_full():
    found = after(1.0, 100.0, 1.0)
    assert (found.skipped, found.largest_norm(SETTINGS)) == (0, math.inf)


def test_limit_is_a_multiple_of_the_median_of_the_window():
    assert after(50.0, 1.0, 2.0, 4.0, 9.0).largest_norm(SETTINGS) == 6.0


def test_skipped_norms_do_not_enter_the_window():
    assert after(1.0, 1.0, 1.0, 1.0, 9.0, 9.0) == Spikes((1.0, 1.0, 1.0, 1.0), skipped=2, in_a_row=2)


def test_an_update_ends_the_row_of_skips():
    assert after(1.0, 1.0, 1.0, 1.0, 9.0, 1.5) == Spikes((1.0, 1.0, 1.0, 1.5), skipped=1, in_a_row=0)


def test_without_settings_there_is_no_limit_and_no_memory():
    assert Spikes().after(None, 5.0, skipped=False) == Spikes()
    assert Spikes((1.0,) * 9).largest_norm(None) == math.inf
