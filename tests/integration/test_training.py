"""Whole trainings, whose result is examined."""

import json
import pathlib

import numpy as np
import pytest

from gan import config, config_files
from gan.metrics.fid import frechet_distance
from gan.metrics.summary import Moments
from gan.trainers.experiment import build
from gan.trainers.sampling import make_sampler
from gan.trainers.train import train

pytestmark = pytest.mark.optimized  # thousands of steps


def load(root: pathlib.Path, name: str, **overrides: str) -> config.TrainConfig:
    return config_files.load(root / "configs" / f"{name}.py", overrides | {"mesh": "data(1)"})


def test_the_generator_covers_all_eight_modes(root, tmp_path):
    loaded = load(root, "gaussians")
    train(loaded, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    last = lines[-1]
    assert last["step"] == 10_000
    assert last["eval/modes_covered"] == 8
    assert last["eval/high_quality"] > 0.5
    assert last["eval/kl_to_uniform"] < 0.2


def test_digits_come_close_to_the_real_ones_class_by_class(root, tmp_path):
    """A classifier of real digits reads the generated ones as the class they were asked for."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    loaded = load(root, "digits", num_steps="4000")
    state = train(loaded, tmp_path)
    experiment = build(loaded)
    sampler = make_sampler(experiment)
    images, labels = sampler(sampler.weights(state), 1_000, 0)
    real, real_labels = experiment.dataset.load()
    flat, real_flat = (x.reshape(len(x), -1) / 255 for x in (images, real))
    reader = linear_model.LogisticRegression(max_iter=2_000).fit(real_flat, real_labels)
    assert reader.score(flat, labels) > 0.9
    noise = np.random.default_rng(0).random(flat.shape)
    real_moments = Moments.of(real_flat)
    far = frechet_distance(Moments.of(noise), real_moments)
    assert frechet_distance(Moments.of(flat), real_moments) < 0.02 * far
