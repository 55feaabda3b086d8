"""A comparison of optimizers and dynamics: the same GAN trained with each, from several seeds."""

import csv
import dataclasses
import json
import pathlib
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from absl import logging

from gan.annotations import fields_match
from gan.config import TrainConfig, from_mapping
from gan.errors import UsageError
from gan.files import replacing
from gan.preemption import Stop
from gan.text_tables import format_markdown
from gan.trainers.evaluation.evaluate import make_evaluator
from gan.trainers.evaluation.features import MAX_PIXELS, PixelFeatures
from gan.trainers.experiment import build
from gan.trainers.train import train
from gan.trainers.workdir import check_writable, read_config
from gan.untrusted import read_json

_NUM_SAMPLES = 5_000


@dataclass(frozen=True)
class Score:
    """One finished run.

    Attributes:
      variant: Its name.
      seed: Its seed.
      average: Fréchet distance of pixels in [0, 1], of samples of the config's first average.
      raw: The same, of samples of the last iterate.
      seconds: Duration of the training, compilation included.
    """

    variant: str
    seed: int
    average: float
    raw: float
    seconds: float


def make_variants(learning_rate: float, b1: float) -> dict[str, dict[str, str]]:
    """Returns the variants to compare by name, each as the config keys that it sets."""

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
    variants: Mapping[str, Mapping[str, str]],
    num_seeds: int,
    output: pathlib.Path,
    stop: Stop | None = None,
) -> str:
    """Trains each variant from each seed in `output/<variant>/seed_<n>`, and returns the table.

    A run that was scored is not repeated, so that a comparison goes on where it was stopped.

    Args:
      config: The config that the variants have in common.
      variants: By name, the config keys that each sets; see `make_variants`.
      num_seeds: Number of seeds, from `config.seed` upwards.
      output: The folder; `comparison.csv` in it has a line for every run.
      stop: Says when to stop early; None is never.

    Raises:
      UsageError: before any training, for a config that will not do.
    """
    configs = {
        (name, seed): from_mapping(dataclasses.asdict(config) | {"seed": seed} | dict(keys))
        for name, keys in variants.items()
        for seed in range(config.seed, config.seed + num_seeds)
    }
    check(config, variants)
    check_writable(output)
    firsts = [variant for (_, seed), variant in configs.items() if seed == config.seed]
    for tables in dict.fromkeys(build(variant).describe_networks() for variant in firsts):
        logging.info("%s", tables)  # once, and not for every run
    scores = []
    for (name, seed), variant in configs.items():
        logging.info("%s, seed %d", name, seed)
        scores.append(_score(variant, name, output / name / f"seed_{seed}", stop))
    with replacing(output / "comparison.csv") as path, path.open("w", newline="") as file:
        names = [field.name for field in dataclasses.fields(Score)]
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(dataclasses.asdict(score) for score in scores)
    return _format(config, scores)


def check(config: TrainConfig, variants: Mapping[str, Mapping[str, str]]) -> None:
    """Builds every part of every variant, before any work.

    Raises:
      UsageError: for a config that will not do.
    """
    for keys in variants.values():
        shape = build(from_mapping(dataclasses.asdict(config) | dict(keys))).dataset.shape
        if np.prod(shape) > MAX_PIXELS:
            raise UsageError(
                f"dataset = {config.dataset!r}: examples of up to {MAX_PIXELS} values can be "
                f"compared, one here has {np.prod(shape)}"
            )


def _score(config: TrainConfig, name: str, workdir: pathlib.Path, stop: Stop | None) -> Score:
    """Trains and scores a run, or reads its score where there is one."""
    done = workdir / f"score_{config.num_steps}.json"
    if (known := _read_score(done)) is not None and read_config(workdir) == config:
        return known
    begin = time.monotonic()
    state = train(config, workdir, stop=stop, tables=False)
    seconds = time.monotonic() - begin
    evaluator = make_evaluator(
        build(config), PixelFeatures(), _NUM_SAMPLES, config.seed, metrics=["fid"]
    )
    average, raw = (evaluator.evaluate(state, weights).scores["fid"] for weights in (None, "raw"))
    score = Score(name, config.seed, average, raw, seconds)
    with replacing(done) as path:
        path.write_text(json.dumps(dataclasses.asdict(score)) + "\n")
    return score


def _read_score(path: pathlib.Path) -> Score | None:
    """Reads a score; None where there is none, or what is no score: the run is then scored again."""
    try:
        score = Score(**read_json(path, 10_000, follow=False))
    except (OSError, ValueError, TypeError):
        return None
    return score if fields_match(score) else None


def _format(config: TrainConfig, scores: list[Score]) -> str:
    """Formats a Markdown table of the mean and the standard deviation over the seeds."""
    seeds = {score.seed for score in scores}
    caption = (
        f"{config.dataset}, {config.num_steps:,} steps, {len(seeds)} seed{'s' * (len(seeds) > 1)}; Fréchet distance of "
        f"pixels, {_NUM_SAMPLES:,} samples (lower is better)"
        + (", mean ± standard deviation" if len(seeds) > 1 else "")
    )
    rows = [["", "first average", "last iterate", "seconds a run"]]
    for name in dict.fromkeys(score.variant for score in scores):
        runs = [score for score in scores if score.variant == name]
        average = _mean_and_std([score.average for score in runs])
        raw = _mean_and_std([score.raw for score in runs])
        rows.append([name, average, raw, f"{np.median([score.seconds for score in runs]):.0f}"])
    return f"{caption}\n\n{format_markdown(rows)}"


def _mean_and_std(values: list[float]) -> str:
    mean = f"{np.mean(values):.3f}"
    return f"{mean} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else mean
