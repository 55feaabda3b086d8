"""`scripts/evaluate.py` as a user runs it, and evaluation during training."""

import dataclasses
import functools
import hashlib
import json
import os
import re
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from gan.checkpoints import Checkpoints
from gan.config import TrainConfig
from gan.errors import UsageError
from gan.trainers.evaluation.evaluate import evaluate_run
from gan.trainers.evaluation.results import Protocol, read_results
from gan.trainers.train import train
from tests.scripts import run_script, run_script_here

run = functools.partial(run_script, "evaluate.py")
run_here = functools.partial(run_script_here, "evaluate.py")

CONFIG = TrainConfig(
    generator="mlp(16, 1)", discriminator="mlp(16, 1)", batch_size=16, latent_dim=4, num_steps=20,
    log_every_steps=10, checkpoint_every_steps=10, sample_every_steps=0, eval_every_steps=10,
    eval_num_images=60, mesh="data(1)", keep_checkpoints=("best('eval/fid')",),
)  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for all tests here: its classifier is trained once."""
    folder = tmp_path_factory.mktemp("cache")
    old = os.environ.get("GAN_CACHE_DIR")
    os.environ["GAN_CACHE_DIR"] = str(folder)
    yield folder
    if old is None:
        del os.environ["GAN_CACHE_DIR"]
    else:
        os.environ["GAN_CACHE_DIR"] = old


@pytest.fixture(scope="module")
def whole(cache, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "digits"
    train(CONFIG, workdir)
    return workdir


@pytest.fixture
def workdir(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "run")


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_during_training_it_is_logged_and_the_best_is_kept(whole):
    scored = {line["step"]: line for line in lines(whole / "metrics.jsonl")}
    assert scored[10]["eval/fid"] > 0
    assert 0 <= scored[20]["eval/recall"] <= 1
    with Checkpoints(whole) as checkpoints:
        best = min((10, 20), key=lambda step: scored[step]["eval/fid"])
        assert set(checkpoints.all_steps()) == {best, 20}
        assert checkpoints.verify(20).metrics["eval/fid"] == scored[20]["eval/fid"]
    results = lines(whole / "evaluations.jsonl")
    assert [line["subject"] for line in results] == [
        {"step": 10, "weights": "ema"}, {"step": 20, "weights": "ema"},
    ]  # fmt: skip


def test_a_failing_evaluation_does_not_end_the_training(cache, tmp_path, monkeypatch):
    def fail(*args):
        raise MemoryError("no memory for this")

    monkeypatch.setattr("gan.metrics.kid.kernel_inception_distance", fail)
    state = train(CONFIG, tmp_path)
    assert int(state.step) == 20
    failed = [
        line for line in lines(tmp_path / "history.jsonl") if line["event"] == "evaluation_failed"
    ]
    assert [line["step"] for line in failed] == [10, 20]
    assert "MemoryError: no memory for this" in failed[0]["message"]


def test_a_new_metric_is_measured_during_training(cache, tmp_path, monkeypatch):
    """One class; nothing else is told of it."""
    from gan.metrics import METRICS, Metric, Need, Score

    monkeypatch.setattr(METRICS, "_makers", dict(METRICS._makers))

    @METRICS.register("brightness")
    class Brightness(Metric):
        needs = Need.VECTORS
        scores = (Score("brightness", higher_is_better=True),)

        def compute(self, real, fake):
            return {"brightness": float(fake.vectors.mean())}

    config = dataclasses.replace(
        CONFIG, eval_features="pixels", keep_checkpoints=("best('eval/brightness')",)
    )
    train(config, tmp_path)
    values = {line["step"]: line["eval/brightness"] for line in lines(tmp_path / "metrics.jsonl")}
    best = max(values, key=values.get)
    with Checkpoints(tmp_path) as checkpoints:
        assert set(checkpoints.all_steps()) == {best, 20}
    evaluate_run(tmp_path, num_images=60, features="pixels", metrics=["brightness"])
    assert list(read_results(tmp_path)[-1].scores) == ["brightness"]


def test_the_best_step_is_by_the_first_metric_that_there_is(caplog):
    from gan.checkpoints import Manifest
    from gan.trainers.evaluation.evaluate import _best_step

    def saved(step, protocol="", **metrics):
        named = {f"eval/{name}": value for name, value in metrics.items()}
        return Manifest(step, {}, named, True, "", {}, protocol=protocol)

    by_fid = [saved(1, fid=3.0, kid=1.0), saved(2, fid=2.0, kid=2.0), saved(3)]
    assert _best_step(by_fid, "run") == 2
    assert _best_step([saved(1, fid=2.0), saved(2, fid=2.0)], "run") == 2  # the latest of equals
    more_is_better = [saved(1, inception_score=3.0), saved(2, inception_score=2.0)]
    assert _best_step(more_is_better, "run") == 1
    points = [saved(1, kl_to_uniform=1.0, modes_covered=8.0), saved(2, kl_to_uniform=0.5)]
    assert _best_step(points, "run") == 2
    two_protocols = [saved(1, "a", fid=1.0), saved(2, "b", fid=3.0), saved(3, "b", fid=4.0)]
    assert _best_step(two_protocols, "run") == 2
    assert "by the newest protocol b; by another, and left out: 1" in caplog.text
    with pytest.raises(UsageError, match="no checkpoint in run was scored in training"):
        _best_step([saved(1)], "run")


def test_a_table_with_its_protocol(workdir):
    out = run("--workdir", workdir, "--num_images", 100).stdout
    head, row, *rest = out.splitlines()
    assert head.split()[:4] == ["step", "weights", "fid", "kid"]
    assert row.split()[:2] == ["20", "ema"]
    assert re.search(
        r"\nprotocol [0-9a-f]{8}: classifier [0-9a-f]{8}, resize none; 100 images", out
    )
    # What was measured during training is another protocol: marked, with the difference.
    marked = [line for line in rest if line.split()[:2] in (["10", "ema"], ["20", "ema"])]
    assert len(marked) == 2
    assert all(line.rstrip().endswith("*") for line in marked)
    assert re.search(r"\n\* protocol [0-9a-f]{8}: num_fake = 60, num_pairs = 60\n", out)
    assert "warning: 100 images are too few for a covariance of 128 features" in out
    assert lines(workdir / "evaluations.jsonl")[-1]["scores"]["fid"] > 0
    assert list(workdir.glob("events.out.tfevents*"))


def test_steps_and_weights(workdir):
    out = run_here("--workdir", workdir, "--num_images", 60, "--steps", "best", "--metrics", "fid")
    head = out.stdout.splitlines()[0]
    assert head.split() == ["step", "weights", "fid"]
    run_here("--workdir", workdir, "--num_images", 60, "--steps", "all", "--weights", "raw")
    raw = [
        line for line in lines(workdir / "evaluations.jsonl") if line["subject"]["weights"] == "raw"
    ]
    with Checkpoints(workdir) as checkpoints:
        assert [line["subject"]["step"] for line in raw] == checkpoints.all_steps()


def test_a_damaged_checkpoint_is_passed_over(workdir):
    with Checkpoints(workdir) as checkpoints:
        (first, *_) = checkpoints.all_steps()
        shutil.copytree(workdir / "checkpoints" / str(first), workdir / "checkpoints" / "15")
    done = run_here("--workdir", workdir, "--num_images", 60, "--steps", "all", "--metrics", "fid")
    assert "checkpoint 15 is passed over, it cannot be trusted" in done.stderr
    assert "\n  15  " not in done.stdout


def test_the_order_of_images_does_not_matter(cache, tmp_path):
    from gan.data import DATASETS

    examples, labels = DATASETS.build("digits").load()
    np.savez(tmp_path / "sorted.npz", images=examples[np.argsort(labels, kind="stable")])
    out = run_here("--images", tmp_path / "sorted.npz", "--dataset", "digits", "--metrics", "is")
    assert float(out.stdout.splitlines()[1].split()[1]) > 9


def test_the_real_images_are_not_compared_with_the_very_same(cache, monkeypatch):
    """Where only the first ones are compared, the samples are other ones than the real images."""
    from gan.metrics import summary
    from gan.trainers.evaluation.evaluate import evaluate_images

    monkeypatch.setattr(summary, "NUM_VECTORS", 300)
    scores = evaluate_images("digits", "digits", metrics=("prdc",)).scores
    assert 0.5 < scores["precision"] < 1


def test_where_every_checkpoint_is_damaged(workdir):
    for path in workdir.glob("checkpoints/*/manifest.json"):
        path.write_text("{")
    for steps in ("all", "best", "latest"):
        done = run_here("--workdir", workdir, "--steps", steps, code=1)
        assert "can be trusted" in done.stderr.splitlines()[-1]


def test_points_are_scored_against_their_mixture(tmp_path):
    config = TrainConfig(
        dataset="gaussians", generator="mlp(8, 1)", discriminator="mlp(8, 1)", batch_size=8,
        latent_dim=4, num_steps=10, sample_every_steps=0,
    )  # fmt: skip
    train(config, tmp_path / "run")
    out = run_here("--workdir", tmp_path / "run", "--num_images", 1_000).stdout
    assert out.split()[:5] == ["step", "weights", "modes_covered", "high_quality", "kl_to_uniform"]
    assert "1,000 points against gaussians" in out


def test_anybodys_images(cache, tmp_path):
    from gan.data import DATASETS

    examples = DATASETS.build("digits").load().examples[:200]
    np.savez(tmp_path / "images.npz", images=examples)
    (tmp_path / "folder").mkdir()
    for i, image in enumerate(examples):
        Image.fromarray(image[..., 0]).save(tmp_path / "folder" / f"{i:03d}.png")
    (tmp_path / "folder" / "._000.png").write_bytes(b"Mac OS X")  # left out, and not fatal
    (tmp_path / "folder" / "200.png").write_bytes(b"broken")
    rows = [
        run_here("--images", tmp_path / name, "--dataset", "digits").stdout.splitlines()[1].split()
        for name in ("images.npz", "folder")
    ]
    np.testing.assert_allclose(float(rows[0][1]), float(rows[1][1]), atol=2e-3)  # the FID
    out = run_here("--images", "digits", "--dataset", "digits", "--metrics", "fid,prdc").stdout
    name, *scores = out.splitlines()[1].split()
    assert name == "digits"
    # In another order, two equal distances may come out unequal.
    np.testing.assert_allclose(np.array(scores, float), [0, 1, 1, 1.2, 1], atol=1e-3)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--workdir", "{tmp}/nowhere"], "there is no such folder"),
        (["--workdir", "{tmp}"], "no checkpoint is saved there yet"),
        (["--workdir", "{run}", "--steps", "15"], "all, best, latest, or one of"),
        (["--workdir", "{run}", "--metrics", "fld"], "unknown metric 'fld'; did you mean 'fid'"),
        (["--workdir", "{run}", "--features", "pixels", "--metrics", "is"], "needs class logits"),
        (["--workdir", "{run}", "--features", "clasifier"], "did you mean 'classifier'"),
        (["--workdir", "{run}", "--num_images", "3"], "at least 20 samples can be scored, given 3"),
        (["--workdir", "{run}", "--weights", "rae"], "this run has ema, raw"),
        (["--workdir", "{run}", "--features", "inception('{tmp}/no.npz')"], "no.npz"),
        (["--images", "{tmp}/other.npz"], "--images needs --dataset"),
        (["--images", "{tmp}/other.npz", "--dataset", "digits"], "images are uint8 9 x 9 x 1"),
        (["--images", "{tmp}/nan.npz", "--dataset", "digits"], "images are float64"),
        (["--images", "{tmp}/empty.npz", "--dataset", "digits"], "empty.npz is not an .npz"),
        (["--images", "{tmp}/array.npy", "--dataset", "digits"], "a .zip or an .npz is accepted"),
        (["--images", "nowhere", "--dataset", "digits"], "--images=nowhere: unknown dataset"),
        (["--images", "digits", "--dataset", "digits", "--seed", "3"], "--seed does not go with"),
        (["--workdir", "{run}", "--data_dir", "x"], "--data_dir goes with --dataset"),
        (["--workdir", "{run}", "--dataset", "noise(size=8)"], "8 x 8 x 1, and those of noise"),
        (
            ["--images", "digits", "--dataset", "digits", "--classes", "equal"],
            "--classes does not go",
        ),
        (["--workdir", "{run}", "--seed", "-1"], "--seed must be from 0 to"),
        (["--workdir", "{run}", "--steps", "²"], "all, best, latest, or one of"),
        ([], "one of the arguments --workdir --images is required"),
    ],
)
def test_misuse(cache, whole, tmp_path, args, words):
    np.savez(tmp_path / "other.npz", images=np.zeros([50, 9, 9], np.uint8))
    np.savez(tmp_path / "nan.npz", images=np.full([50, 8, 8], np.nan))
    (tmp_path / "empty.npz").touch()
    np.save(tmp_path / "array.npy", np.zeros([50, 8, 8], np.uint8))
    args = [arg.format(tmp=tmp_path, run=whole) for arg in args]
    assert words in run_here(*args, code=2).stderr.strip().splitlines()[-1]


def test_samples_that_are_not_finite(workdir, monkeypatch):
    """As after a run that was let go on."""
    import jax

    with Checkpoints(workdir) as checkpoints:
        manifest = checkpoints.newest()
        from gan.config import from_mapping
        from gan.trainers.experiment import build

        experiment = build(from_mapping(manifest.config))
        state = checkpoints.restore(manifest, experiment.state_target())
        nan_averages = jax.tree.map(lambda leaf: leaf + np.nan, state.averages)
        checkpoints.save(21, state.replace(averages=nan_averages), manifest.config, {})
    done = run_here("--workdir", workdir, "--num_images", 60, "--steps", "21", code=1)
    assert "samples of step 20 have values that are not finite" in done.stderr.splitlines()[-1]


def test_a_classifier_that_reads_badly_is_an_event_and_a_warning(cache, tmp_path):
    """The labels are drawn at random, so that there is nothing to learn."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (200, 8, 8), np.uint8), rng.integers(0, 2, 200)
    np.savez(tmp_path / "noise.npz", images=images, labels=labels)
    config = dataclasses.replace(
        CONFIG, dataset=f"npz('{tmp_path / 'noise.npz'}')", eval_features="classifier"
    )
    train(config, tmp_path / "run")
    events = {line["event"]: line for line in lines(tmp_path / "run" / "history.jsonl")}
    assert "the classifier recognises only" in events["features"]["message"]
    (warning, *_) = read_results(tmp_path / "run")[0].warnings
    assert warning == events["features"]["message"]


