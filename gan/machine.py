"""Names the machine that a program runs on, for figures of speed and for protocols."""

import contextlib
import os
import pathlib
import platform
import re

import jax

_CPU = pathlib.Path("/proc/cpuinfo")
_VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2"}
"""Processors of one name may differ in these, and in speed, by twice."""


def describe() -> str:
    """Returns how many devices there are of what kind; of a CPU, the cores to use and its widest vectors."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return f"{jax.device_count()} x {device.device_kind}"
    name, vectors = platform.processor() or platform.machine(), ""
    with contextlib.suppress(OSError):
        text = _CPU.read_text()
        if found := re.search(r"model name\s*:\s*(.+)", text):
            name = found[1]
        widest = next((own for flag, own in _VECTORS.items() if flag in text.split()), None)
        vectors = f" ({widest})" if widest else ""
    cores = num_cores()
    return f"{cores} core{'s' * (cores > 1)} of {name}{vectors}"


def num_cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
