"""Generate continuations of many prompts."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from tunix_rt.lm.decoding import BATCH_SIZES, BatchDecoder
from tunix_rt.lm.model import Decoder
from tunix_rt.lm.packing import Request
from tunix_rt.lm.sampling import Sampling


@dataclass(frozen=True)
class Generation:
    """A finished continuation, the stop token left out; `finish_reason` is "stop" or "length"."""

    tokens: tuple[int, ...]
    finish_reason: str


class Generator:
    """Generates with one model; compiled programs are kept between calls."""

    def __init__(
        self, model: Decoder, *, eos_ids: Sequence[int], batch_sizes: Sequence[int] = BATCH_SIZES
    ) -> None:
        self._decoder = BatchDecoder(model, eos_ids=eos_ids, batch_sizes=batch_sizes)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        *,
        sampling: Sampling | None = None,
        items: Sequence[int] | None = None,
    ) -> list[Generation]:
        """Continue every prompt, in the order given.

        `items` are the numbers that, with the seed, fix each prompt's random draws; the default is 0,
        so that equal prompts have equal answers whatever stands beside them.
        """
        chosen = sampling or Sampling()
        numbers = items if items is not None else [0] * len(prompts)
        requests = [
            Request(prompt, max_new_tokens, sampling=chosen, item=item)
            for prompt, item in zip(prompts, numbers, strict=True)
        ]
        for request in requests:
            self._decoder.check(request)
        finished = dict(self.stream(requests))
        return [finished[index] for index in range(len(requests))]

    def stream(self, requests: Iterable[Request]) -> Iterator[tuple[int, Generation]]:
        """Yield (index, generation) as requests finish; the iterable is read as rows become free."""
        decoder = self._decoder
        waiting = enumerate(requests)
        running: dict[int, tuple[int, list[int]]] = {}
        try:
            while True:
                started = list(islice(waiting, decoder.free))
                progress = decoder.prefill([request for _, request in started])
                for (index, _), first in zip(started, progress, strict=True):
                    running[first.handle] = (index, [])
                if not running:
                    return
                for each in [*progress, *(decoder.step_segment() if decoder.running else [])]:
                    running[each.handle][1].extend(each.tokens)
                    if each.finish_reason:
                        index, tokens = running.pop(each.handle)
                        yield index, Generation(tuple(tokens), each.finish_reason)
        finally:
            for handle in running:
                decoder.cancel(handle)
