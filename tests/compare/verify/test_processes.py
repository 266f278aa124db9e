"""Several processes as one JAX, on the loopback address: they agree, and nobody waits for the dead."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from compare.errors import BadInput
from compare.verify.processes import Listener, Processes, _last_words, _run, check_devices

COMMAND = [sys.executable, "-m", "compare", "verify", "--join-timeout", "60"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(index, port, *options):
    among = ["--coordinator", f"127.0.0.1:{port}", "--process-id", str(index), "--num-processes", "2"]
    return subprocess.Popen(
        [*COMMAND, *among, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def ended(processes):
    """Whatever a test did, nothing is left running."""
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.campaign
@pytest.mark.usefixtures("quickly")
def test_two_processes_agree_with_one_device_and_with_the_derivation(tmp_path):
    port = free_port()
    paths = [tmp_path / f"{i}.json" for i in (0, 1)]
    both = [start(i, port, "--devices", "2", "--iterations", "3", "--json", str(paths[i])) for i in (0, 1)]
    try:
        told = [process.communicate(timeout=120) for process in both]
    finally:
        ended(both)
    for process, (out, err), path in zip(both, told, paths, strict=True):
        assert process.returncode == 0, err
        assert "AGREE: on 4 devices in 2 processes" in out
        assert "[Gloo]" not in out
        found = json.loads(path.read_text())
        assert (found["verdict"], found["devices"], found["processes"]) == ("agree", 4, 2)
        assert found["settings"]["examples"] % 4  # which does not divide evenly


@pytest.mark.campaign
def test_nobody_waits_for_who_died_or_never_came():
    port = free_port()
    both = [start(i, port, "--iterations", "1000000") for i in (0, 1)]
    alone = start(1, free_port(), "--join-timeout", "1")
    try:
        assert both[0].stderr is not None
        of_left = both[0].stderr.readline()  # how much memory is needed, which is said once they have met
        os.killpg(both[1].pid, signal.SIGKILL)
        of_left += both[0].communicate(timeout=90)[1]
        _, of_alone = alone.communicate(timeout=60)
    finally:
        ended([*both, alone])
    assert both[0].returncode == alone.returncode == 2
    assert "backproof: process 0 of 2 stopped" in of_left
    assert "process 1 of 2 could not connect to all others at 127.0.0.1:" in of_alone
    assert "within 1 s" in of_alone
    assert (of_left.count("\n"), of_alone.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere", 0, 2), "--coordinator must be HOST:PORT, got 'nowhere'"),
        (("here:99999", 0, 2), "--coordinator must be HOST:PORT"),
        (("here:80", 2, 2), "--process-id must be from 0 to 1, got 2"),
        (("here:80", 0, 0), "--num-processes must be at least 1, got 0"),
        (("here:80", 0, 1, 0), "--join-timeout must be at least 1 s, got 0"),
    ],
)
def test_addresses_that_cannot_be(arguments, words):
    with pytest.raises(BadInput, match=words):
        Processes(*arguments)


def test_the_last_words_of_a_child():
    script = "import os, sys; print('[Gloo] Rank 0'); print('result', flush=True); sys.stderr.write('why'); os.abort()"
    status, errors = _run([sys.executable, "-c", script], os.environ)
    assert (status, errors) == (-signal.SIGABRT, "why")
    assert "ended by signal 6: why" in _last_words(errors, status, None)
    assert "ended by signal 6: why" in _last_words(errors, status, Processes("here:80", 0, 2))


def test_who_is_told_to_end_takes_the_child_along():
    child = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    script = "import os, sys; from compare.verify.processes import _run; "
    script += f"_run([sys.executable, '-c', {child!r}], os.environ)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.terminate()
        assert parent.wait(timeout=10) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_handler_of_sigterm_is_the_callers_again():
    before = signal.getsignal(signal.SIGTERM)
    script = "import os, signal; os.kill(os.getppid(), signal.SIGTERM)"
    assert _run([sys.executable, "-c", "print('done')"], os.environ) == (0, "")
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(SystemExit) as end:
        _run([sys.executable, "-c", f"{script}; import time; time.sleep(60)"], os.environ)
    assert end.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_thread_that_may_set_no_handlers_can_run_a_child_all_the_same():
    found = []
    thread = threading.Thread(target=lambda: found.append(_run([sys.executable, "-c", "print(1)"], os.environ)))
    thread.start()
    thread.join()
    assert found == [(0, "")]


def test_a_parent_hears_at_once_how_far_the_child_is_and_keeps_the_rest():
    child = (
        "import sys; from compare.verify.processes import tell_note, tell_progress; "
        "tell_progress('comparing training', 3); tell_note('much\\tmemory'); "
        "sys.stderr.write('backproof-told\\nwhy\\n')"
    )
    steps, notes = [], []
    listener = Listener(lambda what, done: steps.append((what, done)), notes.append)
    threads = threading.active_count()
    assert _run([sys.executable, "-c", child], os.environ, listener) == (0, "backproof-told\nwhy\n")
    assert steps == [("comparing training", 3)]
    assert notes == ["much\tmemory"]
    assert threading.active_count() == threads


@pytest.mark.parametrize("devices", [1, 256])
def test_a_sensible_number_of_devices_passes(devices):
    check_devices(devices, "cpu")
    check_devices(1000, "gpu")  # which are there or not


@pytest.mark.parametrize("devices", [257, 1000, 10**9])
def test_more_devices_than_make_sense_are_refused(devices):
    with pytest.raises(BadInput, match=rf"--devices must be at most 256 on a CPU.*; got {devices}"):
        check_devices(devices, "cpu")
