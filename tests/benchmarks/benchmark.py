"""Measures how fast a config trains on this machine, also in comparison with PyTorch.

Everything that is compared takes turns, round by round, within one run. Each figure is the median
of the rounds, or of their ratios, because a machine's speed drifts by more than the differences of
interest.
"""

import contextlib
import dataclasses
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
from absl import logging

from gan import machine
from gan.config import TrainConfig
from gan.data.dataset import Examples
from gan.data.loaders import Loader
from gan.errors import RunError, UsageError
from gan.models import onednn
from gan.precision import compute_dtype
from gan.preemption import Stop
from gan.state import GANState
from gan.text_tables import format_table
from gan.trainers.experiment import Experiment, build
from gan.trainers.train import compile_program, make_steps
from gan.trainers.train_step import make_train_step
from gan.trainers.workdir import open_workdir
from tests.benchmarks.pytorch_process import PyTorchProcess
from tests.benchmarks.turns import Spread, ratio, take_turns

_MATRIX = 2_048  # rows and columns
_CALL_SECONDS = 3.0  # about the duration of a call of several steps
_LOOP_SECONDS = 20.0  # long enough for costs paid once a run to weigh little
_MOST_LOOP_SECONDS = 60.0


@dataclass(frozen=True)
class BenchmarkResult:
    """The figures of a config; None where one was not measured.

    Attributes:
      config: The config, by key.
      machine: Processor or accelerator, and its number of cores or devices.
      versions: Versions of Python, JAX and, if it took part, PyTorch.
      step_seconds: Time of a step, in calls of `steps_a_call`.
      steps_a_call: As many steps as take a few seconds, at most 20.
      images_per_second: Real images that steps consume.
      call_over_single: Time of a step in such a call over that of a step in its own call.
      step_flops: Floating-point operations of a step, as XLA counts them in the compiled program.
      peak_flops: Floating-point operations per second in products of 2048 x 2048 matrices of the
        config's precision, measured in the same rounds.
      share_of_peak: Fraction of `peak_flops` that a step reaches.
      peak_memory_bytes: The most memory that this process held (on an accelerator, its memory)
        before the whole loop was measured; that of `other` included.
      compile_seconds: Time to compile a step without the cache of compiled programs.
      first_step_seconds: Time from the command to the first step of `scripts/train.py`, with that
        cache.
      loop_over_step: Time of a step of the whole loop, which logs every 100 and saves every 1,000
        steps, over that of a bare step.
      pytorch_step_seconds: Time of a step of PyTorch, by variant.
      pytorch_left_out: Reasons why variants did not work, by variant.
      pytorch_peak_memory_bytes: The most memory that PyTorch's process held, for all variants.
      ratio_to_best_pytorch: Time of PyTorch's fastest variant over ours; above 1 we are faster.
      no_twin: Why PyTorch has nothing to compare with.
      xla_flags: The variable `XLA_FLAGS`.
      other: The keys in which the config of `other_step_seconds` differs.
      other_step_seconds: Time of a step of that config, in calls of `steps_a_call`.
      ratio_to_other: Time of such a step over ours; above 1 ours is faster.
    """

    config: dict[str, Any]
    machine: str
    versions: dict[str, str]
    step_seconds: Spread
    steps_a_call: int
    images_per_second: Spread
    call_over_single: Spread
    step_flops: float
    peak_flops: Spread
    share_of_peak: Spread
    peak_memory_bytes: int
    compile_seconds: float
    first_step_seconds: float | None = None
    loop_over_step: Spread | None = None
    pytorch_step_seconds: dict[str, Spread] | None = None
    pytorch_left_out: dict[str, str] | None = None
    pytorch_peak_memory_bytes: int | None = None
    ratio_to_best_pytorch: Spread | None = None
    no_twin: str | None = None
    xla_flags: str = ""
    other: dict[str, Any] | None = None
    other_step_seconds: Spread | None = None
    ratio_to_other: Spread | None = None


