"""Model cards: Markdown with the metadata block of the Hugging Face hub, from recorded facts alone; pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tunix_rt.jobs.evaluation_spec import PERPLEXITY
from tunix_rt.jobs.parameters import flatten_spec
from tunix_rt.rpc import names
from tunix_rt.v1 import dataset_pb2, evaluation_pb2, model_pb2, run_pb2

_IN_OTHER_SECTIONS = ("model", "dataset", "train_split")


@dataclass(frozen=True)
class Facts:
    """What is recorded of a version.

    `run`, `base` and `datasets` are those of its training, if it was trained here; `check` holds it against
    the present baseline of its model; `events` concern it, oldest first.
    """

    version: model_pb2.ModelVersion
    run: run_pb2.Run | None = None
    base: model_pb2.ModelVersion | None = None
    datasets: Sequence[dataset_pb2.Dataset] = ()
    evaluations: Sequence[evaluation_pb2.Evaluation] = ()
    check: model_pb2.BaselineCheck | None = None
    events: Sequence[model_pb2.ModelEvent] = ()


def markdown(facts: Facts) -> str:
    """The card."""
    sections = [
        *(
            "\n".join(["---", *_metadata(facts), "---"]),
            f"# {_title(facts.version)}",
            facts.version.description,
        ),
        *("\n".join(_identity(facts)), _training(facts), _evaluation(facts), _gate(facts), _history(facts)),
        _use(facts.version),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def stage_text(stage: int) -> str:
    """A stage in a word; `none` for a version that never had one."""
    if not stage:
        return "none"
    return model_pb2.ModelStage.Name(stage).removeprefix("MODEL_STAGE_").lower()  # type: ignore[arg-type]


def license_of(facts: Facts) -> str:
    """The licence that the provenance of the version or of its base states; empty if neither does."""
    for version in (facts.version, facts.base):
        if version and version.provenance.fields["license"].string_value:
            return version.provenance.fields["license"].string_value
    return ""


def _title(version: model_pb2.ModelVersion) -> str:
    return f"{names.resource_id(names.parent(version.name))} {names.resource_id(version.name)}"


def _metadata(facts: Facts) -> Iterator[str]:
    yield "library_name: transformers"
    yield "pipeline_tag: text-generation"
    if stated := license_of(facts):
        yield f"license: {json.dumps(stated.lower())}"
    yield "tags:"
    yield from (f"- {tag}" for tag in ("tunix-rt", "safetensors", *(["fine-tuned"] if facts.run else [])))
    ranked = [each for each in facts.evaluations if each.spec.method != PERPLEXITY]
    if not ranked:
        return
    yield "model-index:"
    yield f"- name: {json.dumps(_title(facts.version))}"
    yield "  results:"
    for each in ranked:
        dataset = json.dumps(names.resource_id(each.spec.dataset))
        yield "  - task:"
        yield "      type: text-generation"
        yield "    dataset:"
        yield f"      type: {dataset}"
        yield f"      name: {dataset}"
        yield f"      split: {each.spec.split}"
        yield f"      revision: {each.dataset_sha256}"
        yield "    metrics:"
        yield "    - type: accuracy"
        yield f"      name: {json.dumps(each.spec.scorer or each.spec.method)}"
        yield f"      value: {each.result.score.mean:.6g}"


def _identity(facts: Facts) -> Iterator[str]:
    version = facts.version
    yield "| | |"
    yield "| --- | --- |"
    rows = [
        ("version", f"`{version.name}`"),
        (
            "stage",
            stage_text(version.stage) + (", gate overridden" if version.gate_overridden else ""),
        ),
        ("aliases", ", ".join(version.aliases)),
        ("architecture", version.architecture),
        ("parameters", f"{version.parameter_count:,}"),
        ("size", f"{version.size_bytes:,} bytes in {len(version.files)} files"),
        ("SHA-256 of its files", f"`{version.digest}`"),
        ("created", version.create_time.ToJsonString()),
        ("licence", license_of(facts) or "not stated"),
    ]
    if not facts.run:
        rows += [(key, value.string_value) for key, value in sorted(version.provenance.fields.items())]
    yield from (
        f"| {key} | {_cell(value)} |" for key, value in dict(rows).items() if value and key != "license"
    )


def _training(facts: Facts) -> str:
    run, base = facts.run, facts.base
    if run is None or base is None:
        return ""
    same = run.weights_digest == facts.version.digest
    lines = ["## Training", ""]
    lines.append(
        f"`{run.name}` trained `{base.name}` (`{base.digest[:12]}`)."
        + ("" if same else " **The files of this version are not those that the run ended with.**")
    )
    lines += ["", "| data | split | SHA-256 | traces | made by |", "| --- | --- | --- | --- | --- |"]
    splits = {run.spec.dataset: run.spec.train_split}
    splits |= {part.dataset: part.split for part in run.spec.mixture if part.dataset not in splits}
    for dataset in facts.datasets:
        count = sum(split.trace_count for split in dataset.splits if split.name == splits[dataset.name])
        made, split = dataset.source.generator or "upload", splits[dataset.name]
        lines.append(f"| `{dataset.name}` | {split} | `{dataset.sha256[:12]}` | {count:,} | {_cell(made)} |")
    lines += ["", "| setting | value |", "| --- | --- |"]
    settings = flatten_spec(run.spec)
    lines += [
        f"| `{path}` | {_cell(value)} |"
        for path, value in settings.items()
        if path not in _IN_OTHER_SECTIONS and value not in ("", "0", "false") and "UNSPECIFIED" not in value
    ]
    figures = [
        f"{each.metric} {each.last:.4g} at step {each.last_step}"
        for each in run.metrics
        if "loss" in each.metric
    ]
    if figures:
        lines += ["", f"Last values: {'; '.join(figures)}. Trained once, with seed {run.spec.seed}."]
    return "\n".join(lines)


def _evaluation(facts: Facts) -> str:
    lines = ["## Evaluation", ""]
    if not facts.evaluations:
        return "\n".join([*lines, "These weights have not been evaluated."])
    lines += [
        "| evaluation | data | scorer | items | score | interval | notes |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for each in facts.evaluations:
        score, spec = each.result.score, each.spec
        data = f"`{spec.dataset}` {spec.split} (`{each.dataset_sha256[:12]}`)"
        level = ", ".join(filter(None, [f"{score.confidence:.0%}", score.method]))
        interval = f"{score.low:.3f} to {score.high:.3f} ({level})"
        lines.append(
            f"| `{each.name}` | {data} | {spec.scorer or spec.method} | {score.count:,} | {score.mean:.3f}"
            f" | {interval} | {_cell('; '.join(_notes(each)))} |"
        )
    hidden = len(facts.version.evaluations) - len(facts.evaluations)
    if hidden > 0:
        lines += ["", f"{hidden} older evaluations are left out."]
    return "\n".join(lines)


def _notes(evaluation: evaluation_pb2.Evaluation) -> Iterator[str]:
    result, spec = evaluation.result, evaluation.spec
    if result.contaminated_count:
        yield f"{result.contaminated_count} items occur in the training data"
    if result.HasField("clustered_score"):
        clustered = result.clustered_score
        yield f"clustered by family {clustered.low:.3f} to {clustered.high:.3f}"
    if result.outcomes.failed:
        yield f"{result.outcomes.failed} items failed and count as wrong"
    if result.truncated_rate:
        yield f"{result.truncated_rate:.1%} of the outputs were cut at {spec.decoding.max_tokens} tokens"
    if spec.weight_type not in ("", "float32"):
        yield f"weights in {spec.weight_type}"
    best = max(result.baselines, key=lambda each: each.score.mean, default=None)
    if best is not None:
        yield f"a rule without a model ({best.name}) reaches {best.score.mean:.3f}"


def _gate(facts: Facts) -> str:
    check = facts.check
    if check is None:
        return ""
    verdict = "holds" if check.passed else "does not hold"
    lines = [
        "## Against the baseline",
        "",
        f"The version **{verdict}** against `{check.baseline.evaluation}`: {check.score:.3f} against"
        f" {check.baseline_score:.3f} on {check.item_count:,} items, difference {check.difference:+.3f},"
        f" one-sided {check.baseline.confidence:.0%} lower bound {check.lower_bound:+.3f} ({check.method}),"
        f" margin {check.baseline.margin:g}.",
    ]
    return "\n".join([*lines, *(f"- {reason}" for reason in check.reasons)])


def _history(facts: Facts) -> str:
    if not facts.events:
        return ""
    return "\n".join(["## History", "", *_events(facts.events)])


def _events(events: Iterable[model_pb2.ModelEvent]) -> Iterator[str]:
    for event in events:
        mark = " **(gate overridden)**" if event.override_gate else ""
        reason = f": {_cell(event.reason)}" if event.reason else ""
        yield f"- {event.event_time.ToJsonString()} {_cell(event.description)}{mark}{reason}"


def _use(version: model_pb2.ModelVersion) -> str:
    folder = names.resource_id(names.parent(version.name))
    return "\n".join(
        [
            *(
                "## Use",
                "",
                "```sh",
                f"tunix-rt models download {version.name} ./{folder}",
                "```",
                "",
                "```python",
            ),
            *("from transformers import AutoModelForCausalLM, AutoTokenizer", ""),
            f'tokenizer = AutoTokenizer.from_pretrained("./{folder}")',
            *(f'model = AutoModelForCausalLM.from_pretrained("./{folder}")', "```"),
        ]
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
