"""The pages, drawn on the server."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from tunix_rt.gateway.backends import Backends
from tunix_rt.gateway.seed_sentence import pair_sentence
from tunix_rt.gateway.sentence import evidence_sentence, verdict_sentence
from tunix_rt.gateway.watch import TERMINAL
from tunix_rt.gateway.web import board_query, board_text, evaluation_text, reads, text
from tunix_rt.gateway.web.assets import plotly_path
from tunix_rt.gateway.web.seed_chart import seed_chart
from tunix_rt.jobs.parameters import flatten_spec
from tunix_rt.rpc import names
from tunix_rt.v1 import gateway_service_pb2

VERDICT_CLASSES = {
    gateway_service_pb2.PairedComparison.BETTER: "better",
    gateway_service_pb2.PairedComparison.WORSE: "worse",
}


class Pages:
    """The handlers of the pages."""

    def __init__(self, backends: Backends) -> None:
        self._registry: Any = backends.registry
        self._environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(text.FILTERS | evaluation_text.FILTERS | board_text.FILTERS)
        self._environment.globals.update(plotly=plotly_path(), terminal=TERMINAL)

    async def runs(self, request: Request) -> Response:
        """Runs and leaderboards."""
        overview = await reads.read_overview(self._registry, request.query_params.get("page_token", ""))
        live = any(run.status.state not in TERMINAL for run in overview.runs)
        return self.page("runs.html", overview=overview, live=live, now=time.time(), run_time=text.run_time)

    async def run(self, request: Request) -> Response:
        """One run, live while it runs."""
        name = names.require(f"runs/{request.path_params['id']}", names.RUN, "name")
        details = await reads.read_run(self._registry, name)
        ended = details.run.status.state in TERMINAL
        return self.page(
            "run.html",
            run=details.run,
            evaluations=details.evaluations,
            summaries={summary.metric: summary for summary in details.run.metrics},
            parameters=sorted(flatten_spec(details.run.spec).items()),
            facts=sorted((key, _fact(value)) for key, value in details.run.facts.items()),
            lines=await reads.read_log_tail(self._registry, name) if ended else [],
            samples=await reads.read_samples(self._registry, details.run),
            artifacts=await reads.read_artifacts(self._registry, name),
            ended=ended,
            run_time=text.run_time(details.run.status, time.time()),
        )

    async def compare(self, request: Request) -> Response:
        """Two or more subjects side by side."""
        query = request.query_params
        subjects = list(dict.fromkeys(query.getlist("subject")))
        comparison, datasets = await reads.read_comparison(
            self._registry, subjects, dataset=query.get("dataset", ""), split=query.get("split", "")
        )
        verdicts = [
            (
                pair,
                verdict_sentence(comparison, pair),
                (evidence_sentence(pair), pair_sentence(comparison, pair)),
                VERDICT_CLASSES.get(pair.verdict, "same"),
            )
            for pair in comparison.pairs
        ]
        compared = [
            side.evaluation.spec.dataset for side in comparison.subjects if side.HasField("evaluation")
        ]
        return self.page(
            "compare.html",
            comparison=comparison,
            verdicts=verdicts,
            datasets=datasets,
            dataset=compared[0] if compared else "",
            subjects=subjects,
            seeds=seed_chart(comparison.seed_groups, subjects),
        )

    async def leaderboard(self, request: Request) -> Response:
        """The boards of one dataset or task under the address's filters, or the datasets to choose from."""
        query = request.query_params
        wanted = board_query.board_request(query)
        datasets = await reads.read_datasets(self._registry)
        if not wanted.task and not wanted.dataset and datasets:
            wanted.dataset = datasets[0].name
        board = None
        if wanted.task or wanted.dataset:
            board = await reads.read_board(self._registry, wanted)
        dataset = board.dataset if board else ""
        splits = [split.name for each in datasets if each.name == dataset for split in each.splits]
        return self.page(
            "leaderboard.html",
            datasets=datasets,
            dataset=dataset,
            splits=splits,
            task=wanted.task,
            board=board,
            query=query,
            filtered=board_query.is_filtered(query),
            link=partial(board_query.board_link, query),
        )

    async def evaluation(self, request: Request) -> Response:
        """One evaluation with its items."""
        name = names.require(f"evaluations/{request.path_params['id']}", names.EVALUATION, "name")
        token = request.query_params.get("page_token", "")
        evaluation, items = await reads.read_evaluation(self._registry, name, token)
        return await asyncio.to_thread(
            self.page,
            "evaluation.html",
            evaluation=evaluation,
            items=items.item_scores,
            next_page_token=items.next_page_token,
            run_time=text.run_time(evaluation.status, time.time()),
        )

    def page(self, template: str, *, status_code: int = 200, **values: Any) -> Response:
        """A page from a template; everything in it is escaped."""
        body = self._environment.get_template(template).render(**values)
        return HTMLResponse(body, status_code=status_code, headers={"cache-control": "no-store"})


def _fact(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() else f"{value:,.4g}"
    return str(value)
