"""The shapes of a device batch, few enough to compile them all; pure."""

from collections.abc import Iterator

Shape = tuple[int, int]  # rows, and places in the cache of each

SMALLEST_CAPACITY = 128


def power_of_two(value: int, *, at_least: int) -> int:
    """The smallest power of two that is `value` or more, and `at_least` or more."""
    return max(at_least, 1 << (value - 1).bit_length())


def capacity_for(length: int) -> int:
    """The smallest capacity that holds `length`: a power of two, or one and a half times one."""
    capacity = power_of_two(length, at_least=SMALLEST_CAPACITY)
    return capacity * 3 // 4 if length <= capacity * 3 // 4 >= SMALLEST_CAPACITY else capacity


def capacities(longest: int) -> list[int]:
    """All capacities that lengths up to `longest` take, the smallest first."""
    found = [SMALLEST_CAPACITY]
    while found[-1] < longest:
        found.append(_larger(found[-1]))
    return found


def shapes_between(old: Shape, new: Shape) -> Iterator[Shape]:
    """The shapes on the way from one to another, the last included.

    The capacity shrinks step by step, then the rows change, then it grows step by step. A program is
    compiled for each pair of shapes that follow each other; from every shape to every other directly
    there would be some hundreds.
    """
    rows, capacity = old
    while capacity > new[1]:
        capacity = _smaller(capacity)
        yield rows, capacity
    if rows != new[0]:
        rows = new[0]
        yield rows, capacity
    while capacity < new[1]:
        capacity = _larger(capacity)
        yield rows, capacity


def _larger(capacity: int) -> int:
    return capacity * 3 // 2 if capacity & (capacity - 1) == 0 else capacity * 4 // 3


def _smaller(capacity: int) -> int:
    return capacity * 3 // 4 if capacity & (capacity - 1) == 0 else capacity * 2 // 3
