"""Batched decoding in short segments, on which schedulers, streams and cancellation are built."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tunix_rt.lm.batch_shapes import SMALLEST_CAPACITY, Shape, capacities, capacity_for, shapes_between
from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.decoding_steps import (
    NO_TOKEN,
    Packed,
    Rows,
    admit,
    decode_segment,
    empty_rows,
    prefill,
    reshape_rows,
    rows_bytes,
)
from tunix_rt.lm.model import Decoder, KeysValues
from tunix_rt.lm.packing import Request, pack, packed_lengths
from tunix_rt.lm.sharing import Layout, layouts

OUTPUT_VERSION = 1  # goes up with every change after which a request may have another output
BATCH_SIZES = (1, 8, 32, 64)
_STOP_SLOTS = 4  # stop ids come in this many, so that their number rarely changes a program


# prompts, and what `prefill` made of them
_Read = tuple[Packed, list[KeysValues], jax.Array, jax.Array, jax.Array | None]


@dataclass(frozen=True)
class Progress:
    """New tokens of a request, the stop token left out.

    `finish_reason` is "" while it runs, then "stop" (a stop token came) or "length" (max_new_tokens).
    `log_probabilities` are natural logarithms under the model's own distribution, before any sampling
    setting; empty unless the request asked for them.
    """

    handle: int
    tokens: tuple[int, ...]
    finish_reason: str
    log_probabilities: tuple[float, ...] = ()


@dataclass
class _Running:
    handle: int
    length: int
    left: int
    with_values: bool


def smallest_batch_bytes(config: ModelConfig) -> int:
    """The memory of the batch that a decoder holds while nothing runs."""
    return rows_bytes(config, BATCH_SIZES[0], SMALLEST_CAPACITY)


class BatchDecoder:
    """Decodes many requests at once; requests join and leave between segments.

    The device batch takes the smallest of `batch_sizes` that holds the running requests, and a cache
    capacity of a power of two or one and a half times one, so there are few shapes to compile; `warm_up`
    compiles them all. Not safe for use by several threads.
    """

    def __init__(
        self,
        model: Decoder,
        *,
        eos_ids: Sequence[int],
        batch_sizes: Sequence[int] = BATCH_SIZES,
        segment_steps: int = 8,
        pack_tokens: int = 256,
    ) -> None:
        self._config = model.config
        self._graph, self._state = nnx.split(model)
        self._eos = frozenset(eos_ids)
        spare = -len(self._eos) % _STOP_SLOTS if self._eos else _STOP_SLOTS
        self._eos_array = jnp.asarray([*sorted(self._eos), *[NO_TOKEN - 1] * spare], jnp.int32)
        self._batch_sizes = tuple(sorted(batch_sizes))
        self._steps = segment_steps
        self._pack_tokens = pack_tokens
        self._running: list[_Running | None] = [None] * self._batch_sizes[0]
        self._capacity = SMALLEST_CAPACITY
        self._rows: Rows = empty_rows(self._config, len(self._running), capacity=self._capacity)
        self._handles = 0

    @property
    def free(self) -> int:
        """How many more requests fit now."""
        return self._batch_sizes[-1] - self.running

    @property
    def running(self) -> int:
        """How many requests are being decoded."""
        return sum(row is not None for row in self._running)

    def prefill(self, requests: Sequence[Request]) -> list[Progress]:
        """Start requests, at most `free`; returns the first token of each, in order.

        Raises ValueError, before anything starts, for a request that cannot be run.
        """
        if len(requests) > self.free:
            raise ValueError(f"{len(requests)} requests, but only {self.free} fit now.")
        for request in requests:
            self.check(request)
        if requests:
            needs = [len(each.prompt) + min(self._steps, each.max_new_tokens) for each in requests]
            self._fit(rows=self.running + len(requests), length=max([*needs, *self._needs()]))
        progress: dict[int, Progress] = {}
        for layout in layouts([request.prompt for request in requests], room=self._pack_tokens):
            group = [index for index, _ in layout.prompts]
            first = self._prefill_group(layout, [requests[index] for index in group])
            progress |= zip(group, first, strict=True)
        return [progress[index] for index in range(len(requests))]

    def check(self, request: Request) -> None:
        """Raise ValueError for a request that this model can never run."""
        size = len(request.prompt)
        if not size:
            raise ValueError("The prompt has no tokens.")
        if request.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {request.max_new_tokens}; it must be positive.")
        if size + request.max_new_tokens > self._config.max_positions:
            raise ValueError(
                f"The prompt's {size} tokens and max_new_tokens {request.max_new_tokens} exceed the model's "
                f"context of {self._config.max_positions} tokens; shorten one of them."
            )
        highest = max(request.prompt)
        if highest >= self._config.vocab_size or min(request.prompt) < 0:
            raise ValueError(f"The prompt has a token outside the vocabulary of {self._config.vocab_size}.")

    def batch_bytes(self, requests: Sequence[Request] = ()) -> int:
        """The memory of a batch that holds the running requests and these until the last of them ends."""
        ends = [row.length + row.left for row in self._running if row is not None]
        ends += [len(request.prompt) + request.max_new_tokens for request in requests]
        size, capacity = self._shape(max(len(ends), 1), max(ends, default=1))
        return rows_bytes(self._config, size, capacity)

    def request_bytes(self, request: Request) -> int:
        """The memory of a batch that holds this request alone until it ends."""
        return rows_bytes(self._config, *self._shape(1, len(request.prompt) + request.max_new_tokens))

    def shrink(self) -> None:
        """Give the memory of the batch back, but for the smallest, where nothing runs."""
        smallest = (self._batch_sizes[0], SMALLEST_CAPACITY)
        if not self.running and (len(self._running), self._capacity) != smallest:
            self._running, self._capacity = [None] * smallest[0], smallest[1]
            self._rows = empty_rows(self._config, smallest[0], capacity=smallest[1])

    def step_segment(self) -> list[Progress]:
        """Up to `segment_steps` more tokens for each running request; nothing if none runs."""
        if not self.running:
            return []
        self._fit(rows=self.running, length=max(self._needs()))
        with_values = any(row is not None and row.with_values for row in self._running)
        self._rows, made, values = decode_segment(
            self._graph,
            self._state,
            self._rows,
            self._eos_array,
            steps=self._steps,
            with_values=with_values,
        )
        return [
            self._advance(slot, [token for token in tokens if token != NO_TOKEN], numbers)
            for slot, (tokens, numbers) in enumerate(_by_row(made, values))
            if self._running[slot] is not None
        ]

    def warm_up(self, longest: int) -> None:
        """Compile every program that requests of at most `longest` tokens can need, outputs included.

        Log-probabilities apart: their programs are compiled when they are first asked for.

        What is computed is next to nothing: one prompt of each packed length, and no step. Raises
        ValueError while a request runs.
        """
        if self.running:
            raise ValueError(f"{self.running} requests run; only an idle batch can be warmed up.")
        longest = min(longest, self._config.max_positions)
        steps = capacities(longest)
        for capacity in steps:
            for sizes in permutations(self._batch_sizes, 2):
                for size in sizes:
                    self._fit(rows=size, length=capacity)
        prompts = [(0,) * length for length in packed_lengths(max(longest, self._pack_tokens))]
        read = [
            self._read(layout, [Request(prompt, 1)], [0])
            for prompt in prompts
            for layout in layouts([prompt], room=len(prompt))
        ]
        for size in self._batch_sizes:
            for capacity in [*steps, *reversed(steps)]:
                self._fit(rows=size, length=capacity)
                self._warm_up_shape(read)

    def _warm_up_shape(self, read: Sequence[_Read]) -> None:
        for each in read:
            self._admit(each)
        self._rows = self._rows._replace(active=self._rows.active.at[0].set(False))
        self._rows, *_ = decode_segment(
            self._graph,
            self._state,
            self._rows,
            self._eos_array,
            steps=self._steps,
            with_values=False,
        )

    def cancel(self, handle: int) -> None:
        """Drop a request; unknown and finished handles are ignored."""
        for slot, row in enumerate(self._running):
            if row is not None and row.handle == handle:
                self._running[slot] = None
                self._rows = self._rows._replace(active=self._rows.active.at[slot].set(False))

    def _prefill_group(self, layout: Layout, group: Sequence[Request]) -> list[Progress]:
        vacant = [slot for slot, row in enumerate(self._running) if row is None]
        slots = vacant[: len(group)]
        with_values = any(request.log_probabilities for request in group)
        first, values = self._admit(self._read(layout, group, slots, with_values=with_values))
        progress = []
        columns = np.asarray(first)[:, None], None if values is None else np.asarray(values)[:, None]
        for slot, request, (tokens, numbers) in zip(slots, group, _by_row(*columns), strict=False):
            self._handles += 1
            self._running[slot] = _Running(
                self._handles, len(request.prompt), request.max_new_tokens, request.log_probabilities
            )
            progress.append(self._advance(slot, tokens, numbers))
        return progress

    def _read(
        self, layout: Layout, group: Sequence[Request], slots: Sequence[int], *, with_values: bool = False
    ) -> _Read:
        packed = pack(layout, group, slots, most=self._batch_sizes[-1])
        return packed, *prefill(self._graph, self._state, packed, with_values=with_values)

    def _admit(self, read: _Read) -> tuple[jax.Array, jax.Array | None]:
        """Put prompts that have been read into their rows; returns the first token of each.

        Also the log-probabilities of these, where `read` has them.
        """
        packed, fresh, first, seen, values = read
        self._rows = admit(self._rows, packed, fresh, first, seen, self._eos_array)
        return first, values

    def _advance(self, slot: int, tokens: list[int], values: list[float]) -> Progress:
        """Note a row's new tokens; free the row where they end it."""
        row = self._running[slot]
        assert row is not None
        row.left -= len(tokens)
        row.length += len(tokens)
        stopped = bool(tokens) and tokens[-1] in self._eos
        reason = "stop" if stopped else "length" if row.left <= 0 else ""
        if reason:
            self._running[slot] = None
        kept = tuple(tokens[:-1] if stopped else tokens)
        return Progress(row.handle, kept, reason, tuple(values[: len(kept)]) if row.with_values else ())

    def _needs(self) -> list[int]:
        """How many places each running request needs until the end of the next segment."""
        return [row.length + min(self._steps, row.left) for row in self._running if row is not None]

    def _fit(self, *, rows: int, length: int) -> None:
        """Give the device batch the smallest shape that holds `rows` requests of `length` tokens."""
        for shape in shapes_between((len(self._running), self._capacity), self._shape(rows, length)):
            self._reshape(*shape)

    def _reshape(self, size: int, capacity: int) -> None:
        kept = [slot for slot, row in enumerate(self._running) if row is not None]
        index = np.zeros(size, np.int32)
        index[: len(kept)] = kept
        self._rows = reshape_rows(self._rows, jnp.asarray(index), jnp.int32(len(kept)), capacity=capacity)
        self._running = [self._running[slot] for slot in kept] + [None] * (size - len(kept))
        self._capacity = capacity

    def _shape(self, rows: int, length: int) -> Shape:
        """The smallest batch size and capacity for `rows` requests of `length` tokens."""
        return next(size for size in self._batch_sizes if size >= rows), capacity_for(length)


def _by_row(
    tokens: jax.Array | np.ndarray, values: jax.Array | np.ndarray | None
) -> list[tuple[list[int], list[float]]]:
    """The tokens of each row, with their log-probabilities where there are any."""
    rows: list[list[int]] = np.asarray(tokens).tolist()
    numbers: list[list[float]] = [[]] * len(rows) if values is None else np.asarray(values).tolist()
    return list(zip(rows, numbers, strict=True))
