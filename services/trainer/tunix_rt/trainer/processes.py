"""Several processes that train one run together: the first starts the others and leads them.

The others never look at signals or files of their own accord: whether to stop, the first one tells them
through a pipe, at the same places of the same loop. They end when the pipe is closed, and the kernel kills
them when the first one dies.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import BinaryIO

from tunix_rt.jobs.directory import JobDirectory, read_json
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.sharding_settings import MAX_PROCESSES

PEER = "TUNIX_RT_PEER"
_DEVICES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "TPU_VISIBLE_CHIPS")
_JOIN_SECONDS = 120
_GO, _STOP = b"g", b"s"

StopAsked = Callable[[], bool]


@dataclass(frozen=True)
class Seat:
    """The place of a process among those of its run."""

    index: int
    count: int
    coordinator: str

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Seat | None:
        """The seat that the first process gave to this one; None in the first process."""
        if PEER not in environment:
            return None
        index, count, coordinator = environment[PEER].split(" ")
        return cls(int(index), int(count), coordinator)

    def join(self) -> None:
        """Make JAX see the devices of all processes; call it before the first computation."""
        import jax

        # It would take SIGTERM for itself.
        jax.config.update("jax_enable_preemption_service", False)  # type: ignore[no-untyped-call]
        jax.distributed.initialize(
            coordinator_address=self.coordinator,
            num_processes=self.count,
            process_id=self.index,
            coordinator_bind_address=self.coordinator,
            cluster_detection_method="deactivate",
            initialization_timeout=_JOIN_SECONDS,
        )


@dataclass
class Peers:
    """The other processes of a run, as the first one sees them."""

    seat: Seat
    processes: list[subprocess.Popen[bytes]]
    lost: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def start(cls, directory: JobDirectory, count: int) -> Peers:
        """Start `count` - 1 of them; call it in the main thread, with whose end theirs comes.

        Raises TrainingFailure when the devices are not named or cannot be shared out evenly.
        """
        coordinator = f"127.0.0.1:{_free_port()}"
        shares = device_shares(os.environ, count, accelerated=_accelerated(os.environ))
        os.environ.update(shares[0])
        processes = [
            subprocess.Popen(
                [
                    *(sys.executable, "-X", "faulthandler", "-m", "tunix_rt.jobs.launch", str(os.getpid())),
                    *("tunix_rt.trainer.job", str(directory.root)),
                ],
                stdin=subprocess.PIPE,
                env={**os.environ, **shares[index], PEER: f"{index} {count} {coordinator}"},
            )
            for index in range(1, count)
        ]
        return cls(Seat(0, count, coordinator), processes)

    def watch(self, on_loss: Callable[[TrainingFailure], None]) -> None:
        """Call `on_loss` in a thread of its own when one of them ends before it was let go."""
        for index, process in enumerate(self.processes, start=1):
            watching = (index, process, on_loss)
            threading.Thread(target=self._watch, args=watching, daemon=True).start()

    def _watch(
        self, index: int, process: subprocess.Popen[bytes], on_loss: Callable[[TrainingFailure], None]
    ) -> None:
        code = process.wait()
        if process.stdin is not None and not process.stdin.closed and not self.lost.is_set():
            self.lost.set()
            on_loss(_lost(index, self.seat.count, code))

    def told(self, stop_asked: StopAsked) -> StopAsked:
        """`stop_asked`, whose answers all of them get as well."""

        def ask() -> bool:
            answer = stop_asked()
            for process in self.processes:
                _send(process, _STOP if answer else _GO)
            return answer

        return ask

    def let_go(self) -> None:
        """Tell them that the run is over; they end by themselves."""
        for process in self.processes:
            if process.stdin is not None:
                process.stdin.close()

    def kill(self) -> None:
        """End them now, and wait until they have."""
        self.let_go()
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()


def heeded(pipe: BinaryIO) -> StopAsked:
    """What the first process answers, as the others read it; its end is theirs."""

    def ask() -> bool:
        answer = pipe.read(1)
        if not answer:
            raise SystemExit("the first process of the run has ended")
        return answer == _STOP

    return ask


def ignore_signals() -> None:
    """Leave it to the first process to heed them."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def process_count(directory: JobDirectory) -> int:
    """How many processes the spec asks for; 1 where it cannot be read, which is reported later."""
    try:
        count = read_json(directory.spec)["sharding"]["processes"]
    except (OSError, ValueError, LookupError, TypeError):
        return 1
    return count if isinstance(count, int) and 1 <= count <= MAX_PROCESSES else 1


def device_shares(environment: Mapping[str, str], count: int, *, accelerated: bool) -> list[dict[str, str]]:
    """Which accelerators each process sees, of those that all may see together.

    Raises TrainingFailure when their number is no multiple of the processes', or when there may be
    some and none is named, so that every process would take all of them.
    """
    found = next((name for name in _DEVICES if environment.get(name)), None)
    if found is None and accelerated:
        message = f"sharding.processes is {count}, but the slot's devices are not named."
        remedy = "Leave it out, or have the operator set TUNIX_RT_SLOT_DEVICES."
        raise TrainingFailure("INVALID_FIELDS", f"{message} {remedy}")
    if found is None:
        return [{} for _ in range(count)]
    devices = environment[found].split(",")
    each, over = divmod(len(devices), count)
    if over or not each:
        message = f"sharding.processes is {count}; the slot's {len(devices)} devices cannot be shared evenly."
        remedy = "Set it to a number that divides the devices, or leave it out."
        raise TrainingFailure("INVALID_FIELDS", f"{message} {remedy}")
    return [{found: ",".join(devices[index * each : (index + 1) * each])} for index in range(count)]


def _accelerated(environment: Mapping[str, str]) -> bool:
    """Whether JAX may find an accelerator; it cannot be asked before the processes have joined."""
    if environment.get("JAX_PLATFORMS") == "cpu":
        return False
    return bool(entry_points(group="jax_plugins")) or find_spec("libtpu") is not None


def _lost(index: int, count: int, code: int) -> TrainingFailure:
    how = f"exited with code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
    message = f"Process {index} of 0 to {count - 1} {how} before the run was over."
    remedy = "The log may say why; another attempt goes on from the newest checkpoint."
    return TrainingFailure("CHILD_FAILED", f"{message} {remedy}", retryable=True)


def _send(process: subprocess.Popen[bytes], answer: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(answer)
        process.stdin.flush()
    except BrokenPipeError:
        pass  # it has ended, which its watch reports


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
