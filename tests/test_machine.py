"""The name of the machine that stands beside figures of speed."""

import os
import platform
from types import SimpleNamespace

import pytest

from gan import machine

CPU = "processor : 0\nmodel name\t: Some CPU @ 2.60GHz\nflags\t\t: fpu avx avx2{}\n"


@pytest.fixture(autouse=True)
def cores(monkeypatch):
    """Lets the process use three cores, and returns a function that lets it use others."""

    def use(*cores):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(cores), raising=False)

    use(0, 1, 5)
    return use


@pytest.mark.parametrize(
    ("flags", "vectors"), [("", " (AVX2)"), (" avx512f", " (AVX-512)")], ids=["AVX2", "AVX-512"]
)
def test_a_cpu_has_its_cores_name_and_widest_vectors(monkeypatch, tmp_path, flags, vectors):
    monkeypatch.setattr(machine, "_CPU", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text(CPU.format(flags))
    assert machine.describe() == f"3 cores of Some CPU @ 2.60GHz{vectors}"


def test_where_the_system_does_not_say_it_is_what_python_knows(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_CPU", tmp_path / "none")
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    assert machine.describe() == "3 cores of arm"


def test_the_cores_are_those_that_the_process_may_use(cores):
    assert machine.num_cores() == 3
    cores(1)
    assert machine.num_cores() == 1
    assert machine.describe().startswith("1 core of ")


def test_an_accelerator_has_its_kind(monkeypatch):
    gpu = SimpleNamespace(platform="gpu", device_kind="NVIDIA H100")
    monkeypatch.setattr(machine.jax, "devices", lambda: [gpu, gpu])
    monkeypatch.setattr(machine.jax, "device_count", lambda: 2)
    assert machine.describe() == "2 x NVIDIA H100"
