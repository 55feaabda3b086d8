"""Which classes are drawn, shown and scored: those that the data have, as often as they have them."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image

import gan
from gan.config import TrainConfig
from gan.data import DATASETS
from gan.trainers.experiment import build
from gan.trainers.sampling import make_sampler
from tests.scripts import run_script_here

COUNTS = {"ant": 0, "bee": 60, "cat": 20, "dog": 10}
NAMES = list(COUNTS)
CONFIG = {
    "generator": "mlp(width=8, conditional=True)",
    "discriminator": "mlp(width=8, conditional=True)",
    "num_steps": 2,
    "batch_size": 8,
    "log_every_steps": 2,
    "sample_every_steps": 2,
    "mesh": "data(1)",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Images in which a class is a level of grey: 0, 50, 100, 150."""
    path = tmp_path_factory.mktemp("data") / "animals.npz"
    labels = np.arange(4).repeat(list(COUNTS.values()))
    images = np.broadcast_to(50 * labels[:, None, None], (90, 6, 6)).astype(np.uint8)
    np.savez(path, images=images, labels=labels, class_names=np.array(NAMES))
    return path


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "animals"
    return gan.train(CONFIG | {"dataset": f"npz('{data}')"}, workdir)


def sample(run, *flags, code=0):
    return run_script_here("sample.py", "--workdir", run.workdir, *flags, code=code)


def drawn(run, path, *flags):
    sample(run, "--output", path, *flags)
    with np.load(path) as arrays:
        return [str(arrays["class_names"][label]) for label in arrays["labels"]]


def test_the_proportions_are_those_of_the_data(run, tmp_path):
    names = drawn(run, tmp_path / "x.npz", "--num_images", 180)
    assert {name: names.count(name) for name in NAMES} == {
        "ant": 0,
        "bee": 120,
        "cat": 40,
        "dog": 20,
    }


def test_equal_numbers_are_of_the_classes_that_there_are(run, tmp_path):
    names = drawn(run, tmp_path / "x.npz", "--num_images", 12, "--classes", "equal")
    assert names == ["bee", "cat", "dog"] * 4


@pytest.mark.parametrize("classes", ["dog,bee", "3,1", "dog,1"])
def test_classes_by_name_or_number(run, tmp_path, classes):
    names = drawn(run, tmp_path / "x.npz", "--num_images", 5, "--classes", classes)
    assert names == ["dog", "bee", "dog", "bee", "dog"]
    np.testing.assert_array_equal(
        run.sample(5, labels=["dog", "bee", "dog", "bee", "dog"]),
        run.sample(5, labels=[3, 1, 3, 1, 3]),
    )


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ("bea", "unknown class 'bea'; did you mean 'bee'?; known: ant, bee, cat, dog"),
        ("4", "unknown class '4'"),
        ("-1", "unknown class '-1'"),
        ("ant", "class 'ant': the data have no example of it"),
        ("0", "class '0': the data have no example of it"),
    ],
)
def test_classes_that_cannot_be_drawn(run, tmp_path, classes, words):
    done = sample(run, "--output", tmp_path / "x.npz", f"--classes={classes}", code=2)
    assert words in done.stderr
    assert not list(tmp_path.iterdir())
    with pytest.raises(gan.UsageError, match="labels must be of classes with examples, 1, 2, 3"):
        run.sample(2, labels=0)


def test_separate_images_are_a_dataset(run, tmp_path):
    sample(run, "--output", tmp_path / "fake", "--separate", "--num_images", 18)
    dataset = DATASETS.build(f"images('{tmp_path / 'fake'}', resolution=6, labels=True)")
    examples = dataset.load()
    assert dataset.names == ("bee", "cat", "dog")
    assert np.bincount(examples.labels).tolist() == [12, 4, 2]
    with Image.open(tmp_path / "fake" / "bee" / "000000.png") as image:
        np.testing.assert_array_equal(np.asarray(image), run.sample(1)[0, ..., 0])
    sample(run, "--output", tmp_path / "fake", "--separate", code=2)


