"""How long the traces of a dataset are in the tokens of a model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from tunix_rt.standalone.connection import CALL_SECONDS, Connection
from tunix_rt.standalone.dataset_export import read_dataset
from tunix_rt.standalone.output import new_table
from tunix_rt.standalone.transfers import download_files
from tunix_rt.traces.set_statistics import Quantiles, asked_texts, learnt_texts, quantiles
from tunix_rt.traces.trace import Trace
from tunix_rt.v1 import dataset_pb2 as dataset_pb
from tunix_rt.v1 import registry_service_pb2 as registry_pb

_SUFFIXES = (".json", ".jinja")
_Encode = Callable[[Sequence[str]], list[list[int]]]


@dataclass(frozen=True)
class TokenLengths:
    """The tokens of the texts of a split, without those of the chat template; an empty split has none."""

    split: str
    prompt: Quantiles | None
    learnt: Quantiles | None


def token_lengths(connection: Connection, dataset: dataset_pb.Dataset, model: str) -> list[TokenLengths]:
    """The lengths of the whole sealed dataset, whose split is empty, and of each split."""
    from tunix_rt.lm.tokenizer import Tokenizer

    request = registry_pb.GetModelVersionRequest(name=model)
    version = connection.registry.GetModelVersion(request, timeout=CALL_SECONDS)
    files = [file for file in version.files if file.path.endswith(_SUFFIXES)]
    with tempfile.TemporaryDirectory(prefix="tunix-rt-tokenizer-") as folder:
        download_files(connection.registry, files, Path(folder), advance=lambda _: None)
        tokenizer = Tokenizer.load(folder)
    rows = read_dataset(connection, dataset)
    traces = [trace for trace, _ in rows]
    prompts = _counts(traces, asked_texts, tokenizer.encode_many)
    learnt = _counts(traces, learnt_texts, tokenizer.encode_many)
    made = [TokenLengths("", quantiles(prompts), quantiles(learnt))]
    for name in (split.name for split in dataset.splits):
        own = [index for index, (_, split) in enumerate(rows) if split == name]
        made.append(TokenLengths(name, quantiles(prompts[i] for i in own), quantiles(learnt[i] for i in own)))
    return made


def token_table(lengths: Sequence[TokenLengths], model: str) -> Table:
    """Lengths with a column a split: median, 99 % and greatest."""
    table = new_table(f"tokens of {model}", *(each.split or "all" for each in lengths))
    table.add_row("prompt", *(_spread(each.prompt) for each in lengths))
    table.add_row("learnt", *(_spread(each.learnt) for each in lengths))
    return table


def token_records(lengths: Sequence[TokenLengths]) -> list[dict[str, object]]:
    """Lengths as JSON values."""
    return [asdict(each) for each in lengths]


def _counts(traces: Sequence[Trace], texts_of: Callable[[Trace], list[str]], encode: _Encode) -> list[int]:
    """The tokens of the texts of each trace."""
    texts = [texts_of(trace) for trace in traces]
    lengths = iter([len(tokens) for tokens in encode([text for each in texts for text in each])])
    return [sum(next(lengths) for _ in each) for each in texts]


def _spread(values: Quantiles | None) -> str:
    return f"{values.p50} · {values.p99} · {values.greatest}" if values else ""
