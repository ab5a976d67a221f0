"""The texts that wait to be scored by one model of the engine, and their scoring pack by pack."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tunix_rt.evaluator.compilations import Compilations
from tunix_rt.evaluator.messages import Event, Finished, ItemFailed, ScoreTexts, TextScored, TextToScore
from tunix_rt.lm.render import render_prompt, split_answer
from tunix_rt.lm.scoring import Continuation, ContinuationScore, TextScorer
from tunix_rt.lm.tokenizer import Tokenizer

Messages = tuple[Mapping[str, str], ...]
_Waiting = tuple[TextToScore, Continuation]


@dataclass
class _Job:
    """A request: the packs that wait, and its measured tokens and seconds."""

    packs: deque[list[_Waiting]]
    compiled: int
    tokens: int = 0
    seconds: float = 0.0


class TextScoring:
    """Scores the texts of all requests, one pack a round; the requests take turns.

    The tokens are those of training: the prompt as for generation, then the answer's own.
    """

    def __init__(
        self,
        scorer: TextScorer,
        tokenizer: Tokenizer,
        *,
        compilations: Compilations,
    ) -> None:
        self._scorer = scorer
        self._tokenizer = tokenizer
        self._compilations = compilations
        self._jobs: dict[str, _Job] = {}

    @property
    def busy(self) -> bool:
        """Whether a text waits."""
        return bool(self._jobs)

    def add(self, command: ScoreTexts) -> list[tuple[TextToScore, str]]:
        """Queues the texts; returns each that cannot be scored, with why.

        Raises ModelError if the model has no chat template or it refuses the messages.
        """
        waiting: list[_Waiting] = []
        refused = []
        rendered: tuple[Messages, list[int]] | None = None
        for item in command.items:
            if rendered is None or rendered[0] != item.messages:
                rendered = item.messages, render_prompt(self._tokenizer, item.messages)
            given, tokens = split_answer(self._tokenizer, item.prefix, item.continuation)
            text = Continuation((*rendered[1], *given), tuple(tokens))
            try:
                self._scorer.check(text)
                waiting.append((item, text))
            except ValueError as error:
                refused.append((item, str(error)))
        if waiting:
            groups = self._scorer.packs([text for _, text in waiting])
            packs = deque([waiting[index] for index in group] for group in groups)
            self._jobs[command.request] = _Job(packs, self._compilations.count)
        return refused

    def cancel(self, request: str) -> None:
        """Forgets a request."""
        self._jobs.pop(request, None)

    def round(self) -> Iterator[Event]:
        """Scores one pack of the request whose turn it is, and tells what has come of it."""
        if not self._jobs:
            return
        request, job = next(iter(self._jobs.items()))
        del self._jobs[request]
        pack = job.packs.popleft()
        started, compiled = time.monotonic(), self._compilations.count
        scores = self._scorer.score_pack([text for _, text in pack])
        if self._compilations.count == compiled:
            job.seconds += time.monotonic() - started
            job.tokens += sum(len(text.tokens) for _, text in pack)
        if job.packs:
            self._jobs[request] = job  # behind the others
        for (item, text), score in zip(pack, scores, strict=True):
            yield _told(request, item, text, score)
        if not job.packs:
            yield Finished(request, job.tokens, job.seconds, self._compilations.count - job.compiled)


def _told(request: str, item: TextToScore, text: Continuation, score: ContinuationScore) -> Event:
    values = score.log_probabilities
    if not all(map(math.isfinite, values)):
        message = "The model gives this text no finite probability; its weights are broken."
        return ItemFailed(request, item.number, message, item.sample)
    return TextScored(
        request,
        item.number,
        item.sample,
        log_likelihood=math.fsum(values),
        token_count=len(values),
        greedy=score.greedy,
        log_probabilities=values,
        prompt_tokens=len(text.context),
    )