def test_a_strange_name_of_a_class_does_not_climb_out(tmp_path):
    np.savez(
        tmp_path / "x.npz", images=np.zeros([20, 6, 6], np.uint8), labels=np.arange(20) % 3,
        class_names=np.array(["../../up", "a/b", ".."]),
    )  # fmt: skip
    run = gan.train(CONFIG | {"dataset": f"npz('{tmp_path / 'x.npz'}')"}, tmp_path / "run")
    run.write_samples(tmp_path / "fake", 6, separate=True)
    assert sorted(path.name for path in (tmp_path / "fake").iterdir()) == ["0", "1", "2"]


def test_an_unconditional_generator_has_no_labels(data, tmp_path):
    plain = {"generator": "mlp(width=8)", "discriminator": "mlp(width=8)"}
    run = gan.train(CONFIG | plain | {"dataset": f"npz('{data}')"}, tmp_path / "run")
    sample(run, "--output", tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as arrays:
        assert arrays.files == ["images"]
    sample(run, "--output", tmp_path / "fake", "--separate", "--num_images", 3)
    assert sorted(path.name for path in (tmp_path / "fake").iterdir()) == [
        "000000.png", "000001.png", "000002.png"]  # fmt: skip
    sample(run, "--output", tmp_path / "y.npz", "--classes", "bee", code=2)


def test_a_run_is_sampled_without_its_data(data, tmp_path):
    moved = tmp_path / "animals.npz"
    moved.write_bytes(data.read_bytes())
    run = gan.train(CONFIG | {"dataset": f"npz('{moved}')"}, tmp_path / "run")
    moved.unlink()
    again = gan.load(tmp_path / "run")
    np.testing.assert_array_equal(again.sample(30), run.sample(30))
    sample(again, "--output", tmp_path / "grid.png", "--classes", "cat,dog")
    with pytest.raises(gan.UsageError, match=r"animals\.npz is not an \.npz"):
        again.evaluate(num_images=20, features="pixels")
    moved.write_bytes(data.read_bytes())
    score = {"num_images": 20, "features": "pixels"}
    assert again.evaluate(**score)["fid"] > 0
    np.savez(moved, images=np.zeros([9, 6, 6], np.uint8))
    with pytest.raises(
        gan.UsageError, match="not the data that the run was trained on: the classes"
    ):
        gan.load(tmp_path / "run").evaluate(**score)
    run_script_here("evaluate.py", "--workdir", tmp_path / "run", "--dataset", f"npz('{data}')",
                    "--features", "pixels", "--num_images", 20)  # fmt: skip


def test_a_generator_that_is_the_data_has_an_fid_of_zero(run):
    """It draws the grey of its class; classes in turn would have another mean."""
    evaluator = run_evaluator(run, "data")
    assert evaluator < 1e-9
    assert run_evaluator(run, "equal") > 1e-3


def run_evaluator(run, classes):
    from gan.trainers.evaluation.features import FEATURES
    from gan.trainers.evaluation.scorer import Scorer

    scorer = Scorer(
        run.experiment.dataset,
        run.config.dataset,
        FEATURES.build("pixels"),
        90,
        0,
        ["fid"],
        classes,
    )
    labels = run._sampler.labels(90, classes)
    images = np.broadcast_to(50 * labels[:, None, None, None], (90, 6, 6, 1)).astype(np.uint8)
    return scorer.score([images], {}).scores["fid"]


class Scaled(nn.Module):
    """A generator of one's own, with an array among its fields: it cannot be hashed."""

    scale: np.ndarray
    conditional: bool = False

    @nn.compact
    def __call__(self, latents, labels, train):
        return jnp.tanh(nn.Dense(64)(latents).reshape(-1, 8, 8, 1)) * self.scale


def test_a_generator_that_cannot_be_hashed():
    experiment = build(TrainConfig(generator="mlp(8)", discriminator="mlp(8)"))
    own = Scaled(np.full([1], 0.5, np.float32))
    with pytest.raises(TypeError, match="unhashable"):
        hash(own)
    game = dataclasses.replace(experiment.game, generator=own)
    sampler = make_sampler(dataclasses.replace(experiment, game=game))
    state = dataclasses.replace(experiment, game=game).init()
    samples, _ = sampler(sampler.weights(state, "raw"), 3, 0, sampler.labels(3, "data"))
    assert samples.shape == (3, 8, 8, 1)
