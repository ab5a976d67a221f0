"""The models that the engine holds in memory, and the decoding of each."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tunix_rt.evaluator.compilations import Compilations
from tunix_rt.evaluator.messages import (
    Decoding,
    Event,
    Finished,
    Generate,
    Item,
    ItemDone,
    ScoreTexts,
    Text,
    TextToScore,
)
from tunix_rt.evaluator.scheduler import Prompt, Scheduler
from tunix_rt.evaluator.stop_texts import StoppedText, ends_in_reasoning
from tunix_rt.evaluator.text_scoring import TextScoring
from tunix_rt.lm.decoding import BatchDecoder, Progress
from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.packing import Request
from tunix_rt.lm.render import render_prompt
from tunix_rt.lm.sampling import Sampling
from tunix_rt.lm.scoring import TextScorer
from tunix_rt.lm.tokenizer import Tokenizer
from tunix_rt.lm.weights import load_model

_TAIL_TOKENS = 32  # enough to hold a tag that opens reasoning


class NoRoomError(Exception):
    """Every model in memory is in use."""


@dataclass
class _Job:
    """A request: its settings and its measured rounds."""

    decoding: Decoding
    stream: bool
    tokens: int = 0
    seconds: float = 0.0


@dataclass
class _Row:
    """A running prompt."""

    prompt: Prompt
    text: StoppedText
    started: float


class Resident:
    """A model in memory with the requests that use it."""

    def __init__(self, directory: Path, *, compilations: Compilations) -> None:
        self._tokenizer = Tokenizer.load(directory)
        model = load_model(directory)
        self._decoder = BatchDecoder(model, eos_ids=self._tokenizer.eos_ids)
        self._scoring = TextScoring(TextScorer(model), self._tokenizer, compilations=compilations)
        self._scheduler = Scheduler()
        self._compilations = compilations
        self._jobs: dict[str, _Job] = {}
        self._rows: dict[int, _Row] = {}

    @property
    def busy(self) -> bool:
        """Whether a prompt waits or runs, or a text waits to be scored."""
        return bool(self._jobs) or self._scoring.busy

    def add_texts(self, command: ScoreTexts) -> list[tuple[TextToScore, str]]:
        """Queues the texts; as `add`."""
        return self._scoring.add(command)

    def add(self, command: Generate) -> list[tuple[Item, str]]:
        """Queues the items; returns each that cannot be run, with why.

        Raises ModelError if the model has no chat template or it refuses the messages.
        """
        prompts, refused = [], []
        for item in command.items:
            prompt = Prompt(command.request, item.number, self._tokens(item), item.sample)
            try:
                self._decoder.check(_request(prompt, command.decoding))
                prompts.append(prompt)
            except ValueError as error:
                refused.append((item, str(error)))
        self._scheduler.add(command.request, prompts)
        if prompts:
            self._jobs[command.request] = _Job(command.decoding, command.stream)
        return refused

    def cancel(self, request: str) -> None:
        """Stops the rows of a request and forgets it."""
        self._scoring.cancel(request)
        self._scheduler.drop(request)
        self._jobs.pop(request, None)
        for handle in [key for key, row in self._rows.items() if row.prompt.request == request]:
            self._decoder.cancel(handle)
            del self._rows[handle]

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

    def _admit(self, now: float) -> list[Progress]:
        prompts = self._scheduler.take(self._decoder.free)
        requests = [_request(prompt, self._jobs[prompt.request].decoding) for prompt in prompts]
        progress = self._decoder.prefill(requests)
        for prompt, first in zip(prompts, progress, strict=True):
            self._rows[first.handle] = _Row(prompt, self._text(prompt), now)
        return progress

    def _text(self, prompt: Prompt) -> StoppedText:
        decode, stop = self._tokenizer.decode, self._jobs[prompt.request].decoding.stop
        begun = bool(stop) and ends_in_reasoning(decode(prompt.tokens[-_TAIL_TOKENS:]))
        return StoppedText(decode, stop, in_reasoning=begun)

    def _tell(self, progress: Progress, row: _Row, *, measured: bool, now: float) -> Iterator[Event]:
        request, number, sample = row.prompt.request, row.prompt.number, row.prompt.sample
        job, before = self._jobs[request], row.text.count
        text = row.text.add(progress.tokens) if job.stream else row.text.keep(progress.tokens)
        job.tokens += row.text.count - before if measured else 0
        if not progress.finish_reason and not row.text.stopped:
            if text:
                yield Text(request, number, text, row.text.count, sample)
            return
        text += row.text.finish()
        self._decoder.cancel(progress.handle)
        del self._rows[progress.handle]
        yield ItemDone(
            request,
            number,
            text,
            "stop" if row.text.stopped else progress.finish_reason,
            prompt_tokens=len(row.prompt.tokens),
            completion_tokens=row.text.count,
            latency_seconds=round(now - row.started, 6),
            sample=sample,
        )
        if self._scheduler.retire(request):
            del self._jobs[request]
            yield Finished(request, job.tokens, job.seconds)

    def _tokens(self, item: Item) -> tuple[int, ...]:
        return item.tokens if not item.messages else tuple(render_prompt(self._tokenizer, item.messages))


class Residents:
    """At most `limit` models by digest; the one that was used least recently is given up first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._models: OrderedDict[str, Resident] = OrderedDict()
        self._directories: dict[str, str] = {}
        self._compilations = Compilations()

    @property
    def busy(self) -> bool:
        """Whether any model has work."""
        return any(model.busy for model in self._models.values())

    def load(self, digest: str, directory: str) -> float:
        """Takes a model into memory; returns the seconds that it took, 0 if it was there.

        Raises ModelError, and NoRoomError while every model in memory is in use.
        """
        self._directories[digest] = directory
        started = time.monotonic()
        if digest in self._models:
            self._models.move_to_end(digest)
            return 0.0
        self._make_room()
        self._models[digest] = Resident(Path(directory), compilations=self._compilations)
        return round(time.monotonic() - started, 3)

    def get(self, digest: str) -> Resident:
        """The model of a digest that `load` has named, loaded again if it was given up."""
        if digest not in self._directories:
            raise ModelError(digest, "was never loaded.", remedy="Send Load before Generate.")
        self.load(digest, self._directories[digest])
        return self._models[digest]

    def working(self) -> list[Resident]:
        """The models that have work."""
        return [model for model in self._models.values() if model.busy]

    def cancel(self, request: str) -> None:
        """Stops a request, whichever model it uses."""
        for model in self._models.values():
            model.cancel(request)

    def _make_room(self) -> None:
        while len(self._models) >= self._limit:
            idle = next((digest for digest, model in self._models.items() if not model.busy), None)
            if idle is None:
                raise NoRoomError
            del self._models[idle]


def _request(prompt: Prompt, decoding: Decoding) -> Request:
    sampling = Sampling(
        temperature=decoding.temperature,
        top_k=decoding.top_k,
        top_p=decoding.top_p,
        seed=decoding.seed,
        min_p=decoding.min_p,
        repetition_penalty=decoding.repetition_penalty,
    )
    return Request(
        prompt.tokens, decoding.max_tokens, sampling=sampling, item=prompt.number, sample=prompt.sample
    )
