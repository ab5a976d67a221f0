"""Which prompts are read in one prefill, and what they share there; no arrays."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tunix_rt.lm.batch_shapes import power_of_two

SMALLEST_SHARE = 16  # a shorter common start is not worth a segment of its own
_SHARERS = 4  # a group has room for this many times a common start, so that few groups repeat it

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Segment:
    """Tokens that are computed once; they see each other and the segment `after`, if there is one.

    `after` is an index in the layout, before this segment's own.
    """

    tokens: Tokens
    after: int | None = None


@dataclass(frozen=True)
class Layout:
    """The segments of one prefill, and (index of a prompt, index of its last segment) for each prompt."""

    segments: tuple[Segment, ...]
    prompts: tuple[tuple[int, int], ...]

    @property
    def size(self) -> int:
        """How many tokens are computed."""
        return sum(len(segment.tokens) for segment in self.segments)


@dataclass
class _Group:
    space: int
    starts: dict[Tokens, list[Tokens]] = field(default_factory=dict)  # common start -> its prompts

    def cost(self, prompt: Tokens, start: Tokens) -> int:
        """How many more tokens are computed with this prompt."""
        return len(prompt) - (len(start) if start and start in self.starts else 0)

    def add(self, prompt: Tokens, start: Tokens) -> None:
        self.space -= self.cost(prompt, start)
        self.starts.setdefault(start, []).append(prompt)


def layouts(prompts: Sequence[Sequence[int]], *, room: int) -> list[Layout]:
    """Lay prompts into groups of at most `room` tokens, longest first, where each adds the fewest.

    Equal prompts are computed once, and so is a common start of `SMALLEST_SHARE` tokens or more. A long
    prompt or start makes its group larger: up to the power of two that it is padded to anyway, and to
    one that holds `_SHARERS` times the start.
    """
    indices: dict[Tokens, list[int]] = {}
    for index, prompt in enumerate(prompts):
        indices.setdefault(tuple(prompt), []).append(index)
    lengths = dict(_common_starts(sorted(indices)))
    groups: list[_Group] = []
    for prompt in sorted(indices, key=lambda each: (-len(each), indices[each][0])):
        start = prompt[: lengths.get(prompt, 0)]
        fitting = [group for group in groups if group.space >= group.cost(prompt, start)]
        group = min(fitting, key=lambda each: each.cost(prompt, start), default=None)
        if group is None:
            wanted = max(len(prompt), _SHARERS * len(start))
            group = _Group(max(room, power_of_two(wanted, at_least=1)))
            groups.append(group)
        group.add(prompt, start)
    return [_layout(group, indices) for group in groups]


def _layout(group: _Group, indices: dict[Tokens, list[int]]) -> Layout:
    segments: list[Segment] = []
    placed: list[tuple[int, int]] = []
    for start, members in group.starts.items():
        shared = len(start) if len(members) > 1 else 0
        after = len(segments) if shared else None
        if shared:
            segments.append(Segment(start))
        for prompt in members:
            placed += [(index, len(segments)) for index in indices[prompt]]
            segments.append(Segment(prompt[shared:], after))
    return Layout(tuple(segments), tuple(placed))


def _common_starts(ordered: Sequence[Tokens]) -> Iterator[tuple[Tokens, int]]:
    """The prompts that share their start with others, and its length, so that the most is saved.

    `ordered` is sorted, so that prompts with a common start are neighbours. A start leaves every prompt
    at least one token of its own.
    """
    common = [_common(one, two) for one, two in pairwise(ordered)]

    def best(first: int, last: int) -> tuple[int, list[tuple[int, int, int]]]:
        """What the runs of ordered[first : last + 1] save, and each run's first, last and length."""
        if first == last:
            return 0, []
        least = min(common[first:last])
        length = min(least, min(len(each) for each in ordered[first : last + 1]) - 1)
        whole = length * (last - first) if length >= SMALLEST_SHARE else 0
        cuts = [at for at in range(first, last) if common[at] == least]
        bounds = zip([first, *(cut + 1 for cut in cuts)], [*cuts, last], strict=True)
        parts = [best(one, two) for one, two in bounds]
        saved = sum(part for part, _ in parts)
        if whole and whole >= saved:
            return whole, [(first, last, length)]
        return saved, [run for _, runs in parts for run in runs]

    for first, last, length in best(0, len(ordered) - 1)[1] if ordered else []:
        yield from ((prompt, length) for prompt in ordered[first : last + 1])


def _common(one: Tokens, two: Tokens) -> int:
    pairs = enumerate(zip(one, two, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(two)))
