"""Checking that the steps of a generated trace are true and lead to its answer."""

from __future__ import annotations

import re
from collections import Counter

from tunix_rt.traces.expressions import ExpressionError, apply, solve
from tunix_rt.traces.trace import Trace

_OPERATION = re.compile(r"(-?\d+) ([-+*/]) (-?\d+) = (-?\d+)")
_LETTERS = re.compile(r'"([a-z]+)" has (\d+) letters')


class StepError(ValueError):
    """A trace whose steps are false, or do not lead from the problem to the answer."""


def verify(trace: Trace) -> None:
    """Re-executes every step of a trace that has `meta.expression`, and raises StepError at a fault.

    Each step must be true; its operands must be numbers of the expression or earlier results, each used
    once; what remains at the end must be the answer and the value of the expression; and the prompt must
    state the expression or hold no other numbers than it has.
    """
    expression = trace.meta.get("expression")
    if not isinstance(expression, str):
        raise StepError(f"trace {trace.id} has no `meta.expression` to check its steps against.")
    try:
        solution = solve(expression)
    except ExpressionError as error:
        raise StepError(f"trace {trace.id}: {error}") from error
    prompt_numbers = {int(digits) for digits in re.findall(r"\d+", trace.prompt)}
    if expression not in trace.prompt and not prompt_numbers <= {abs(n) for n in solution.numbers}:
        raise StepError(f"trace {trace.id}: the prompt does not state {expression!r}.")
    left = _execute(trace, Counter(solution.numbers))
    if list(left.elements()) != [solution.value] or trace.final_answer != str(solution.value):
        raise StepError(
            f"trace {trace.id}: the steps leave {sorted(left.elements())} and the answer is "
            f"{trace.final_answer}, but {expression} is {solution.value}."
        )


def _execute(trace: Trace, numbers: Counter[int]) -> Counter[int]:
    """The numbers that no step has used when all are done."""
    for step in trace.steps:
        letters = _LETTERS.fullmatch(step.content)
        if letters is not None:
            word, count = letters.group(1), int(letters.group(2))
            if len(word) != count or f'"{word}"' not in trace.prompt:
                raise StepError(f"trace {trace.id}, step {step.i}: {step.content!r} is not true.")
            continue
        operation = _OPERATION.fullmatch(step.content)
        if operation is None:
            raise StepError(f"trace {trace.id}, step {step.i}: {step.content!r} cannot be checked.")
        left, operator, right, result = operation.groups()
        for operand in (int(left), int(right)):
            if numbers[operand] <= 0:
                raise StepError(f"trace {trace.id}, step {step.i}: {operand} comes from nowhere.")
            numbers[operand] -= 1
        try:
            true_result = apply(int(left), operator, int(right))
        except ExpressionError as error:
            raise StepError(f"trace {trace.id}, step {step.i}: {error}") from error
        if true_result != int(result):
            raise StepError(f"trace {trace.id}, step {step.i}: {step.content!r} is not true.")
        numbers[true_result] += 1
    return +numbers
