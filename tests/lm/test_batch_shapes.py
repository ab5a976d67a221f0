import pytest

from tunix_rt.lm.batch_shapes import capacities, capacity_for, shapes_between


@pytest.mark.parametrize(
    ("length", "capacity"), [(1, 128), (128, 128), (129, 192), (193, 256), (257, 384), (385, 512)]
)
def test_a_capacity_holds_its_length(length: int, capacity: int) -> None:
    assert capacity_for(length) == capacity


def test_all_capacities_up_to_a_length() -> None:
    assert capacities(100) == [128]
    assert capacities(300) == [128, 192, 256, 384]
    assert set(capacities(1024)) == {capacity_for(length) for length in range(1, 1025)}


@pytest.mark.parametrize(
    ("old", "new", "way"),
    [
        ((1, 128), (1, 128), []),
        ((1, 128), (32, 256), [(32, 128), (32, 192), (32, 256)]),
        ((32, 384), (8, 192), [(32, 256), (32, 192), (8, 192)]),
        ((8, 192), (8, 128), [(8, 128)]),
    ],
)
def test_a_shape_is_reached_in_small_steps(
    old: tuple[int, int], new: tuple[int, int], way: list[tuple[int, int]]
) -> None:
    assert list(shapes_between(old, new)) == way
