"""The name of the machine that stands beside figures of speed."""

import os
import platform
from types import SimpleNamespace

import pytest

from gan import machine

CPU = "processor : 0\nmodel name\t: Some CPU @ 2.60GHz\nflags\t\t: fpu avx avx2{}\n"


@pytest.mark.parametrize(
    ("flags", "vectors"), [("", " (AVX2)"), (" avx512f", " (AVX-512)")], ids=["AVX2", "AVX-512"]
)
def test_a_cpu_has_its_cores_name_and_widest_vectors(monkeypatch, tmp_path, flags, vectors):
    monkeypatch.setattr(machine, "_CPU", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text(CPU.format(flags))
    assert machine.describe() == f"{os.cpu_count()} cores of Some CPU @ 2.60GHz{vectors}"


def test_where_the_system_does_not_say_it_is_what_python_knows(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_CPU", tmp_path / "none")
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    assert machine.describe() == f"{os.cpu_count()} cores of arm"


def test_an_accelerator_has_its_kind(monkeypatch):
    gpu = SimpleNamespace(platform="gpu", device_kind="NVIDIA H100")
    monkeypatch.setattr(machine.jax, "devices", lambda: [gpu, gpu])
    monkeypatch.setattr(machine.jax, "device_count", lambda: 2)
    assert machine.describe() == "2 x NVIDIA H100"
