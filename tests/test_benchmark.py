"""What is measured, never how long it takes."""

import dataclasses
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.config import TrainConfig
from gan.errors import RunError, UsageError
from gan.models import convolutions
from gan.models.convolutions import Geometry
from gan.trainers.experiment import build
from gan.trainers.train import train
from gan.trainers.train_step import MetricWindow
from tests.benchmarks.benchmark import BareStep, describe, measure
from tests.benchmarks.convolutions import STRIDED, compile_loop
from tests.benchmarks.pytorch_process import PyTorchProcess
from tests.benchmarks.turns import Spread, ratio, take_turns

WIDTH, LATENTS, PIXELS, BATCH = 128, 64, 64, 32
SMALL = TrainConfig(
    dataset="noise(8, 1, 64)", generator=f"mlp({WIDTH}, 1)", discriminator=f"mlp({WIDTH}, 1)",
    batch_size=BATCH, latent_dim=LATENTS, averaging=(), mesh="data(1)",
)  # fmt: skip

WORKER = """
import json, sys
config = json.loads(sys.stdin.readline())
if config["generator"] == "unknown":
    print(json.dumps({"error": "it has no generator 'unknown'"}))
    sys.exit(2)
print(json.dumps({"version": "1", "variants": ["slow", "fast"], "left_out": {"odd": "why"}}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if "memory" in request:
        print(json.dumps({"peak_memory_bytes": 123}), flush=True)
    elif request["steps"] > 1000:
        sys.exit(3)
    else:
        a_step = {"slow": 2e-3, "fast": 1e-3}[request["variant"]]
        print(json.dumps({"seconds": a_step * request["steps"]}), flush=True)
"""


def pytorch_process(tmp_path, generator="mlp"):
    return PyTorchProcess([sys.executable, "-c", WORKER], tmp_path, {"generator": generator})


def test_a_spread_is_the_median_and_both_ends():
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    assert f"{Spread.of([3.0, 1.0, 2.0]):.1f}" == "2.0 (1.0 to 3.0)"


def test_sides_take_turns_and_a_ratio_is_that_of_the_same_round():
    calls = []

    def side(name):
        return lambda: calls.append(name) or len(calls)

    times = take_turns({"a": side("a"), "b": side("b")}, 3)
    assert "".join(calls) == "baabbaab"
    assert times == {"a": [3, 6, 7], "b": [4, 5, 8]}  # without the first round
    assert ratio([2.0, 6.0, 4.0], [1.0, 2.0, 4.0]) == Spread(2.0, 1.0, 3.0)


def test_another_config_takes_turns_with_the_first(monkeypatch):
    made, seconds = [], {"float32": 2.0, "bfloat16": 3.0}

    def measured(bare, num_steps):
        made.append(str(bare._experiment.config.precision))
        return seconds[made[-1]] * num_steps

    init = BareStep.__init__
    monkeypatch.setattr(
        BareStep,
        "__init__",
        lambda self, experiment, loader: (
            setattr(self, "_experiment", experiment) or init(self, experiment, loader)
        ),
    )
    monkeypatch.setattr(BareStep, "seconds", measured)
    other = dataclasses.replace(SMALL, precision="bfloat16")
    result = measure(SMALL, 2, loop=False, other=other)
    assert result.other == {"precision": "bfloat16"}
    assert result.step_seconds.median == 2.0
    assert result.ratio_to_other == Spread(1.5, 1.5, 1.5)  # ours is 1.5 times as fast
    assert made.count("bfloat16") == 2 + 3  # two to warm up, a turn in each of three rounds
    for words in ("precision=bfloat16: ms a step", "times as fast as that"):
        assert words in describe(result)


def test_the_loop_of_a_convolution_hands_on_the_whole_result():
    """The compiled program returns it, at the end of turns that each need all of the one before."""
    x, w = jnp.ones([2, 8, 8, 4], jnp.bfloat16), jnp.ones([4, 4, 4, 3], jnp.bfloat16)
    geometry = Geometry((8, 8), *STRIDED)
    program = compile_loop(partial(convolutions.convolve, geometry), x, w)
    result = program(x, w)
    assert result.shape == (2, 4, 4, 3)
    assert result.dtype == jnp.bfloat16
    once = convolutions.convolve(geometry, x, w)
    np.testing.assert_array_equal(result, once)


