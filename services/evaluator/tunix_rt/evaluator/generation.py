"""Evaluates by generating: the engine continues the prompts, and its outputs are scored."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import aclosing

from tunix_rt.evaluator.engine_client import EngineClient, EngineModel
from tunix_rt.evaluator.evaluation_task import Scores
from tunix_rt.evaluator.messages import Finished, Item, ItemDone, ItemFailed
from tunix_rt.evaluator.spec import engine_decoding
from tunix_rt.rpc.telemetry import get_logger


async def generate_items(
    engine: EngineClient, model: EngineModel, items: Iterable[Item], *, scores: Scores
) -> float:
    """Scores what becomes of the items; returns the tokens generated a second, 0 if not measured."""
    rate = 0.0
    decoding = engine_decoding(scores.task.spec.decoding)
    outputs = engine.generate(model, items, decoding=decoding, stream=False, reuse=True)
    async with aclosing(outputs) as events:
        async for event in events:
            if isinstance(event, ItemDone | ItemFailed):
                scores.add(await asyncio.to_thread(scores.of, event))
            elif isinstance(event, Finished):
                rate = _rate(event)
            scores.recorder.check()
    return rate


def _rate(finished: Finished) -> float:
    """Tokens a second, 0 if none was measured."""
    get_logger().info(
        "generated",
        measured_tokens=finished.measured_tokens,
        measured_seconds=round(finished.measured_seconds, 3),
        compilations=finished.compilations,
    )
    return finished.measured_tokens / finished.measured_seconds if finished.measured_tokens else 0.0
