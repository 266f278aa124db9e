"""Runs JAX in several processes, on one machine or many, and reports a process that is missing or dies.

When another process dies or does not connect, JAX's runtime ends this process at once, with a stack trace. A command
that uses several processes or devices therefore runs in a child process, and its parent reports the error.
"""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from compare.errors import BadInput

HEARTBEAT_SECONDS = 10  # a process without a heartbeat for this long is regarded as dead
CHILD = "BACKPROOF_CHILD"  # set in the environment of the child process
MOST_DEVICES = 256  # the largest number of devices into which a CPU is divided
TOLD = "backproof-told"  # the first field of lines on the child's stderr that are messages to the parent


@dataclass(frozen=True)
class Processes:
    """This process, as one of several.

    Attributes:
        coordinator: the address HOST:PORT of process 0, to which all others connect.
        id: the number of this process.
        count: the number of processes.
        patience: the seconds within which all must connect.
    """

    coordinator: str
    id: int
    count: int
    patience: int = 30

    def __post_init__(self) -> None:
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise BadInput(f"--coordinator must be HOST:PORT, got {self.coordinator!r}.")
        if self.patience < 1:
            raise BadInput(f"--join-timeout must be at least 1 s, got {self.patience}.")
        if self.count < 1:
            raise BadInput(f"--num-processes must be at least 1, got {self.count}.")
        if not 0 <= self.id < self.count:
            raise BadInput(f"--process-id must be from 0 to {self.count - 1}, got {self.id}.")


@contextmanager
def joined(processes: Processes) -> Iterator[None]:
    """A context in which `jax.devices()` are the devices of all processes. It must be entered before JAX is used."""
    import jax

    jax.distributed.initialize(
        processes.coordinator,
        processes.count,
        processes.id,
        initialization_timeout=processes.patience,
        heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
    )
    try:
        yield
    finally:
        jax.distributed.shutdown()


def is_child() -> bool:
    return CHILD in os.environ


@dataclass(frozen=True)
class Listener:
    """What a parent does with messages of its child.

    Attributes:
        progress: is called with a description of the current work and the number of finished steps.
        note: is called with a sentence for the user.
    """

    progress: Callable[[str, int], Any] = lambda what, steps: None
    note: Callable[[str], Any] = lambda text: None


SILENT = Listener()


def tell_progress(what: str, steps: int) -> None:
    """In a child: report progress to the parent."""
    _tell("progress", str(steps), what)


def tell_note(text: str) -> None:
    """In a child: have the parent print a note at once, and not when the child ends."""
    _tell("note", "0", text)


def _tell(kind: str, steps: str, text: str) -> None:
    sys.stderr.write("\t".join((TOLD, kind, steps, text)) + "\n")
    sys.stderr.flush()


def check_devices(devices: int, platform: str) -> None:
    """Check the number of devices.

    If a CPU is divided into devices, each has its own threads, and the compiled program grows with their number:
    `verify --devices` took 3.4 s of one core for 8 devices, 4.1 s for 64, 6.2 s for 128, and 10.3 s for 256.

    Args:
        devices: the number of devices.
        platform: the platform of JAX.

    Raises:
        BadInput: if the number is not positive, or more than MOST_DEVICES on a CPU.
    """
    if devices < 1:
        raise BadInput(f"--devices must be at least 1, got {devices}.")
    if platform == "cpu" and devices > MOST_DEVICES:
        raise BadInput(
            f"--devices must be at most {MOST_DEVICES} on a CPU, whose cores they share; got {devices}. "
            "A few are enough to find errors."
        )


def supervise(
    arguments: Sequence[str],
    devices: int | None,
    processes: Processes | None,
    listener: Listener = SILENT,
) -> int:
    """Run `backproof` in a child process.

    Args:
        arguments: the arguments of `backproof`.
        devices: the number of devices into which a CPU is divided; None not to divide it.
        processes: this process among others, or None.
        listener: what to do with progress and notes.

    Returns:
        The exit status of the child.

    Raises:
        BadInput: if JAX's runtime ended the child because another process is missing or died.
    """
    environment = {**os.environ, CHILD: "1"}
    if devices is not None:
        flags = environment.get("XLA_FLAGS", "")
        environment["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={devices}".strip()
    status, errors = _run([sys.executable, "-m", "compare", *arguments], environment, listener)
    if status >= 0:
        sys.stderr.write(errors)
        return status
    raise BadInput(_last_words(errors, status, processes))


def _run(command: Sequence[str], environment: Mapping[str, str], listener: Listener = SILENT) -> tuple[int, str]:
    """The exit status and the text on stderr. Stdout is passed on, without the messages of the transport layer Gloo."""
    errors: list[str] = []
    with (
        _sigterm_is_raised(),
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
        ) as child,
    ):
        ear = threading.Thread(target=_listen, args=(child.stderr, listener, errors))
        ear.start()
        try:
            for line in _lines(child.stdout):
                if not line.startswith("[Gloo]"):
                    print(line, end="", flush=True)
        except BaseException:
            child.terminate()
            raise
        finally:
            ear.join()
    return child.returncode, "".join(errors)


def _listen(stream: IO[str] | None, listener: Listener, errors: list[str]) -> None:
    """Pass on progress and notes, and collect all other lines in `errors`."""
    for line in _lines(stream):
        match line.rstrip("\n").split("\t", 3):
            case [mark, "progress", steps, what] if mark == TOLD:
                listener.progress(what, int(steps))
            case [mark, "note", _, text] if mark == TOLD:
                listener.note(text)
            case _:
                errors.append(line)


@contextmanager
def _sigterm_is_raised() -> Iterator[None]:
    """A context in which SIGTERM raises SystemExit, so that this process also ends its child."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set signal handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _lines(stream: IO[str] | None) -> Iterator[Any]:
    return iter(stream or ())


def _last_words(errors: str, status: int, processes: Processes | None) -> str:
    """A sentence on why JAX's runtime ended the child, from its stderr and its exit status."""
    if processes is None:
        tail = " ".join(errors.split()[-40:])
        return f"the child process was ended by signal {-status}: {tail}"
    who = f"process {processes.id} of {processes.count}"
    if "unhealthy" in errors or "stopped sending heartbeats" in errors:
        missing = re.search(r"unhealthy[^:]*:\s*([\d, \n]+)", errors)
        which = f" ({' '.join(missing[1].split())})" if missing else ""
        return (
            f"{who} stopped, because another process{which} died or could not be reached for {HEARTBEAT_SECONDS} s. "
            "Start all processes again."
        )
    if "DEADLINE_EXCEEDED" in errors or "UNAVAILABLE" in errors:
        return (
            f"{who} could not connect to all others at {processes.coordinator} within {processes.patience} s. "
            "Start all processes, with the address of process 0 and a port that is free there."
        )
    return f"{who} was ended by signal {-status}: {' '.join(errors.split()[:60])}"
