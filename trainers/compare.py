"""The same GAN trained with several optimizers and dynamics, several seeds each."""

import dataclasses
import json
import pathlib
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from absl import logging

from gan.config import TrainConfig, from_mapping
from gan.errors import UsageError
from gan.evaluation import Moments, frechet_distance
from gan.trainers.experiment import build
from gan.trainers.loop import train
from gan.trainers.sampling import make_sampler
from gan.trainers.stopping import Stop
from gan.trainers.workdir import check_writable, read_config

_NUM_SAMPLES = 5_000
_MAX_PIXELS = 4_096  # of an image whose covariances are compared


@dataclass(frozen=True)
class Score:
    """One finished run.

    Attributes:
      variant: Its name.
      seed: Its seed.
      average: Fréchet distance of pixels in [0, 1], drawn with the config's first average.
      raw: The same, drawn with the last iterate.
      seconds: Of training, compilation included.
    """

    variant: str
    seed: int
    average: float
    raw: float
    seconds: float


def variants(learning_rate: float, b1: float) -> dict[str, dict[str, str]]:
    """The ways to train that are compared, each as the config keys it sets."""

    def both(optimizer: str, dynamics: str = "simultaneous") -> dict[str, str]:
        spec = f"{optimizer}({learning_rate}, b1={b1})"
        players = ("generator_optimizer", "discriminator_optimizer")
        return {"dynamics": dynamics} | dict.fromkeys(players, spec)

    return {
        "adam": both("adam"),
        "optimistic_adam": both("optimistic_adam"),
        "extra_adam": both("adam", "extragradient"),
        "lookahead_adam": both("adam", "lookahead(steps=5, alpha=0.5)"),
    }


def compare(
    config: TrainConfig,
    ways: Mapping[str, Mapping[str, str]],
    num_seeds: int,
    output: pathlib.Path,
    stop: Stop | None = None,
) -> str:
    """Trains each way from each seed in `output/<way>/seed_<n>`, and returns the table.

    A run that was scored is not made again; so a comparison that was stopped goes on where it was.

    Args:
      config: What they have in common.
      ways: From `variants`.
      num_seeds: From `config.seed` upwards.
      output: The folder; `comparison.csv` holds every run.
      stop: Says when to stop early.

    Raises:
      UsageError: before any training, for a config that will not do.
    """
    configs = {
        (name, seed): from_mapping(dataclasses.asdict(config) | {"seed": seed} | dict(keys))
        for name, keys in ways.items()
        for seed in range(config.seed, config.seed + num_seeds)
    }
    check(config, ways)
    check_writable(output)
    scores = []
    for (name, seed), one in configs.items():
        logging.info("%s, seed %d", name, seed)
        scores.append(_score(one, name, output / name / f"seed_{seed}", stop))
    names = [field.name for field in dataclasses.fields(Score)]
    rows = [names, *([str(getattr(score, name)) for name in names] for score in scores)]
    _write(output / "comparison.csv", "".join(",".join(row) + "\n" for row in rows))
    return _table(config, scores)


def check(config: TrainConfig, ways: Mapping[str, Mapping[str, str]]) -> None:
    """Builds every part of every way, before any work.

    Raises:
      UsageError: for a config that will not do.
    """
    for keys in ways.values():
        shape = build(from_mapping(dataclasses.asdict(config) | dict(keys))).dataset.shape
        if np.prod(shape) > _MAX_PIXELS:
            raise UsageError(
                f"dataset = {config.dataset!r}: examples of up to {_MAX_PIXELS} values can be "
                f"compared, one here has {np.prod(shape)}"
            )


def _score(config: TrainConfig, name: str, workdir: pathlib.Path, stop: Stop | None) -> Score:
    """Trains and scores a run, or reads the score that is there."""
    done = workdir / f"score_{config.num_steps}.json"
    if done.exists() and read_config(workdir) == config:
        return Score(**json.loads(done.read_text()))
    begin = time.monotonic()
    state = train(config, workdir, stop=stop)
    seconds = time.monotonic() - begin
    experiment = build(config)
    real, sampler = _moments(experiment.dataset.load().examples), make_sampler(experiment)
    average, raw = (
        frechet_distance(_moments(sampler(state, _NUM_SAMPLES, config.seed, weights)[0]), real)
        for weights in (None, "raw")
    )
    score = Score(name, config.seed, average, raw, seconds)
    _write(done, json.dumps(dataclasses.asdict(score)) + "\n")
    return score


def _write(path: pathlib.Path, text: str) -> None:
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(text)
    beside.replace(path)


def _moments(examples: np.ndarray) -> Moments:
    """Of points, or of pixels in [0, 1]."""
    vectors = examples.reshape(len(examples), -1)
    return Moments.of(vectors / 255 if examples.dtype == np.uint8 else vectors)


def _table(config: TrainConfig, scores: list[Score]) -> str:
    """Markdown: mean and standard deviation over the seeds."""
    seeds = sorted({score.seed for score in scores})
    caption = (
        f"{config.dataset}, {config.num_steps:,} steps, {len(seeds)} seeds; Fréchet distance of "
        f"pixels, {_NUM_SAMPLES:,} samples (lower is better), mean ± standard deviation"
    )
    head = "| | first average | last iterate | seconds a run |"
    lines = [caption, "", head, "|---|---|---|---|"]
    for name in dict.fromkeys(score.variant for score in scores):
        mine = [score for score in scores if score.variant == name]
        cells = []
        for values in ([score.average for score in mine], [score.raw for score in mine]):
            spread = np.std(values, ddof=1) if len(values) > 1 else np.nan
            cells.append(f"{np.mean(values):.3f} ± {spread:.3f}")
        seconds = np.median([score.seconds for score in mine])
        lines.append(f"| {name} | {cells[0]} | {cells[1]} | {seconds:.0f} |")
    return "\n".join(lines)
