"""Signals, in programs of their own: some of them have to end at once."""

import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import hashlib, signal, sys, time
from gan import preemption
from gan.preemption import Stop

preemption.PATIENCE = {patience}
before = signal.getsignal(signal.SIGINT)  # a job in the background ignores it
with Stop() as stop:
    stop.can_save = {can_save}
    print("ready", flush=True)
    if {in_c}:
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # as if inside XLA: minutes, and no Python
    while not stop.agreed():
        time.sleep(0.01)
    print("asked", flush=True)
    time.sleep({saving})
    print("saved", flush=True)
assert signal.getsignal(signal.SIGINT) is before
sys.exit(128 + stop.requested)
"""


def program(in_c=False, can_save=True, saving=0.0, patience=60.0, wrap=()):
    code = PROGRAM.format(in_c=in_c, can_save=can_save, saving=saving, patience=patience)
    process = subprocess.Popen(
        [*wrap, sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_loop_is_asked_to_stop(number):
    process = program()
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert out == "asked\nsaved\n"
    assert err == f"{number.name}: finishing the call, then saving; Ctrl-C leaves at once\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_before_the_first_step_it_ends_at_once_even_inside_xla(number):
    process = program(in_c=True, can_save=False)
    begin = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert err == f"-c: stopped by {number.name} before the first step; nothing is lost\n"
    assert time.monotonic() - begin < 20


def test_a_second_sigint_leaves_at_once_and_a_second_sigterm_does_not():
    process = program(saving=60)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "asked\n"
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert err.endswith("stopped by SIGINT at once; what came after the last checkpoint is lost\n")


def test_nohup_is_respected():
    process = program(wrap=["nohup"])
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "SIGHUP" not in err


@pytest.mark.parametrize("can_save", [True, False])
def test_it_stops_also_where_nobody_reads_what_it_says(can_save):
    """`... 2>&1 | tee log` and Ctrl-C, of which tee dies first."""
    process = program(can_save=can_save)
    process.stderr.close()
    process.send_signal(signal.SIGINT)
    with process.stdout:
        assert process.wait(timeout=30) == 130


def test_it_ends_within_a_bounded_time():
    process = program(in_c=True, patience=0.5)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "stopped by SIGTERM without saving" in err
