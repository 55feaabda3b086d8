"""The scripts where TensorFlow, and TFDS too, are not installed."""

import json
import os
import pathlib

import pytest
from PIL import Image
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

from tests.scripts import ROOT, run_script

SMALL = [
    "--config", ROOT / "configs" / "digits.py",
    "--config.generator=mlp(8, 1)", "--config.discriminator=mlp(8, 1)", "--config.num_steps=20",
    "--config.log_every_steps=5", "--config.sample_every_steps=10",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache of features for the programs that are started here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAN_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of digits that found no TensorFlow, and what it printed."""
    workdir = tmp_path_factory.mktemp("runs") / "digits"
    done = run_script("train.py", *SMALL, "--workdir", workdir, "--profile", without="tensorflow")
    return workdir, done.stderr


def tags(workdir, plugin):
    events = EventAccumulator(str(workdir))
    events.Reload()
    return {
        tag: [event.step for event in events.Tensors(tag)]
        for tag in events.PluginTagToContent(plugin)
    }


def test_a_run_writes_the_same(trained):
    workdir, told = trained
    assert "[5] logits/fake" in told
    assert " steps/s, 100.0% (20/20), ETA: 0m\n" in told
    assert "is complete: 20 of 20 steps" in told
    assert "tensor" not in told.lower()
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 10, 15, 20]
    scalars = tags(workdir, "scalars")
    assert set(scalars) == set(lines[0]) - {"step"}
    assert scalars["loss/generator"] == [5, 10, 15, 20]
    assert tags(workdir, "images") == {"samples": [10, 20]}
    assert len(list((workdir / "plugins" / "profile").rglob("*.xplane.pb"))) == 1


def test_samples_are_drawn(trained, tmp_path):
    args = ("--workdir", trained[0], "--output", tmp_path / "samples.png")
    run_script("sample.py", *args, without="tensorflow")
    with Image.open(tmp_path / "samples.png") as picture:
        assert min(picture.size) > 64


def test_samples_are_scored(trained):
    workdir, _ = trained
    args = ("--workdir", workdir, "--num_images", 60, "--features", "pixels", "--metrics", "fid")
    done = run_script("evaluate.py", *args, without="tensorflow")
    assert "tensor" not in done.stderr.lower()
    assert done.stdout.split()[:3] == ["step", "weights", "fid"]
    result = json.loads((workdir / "evaluations.jsonl").read_text())
    (tag,) = [tag for tag in tags(workdir, "scalars") if tag.startswith("evaluation_")]
    assert tag.endswith("/fid")
    assert f"{result['scores']['fid']:.3f}" in done.stdout


def test_preparing_a_dataset_is_refused_with_a_line(tmp_path):
    args = ("--dataset", "mnist", "--data_dir", tmp_path / "data", "--raw_dir", tmp_path)
    (line,) = run_script("prepare_data.py", *args, without="tensorflow", code=2).stderr.splitlines()
    assert "mnist: TFDS prepares datasets with TensorFlow, which is not installed: pip" in line
    assert not list(tmp_path.iterdir())


def test_without_tfds_the_other_datasets_train(tmp_path):
    args = (*SMALL, "--workdir", tmp_path / "run")
    done = run_script("train.py", *args, without="tensorflow,tensorflow_datasets")
    assert "is complete: 20 of 20 steps" in done.stderr


SCRIPT = """
import numpy as np
from PIL import Image

from gan.data import DATASETS
from gan.errors import UsageError

np.savez("arrays.npz", images=np.zeros([6, 4, 4], np.uint8))
Image.new("L", (9, 9)).save("photo.png")
for spec in (
    "digits", "gaussians", "noise(8)", "npz('arrays.npz')", "images('.', resolution=8)",
    "mnist", "tfds('mnist')", "emnist/letters", "digts",
):
    try:
        print(spec, len(DATASETS.build(spec).load().labels), sep=": ")
    except UsageError as error:
        print(spec, error, sep=": ")
"""
NO_TFDS = "is not installed: pip install tensorflow-datasets"


def test_without_tfds_its_datasets_are_refused_with_a_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("script.py").write_text(SCRIPT)
    script = os.path.abspath("script.py")
    done = run_script(script, without="tensorflow,tensorflow_datasets")
    assert done.stdout.splitlines() == [
        "digits: 1797",
        "gaussians: 50000",
        "noise(8): 2048",
        "npz('arrays.npz'): 6",
        "images('.', resolution=8): 1",
        f"mnist: mnist is read by TFDS, which {NO_TFDS}",
        f"tfds('mnist'): mnist is read by TFDS, which {NO_TFDS}",
        f"emnist/letters: unknown dataset 'emnist/letters'; did you mean 'mnist'? (TFDS {NO_TFDS})",
        f"digts: unknown dataset 'digts'; did you mean 'digits'? (TFDS {NO_TFDS})",
    ]
