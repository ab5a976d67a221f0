"""Measures how long scoring takes: `python benchmarks/scoring.py [--quick]`.

10,000 predictions of mixed types in both formats and as plain text, each with six lines of reasoning, one
process. The bar is 2 seconds without expressions. Beside it stand the same with expressions, and formulas,
which warm worker processes compare as in the evaluator.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from tunix_rt.answers.score import score_output
from tunix_rt.scoring.scorer import Scorer

PREDICTIONS = 10_000
ROUNDS = 5
BAR_SECONDS = 2.0


@dataclass(frozen=True)
class Prediction:
    """An output with what it is scored against."""

    output: str
    expected: str
    answer_type: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round")
    rounds = 1 if parser.parse_args().quick else ROUNDS
    table = Table("10,000 predictions", "seconds, median", "slowest", "correct", "bar")
    for name, expressions in (("without expressions", False), ("with expressions", True)):
        predictions = make_predictions(seed=0, expressions=expressions)
        times, correct = [], 0
        for _ in range(rounds):
            started = time.perf_counter()
            correct = sum(score_all(predictions))
            times.append(time.perf_counter() - started)
        bar = "" if expressions else f"{BAR_SECONDS} s"
        table.add_row(name, f"{statistics.median(times):.2f}", f"{max(times):.2f}", f"{correct:,}", bar)
    table.add_row("formulas", *formula_figures(rounds), "")
    Console().print(table)


def formula_figures(rounds: int) -> tuple[str, str, str]:
    """Median and slowest seconds for as many predictions of formulas, and how many are right."""
    predictions = [_formula(position) for position in range(PREDICTIONS)]
    scorer = Scorer()
    times, correct = [], 0
    with ThreadPoolExecutor(scorer.workers) as threads:
        for _ in range(rounds + 1):  # the first round warms the workers
            started = time.perf_counter()
            outcomes = threads.map(
                lambda each: scorer.score(each.output, each.expected, each.answer_type), predictions
            )
            correct = sum(outcome.score == 1.0 for outcome in outcomes)
            times.append(time.perf_counter() - started)
    scorer.close()
    return f"{statistics.median(times[1:]):.2f}", f"{max(times[1:]):.2f}", f"{correct:,}"


def _formula(position: int) -> Prediction:
    n = position + 2
    pairs = [
        (rf"{n}\sqrt{{2}}", rf"\sqrt{{{2 * n * n}}}"),
        (rf"\sin^2({n}x) + \cos^2({n}x)", "1"),
        (rf"x = \pm {n}", f"x = {n} or x = -{n}"),
        (rf"\ln {n}^2", rf"2\ln {n}"),
        (rf"[{n}, \infty)", rf"x \ge {n}"),
        (rf"{n}\sqrt{{3}}", rf"{n}\sqrt{{2}}"),  # wrong
    ]
    written, expected = pairs[position % len(pairs)]
    return Prediction(output=f"So it is.\nAnswer: ${written}$", expected=expected, answer_type="expression")


def score_all(predictions: list[Prediction]) -> list[bool]:
    """Whether each prediction is right, as the evaluator decides it."""
    return [
        score_output(each.output, each.expected, each.answer_type, format="answer-line").score == 1.0
        for each in predictions
    ]


def make_predictions(*, seed: int, expressions: bool) -> list[Prediction]:
    """Predictions of which three quarters are right, half of them with the type left to be detected."""
    source = random.Random(seed)
    return [_prediction(source, position, expressions) for position in range(PREDICTIONS)]


def _prediction(source: random.Random, position: int, expressions: bool) -> Prediction:
    left, right = source.randint(1, 999), source.randint(2, 999)
    answers = [  # expected, written otherwise, type
        (str(left + right), f"{left + right}.", "integer"),
        (f"{left}.25", f"{left}.250", "decimal"),
        (f"{left}/{right}", f"\\frac{{{left}}}{{{right}}}", "fraction"),
        (f"{left}%", f"{left} percent", "percentage"),
        (f"{left} km", f"{left * 1000} m", "integer"),
        (f"${left}.50", f"{left}.5 dollars", "currency"),
        ("2024-03-04", "March 4, 2024", "date"),
        ("yes", "Yes, it is", "boolean"),
        ("B", "(B)", "choice"),
        (f"[{left}, {right}, 3]", f"{left}, {right} and 3", "list"),
        (f"{{{left}, {right}, 3}}", f"{{3, {left}, {right}}}", "set"),
        ("New York", "new york.", "text"),
    ]
    if expressions:
        answers.append((f"{left}x + {right}", f"{right} + {left}x", "expression"))
    expected, written, answer_type = answers[position % len(answers)]
    steps = "\n".join(f"{left + step} + {right} = {left + step + right}" for step in range(6))
    said = written if source.random() < 0.75 else str(left * right + 7)
    layouts = (
        f"{steps}\nAnswer: {said}",
        f"<reasoning>{steps}</reasoning>\n<answer>{said}</answer>",
        f"{steps}\nSo the answer is **{said}**",
        f"{steps}\n\\boxed{{{said}}}",
    )
    output = layouts[position // len(answers) % len(layouts)]
    return Prediction(output=output, expected=expected, answer_type=answer_type if position % 2 else "")


if __name__ == "__main__":
    main()
