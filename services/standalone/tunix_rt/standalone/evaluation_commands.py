"""`evaluate` and `generate`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated

import typer

from tunix_rt.rpc.channel import new_request_id
from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.standalone.connection import CALL_SECONDS, LONG_CALL_SECONDS, connect
from tunix_rt.standalone.evaluation_views import evaluation_view
from tunix_rt.standalone.evaluation_wait import wait_for_evaluation
from tunix_rt.standalone.judge_options import (
    JudgeModelOption,
    JudgeOption,
    RubricOption,
    complete_judge,
    named_judge,
)
from tunix_rt.standalone.options import GatewayOption, JsonOption
from tunix_rt.standalone.output import console, errors, print_json
from tunix_rt.standalone.resources import dataset_name, subject_name, task_version_name
from tunix_rt.standalone.spec_options import with_options_of
from tunix_rt.v1 import evaluation_pb2 as evaluation_pb
from tunix_rt.v1 import evaluator_service_pb2 as evaluator_pb
from tunix_rt.v1 import job_pb2 as job_pb

SubjectArgument = Annotated[str, typer.Argument(help="A run or a model version.", metavar="SUBJECT")]
MaxTokensOption = Annotated[int, typer.Option("--max-tokens", help="The most new tokens. (default 256)")]
TemperatureOption = Annotated[float, typer.Option("--temperature", help="0 is greedy.")]
TopKOption = Annotated[int, typer.Option("--top-k", help="Sample from the k likeliest tokens; 0 is all.")]
TopPOption = Annotated[float, typer.Option("--top-p", help="Sample from this probability mass.")]
MinPOption = Annotated[
    float, typer.Option("--min-p", help="No tokens less likely than this share of the likeliest.")
]
RepetitionOption = Annotated[
    float, typer.Option("--repetition-penalty", help="Against tokens that are there already; 1 is off.")
]
SeedOption = Annotated[int, typer.Option("--seed", help="The seed of the sampling.")]
StopOption = Annotated[list[str] | None, typer.Option("--stop", help="A text that ends it; repeatable.")]
WeightTypeOption = Annotated[
    str,
    typer.Option("--weight-type", help="float32 or int8: how the engine holds matrices. (default float32)"),
]
FormatOption = Annotated[
    str, typer.Option("--format", help="answer-line, tags or boxed. (default answer-line)")
]


def evaluation_spec(
    *,
    dataset: Annotated[str, typer.Option("--dataset", help="The sealed dataset.")] = "",
    split: Annotated[str, typer.Option("--split", help="(default test)")] = "",
    limit: Annotated[int, typer.Option("--limit", help="Only the first items; 0 is all.")] = 0,
    max_tokens: MaxTokensOption = 0,
    temperature: TemperatureOption = 0.0,
    top_k: TopKOption = 0,
    top_p: TopPOption = 0.0,
    min_p: MinPOption = 0.0,
    repetition_penalty: RepetitionOption = 0.0,
    seed: SeedOption = 0,
    stop: StopOption = None,
    samples: Annotated[
        int, typer.Option("--samples", help="Outputs an item; more than one needs a temperature.")
    ] = 0,
    few_shot: Annotated[int, typer.Option("--few-shot", help="So many examples before each question.")] = 0,
    few_shot_split: Annotated[
        str, typer.Option("--few-shot-split", help="Where they are drawn from. (default train)")
    ] = "",
    few_shot_seed: Annotated[int, typer.Option("--few-shot-seed", help="The seed of the draw.")] = 0,
    answer_pattern: Annotated[
        str, typer.Option("--answer-pattern", help="A regular expression that finds the answer.")
    ] = "",
    text_format: FormatOption = "",
    system_prompt: Annotated[str, typer.Option("--system-prompt")] = "",
    prompt_template: Annotated[
        str,
        typer.Option("--prompt-template", help="The user's message, with {question} for the question."),
    ] = "",
    method: Annotated[
        str, typer.Option("--method", help="generation, multiple-choice or perplexity. (default generation)")
    ] = "",
    normalization: Annotated[
        str, typer.Option("--normalization", help="none, bytes or characters; with multiple-choice.")
    ] = "",
    scorer: Annotated[
        str, typer.Option("--scorer", help="exact-answer@2 or judge@1. (default exact-answer@2)")
    ] = "",
    judge: JudgeOption = "",
    judge_model: JudgeModelOption = "",
    rubric: RubricOption = "",
    judge_calibration: Annotated[
        str, typer.Option("--judge-calibration", help="The calibration without which a judge does not rank.")
    ] = "",
    weight_type: WeightTypeOption = "",
) -> evaluation_pb.EvaluationSpec:
    """What is measured and how: the spec of an evaluation without its subject."""
    decoding = evaluation_pb.Decoding(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=stop,
    )
    examples = None
    if few_shot or few_shot_split or few_shot_seed:
        examples = evaluation_pb.FewShot(count=few_shot, split=few_shot_split, seed=few_shot_seed)
    return evaluation_pb.EvaluationSpec(
        dataset=dataset_name(dataset) if dataset else "",
        split=split,
        decoding=decoding,
        format=text_format,
        system_prompt=system_prompt,
        limit=limit,
        samples=samples,
        few_shot=examples,
        answer_pattern=answer_pattern,
        prompt_template=prompt_template,
        method=method,
        normalization=normalization,
        scorer=scorer,
        judge=named_judge(judge, judge_model, rubric, judge_calibration),
        weight_type=weight_type,
    )


@with_options_of(evaluation_spec)
def evaluate(
    subject: SubjectArgument,
    *,
    task: Annotated[
        str, typer.Option("--task", help="The task that says it all; `tunix-rt tasks list` shows them.")
    ] = "",
    spec: evaluation_pb.EvaluationSpec,
    allow_contamination: Annotated[
        bool, typer.Option("--allow-contamination", help="Although the subject was trained on the items.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once it is queued.")] = False,
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Evaluate a run or a model version by a task, or on a split of a dataset."""
    if not spec.dataset and not task:
        raise InvalidArgument.of("dataset", "is required without a task. Give --dataset or --task.")
    spec.allow_contamination = allow_contamination
    with connect(gateway) as connection:
        spec.task = task_version_name(connection, task) if task else ""
        spec.subject = subject_name(connection, subject)
        complete_judge(connection, spec)
        request = evaluator_pb.CreateEvaluationRequest(
            evaluation=evaluation_pb.Evaluation(spec=spec), request_id=new_request_id()
        )
        made = connection.evaluator.CreateEvaluation(request, timeout=CALL_SECONDS)
        if not detach:
            made = wait_for_evaluation(connection, made.name, quiet=json)
    if json:
        print_json(made)
    elif detach:
        console.print(f"{made.name} is queued.")
    else:
        console.print(evaluation_view(made))
    if not detach and made.status.state != job_pb.JOB_STATE_SUCCEEDED:
        raise typer.Exit(1)