def measure(
    config: TrainConfig,
    rounds: int,
    start_pytorch: Callable[[Sequence[int]], PyTorchProcess] | None = None,
    train_command: Sequence[str] | None = None,
    loop: bool = True,
    other: TrainConfig | None = None,
) -> BenchmarkResult:
    """Measures a config.

    Args:
      config: The config to train.
      rounds: Number of turns of everything that is compared.
      start_pytorch: Starts PyTorch's process for images of a shape; None measures no PyTorch.
      train_command: Command that trains the config, without `--workdir`; None leaves out the
        start-up.
      loop: Whether to measure the whole loop.
      other: Another config, whose steps take turns with those of the first.

    Raises:
      UsageError: if the config is refused.
      RunError: if another program fails.
    """
    experiment = build(config)
    examples = experiment.load_examples()
    experiment = experiment.with_data(examples)
    pytorch = None
    optional: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        loader = stack.enter_context(contextlib.closing(experiment.make_loader(examples)))
        bare = BareStep(experiment, loader)
        many = max(2, min(20, int(_CALL_SECONDS / bare.seconds(1))))
        few = max(1, math.ceil(many / 4))
        product_seconds = _matrix_product(compute_dtype(config.precision))
        sides: dict[str, Callable[[], float]] = {
            "many": lambda: bare.seconds(many) / many,
            "single": lambda: sum(bare.seconds(1) for _ in range(few)) / few,
            "peak": lambda: 2 * _MATRIX**3 / product_seconds(),
        }
        if other is not None:
            other_bare = _make_bare_step(other, stack)
            sides["other"] = lambda: other_bare.seconds(many) / many
        if start_pytorch is not None:
            try:
                pytorch = stack.enter_context(start_pytorch(experiment.dataset.shape))
            except UsageError as error:
                optional["no_twin"] = str(error).partition(": ")[2]  # without the command
        if pytorch is not None:
            for variant in pytorch.variants:
                sides[variant] = partial(_pytorch_step_seconds, pytorch, variant, few)
        times = take_turns(sides, rounds)
        memory = _peak_memory()
        if other is not None:
            optional["other"] = _changes(config, other)
            optional["other_step_seconds"] = Spread.of(times["other"])
            optional["ratio_to_other"] = ratio(times["other"], times["many"])
        if pytorch is not None:
            optional |= _pytorch_figures(pytorch, times)
            pytorch.close()
        if loop:
            logging.info("the whole loop")
            with _only_warnings():
                optional["loop_over_step"] = _loop_over_step(experiment, examples, bare)
    if train_command is not None:
        logging.info("the first step of %s", " ".join(train_command))
        optional["first_step_seconds"] = _first_step_seconds(train_command)
    images = config.batch_size * experiment.dynamics.num_batches
    versions = {"python": platform.python_version(), "jax": jax.__version__}
    if pytorch is not None:
        versions["torch"] = pytorch.handshake["version"]
    return BenchmarkResult(
        config=dataclasses.asdict(config),
        machine=machine.describe(),
        versions=versions,
        step_seconds=Spread.of(times["many"]),
        steps_a_call=many,
        images_per_second=Spread.of([images / seconds for seconds in times["many"]]),
        call_over_single=ratio(times["many"], times["single"]),
        step_flops=bare.flops,
        peak_flops=Spread.of(times["peak"]),
        share_of_peak=Spread.of(
            [bare.flops / t / p for t, p in zip(times["many"], times["peak"], strict=True)]
        ),
        peak_memory_bytes=memory,
        compile_seconds=bare.compile_seconds,
        xla_flags=os.environ.get("XLA_FLAGS", ""),
        **optional,
    )


def _make_bare_step(config: TrainConfig, stack: contextlib.ExitStack) -> "BareStep":
    experiment = build(config)
    examples = experiment.load_examples()
    experiment = experiment.with_data(examples)
    return BareStep(
        experiment, stack.enter_context(contextlib.closing(experiment.make_loader(examples)))
    )


def _changes(config: TrainConfig, other: TrainConfig) -> dict[str, Any]:
    """Returns the keys of another config that differ."""
    before = dataclasses.asdict(config)
    return {key: value for key, value in dataclasses.asdict(other).items() if value != before[key]}


