"""A run from Python: what it draws, what it refuses, what it leaves behind."""

import dataclasses
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from sklearn.datasets import load_digits

import gan
from gan.callbacks import Callback
from gan.data.dataset import to_uint8
from gan.data.proportions import labels_in_proportion
from tests.scripts import run_script_here

CONFIG = {
    "dataset": "digits", "generator": "mlp(width=16, conditional=True)",
    "discriminator": "mlp(width=16, conditional=True)", "averaging": ("ema", "uniform"),
    "batch_size": 16, "num_steps": 4, "log_every_steps": 2, "sample_every_steps": 0, "mesh": "data(1)",
}  # fmt: skip


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("runs") / "run"


@pytest.fixture(scope="module")
def trained(workdir):
    return gan.train(CONFIG, workdir)


@pytest.fixture(scope="module")
def loaded(trained, workdir):
    return gan.load(workdir)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_what_is_loaded_is_what_was_trained(trained, loaded):
    assert loaded.step == trained.step == 4
    same(loaded.weights(), trained.weights())
    same(loaded.state.players.discriminator.params, trained.state.players.discriminator.params)
    np.testing.assert_array_equal(loaded.sample(5), trained.sample(5))
    assert loaded.metrics == trained.metrics
    assert [line["step"] for line in loaded.metrics] == [2, 4]
    assert loaded.workdir == trained.workdir
    assert dataclasses.replace(loaded.config, mesh="data(1)") == trained.config


def test_the_script_draws_the_same(loaded, workdir, tmp_path):
    run_script_here("sample.py", "--workdir", workdir, "--num_images", 30, "--seed", 3,
                    "--output", tmp_path / "x.npz")  # fmt: skip
    with np.load(tmp_path / "x.npz") as arrays:
        np.testing.assert_array_equal(arrays["images"], loaded.sample(30, seed=3))
        counts = np.bincount(load_digits().target)
        np.testing.assert_array_equal(arrays["labels"], labels_in_proportion(counts, 30))
        assert arrays["class_names"].tolist() == list("0123456789")


@pytest.mark.parametrize("count", [1, 7, 256, 300])
def test_latents_in_images_out(loaded, count):
    """The latents of a seed, given back, are its samples; batches do not matter, to a rounding."""
    images = loaded.sample(count, seed=5)
    assert (images.shape, images.dtype) == ((count, 8, 8, 1), np.uint8)
    again = loaded.generate(loaded.latents(count, seed=5))
    np.testing.assert_allclose(again.astype(int), images.astype(int), atol=1)
    np.testing.assert_array_equal(loaded.latents(count, 5)[:1], loaded.latents(1, 5))


def test_labels(loaded):
    sevens = loaded.sample(12, labels=7)
    np.testing.assert_array_equal(sevens, loaded.sample(12, labels=[7] * 12))
    in_turn = loaded.sample(12, labels="equal")
    np.testing.assert_array_equal(in_turn, loaded.sample(12, labels=np.arange(12) % 10))
    assert (sevens[:7] != in_turn[:7]).any()
    np.testing.assert_array_equal(sevens[7], in_turn[7])


def test_the_generator_is_a_function_that_can_be_differentiated(loaded):
    latents, labels = loaded.latents(3), jnp.arange(3)
    floats = loaded.generator(loaded.weights("uniform"), latents, labels)
    images = loaded.generate(latents, labels, weights="uniform")
    np.testing.assert_array_equal(to_uint8(floats), images)

    def mean(z):
        return loaded.generator(loaded.weights(), z, labels).mean()

    slope = jax.grad(mean)(latents)
    step = 1e-2 * slope / jnp.linalg.norm(slope)
    rise = (mean(latents + step) - mean(latents - step)) / 2e-2
    np.testing.assert_allclose(rise, jnp.linalg.norm(slope), rtol=0.02)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda run: run.generate(np.zeros([3, 5])), r"latents must be \[N, 64\], given \[3, 5\]"),
        (lambda run: run.generate(np.zeros([64])), r"latents must be \[N, 64\], given \[64\]"),
        (lambda run: run.generate(np.zeros([0, 64])), r"given \[0, 64\]"),
        (lambda run: run.generate(np.zeros([2, 64]), [1]), "labels must be a class, or 2 of them"),
        (
            lambda run: run.sample(4, truncation=0.7),
            "has no mapping network and so no w to truncate",
        ),
        (lambda run: run.generate(np.zeros([2, 64]), truncation=0.7), "no w to truncate"),
        (lambda run: run.sample(2, labels=10), "labels must be of classes with examples, 0, 1"),
        (
            lambda run: run.sample(2, labels=-1),
            "labels must be of classes with examples, .*; given -1",
        ),
        (lambda run: run.sample(2, labels=1.5), "labels must be a class"),
        (lambda run: run.sample(0), "num_images must be from 1 to 2147483647, given 0"),
        (lambda run: run.sample(1, seed=-1), "seed must be from 0"),
        (lambda run: run.sample(1, weights="best"), "this run has ema, uniform, raw"),
        (lambda run: run.evaluate(["fidd"]), "did you mean 'fid'"),
    ],
)
def test_what_is_refused(loaded, call, words):
    with pytest.raises(gan.UsageError, match=words):
        call(loaded)


