"""XLA's switches for the devices of a run, before JAX is imported: the one place where they are set.

A switch is here only if XLA's developers or NVIDIA recommend it and it is not XLA's default. Those that
JAX's "GPU performance tips" also have, Triton's products, command buffers and asynchronous streams of
high priority, are defaults of jaxlib 0.10 to 0.12. None was measured by this project on a GPU.
"""

import importlib.metadata
import importlib.util
import os
import re

FLAGS: dict[str, tuple[str, ...]] = {
    # Reductions over several devices run beside the computations that do not wait for them; with one
    # device there are none. From JAX's "GPU performance tips"; NVIDIA's containers with JAX set it too.
    "gpu": ("--xla_gpu_enable_latency_hiding_scheduler=true",),
    "cpu": (),  # docs/performance.md lists those that were tried; none made a step faster
}
KNOWN_BELOW = (0, 13)
"""The first jaxlib with which they were not tried: a flag that XLA does not know ends the program."""

_CUDA = ("jax_cuda12_plugin", "jax_cuda13_plugin")


def add() -> None:
    """Adds the platform's flags to `XLA_FLAGS`, other than those that it has already."""
    given = os.environ.get("XLA_FLAGS", "")
    if given.strip() and not given.lstrip().startswith("-"):
        return  # the name of a file with flags
    named = set(re.findall(r"--(\w+)", given))
    added = [flag for flag in FLAGS[platform()] if _name(flag) not in named]
    if added and _jaxlib_version() < KNOWN_BELOW:
        os.environ["XLA_FLAGS"] = " ".join([given, *added]).strip()


def platform() -> str:
    """Returns `gpu` where JAX is going to look for an NVIDIA GPU, otherwise `cpu`; imports nothing."""
    asked = re.findall(r"\w+", os.environ.get("JAX_PLATFORMS", "").lower())
    wanted = not asked or bool({"cuda", "gpu"} & set(asked))
    there = any(importlib.util.find_spec(name) is not None for name in _CUDA)
    return "gpu" if wanted and there else "cpu"


def _name(flag: str) -> str:
    return flag.removeprefix("--").partition("=")[0]


def _jaxlib_version() -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", importlib.metadata.version("jaxlib"))[:2]))