class BareStep:
    """Training steps, and nothing else.

    Attributes:
      compile_seconds: Time to compile a step without the cache of compiled programs.
      flops: Floating-point operations of a step, as XLA counts them.
    """

    def __init__(self, experiment: Experiment, loader: Loader):
        self._loader, self._seed, self._num_made = loader, experiment.config.seed, 0
        self._step = make_train_step(experiment)
        self._state: GANState = experiment.init_on_mesh()
        data = loader.at(self._seed, 0).data
        begin = time.perf_counter()
        with _no_compile_cache(), jax.set_mesh(self._step.mesh):
            compiled = self._step.jitted.lower(self._state, data, 1).compile()
        self.compile_seconds = time.perf_counter() - begin
        self._step.check_fits(self._state, data)
        if onednn.load() is not None:  # of whose calls XLA knows nothing: it counts its own forms
            with mock.patch.object(onednn, "load", return_value=None):
                own = make_train_step(experiment).jitted
                with jax.set_mesh(self._step.mesh):
                    compiled = own.lower(self._state, data, 1).compile()
        self.flops = float(compiled.cost_analysis()["flops"])
        self.seconds(1)
        self.seconds(1)

    def seconds(self, num_steps: int) -> float:
        """Makes steps, in one call or one for each chunk of streamed data; returns their time."""
        begin, end = time.perf_counter(), self._num_made + num_steps
        while self._num_made < end:
            chunk = self._loader.at(self._seed, self._num_made)
            num_now = min(end - self._num_made, chunk.num_steps)
            self._state = self._step(self._state, chunk.data, num_now).state
            self._num_made += num_now
        jax.block_until_ready(self._state)
        return time.perf_counter() - begin


@contextlib.contextmanager
def _no_compile_cache() -> Iterator[None]:
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", True)