def test_what_is_no_run(tmp_path):
    with pytest.raises(gan.UsageError, match="there is no such folder"):
        gan.load(tmp_path / "nothing")
    with pytest.raises(gan.UsageError, match="no checkpoint is saved there yet"):
        gan.load(tmp_path)
    with pytest.raises(gan.UsageError, match="a config is needed, or the workdir of a run"):
        gan.train()
    with pytest.raises(gan.UsageError, match="holds no run to go on with: a --config is needed"):
        gan.train(None, tmp_path)
    with pytest.raises(gan.UsageError, match="unknown key 'num_step'; did you mean 'num_steps'"):
        gan.train({"num_step": 3}, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_labels_of_a_run_without_classes():
    plain = CONFIG | {"generator": "mlp(width=8)", "discriminator": "mlp(width=8)", "num_steps": 2}
    run = gan.train(plain)
    with pytest.raises(
        gan.UsageError, match="labels: the generator of this run is not conditional"
    ):
        run.sample(2, labels=1)


def test_scores_are_those_of_the_script(loaded, workdir):
    scores = loaded.evaluate(["fid"], num_images=200, features="pixels")
    out = run_script_here("evaluate.py", "--workdir", workdir, "--metrics", "fid",
                          "--num_images", 200, "--features", "pixels").stdout  # fmt: skip
    assert f"{scores['fid']:.3f}" in out
    assert len((workdir / "evaluations.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("kind", ["mapping", "ConfigDict", "TrainConfig", "file"])
def test_a_config_may_be_anything(trained, tmp_path, kind):
    (tmp_path / "c.py").write_text(f"def get_config():\n    return {CONFIG!r}\n")
    config = {
        "mapping": CONFIG, "ConfigDict": ConfigDict(CONFIG), "TrainConfig": trained.config,
        "file": tmp_path / "c.py",
    }[kind]  # fmt: skip
    same(gan.train(config, tmp_path / "run").weights(), trained.weights())


def test_a_run_in_memory_is_the_same_and_leaves_nothing(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    run = gan.train(CONFIG)
    assert run.workdir is None
    same(run.weights(), trained.weights())
    assert [line["loss/generator"] for line in run.metrics] == [
        line["loss/generator"] for line in trained.metrics
    ]
    assert run.evaluate(["fid"], num_images=50, features="pixels")["fid"] > 0
    assert not list(pathlib.Path(tmp_path).iterdir())


def test_the_same_call_resumes(workdir, trained, tmp_path):
    gan.train(CONFIG | {"num_steps": 2}, tmp_path / "halves")
    resumed = gan.train(CONFIG, tmp_path / "halves")
    same(resumed.state.players.generator.params, trained.state.players.generator.params)
    alone = gan.train(None, tmp_path / "halves")  # by its own config
    assert alone.step == 4


def test_misuse_from_python(tmp_path):
    class Watch(Callback):
        def __call__(self, run):
            raise AssertionError

    for call, words in (
        (
            lambda: gan.train(CONFIG, tmp_path / "x", on_optimizer_change="keep"),
            "keep_moments is accepted",
        ),
        (
            lambda: gan.train(CONFIG, tmp_path / "x", callbacks=[Watch]),
            "objects of gan.callbacks.Callback",
        ),
        (
            lambda: gan.train(CONFIG, tmp_path / "x", callbacks=[print]),
            "objects of gan.callbacks.Callback",
        ),
        (lambda: gan.train(CONFIG, tmp_path / "x", parts="no.py"), "no.py' cannot be read"),
    ):
        with pytest.raises(gan.UsageError, match=words):
            call()
    assert not (tmp_path / "x").exists()


def test_a_run_is_short_in_a_session_and_writes_only_what_it_can(loaded, workdir, tmp_path):
    assert repr(loaded) == f"<Run of {workdir} at step 4>"
    with pytest.raises(gan.UsageError, match=r"a name in \.png, \.npy or \.npz is accepted"):
        loaded.write_samples(tmp_path / "x.jpg")
    with pytest.raises(gan.UsageError, match="seed must be from 0"):
        loaded.sample(2, seed=1.5)


def test_many_latents_are_generated_in_batches_and_must_be_finite(loaded):
    many = loaded.generate(loaded.latents(600), labels=1)
    np.testing.assert_allclose(
        many[590:].astype(int),
        loaded.generate(loaded.latents(600)[590:], labels=1).astype(int),
        atol=1,
    )
    assert many.shape == (600, 8, 8, 1)
    with pytest.raises(gan.RunError, match="not finite"):
        loaded.generate(np.full([2, 64], np.nan))


def test_every_public_name_has_its_home():
    assert set(gan.__all__) == set(gan._HOMES)
    for name in gan.__all__:
        assert getattr(gan, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        gan.trian  # noqa: B018


def test_what_may_not_do_as_expected_is_said_at_the_start(tmp_path, caplog):
    gan.train(CONFIG | {"num_steps": 1, "microbatches": 2, "loss": "top_k"}, tmp_path / "run")
    assert "microbatches = 2 is not the same as the whole batch for loss = 'top_k'" in caplog.text
