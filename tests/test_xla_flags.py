"""Flags of XLA by platform; whether XLA knows them, XLA says itself, in a process of its own."""

import importlib.metadata
import importlib.util
import os
import subprocess
import sys

import pytest

from gan import environment, xla_flags

(FLAG,) = xla_flags.FLAGS["gpu"]
NAME = FLAG.partition("=")[0]


@pytest.fixture
def cuda(monkeypatch):
    """A machine with JAX's plugin for CUDA, and no variables."""
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: name if name == "jax_cuda13_plugin" else None
    )
    for name in ("XLA_FLAGS", "JAX_PLATFORMS"):
        monkeypatch.delenv(name, raising=False)


def added(monkeypatch, **variables):
    """Returns the variable afterwards."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    xla_flags.add()
    return os.environ.get("XLA_FLAGS")


@pytest.mark.parametrize("platforms", ["", "cuda", "gpu", "cuda,cpu", "cpu, CUDA"])
def test_a_gpu_gets_its_flags(cuda, monkeypatch, platforms):
    assert added(monkeypatch, JAX_PLATFORMS=platforms) == FLAG


@pytest.mark.parametrize("platforms", ["cpu", "rocm", "tpu,cpu"])
def test_another_device_gets_none(cuda, monkeypatch, platforms):
    assert added(monkeypatch, JAX_PLATFORMS=platforms) is None
    assert added(monkeypatch, XLA_FLAGS="--xla_dump_to=/x") == "--xla_dump_to=/x"


def test_without_the_plugin_there_is_no_gpu(cuda, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert added(monkeypatch) is None


@pytest.mark.parametrize("given", [f"{NAME}=false", f"--xla_dump_to='a b' {NAME}", "flags.txt"])
def test_what_the_user_says_stays(cuda, monkeypatch, given):
    assert added(monkeypatch, XLA_FLAGS=given) == given


def test_other_flags_of_the_user_stay_and_nothing_is_added_twice(cuda, monkeypatch):
    for _ in range(2):
        assert added(monkeypatch) == FLAG
    monkeypatch.setenv("XLA_FLAGS", f"{NAME}_too=1")  # begins alike
    for _ in range(2):
        assert added(monkeypatch) == f"{NAME}_too=1 {FLAG}"


def test_a_jaxlib_that_is_not_known_gets_none(cuda, monkeypatch):
    for version, expected in (("0.13.0", None), ("1.2", None), ("0.12.9.dev1", FLAG)):
        monkeypatch.setattr(importlib.metadata, "version", lambda _, text=version: text)
        assert added(monkeypatch) == expected


def test_every_program_adds_them(cuda, monkeypatch):
    environment.prepare()
    assert os.environ["XLA_FLAGS"] == FLAG


@pytest.mark.parametrize(
    ("flags", "known"),
    [(" ".join(sum(xla_flags.FLAGS.values(), ())), True), ("--xla_gpu_of_yesterday=true", False)],
)
def test_this_jaxlib_knows_every_flag(flags, known):
    done = subprocess.run(
        [sys.executable, "-c", "import jax; jax.devices()"],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode == 0) == known
    assert ("Unknown flag" in done.stderr) != known
