"""Scores outputs; what takes unknown time runs in worker processes with a deadline."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from tunix_rt.answers.equivalence import UndecidedError, detect_type, equivalent
from tunix_rt.answers.extract import extract_answer
from tunix_rt.answers.score import ItemOutcome, score_output
from tunix_rt.rpc.errors import Reason, Unavailable
from tunix_rt.rpc.telemetry import get_logger
from tunix_rt.scoring.formula_process import (
    ComparisonError,
    FormulaProcess,
    Limits,
    OutOfMemoryError,
    OverranError,
    WorkerEndedError,
)

WORKERS = 2


class Scorer:
    """Scores as `score_output` does; formulas are compared by up to `workers` processes.

    They are started when one is needed, and replaced when they end. A comparison is given its time when a
    worker begins with it, however long it waited. Every method blocks and may be called by any thread.
    """

    def __init__(self, limits: Limits | None = None, *, workers: int = WORKERS) -> None:
        self.workers = workers
        self._limits = limits or Limits()
        self._free = threading.BoundedSemaphore(workers)
        self._lock = threading.Lock()
        self._idle: list[FormulaProcess] = []
        self._busy: set[FormulaProcess] = set()
        self._closed = False

    @property
    def pids(self) -> set[int]:
        """The numbers of the workers that run."""
        with self._lock:
            return {process.pid for process in (*self._idle, *self._busy)}

    def score(
        self,
        output: str,
        expected: str,
        answer_type: str = "",
        aliases: Sequence[str] = (),
        finish_reason: str = "stop",
        *,
        format: str = "",  # noqa: A002
        pattern: str = "",
    ) -> ItemOutcome:
        """The outcome of an output; "failed" where the comparison has no result, and the log says why.

        Raises ValueError for what `score_output` refuses, and Unavailable, reason SCORER_FAILED, if a worker
        crashes twice.
        """
        arguments: dict[str, Any] = {
            "output": output,
            "expected": expected,
            "answer_type": answer_type,
            "aliases": list(aliases),
            "finish_reason": finish_reason,
            "format": format,
            "pattern": pattern,
        }
        try:
            return score_output(**arguments)
        except UndecidedError:
            pass
        try:
            return ItemOutcome(**self._ask("score_output", arguments))
        except ComparisonError as error:
            found = extract_answer(output, answer_type or detect_type(expected), pattern=pattern)
            _log(error, found.answer or "", expected)
            return ItemOutcome(
                "failed", 0.0, found.answer, found.rule, timed_out=isinstance(error, OverranError)
            )

    def equivalent(
        self, predicted: str, expected: str, answer_type: str = "", aliases: Sequence[str] = ()
    ) -> bool:
        """Whether two answers are shown to be equal within the limits. Raises as `score` does."""
        try:
            return equivalent(predicted, expected, answer_type, aliases)
        except UndecidedError:
            pass
        arguments = {
            "predicted": predicted,
            "expected": expected,
            "answer_type": answer_type,
            "aliases": list(aliases),
        }
        try:
            return bool(self._ask("equivalent", arguments))
        except ComparisonError as error:
            _log(error, predicted, expected)
            return False

    def close(self) -> None:
        """Ends all workers; comparisons in hand and later ones raise Unavailable."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for process in self._busy:
                process.kill()
        for process in idle:
            process.close()

    def _ask(self, function: str, arguments: Mapping[str, Any]) -> Any:
        """What a worker answers; a crash is answered with a second, new one."""
        with self._free:
            process = self._take()
            with contextlib.suppress(WorkerEndedError, OutOfMemoryError):
                return self._answer(process, function, arguments)
            try:
                return self._answer(self._start(), function, arguments)
            except WorkerEndedError as error:
                text = f"The worker that compares formulas ended twice: {error}. Try again."
                raise Unavailable(Reason.SCORER_FAILED, text, {"exit": str(error)}) from error

    def _answer(self, process: FormulaProcess, function: str, arguments: Mapping[str, Any]) -> Any:
        try:
            answer = process.ask(function, arguments)
        except BaseException as error:
            self._put_back(process, usable=type(error) is ComparisonError)
            raise
        self._put_back(process, usable=True)
        return answer

    def _take(self) -> FormulaProcess:
        with self._lock:
            if self._idle:
                process = self._idle.pop()
                self._busy.add(process)
                return process
        return self._start()

    def _start(self) -> FormulaProcess:
        with self._lock:
            if self._closed:
                raise Unavailable(Reason.SCORER_FAILED, "The evaluator is stopping. Try again.")
            process = FormulaProcess(self._limits)
            self._busy.add(process)
        get_logger().info("formula worker started", pid=process.pid)
        return process

    def _put_back(self, process: FormulaProcess, *, usable: bool) -> None:
        with self._lock:
            self._busy.discard(process)
            if usable and not self._closed:
                self._idle.append(process)
                return
        process.close()


def _log(error: ComparisonError, predicted: str, expected: str) -> None:
    get_logger().warning(
        "no comparison", predicted=predicted[:500], expected=expected[:500], error=str(error)
    )
