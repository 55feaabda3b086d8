"""A process that measures training steps of PyTorch: `python -m tests.benchmarks.pytorch`.

It answers each JSON line of its input with one of its output:

    {"generator": "dcgan(width=64)", ..., "shape": [32, 32, 3]}    keys of TrainConfig, and a shape
        {"device": "cpu", "version": "2.13.0", "threads": 2, "variants": ["eager", ...],
         "left_out": {"compile": "why"}}
        or {"error": "..."}, and exit code 2
    {"variant": "eager", "steps": 3}    with a warm-up before, at a variant's first use
        {"seconds": 0.41}
    {"memory": true}    the peak since the start, with all variants so far
        {"peak_memory_bytes": 123}

A failure after the first line is answered with an "error" too, and the process goes on. The first
line may also have "variants", which limits those on offer. With `precision = "bfloat16"` the networks
are called under `torch.autocast`.
"""

import ctypes
import json
import os
import resource
import sys
import time
from typing import Any

import torch

from gan.config import from_mapping
from gan.errors import UsageError
from tests.benchmarks.pytorch.training import Training

WARMUP = {"cpu": 2, "cuda": 10}  # a GPU also chooses kernels and captures graphs
MMAP_MAX, TRIM_THRESHOLD = -4, -1  # of mallopt


class Worker:
    """The variants of one config, each built and warmed up once."""

    def __init__(self, values: dict[str, Any]):
        self.gpu = torch.cuda.is_available()
        self.device = "cuda" if self.gpu else "cpu"
        self.values = dict(values)
        self.shape = tuple(self.values.pop("shape"))
        every = ["eager", "channels_last", "compile", *(["cuda_graphs"] if self.gpu else [])]
        asked = self.values.pop("variants", every)
        self.config = from_mapping(self.values)
        self.trainings: dict[str, Training] = {}
        self.left_out: dict[str, str] = {}
        if self.gpu:
            torch.backends.cudnn.benchmark = True
            torch.set_float32_matmul_precision("high")  # TF32, as JAX does
        self.make("eager")  # refuses at once what is unknown
        self.variants = [name for name in every if name in asked]
        for name in ("compile", "cuda_graphs"):
            if name in self.variants:
                try:
                    self.warm(name)
                except Exception as error:  # noqa: BLE001 - whatever a compiler may raise
                    self.left_out[name] = brief(error)
                    self.variants.remove(name)

    def make(self, variant: Any) -> Training:
        return Training(self.config, self.shape, variant=variant, device=self.device)

    def warm(self, variant: str) -> Training:
        if variant not in self.trainings:
            training = self.make(variant)
            for _ in range(WARMUP[self.device]):
                training.step()
            self.trainings[variant] = training
        return self.trainings[variant]

    def handshake(self) -> dict[str, Any]:
        return {
            "device": torch.cuda.get_device_name() if self.gpu else "cpu",
            "version": torch.__version__,
            "threads": torch.get_num_threads(),
            "variants": self.variants,
            "left_out": self.left_out,
        }

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if "memory" in request:
            if self.gpu:
                return {"peak_memory_bytes": torch.cuda.max_memory_allocated()}
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return {"peak_memory_bytes": most * (1 if sys.platform == "darwin" else 1024)}
        if request["variant"] not in self.variants:
            raise ValueError(f"variant {request['variant']!r} is not one of {self.variants}")
        training = self.warm(request["variant"])
        self.wait()
        start = time.perf_counter()
        for _ in range(request["steps"]):
            training.step()
        self.wait()
        return {"seconds": time.perf_counter() - start}

    def wait(self) -> None:
        if self.gpu:
            torch.cuda.synchronize()


def brief(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def keep_memory() -> None:
    """Keeps freed memory with the process, as does jemalloc, which PyTorch's tuning guide advises.

    glibc gives large blocks back to Linux, which then has to clear them in every step.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(MMAP_MAX, 0)
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)


def main() -> int:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # sends what libraries print to stderr

    def say(value: dict[str, Any]) -> None:
        print(json.dumps(value), file=answers)

    keep_memory()
    try:
        worker = Worker(json.loads(sys.stdin.readline()))
    except (UsageError, ValueError, KeyError) as error:
        message = str(error) if not isinstance(error, KeyError) else f"{error} is missing"
        say({"error": message})
        return 2
    say(worker.handshake())
    for line in sys.stdin:
        try:
            say(worker.answer(json.loads(line)))
        except Exception as error:  # noqa: BLE001 - such as a GPU without enough memory
            say({"error": brief(error)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
