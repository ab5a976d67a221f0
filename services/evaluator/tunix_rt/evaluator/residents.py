"""A model in memory, and the decoding of its requests."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import jax

from tunix_rt.evaluator.compilations import Compilations
from tunix_rt.evaluator.memory import NoRoomError, size_text
from tunix_rt.evaluator.messages import (
    Decoding,
    Event,
    Finished,
    Generate,
    Item,
    ItemDone,
    ItemFailed,
    ScoreTexts,
    Text,
    Token,
)
from tunix_rt.evaluator.output_cache import Output, OutputCache, output_key
from tunix_rt.evaluator.scheduler import Prompt, Scheduler
from tunix_rt.evaluator.stop_texts import StoppedText, ends_in_reasoning
from tunix_rt.evaluator.text_scoring import TextScoring
from tunix_rt.evaluator.token_log import TokenLog
from tunix_rt.lm.decoding import OUTPUT_VERSION, BatchDecoder, Progress
from tunix_rt.lm.model import Decoder
from tunix_rt.lm.packing import Request
from tunix_rt.lm.render import render_prompt
from tunix_rt.lm.sampling import Sampling
from tunix_rt.lm.scoring import TextScorer
from tunix_rt.lm.tokenizer import Tokenizer

_TAIL_TOKENS = 32  # enough to hold a tag that opens reasoning


@dataclass
class _Job:
    """A request: its settings and its measured rounds."""

    decoding: Decoding
    stream: bool
    log_probabilities: bool
    longest_bytes: int
    compiled: int
    tokens: int = 0
    seconds: float = 0.0


@dataclass
class _Row:
    """A running prompt."""

    prompt: Prompt
    text: StoppedText
    started: float
    log: TokenLog | None


class Resident:
    """A model in memory with the requests that use it.

    `room` makes room for a batch of some bytes in place of the present one, and tells whether there is;
    `most` is the largest batch for which there can ever be room. Without `outputs`, none is reused.
    """

    def __init__(
        self,
        model: Decoder,
        tokenizer: Tokenizer,
        *,
        compilations: Compilations,
        room: Callable[[int], bool],
        most: int,
        outputs: OutputCache | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._decoder = BatchDecoder(model, eos_ids=tokenizer.eos_ids)
        self._scoring = TextScoring(TextScorer(model), tokenizer, compilations=compilations)
        self._scheduler = Scheduler()
        self._compilations = compilations
        self._room = room
        self._most = most
        self._outputs = outputs
        self._engine = f"{OUTPUT_VERSION}, jax {jax.__version__}, {jax.devices()[0].device_kind}"
        self._made: dict[bytes, Output] = {}
        self._jobs: dict[str, _Job] = {}
        self._rows: dict[int, _Row] = {}

    @property
    def busy(self) -> bool:
        """Whether a request has not ended."""
        return bool(self._jobs) or self._scoring.busy

    def add_texts(self, command: ScoreTexts) -> Iterator[Event]:
        """Queues the texts; tells of those that cannot be scored. Raises as `add`."""
        refused = self._scoring.add(command)
        for item, message in refused:
            yield ItemFailed(command.request, item.number, message, item.sample)
        if len(refused) == len(command.items):
            yield Finished(command.request, 0, 0.0)

    @property
    def working(self) -> bool:
        """Whether a prompt waits or runs, or a text waits; a request may also wait for its other items."""
        return self._scheduler.working or self._scoring.busy

    @property
    def batch_bytes(self) -> int:
        """The memory of the rows until they end, and never less than the longest prompt needs alone."""
        return max([self._decoder.batch_bytes(), *(job.longest_bytes for job in self._jobs.values())])

    def add(self, command: Generate) -> list[Event]:
        """Queues the items; tells of those that cannot be run, and of those whose output is known.

        Raises ModelError if the model has no chat template or it refuses the messages, and NoRoomError
        while other models leave no room for the longest of the items.
        """
        prompts, events, longest = [], list[Event](), 0
        for item in command.items:
            prompt = self._prompt(item, command)
            try:
                longest = max(longest, self._check(_request(prompt, command)))
                prompts.append(prompt)
            except ValueError as error:
                events.append(ItemFailed(command.request, item.number, str(error), item.sample))
        known = self._outputs.get(prompt.key for prompt in prompts if prompt.key) if self._outputs else {}
        events += [_done(each, known[each.key], cached=True) for each in prompts if each.key in known]
        rest = [prompt for prompt in prompts if prompt.key not in known]
        if rest and not self._room(max(longest, self.batch_bytes)):
            raise NoRoomError
        fresh = _Job(command.decoding, command.stream, command.log_probabilities, 0, self._compilations.count)
        job = self._jobs.setdefault(command.request, fresh)
        job.longest_bytes = max(job.longest_bytes, longest)
        if self._scheduler.add(command.request, rest, more=command.more):
            events.append(self._finish(command.request))
        return events

    def cancel(self, request: str) -> None:
        """Stops the rows of a request and forgets it."""
        self._scoring.cancel(request)
        self._scheduler.drop(request)
        self._jobs.pop(request, None)
        for handle in [key for key, row in self._rows.items() if row.prompt.request == request]:
            self._decoder.cancel(handle)
            del self._rows[handle]
        self._rest()

    def round(self) -> Iterator[Event]:
        """Decodes one segment and scores one pack of texts, and tells what has come of them."""
        yield from self._decode()
        yield from self._scoring.round()

    def _decode(self) -> Iterator[Event]:
        """Fills the free rows and decodes one segment."""
        started, compiled = time.monotonic(), self._compilations.count
        progress = [*self._admit(started), *self._decoder.step_segment()]
        now = time.monotonic()
        measured = now - started if self._compilations.count == compiled else None
        if measured is not None:
            for job in self._jobs.values():
                job.seconds += measured
        for each in progress:
            row = self._rows.get(each.handle)
            if row is not None:  # a stop text has not ended it in this round
                yield from self._tell(each, row, measured=measured is not None, now=now)
        if self._outputs:
            self._outputs.put(self._made)
            self._made = {}
        self._rest()

    def _admit(self, now: float) -> list[Progress]:
        prompts = self._scheduler.take(self._decoder.free, self._fits)
        progress = self._decoder.prefill(self._requests(prompts))
        for prompt, first in zip(prompts, progress, strict=True):
            log = TokenLog(self._tokenizer.decode) if self._jobs[prompt.request].log_probabilities else None
            self._rows[first.handle] = _Row(prompt, self._text(prompt), now, log)
        return progress

    def _fits(self, prompts: Sequence[Prompt]) -> bool:
        return self._room(self._decoder.batch_bytes(self._requests(prompts)))

    def _requests(self, prompts: Sequence[Prompt]) -> list[Request]:
        return [_request(prompt, self._jobs[prompt.request]) for prompt in prompts]

    def _check(self, request: Request) -> int:
        """The memory that a request needs alone. Raises ValueError for one that cannot be run."""
        self._decoder.check(request)
        needed = self._decoder.request_bytes(request)
        if needed > self._most:
            raise ValueError(
                f"The prompt's {len(request.prompt)} tokens and max_tokens {request.max_new_tokens} need a "
                f"cache of {size_text(needed)}, but beside the weights there is room for "
                f"{size_text(self._most)}. Shorten one of them, or set TUNIX_RT_ENGINE_MEMORY higher."
            )
        return needed

    def _rest(self) -> None:
        """Gives the memory of the rows back where nothing is left to do."""
        if not self.busy:
            self._decoder.shrink()

    def _text(self, prompt: Prompt) -> StoppedText:
        decode, stop = self._tokenizer.decode, self._jobs[prompt.request].decoding.stop
        begun = bool(stop) and ends_in_reasoning(decode(prompt.tokens[-_TAIL_TOKENS:]))
        return StoppedText(decode, stop, in_reasoning=begun)

    def _tell(self, progress: Progress, row: _Row, *, measured: bool, now: float) -> Iterator[Event]:
        request, number, sample = row.prompt.request, row.prompt.number, row.prompt.sample
        job, before = self._jobs[request], row.text.count
        if not all(map(math.isfinite, progress.log_probabilities)):
            message = "The model gives this output no finite probability; its weights are broken."
            yield from self._end(progress.handle, ItemFailed(request, number, message, sample))
            return
        text = row.text.add(progress.tokens) if job.stream else row.text.keep(progress.tokens)
        job.tokens += row.text.count - before if measured else 0
        if row.log:
            row.log.add(progress.tokens[: row.text.count - before], progress.log_probabilities)
        if not progress.finish_reason and not row.text.stopped:
            if text:
                tokens = row.log.take() if row.log else ()
                yield Text(request, number, text, row.text.count, sample, tokens)
            return
        text += row.text.finish()
        output = Output(
            text,
            "stop" if row.text.stopped else progress.finish_reason,
            prompt_tokens=len(row.prompt.tokens),
            completion_tokens=row.text.count,
            latency_seconds=round(now - row.started, 6),
        )
        if row.prompt.key:
            self._made[row.prompt.key] = output
        tokens = row.log.finish() if row.log else ()
        yield from self._end(progress.handle, _done(row.prompt, output, tokens=tokens))

    def _end(self, handle: int, event: ItemDone | ItemFailed) -> Iterator[Event]:
        """Frees a row, tells how it ended, and whether its request has ended with it."""
        self._decoder.cancel(handle)
        del self._rows[handle]
        yield event
        if self._scheduler.retire(event.request):
            yield self._finish(event.request)

    def _finish(self, request: str) -> Finished:
        job = self._jobs.pop(request)
        return Finished(request, job.tokens, job.seconds, self._compilations.count - job.compiled)

    def _prompt(self, item: Item, command: Generate) -> Prompt:
        tokens = item.tokens if not item.messages else tuple(render_prompt(self._tokenizer, item.messages))
        key = b""
        kept_whole = not command.stream and not command.log_probabilities
        if command.reuse and self._outputs and kept_whole:
            key = output_key(
                command.digest,
                tokens,
                command.decoding,
                item=item.number,
                sample=item.sample,
                engine=self._engine,
            )
        return Prompt(command.request, item.number, tokens, item.sample, key)


def _done(
    prompt: Prompt, output: Output, *, cached: bool = False, tokens: tuple[Token, ...] = ()
) -> ItemDone:
    made = asdict(output)
    return ItemDone(prompt.request, prompt.number, **made, sample=prompt.sample, cached=cached, tokens=tokens)


def _request(prompt: Prompt, asked: Generate | _Job) -> Request:
    decoding = asked.decoding
    sampling = Sampling(
        temperature=decoding.temperature,
        top_k=decoding.top_k,
        top_p=decoding.top_p,
        seed=decoding.seed,
        min_p=decoding.min_p,
        repetition_penalty=decoding.repetition_penalty,
    )
    return Request(
        prompt.tokens,
        decoding.max_tokens,
        sampling=sampling,
        item=prompt.number,
        sample=prompt.sample,
        log_probabilities=asked.log_probabilities,
    )