GAP = "duality_gap(steps=2, num_batches=1)"


def test_the_duality_gap_in_training_and_afterwards(tmp_path):
    """Without samples, features and classifier; the state is that of a run without it."""
    keys = {"keep_checkpoints": ("latest(1)",), "eval_metrics": (GAP,), "averaging": ()}
    state = train(dataclasses.replace(CONFIG, **keys), tmp_path / "gap")
    plain = dataclasses.replace(CONFIG, **(keys | {"eval_metrics": (), "eval_every_steps": 0}))
    jax.tree.map(np.testing.assert_array_equal, state, train(plain, tmp_path / "plain"))
    logged = {line["step"]: line for line in lines(tmp_path / "gap" / "metrics.jsonl")}
    (result,) = evaluate_run(tmp_path / "gap", metrics=[GAP])
    assert result.scores == {
        name: pytest.approx(logged[20][f"eval/{name}"])
        for name in (
            "duality_gap",
            "discriminator_gain",
            "generator_gain",
            "discriminator_advantage",
        )
    }
    assert result.protocol.features == "none"
    assert result.protocol.game == (
        "duality_gap(steps=2, optimizer='adam(1e-3, b1=0.5)', num_batches=1) of non_saturating, "
        "batches of 16"
    )
    other = evaluate_run(tmp_path / "gap", metrics=["duality_gap(steps=1, num_batches=1)"])
    assert other[0].protocol.fingerprint != result.protocol.fingerprint


