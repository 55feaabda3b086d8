"""Every recipe in `configs/`, found by listing the folder: it is accepted as it is, and trains in small form."""

import dataclasses
import json
import math
import re

import jax
import numpy as np
import pytest

from gan import config_files
from gan.models import DISCRIMINATORS, GENERATORS
from gan.players import ROLES
from gan.specs import Spec, parse
from gan.trainers.experiment import build
from gan.trainers.train import train
from gan.trainers.train_step import make_train_step
from tests.benchmarks.recipes import data_shape, recipes

NUM_STEPS, BATCH_SIZE, NUM_IMAGES = 20, 8, 64
WIDE, SMALL = 16, 8  # a size of a network from 16 up becomes 8
QUICK = {"digits"}  # what compiles in seconds; a new recipe is slow
PUBLISHED = {  # millions of parameters
    "cifar10_r3gan": {"generator": 20.78, "discriminator": 21.28},  # Huang et al. 2024, table 9
}
NETWORKS = {"generator": GENERATORS, "discriminator": DISCRIMINATORS}


def some_or_slow(names):
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names]


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """Returns a function that writes random images of a recipe's shape, or less, and classes, once."""
    folder = tmp_path_factory.mktemp("data")

    def spec(dataset, most_pixels):
        shape, num_classes = data_shape(dataset)
        if len(shape) != 3:
            return dataset
        shape = (*(min(side, most_pixels) for side in shape[:2]), shape[2])
        path = folder / f"{'x'.join(map(str, shape))}_{num_classes}.npz"
        if not path.exists():
            images = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, *shape), np.uint8)
            np.savez(path, images=images, labels=np.arange(NUM_IMAGES) % num_classes)
        return f"npz({str(path)!r})"

    return spec


@pytest.fixture
def load(stand_in):
    """Returns a function that loads a recipe, with random images for its data."""

    def recipe(name, most_pixels=1024):
        config = config_files.load(recipes()[name], {"mesh": "data(1)"})
        return dataclasses.replace(config, dataset=stand_in(config.dataset, most_pixels))

    return recipe


def text_of(value):
    """Writes a parsed spec as text again."""
    if isinstance(value, tuple):
        return f"({''.join(f'{text_of(item)}, ' for item in value)})"
    if not isinstance(value, Spec):
        return repr(value)
    words = [*map(text_of, value.args), *(f"{key}={text_of(item)}" for key, item in value.kwargs)]
    return f"{value.name}({', '.join(words)})"


def narrow(registry, text):
    """Makes every number of a network's spec small, be it given or a default, and its blocks one.

    StyleGAN2's `channel_base` stays, which is at least the side of the image: `channel_max` bounds its widths.
    """
    (spec,) = parse(text)
    parameters = registry.parameters(spec.name)
    values = {name: parameter.default for name, parameter in parameters.items()}
    values |= dict(zip(parameters, spec.args, strict=False)) | dict(spec.kwargs)
    for name, value in values.items():
        if type(value) is int and value >= WIDE and name != "channel_base":
            values[name] = SMALL
    if "blocks" in values:
        values["blocks"] = 1
    return text_of(Spec(spec.name, (), tuple(values.items())))


def fewer_steps(dynamics):
    """Makes the discriminator's steps two at most, whose tracing takes long."""
    (spec,) = parse(dynamics)
    keywords = {key: min(value, 2) for key, value in spec.kwargs if key == "discriminator_steps"}
    return text_of(Spec(spec.name, spec.args, tuple((dict(spec.kwargs) | keywords).items())))


def small(config):
    """A config in small form, whose other parts are the recipe's own."""
    networks = {role: narrow(NETWORKS[role], getattr(config, role)) for role in ROLES}
    times = (config.generator_batch_size or config.batch_size) / config.batch_size
    return dataclasses.replace(
        config,
        **networks,
        dynamics=fewer_steps(config.dynamics),
        batch_size=BATCH_SIZE,
        generator_batch_size=config.generator_batch_size and int(times * BATCH_SIZE),
        microbatches=min(config.microbatches, 2),
        latent_dim=min(config.latent_dim, SMALL),
        num_steps=NUM_STEPS,
        log_every_steps=NUM_STEPS // 2,
        sample_every_steps=NUM_STEPS,
        checkpoint_every_steps=NUM_STEPS,
        eval_every_steps=0,
    )


def counts(experiment):
    """The number of each player's parameters."""
    state = experiment.state_target()
    return {
        role: sum(leaf.size for leaf in jax.tree.leaves(state.players.of(role).params))
        for role in ROLES
    }


def test_a_spec_is_narrowed_and_written_again():
    text = "r3gan(64, blocks=3, conditional=True)"
    narrowed = narrow(GENERATORS, text)
    built = GENERATORS.build(narrowed, shape=(32, 32, 3), num_classes=2, dtype=None)
    assert (built.width, built.blocks, built.cardinality, built.conditional) == (8, 1, 8, True)
    nested = "by_path(adam(1e-3), ('bias', adam(1e-4)))"
    assert parse(text_of(parse(nested)[0])) == parse(nested)


@pytest.mark.parametrize("name", recipes())
def test_it_is_accepted_as_it_is(load, name):
    """All parts are built and checked, at full size; nothing is computed."""
    sizes = counts(build(load(name)))
    assert all(1_000 < size < 1e9 for size in sizes.values()), sizes
    if name in PUBLISHED:
        assert {role: round(size / 1e6, 2) for role, size in sizes.items()} == PUBLISHED[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", recipes())
def test_its_step_can_be_traced_as_it_is(load, name):
    experiment = build(load(name))
    state, data = (
        experiment.state_target(), experiment.make_loader(experiment.load_examples()).at(0, 0).data
    )  # fmt: skip
    step = make_train_step(experiment)
    with jax.set_mesh(step.mesh):
        after = step.jitted.eval_shape(state, data, 1).state
    shapes = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)
    assert shapes(after) == shapes(state)


@pytest.mark.parametrize("name", some_or_slow(recipes()))
def test_it_trains_in_small_form(load, name, tmp_path):
    state = train(small(load(name, most_pixels=32)), tmp_path)
    assert int(state.step) == NUM_STEPS
    for leaf in jax.tree.leaves((state.players, state.averages)):
        assert np.isfinite(leaf).all()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [NUM_STEPS // 2, NUM_STEPS]
    for line in lines:
        assert {"loss/generator", "loss/discriminator"} <= line.keys()
        assert all(map(math.isfinite, line.values())), line
    assert (tmp_path / "checkpoints" / str(NUM_STEPS)).is_dir()
    assert (tmp_path / "samples" / f"step_{NUM_STEPS:08}.png").stat().st_size > 100


@pytest.mark.parametrize("name", recipes())
def test_it_says_how_it_is_run_and_what_is_known_of_its_result(name):
    """A docstring with the command, and, of a recipe for a GPU, a published score and ours."""
    text = recipes()[name].read_text()
    assert re.search(rf"train\.py --config configs/{name}\.py --workdir runs/\w+", text)
    assert re.search(r"took|run to its end|not yet run", text)


def test_the_docs_have_a_row_for_each_recipe(root):
    page = (root / "docs" / "networks.md").read_text().partition("\n## Recipes\n")[2]
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == set(recipes())