def generate(
    subject: SubjectArgument,
    prompts: Annotated[list[str], typer.Argument(help="The questions.", metavar="PROMPT…")],
    *,
    max_tokens: MaxTokensOption = 0,
    temperature: TemperatureOption = 0.0,
    top_k: TopKOption = 0,
    top_p: TopPOption = 0.0,
    min_p: MinPOption = 0.0,
    repetition_penalty: RepetitionOption = 0.0,
    seed: SeedOption = 0,
    stop: StopOption = None,
    text_format: Annotated[str, typer.Option("--format", help="answer-line, tags, boxed or none.")] = "",
    system_prompt: Annotated[str, typer.Option("--system-prompt")] = "",
    samples: Annotated[
        int, typer.Option("--samples", help="Outputs a question; more than one needs a temperature.")
    ] = 0,
    weight_type: WeightTypeOption = "",
    log_probabilities: Annotated[
        bool, typer.Option("--log-probabilities", help="Show each token's log-probability below the text.")
    ] = False,
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Answer questions with a model; the text streams as it is made."""
    with connect(gateway) as connection:
        request = evaluator_pb.GenerateRequest(
            subject=subject_name(connection, subject),
            prompts=prompts,
            decoding=evaluation_pb.Decoding(
                max_tokens=max_tokens,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                min_p=min_p,
                repetition_penalty=repetition_penalty,
                seed=seed,
                stop=stop,
            ),
            format=text_format,
            system_prompt=system_prompt,
            samples=samples,
            log_probabilities=log_probabilities,
            weight_type=weight_type,
        )
        outputs: dict[tuple[int, int], _Output] = defaultdict(_Output)
        single = len(prompts) == 1 and samples <= 1
        for event in connection.evaluator.Generate(request, timeout=LONG_CALL_SECONDS):
            if json:
                print_json(event, line=True)
                continue
            output = outputs[event.index, event.sample]
            output.text += event.text
            output.tokens += event.tokens
            if single:
                console.print(event.text, end="", markup=False, soft_wrap=True)
            elif event.finish_reason:
                number = f"{event.index + 1}." + (f" sample {event.sample + 1}" if samples > 1 else "")
                console.print(f"\n[bold]{number}[/]", prompts[event.index], style="dim")
                console.print(output.text, markup=False)
            if event.finish_reason:
                if output.tokens:
                    console.print(("\n" if single else "") + _tokens_text(output.tokens), markup=False)
                errors.print(f"\n{event.completion_tokens} tokens, {event.finish_reason}", style="dim")


@dataclass
class _Output:
    """What has come of a sample."""

    text: str = ""
    tokens: list[evaluator_pb.GeneratedToken] = field(default_factory=list)


def _tokens_text(tokens: Iterable[evaluator_pb.GeneratedToken]) -> str:
    """A line a token: log-probability, id and text."""
    return "\n".join(f"{token.log_probability:9.4f}  {token.id:6}  {token.text!r}" for token in tokens)
