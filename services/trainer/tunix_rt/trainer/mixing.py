"""Which traces an epoch takes from the parts of a mixture: a pure function of parts, seed and epoch."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from tunix_rt.trainer.packing import permutation

_DENOMINATOR = 10**6


class Mixture:
    """The traces of each epoch: a part of weight 2 gives each trace twice, one of 0.5 another half each time.

    `parts` has the part of every trace, as an index into `weights`. A part's whole weight is taken from
    all of its traces, its fraction from an endless line of shuffles of them, each epoch where the one
    before has stopped: over the epochs, all traces are taken equally often.
    """

    def __init__(self, parts: Sequence[int], weights: Sequence[float], *, seed: int) -> None:
        self._members: list[list[int]] = [[] for _ in weights]
        for index, part in enumerate(parts):
            self._members[part].append(index)
        self._weights = [Fraction(weight).limit_denominator(_DENOMINATOR) for weight in weights]
        self._seed = seed

    @property
    def constant(self) -> bool:
        """Whether every epoch takes the same traces."""
        return all(weight.denominator == 1 for weight in self._weights)

    def epoch(self, epoch: int) -> list[int]:
        """The indices that an epoch takes, those of each part in their order."""
        chosen: list[int] = []
        for part, (members, weight) in enumerate(zip(self._members, self._weights, strict=True)):
            whole = int(weight)
            chosen += members * whole + self._fraction(part, members, weight - whole, epoch)
        return chosen

    def _fraction(self, part: int, members: Sequence[int], share: Fraction, epoch: int) -> list[int]:
        size = len(members)
        first, last = (int(share * size * end) for end in (epoch, epoch + 1))
        chosen: list[int] = []
        while first < last:
            cycle, place = divmod(first, size)
            order = permutation(size, seed=self._seed, epoch=cycle, purpose=f"part {part}")
            taken = order[place : place + last - first]
            chosen += [members[int(index)] for index in taken]
            first += len(taken)
        return sorted(chosen)
