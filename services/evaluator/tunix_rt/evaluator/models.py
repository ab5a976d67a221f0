"""The models that the engine holds, within a limit of memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from tunix_rt.evaluator.compilations import Compilations
from tunix_rt.evaluator.memory import NoRoomError, Share, TooLargeError, given_up, size_text, total_bytes
from tunix_rt.evaluator.messages import Load
from tunix_rt.evaluator.output_cache import OutputCache
from tunix_rt.evaluator.residents import Resident
from tunix_rt.lm.adapters import adapter_bytes, load_adapter
from tunix_rt.lm.decoding import smallest_batch_bytes
from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.layout import WEIGHT_TYPES, WeightType, weight_bytes
from tunix_rt.lm.model import Decoder
from tunix_rt.lm.tiled import for_generation
from tunix_rt.lm.tokenizer import Tokenizer
from tunix_rt.lm.weights import check_directory, load_model


@dataclass(frozen=True)
class _Base:
    """Weights that the models of several adapters share."""

    model: Decoder
    tokenizer: Tokenizer


@dataclass(frozen=True)
class _Held:
    """A model in memory; `share` is all of it but its batch."""

    resident: Resident
    share: Share

    @property
    def now(self) -> Share:
        """What it holds with its batch."""
        return _with_batch(self.share, self.resident.batch_bytes)


class Residents:
    """Models by digest whose weights and caches take at most `limit` bytes.

    The idle model that was used least recently is given up first; one with work is never given up.
    A base goes with the last model that uses it.
    """

    def __init__(self, limit: int, outputs: OutputCache | None = None) -> None:
        self._limit = limit
        self._outputs = outputs
        self._models: OrderedDict[str, _Held] = OrderedDict()
        self._bases: dict[str, _Base] = {}
        self._sources: dict[str, Load] = {}
        self._compilations = Compilations()

    @property
    def busy(self) -> bool:
        """Whether any model has work."""
        return any(held.resident.working for held in self._models.values())

    @property
    def used_bytes(self) -> int:
        """What weights and caches take, each batch until its rows end."""
        return total_bytes(held.now for held in self._models.values())

    def load(self, command: Load) -> float:
        """Takes a model into memory; returns the seconds that it took, 0 if it was there.

        Raises ModelError, TooLargeError for a model that can never fit, and NoRoomError while the models
        in use leave too little memory.
        """
        self._sources[command.digest] = command
        if command.digest in self._models:
            self._models.move_to_end(command.digest)
            return 0.0
        started = time.monotonic()
        share, batch = _needs(command)
        if total_bytes([share]) + batch > self._limit:
            raise TooLargeError(weights=total_bytes([share]), cache=batch, limit=self._limit)
        self._make_room(command.digest, _with_batch(share, batch))
        try:
            self._models[command.digest] = _Held(self._resident(command, share), share)
        finally:
            self._forget_bases()
        seconds = round(time.monotonic() - started, 3)
        what = f"{size_text(share.own_bytes)} of adapter on " if command.adapter else ""
        self._log(f"loaded {command.digest[:12]} in {seconds:.1f} s: {what}{share.base[:12]}")
        return seconds

    def get(self, digest: str) -> Resident:
        """The model of a digest that `load` has named, loaded again if it was given up."""
        if digest not in self._sources:
            raise ModelError(digest, "was never loaded.", remedy="Send Load before Generate.")
        self.load(self._sources[digest])
        return self._models[digest].resident

    def working(self) -> list[Resident]:
        """The models that have work."""
        return [held.resident for held in self._models.values() if held.resident.working]

    def cancel(self, request: str) -> None:
        """Stops a request, whichever model it uses."""
        for held in self._models.values():
            held.resident.cancel(request)

    def _resident(self, command: Load, share: Share) -> Resident:
        base = self._bases.get(share.base)
        if base is None:
            folder = Path(command.directory)
            weights = for_generation(load_model(folder), _weight_type(command))
            base = self._bases[share.base] = _Base(weights, Tokenizer.load(folder))
        model = load_adapter(base.model, command.adapter) if command.adapter else base.model
        return Resident(
            model,
            base.tokenizer,
            compilations=self._compilations,
            room=lambda needed: self._has_room(command.digest, needed),
            most=self._limit - total_bytes([share]),
            outputs=self._outputs,
        )

    def _has_room(self, digest: str, batch: int) -> bool:
        """Makes room for a batch of a model in place of its present one, if that can be done."""
        try:
            self._make_room(digest, _with_batch(self._models[digest].share, batch))
        except NoRoomError:
            return False
        return True

    def _make_room(self, digest: str, wanted: Share) -> None:
        """Gives idle models up until the others and `wanted` fit. Raises NoRoomError if they cannot."""
        others = {name: held for name, held in self._models.items() if name != digest}
        idle = {name: held.now for name, held in others.items() if not held.resident.busy}
        kept = [held.now for held in others.values() if held.resident.busy]
        dropped = given_up(idle, [*kept, wanted], self._limit)
        for name in dropped:
            del self._models[name]
        self._forget_bases(wanted.base)
        for name in dropped:
            self._log(f"gave up {name[:12]}")

    def _forget_bases(self, *wanted: str) -> None:
        used = {*wanted, *(held.share.base for held in self._models.values())}
        self._bases = {name: base for name, base in self._bases.items() if name in used}

    def _log(self, text: str) -> None:
        used, limit = size_text(self.used_bytes), size_text(self._limit)
        print(f"{text}; {len(self._models)} models hold {used} of {limit}")  # noqa: T201


def _needs(command: Load) -> tuple[Share, int]:
    """What a model will hold, and the bytes of its smallest batch; reads configs and headers only."""
    config = check_directory(command.directory)
    own = adapter_bytes(command.adapter) if command.adapter else 0
    share = Share(command.base or command.digest, weight_bytes(config, _weight_type(command)), own)
    return share, smallest_batch_bytes(config)


def _weight_type(command: Load) -> WeightType:
    if command.weight_type not in WEIGHT_TYPES:
        problem = f"is {command.weight_type!r}; it must be one of {', '.join(WEIGHT_TYPES)}."
        raise ModelError("weight_type", problem, remedy="Use float32.")
    return command.weight_type


def _with_batch(share: Share, batch: int) -> Share:
    return Share(share.base, share.base_bytes, share.own_bytes + batch)
