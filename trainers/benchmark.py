"""How fast a config trains on this machine, and against the same in PyTorch.

All that is compared takes turns, round by round, in one run; each figure is the median of the rounds,
or of their ratios, since a machine's speed drifts by more than the differences that matter.
"""

import contextlib
import dataclasses
import math
import os
import pathlib
import platform
import re
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

import jax
import jax.numpy as jnp
from absl import logging

from gan.checkpoints import Checkpoints
from gan.config import TrainConfig
from gan.data.dataset import Examples
from gan.data.feeds import Feed
from gan.errors import RunError
from gan.state import GANState
from gan.trainers.experiment import Experiment, build
from gan.trainers.loop import make_program, make_steps
from gan.trainers.opponent import Opponent
from gan.trainers.run import Run
from gan.trainers.stopping import Stop
from gan.trainers.train_step import make_train_step

_MATRIX = 2_048
_CALL_SECONDS = 3.0  # about so long is a call of several steps
_LOOP_SECONDS = 20.0  # what is paid once a run then weighs little


@dataclass(frozen=True)
class Spread:
    """Of some measurements: the median, the least and the greatest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def __format__(self, spec: str) -> str:
        return f"{self.median:{spec}} ({self.low:{spec}} to {self.high:{spec}})"


@dataclass(frozen=True)
class Speed:
    """What was measured; None where it was not.

    Attributes:
      machine: Processor or accelerator, and how many.
      versions: Of Python, JAX and, where it took part, PyTorch.
      step_seconds: A step, in calls of `steps_a_call`.
      steps_a_call: As many as take some seconds, at most 20.
      images_per_second: Real images that go through steps.
      call_over_single: A step in such a call over a step in a call of its own.
      loop_over_step: A step of the whole loop, which logs every 100 and saves every 1,000 steps, over
        a bare one.
      step_flops: Floating-point operations of a step, as XLA counts them in the compiled program.
      peak_flops: A second, in products of 2048 x 2048 matrices in the same rounds.
      share_of_peak: Of a step.
      peak_memory_bytes: The most this process held (on an accelerator: its own memory) before the
        whole loop was measured.
      compile_seconds: Without the cache of compiled programs.
      first_step_seconds: From the command to the first step of `scripts/train.py`, with that cache.
      pytorch_step_seconds: By variant.
      pytorch_left_out: Variants that did not work, and why.
      pytorch_peak_memory_bytes: Of its process, all variants together.
      ratio_to_best_pytorch: Its fastest variant's time over ours: above 1 we are faster.
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


def measure(
    config: TrainConfig,
    rounds: int,
    opponent: Callable[[Sequence[int]], Opponent] | None = None,
    train_command: Sequence[str] | None = None,
    loop: bool = True,
) -> Speed:
    """Measures a config.

    Args:
      config: What to train.
      rounds: How often everything takes its turn.
      opponent: Starts PyTorch's side for images of a shape; None does without.
      train_command: Trains the config, but for `--workdir`; None leaves the start-up out.
      loop: Whether the whole loop is measured too.

    Raises:
      UsageError: where the config will not do, or PyTorch's side cannot make such steps.
      RunError: where another program fails.
    """
    experiment = build(config)
    examples = experiment.dataset.load()
    other = None
    against: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        feed = stack.enter_context(contextlib.closing(experiment.feed(examples)))
        bare = _Bare(experiment, feed)
        many = max(2, min(20, int(_CALL_SECONDS / bare.seconds(1))))
        few = max(1, math.ceil(many / 4))
        dot = _dot()
        sides: dict[str, Callable[[], float]] = {
            "many": lambda: bare.seconds(many) / many,
            "single": lambda: sum(bare.seconds(1) for _ in range(few)) / few,
            "peak": lambda: 2 * _MATRIX**3 / dot(),
        }
        if opponent is not None:
            other = stack.enter_context(opponent(experiment.dataset.shape))
            for variant in other.variants:
                sides[variant] = partial(_of_other, other, variant, few)
        times = _take_turns(sides, rounds)
        memory = _peak_memory()
        if other is not None:
            against = _against(other, times)
            other.close()
        if loop:
            logging.info("the whole loop")
            with _quiet():
                extra["loop_over_step"] = _loop_over_step(experiment, examples, bare)
    if train_command is not None:
        logging.info("the first step of %s", " ".join(train_command))
        extra["first_step_seconds"] = _first_step(train_command)
    images = config.batch_size * experiment.dynamics.num_batches
    peak = Spread.of(times["peak"])
    versions = {"python": platform.python_version(), "jax": jax.__version__}
    if other is not None:
        versions["torch"] = other.hello["version"]
    return Speed(
        config=dataclasses.asdict(config),
        machine=_machine(),
        versions=versions,
        step_seconds=Spread.of(times["many"]),
        steps_a_call=many,
        images_per_second=Spread.of([images / seconds for seconds in times["many"]]),
        call_over_single=_ratio(times["many"], times["single"]),
        step_flops=bare.flops,
        peak_flops=peak,
        share_of_peak=Spread.of(
            [bare.flops / t / p for t, p in zip(times["many"], times["peak"], strict=True)]
        ),
        peak_memory_bytes=memory,
        compile_seconds=bare.compile_seconds,
        **extra,
        **against,
    )