def test_a_step_is_measured_and_its_operations_counted(tmp_path):
    result = measure(SMALL, 2, lambda shape: pytorch_process(tmp_path), loop=False)
    assert result.images_per_second.median > 0
    assert result.peak_memory_bytes > 1e7
    # By hand: the two layers of each network, forward, back to the weights and to the inputs. The
    # discriminator is passed twice (real, fake), its first layer passed back for the fake alone.
    generator, discriminator = LATENTS * WIDTH + WIDTH * PIXELS, PIXELS * WIDTH + WIDTH
    products = 2 * generator + WIDTH * PIXELS
    products += 2 * (2 * discriminator + WIDTH) + PIXELS * WIDTH
    by_hand = 2 * BATCH * products
    assert by_hand < result.step_flops < 1.5 * by_hand  # and optimizers, activations, norms
    assert result.loop_over_step is None
    assert result.first_step_seconds is None


def test_as_many_steps_are_made_as_are_asked_for_when_data_come_in_chunks():
    experiment = build(SMALL)

    class ShortChunks:
        """A loader whose chunks last for three steps."""

        loader = experiment.make_loader(experiment.load_examples())

        def at(self, seed, step):
            chunk = self.loader.at(seed, step)
            return chunk._replace(num_steps=min(chunk.num_steps, 3 - step % 3))

    bare = BareStep(experiment, ShortChunks())
    before = int(bare._state.step)
    bare.seconds(8)
    assert int(bare._state.step) == before + 8


def test_it_is_compared_with_the_best_variant(tmp_path):
    result = measure(SMALL, 1, lambda shape: pytorch_process(tmp_path), loop=False)
    assert result.ratio_to_best_pytorch.median == pytest.approx(1e-3 / result.step_seconds.median)
    assert result.pytorch_step_seconds["slow"].median == pytest.approx(2e-3)
    assert result.pytorch_left_out == {"odd": "why"}
    assert result.pytorch_peak_memory_bytes == 123
    text = describe(result)
    for words in ("PyTorch, fast: ms a step", "1.0 (1.0 to 1.0)", "left out: why", "peak memory"):
        assert words in text
    assert dataclasses.asdict(result)["ratio_to_best_pytorch"]["median"] > 0


def test_without_a_twin_ours_is_measured_and_a_line_says_why(tmp_path):
    result = measure(SMALL, 1, lambda shape: pytorch_process(tmp_path, "unknown"), loop=False)
    assert result.no_twin.endswith("it has no generator 'unknown'")
    assert result.pytorch_step_seconds is None
    assert result.no_twin in describe(result)


def test_what_another_program_cannot_do_is_its_word(tmp_path):
    with pytest.raises(UsageError, match="it has no generator 'unknown'"):
        pytorch_process(tmp_path, "unknown")
    with pytorch_process(tmp_path) as process, pytest.raises(RunError, match="ended with code 3"):
        process.seconds("slow", 2000)
    with pytest.raises(RunError, match=r"ended with code 1|does not start"):
        PyTorchProcess([sys.executable, "-c", "1 / 0"], tmp_path, {})


def test_the_loop_compiles_nothing_after_its_first_periods(tmp_path, monkeypatch):
    """Logging, pictures and saving included; programs that are made are counted by JAX itself."""
    made = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, _, **__: made.append(event) if "backend_compile" in event else None
    )
    counts = []
    close = MetricWindow.close
    monkeypatch.setattr(
        MetricWindow, "close", lambda self, step: counts.append(len(made)) or close(self, step)
    )
    config = dataclasses.replace(
        SMALL, num_steps=60, log_every_steps=5, sample_every_steps=10, checkpoint_every_steps=20
    )
    train(config, tmp_path / "run")
    assert len(counts) == 12
    assert counts[0] > 0
    assert len(set(counts[5:])) == 1