def test_the_duality_gap_beside_scores_of_samples_and_its_misuse(workdir):
    done = run_here("--workdir", workdir, "--num_images", "60", "--metrics", f"fid,{GAP}")
    head, row = done.stdout.splitlines()[:2]
    assert head.split()[2:4] == ["fid", "duality_gap"]
    assert len(row.split()) == len(head.split()) and "-" not in row.split()
    assert "KID and neighbours of 60; duality_gap(steps=2" in done.stdout
    for metrics, where, words in (
        ("duality_gap(steps=0)", ("--workdir", workdir), "steps must be at least 1, given 0"),
        (f"{GAP},duality_gap", ("--workdir", workdir), "metric 'duality_gap' is named twice"),
        ("duality_gap", ("--images", "digits", "--dataset", "digits"),
         "metric 'duality_gap' needs the players of a run, and digits"),
    ):  # fmt: skip
        done = run_here(*where, "--metrics", metrics, code=2)
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_protocols_from_before_metrics_of_the_game_keep_their_names():
    fields = {
        "features": "pixels", "features_digest": "", "resize": "none", "dataset": "digits",
        "data_digest": "12", "num_real": 20, "num_fake": 20, "num_pairs": 20,
        "quantisation": "uint8", "seed": 0, "classes": "none",
    }  # fmt: skip
    text = json.dumps(fields, sort_keys=True)
    assert Protocol(**fields).fingerprint == hashlib.sha256(text.encode()).hexdigest()[:8]
    assert Protocol(**fields, game="x").fingerprint != Protocol(**fields).fingerprint