class _Bare:
    """Steps, and nothing else."""

    def __init__(self, experiment: Experiment, feed: Feed):
        self._feed, self._seed, self._made = feed, experiment.config.seed, 0
        self._step = make_train_step(experiment)
        self._state: GANState = experiment.init_on_mesh()
        data = feed.at(self._seed, 0).data
        begin = time.perf_counter()
        with _no_compile_cache(), jax.set_mesh(self._step.mesh):
            compiled = self._step.jitted.lower(self._state, data, 1).compile()
        self.compile_seconds = time.perf_counter() - begin
        self.flops = float(compiled.cost_analysis()["flops"])
        self.seconds(1)
        self.seconds(1)

    def seconds(self, num_steps: int) -> float:
        """How long so many steps take: a call, or as many as streamed data are cut into."""
        begin, end = time.perf_counter(), self._made + num_steps
        while self._made < end:
            supply = self._feed.at(self._seed, self._made)
            made = min(end - self._made, supply.num_steps)
            self._state = self._step(self._state, supply.data, made).state
            self._made += made
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
def _quiet() -> Iterator[None]:
    """Without what a training run tells."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _dot() -> Callable[[], float]:
    """How long a product of two matrices takes."""
    a = jnp.ones([_MATRIX, _MATRIX])
    product = jax.jit(lambda a: a @ a)
    jax.block_until_ready(product(a))

    def seconds() -> float:
        begin = time.perf_counter()
        for _ in range(5):
            jax.block_until_ready(product(a))
        return (time.perf_counter() - begin) / 5

    return seconds


def _take_turns(sides: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Each side's measurements; the first round only warms up, every other goes backwards."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name in list(sides)[:: 1 if number % 2 else -1]:
            value = sides[name]()
            if number:
                times[name].append(value)
        logging.info("round %d of %d", number, rounds)
    return times


def _of_other(other: Opponent, variant: str, num_steps: int) -> float:
    return other.seconds(variant, num_steps) / num_steps


def _ratio(ones: Sequence[float], others: Sequence[float]) -> Spread:
    return Spread.of([one / other for one, other in zip(ones, others, strict=True)])


def _against(other: Opponent, times: dict[str, list[float]]) -> dict[str, Any]:
    best = min(other.variants, key=lambda variant: statistics.median(times[variant]))
    return {
        "pytorch_step_seconds": {name: Spread.of(times[name]) for name in other.variants},
        "pytorch_left_out": other.hello["left_out"],
        "pytorch_peak_memory_bytes": other.peak_memory_bytes(),
        "ratio_to_best_pytorch": _ratio(times[best], times["many"]),
    }


def _loop_over_step(experiment: Experiment, examples: Examples, bare: _Bare) -> Spread | None:
    """Turns of the whole loop in a folder that is thrown away, and as many bare steps.

    None where 100 steps take longer than a minute: there is then nothing to be seen either.
    """
    step = bare.seconds(1)
    if 100 * step > 3 * _LOOP_SECONDS:
        return None
    turn = 100 * max(1, min(40, int(_LOOP_SECONDS / step / 100)))
    pace = max(1, int(1 / step))
    ratios = []
    with contextlib.ExitStack() as stack:
        workdir = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        checkpoints = stack.enter_context(Checkpoints(workdir, experiment.retention))

        def run(num_steps: int) -> Run:
            config = dataclasses.replace(
                experiment.config, num_steps=num_steps, log_every_steps=100,
                checkpoint_every_steps=1_000, sample_every_steps=0, eval_every_steps=0,
            )  # fmt: skip
            return Run(dataclasses.replace(experiment, config=config), workdir, checkpoints)

        program, state = make_program(run(turn), experiment.init_on_mesh(), examples, None, None)
        stack.enter_context(contextlib.closing(program.feed))
        for number in range(4):  # the first one imports CLU
            begin = time.perf_counter()
            state = make_steps(run((number + 1) * turn), program, state, False, Stop())
            checkpoints.wait()
            whole = time.perf_counter() - begin
            calls = [pace] * (turn // pace) + [turn % pace] * (turn % pace > 0)
            alone = sum(bare.seconds(call) for call in calls)
            if number:
                ratios.append(whole / alone)
    return Spread.of(ratios)


def _first_step(command: Sequence[str]) -> float:
    """From a command to its first step; it is given twice, so that compiled programs are there."""
    seconds = 0.0
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            process = subprocess.Popen(
                [*command, "--config.num_steps=2", "--workdir", folder],
                text=True,
                stderr=subprocess.PIPE,
            )
            assert process.stderr is not None
            last = ""
            for line in process.stderr:
                last = line.strip() or last
                if "the first step was made" in line:
                    seconds = time.perf_counter() - begin
            if process.wait():
                raise RunError(f"{' '.join(command)}: {last}")
    return seconds


def _peak_memory() -> int:
    stats = jax.devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most) * (1 if sys.platform == "darwin" else 1024)


def _machine() -> str:
    device = jax.devices()[0]
    if device.platform != "cpu":
        return f"{jax.device_count()} x {device.device_kind}"
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*:\s*(.+)", pathlib.Path("/proc/cpuinfo").read_text())
        name = found[1] if found else name
    return f"{os.cpu_count()} cores of {name}"


def describe(speed: Speed) -> str:
    """The figures for a person, a line each."""
    rows = [
        ("machine", speed.machine),
        ("images a second", f"{speed.images_per_second:,.0f}"),
        ("ms a step", f"{_scaled(speed.step_seconds, 1e3):.1f}, {speed.steps_a_call} a call"),
        ("a step of such a call over a single one", f"{speed.call_over_single:.3f}"),
    ]
    if speed.loop_over_step:
        rows.append(("the whole loop over bare steps", f"{speed.loop_over_step:.3f}"))
    rows += [
        ("GFLOP a step", f"{speed.step_flops / 1e9:.2f}"),
        ("GFLOP/s of a matrix product", f"{_scaled(speed.peak_flops, 1e-9):.0f}"),
        ("share of that in a step", f"{speed.share_of_peak:.0%}"),
        ("peak memory", f"{speed.peak_memory_bytes / 1e6:,.0f} MB"),
        ("compiled in", f"{speed.compile_seconds:.1f} s, without the cache"),
    ]
    if speed.first_step_seconds is not None:
        rows.append(("command to first step", f"{speed.first_step_seconds:.1f} s, with it"))
    for name, seconds in (speed.pytorch_step_seconds or {}).items():
        rows.append((f"PyTorch, {name}: ms a step", f"{_scaled(seconds, 1e3):.1f}"))
    for name, why in (speed.pytorch_left_out or {}).items():
        rows.append((f"PyTorch, {name}", f"left out: {why}"))
    if speed.pytorch_peak_memory_bytes is not None:
        rows.append(("PyTorch's peak memory", f"{speed.pytorch_peak_memory_bytes / 1e6:,.0f} MB"))
    if speed.ratio_to_best_pytorch:
        rows.append(("times as fast as its best", f"{speed.ratio_to_best_pytorch:.3f}"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {value}" for name, value in rows)


def _scaled(spread: Spread, factor: float) -> Spread:
    return Spread(spread.median * factor, spread.low * factor, spread.high * factor)