@contextlib.contextmanager
def _only_warnings() -> Iterator[None]:
    """Mutes the messages of a training run."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _matrix_product(dtype: Any) -> Callable[[], float]:
    """Returns a function that measures the time of a product of two matrices, float32 for None."""
    a = jnp.ones([_MATRIX, _MATRIX], dtype)
    product = jax.jit(lambda a: a @ a)
    jax.block_until_ready(product(a))

    def seconds() -> float:
        begin = time.perf_counter()
        for _ in range(5):
            jax.block_until_ready(product(a))
        return (time.perf_counter() - begin) / 5

    return seconds


def _pytorch_step_seconds(pytorch: PyTorchProcess, variant: str, num_steps: int) -> float:
    return pytorch.seconds(variant, num_steps) / num_steps


def _pytorch_figures(pytorch: PyTorchProcess, times: dict[str, list[float]]) -> dict[str, Any]:
    """Returns the figures of PyTorch by their names in `BenchmarkResult`."""
    best = min(pytorch.variants, key=lambda variant: statistics.median(times[variant]))
    return {
        "pytorch_step_seconds": {name: Spread.of(times[name]) for name in pytorch.variants},
        "pytorch_left_out": pytorch.handshake["left_out"],
        "pytorch_peak_memory_bytes": pytorch.peak_memory_bytes(),
        "ratio_to_best_pytorch": ratio(times[best], times["many"]),
    }


def _loop_over_step(experiment: Experiment, examples: Examples, bare: BareStep) -> Spread | None:
    """Compares the whole loop, in a temporary folder, with as many bare steps, in turns.

    Returns None where 100 steps take over a minute: nothing could be told apart then.
    """
    step_seconds = bare.seconds(1)
    if 100 * step_seconds > _MOST_LOOP_SECONDS:
        return None
    turn = 100 * max(1, min(40, int(_LOOP_SECONDS / step_seconds / 100)))  # steps
    steps_a_call = max(1, int(1 / step_seconds))  # as the loop's calls, which last about a second
    full_calls, rest = divmod(turn, steps_a_call)
    calls = [steps_a_call] * full_calls + [rest] * (rest > 0)

    def train_to(num_steps: int) -> Experiment:
        config = dataclasses.replace(
            experiment.config, num_steps=num_steps, log_every_steps=100,
            checkpoint_every_steps=1_000, sample_every_steps=0, eval_every_steps=0,
        )  # fmt: skip
        return dataclasses.replace(experiment, config=config)

    ratios = []
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        workdir = stack.enter_context(open_workdir(folder, experiment.retention))
        program, state = compile_program(train_to(turn), experiment.init_on_mesh(), examples)
        stack.enter_context(contextlib.closing(program.loader))
        for number in range(4):
            begin = time.perf_counter()
            to_here = train_to((number + 1) * turn)
            state, _ = make_steps(to_here, workdir, program, state, profile=False, stop=Stop())
            workdir.checkpoints.wait()
            loop_seconds = time.perf_counter() - begin
            bare_seconds = sum(bare.seconds(num_steps) for num_steps in calls)
            if number:  # the first turn imports CLU
                ratios.append(loop_seconds / bare_seconds)
    return Spread.of(ratios)


def _first_step_seconds(command: Sequence[str]) -> float:
    """Measures the time from a training command to its first step.

    The command is run twice, and measured the second time, when compiled programs are in the cache.
    """
    seconds = 0.0
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            begin, last_line = time.perf_counter(), ""
            whole = [*command, "--config.num_steps=2", "--workdir", folder]
            with subprocess.Popen(whole, text=True, stderr=subprocess.PIPE) as process:
                assert process.stderr is not None
                for line in process.stderr:
                    last_line = line.strip() or last_line
                    if "the first step was made" in line:
                        seconds = time.perf_counter() - begin
            if process.returncode:
                raise RunError(f"{' '.join(command)}: {last_line}")
    return seconds


def _peak_memory() -> int:
    stats = jax.devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most) * (1 if sys.platform == "darwin" else 1024)


def describe(result: BenchmarkResult) -> str:
    """Formats the figures for a person, a line each."""
    rows = [
        ("machine", result.machine),
        ("images a second", f"{result.images_per_second:,.0f}"),
        ("ms a step", f"{_scaled(result.step_seconds, 1e3):.1f}, {result.steps_a_call} a call"),
        ("a step of such a call over a single one", f"{result.call_over_single:.3f}"),
    ]
    if result.loop_over_step:
        rows.append(("the whole loop over bare steps", f"{result.loop_over_step:.3f}"))
    rows += [
        ("GFLOP a step", f"{result.step_flops / 1e9:.2f}"),
        ("GFLOP/s of a matrix product", f"{_scaled(result.peak_flops, 1e-9):.0f}"),
        ("share of that in a step", f"{result.share_of_peak:.0%}"),
        ("peak memory", f"{result.peak_memory_bytes / 1e6:,.0f} MB"),
        ("compiled in", f"{result.compile_seconds:.1f} s, without the cache"),
    ]
    if result.first_step_seconds is not None:
        rows.append(("command to first step", f"{result.first_step_seconds:.1f} s, with it"))
    if result.other is not None and result.other_step_seconds and result.ratio_to_other:
        name = ", ".join(f"{key}={value}" for key, value in result.other.items())
        rows.append((f"{name}: ms a step", f"{_scaled(result.other_step_seconds, 1e3):.1f}"))
        rows.append(("times as fast as that", f"{result.ratio_to_other:.3f}"))
    for name, seconds in (result.pytorch_step_seconds or {}).items():
        rows.append((f"PyTorch, {name}: ms a step", f"{_scaled(seconds, 1e3):.1f}"))
    for name, why in (result.pytorch_left_out or {}).items():
        rows.append((f"PyTorch, {name}", f"left out: {why}"))
    if result.pytorch_peak_memory_bytes is not None:
        rows.append(("PyTorch's peak memory", f"{result.pytorch_peak_memory_bytes / 1e6:,.0f} MB"))
    if result.no_twin is not None:
        rows.append(("PyTorch", f"has no twin of it: {result.no_twin}"))
    if result.ratio_to_best_pytorch:
        rows.append(("times as fast as its best", f"{result.ratio_to_best_pytorch:.3f}"))
    return format_table(rows, "ll")


def _scaled(spread: Spread, factor: float) -> Spread:
    return Spread(spread.median * factor, spread.low * factor, spread.high * factor)
