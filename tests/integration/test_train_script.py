"""`scripts/train.py` as a user runs it."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.scripts import run_script, run_script_here

SMALL = """from ml_collections import ConfigDict


def get_config():
    return ConfigDict({
        "dataset": "digits", "generator": "dcgan(4)", "discriminator": "dcgan(4)",
        "batch_size": 16, "latent_dim": 8, "num_steps": 12, "log_every_steps": 3,
        "sample_every_steps": 6, "checkpoint_every_steps": 6, "seed": 5,
    })
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "small.py"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):
    """A run of 12 steps, in one go."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    return workdir, run_script("train.py", "--config", small, "--workdir", workdir)


def checkpoint(workdir, step):
    import jax

    from gan.checkpoints import Checkpoints
    from gan.config import from_mapping
    from gan.trainers.experiment import build

    config = from_mapping(json.loads((workdir / "config.json").read_text()) | {"mesh": "data(1)"})
    checkpoints, target = Checkpoints(workdir), build(config).state_target()
    return jax.device_get(checkpoints.restore(checkpoints.verify(step), target))


def width(path):
    with Image.open(path) as picture:
        return picture.size[0]


def test_a_run_leaves_what_the_readme_says(finished):
    workdir, done = finished
    assert "is complete: 12 of 12 steps" in done.stderr
    assert done.stderr.count("the first step was made") == 1
    assert sorted(path.name for path in (workdir / "samples").iterdir()) == [
        "step_00000006.png",
        "step_00000012.png",
    ]
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["12", "6"]
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 6, 9, 12]
    assert {"loss/generator", "logits/real", "images_per_second"} <= set(lines[0])
    assert json.loads((workdir / "config.json").read_text())["seed"] == 5
    assert width(workdir / "samples" / "step_00000012.png") > 400


def test_tensorboard_has_losses_and_samples(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished[0]))
    events.Reload()
    assert {"loss/generator", "loss/discriminator", "samples"} <= set(events.Tags()["tensors"])


def test_twice_six_steps_are_twelve_bit_by_bit(small, finished, tmp_path):
    import jax

    workdir = tmp_path / "halves"
    for steps in (6, 12):
        args = ("--config", small, "--workdir", workdir, f"--config.num_steps={steps}")
        done = run_script("train.py", *args)
    assert "resuming" in done.stderr
    assert "at step 6" in done.stderr
    whole, halves = checkpoint(finished[0], 12), checkpoint(workdir, 12)
    assert jax.tree.structure(whole) == jax.tree.structure(halves)
    jax.tree.map(np.testing.assert_array_equal, whole, halves)


def test_typed_again_it_says_that_it_is_complete(small, finished):
    before = (finished[0] / "metrics.jsonl").read_text()
    done = run_script_here("train.py", "--config", small, "--workdir", finished[0])
    assert "is complete: 12 of 12 steps" in done.stderr
    assert (finished[0] / "metrics.jsonl").read_text() == before


def test_another_config_is_refused_with_the_difference(small, finished):
    args = ("--config", small, "--workdir", finished[0], "--config.loss=hinge")
    done = run_script_here("train.py", *args, code=2)
    assert "loss was 'non_saturating' and is now 'hinge'" in done.stderr
    assert json.loads((finished[0] / "config.json").read_text())["loss"] == "non_saturating"


def test_a_damaged_config_costs_nothing_where_a_checkpoint_has_it(small, finished, tmp_path):
    workdir = shutil.copytree(finished[0], tmp_path / "run")
    (workdir / "config.json").write_text('{"seed": ')
    args = ("--config", small, "--workdir", workdir)
    assert "is complete" in run_script_here("train.py", *args).stderr
    assert "at step 12" in run_script_here("sample.py", "--workdir", workdir,
                               "--output", tmp_path / "a.png").stdout  # fmt: skip
    done = run_script_here("train.py", *args, "--config.loss=hinge", code=2)
    assert "loss was 'non_saturating'" in done.stderr
    for manifest in workdir.glob("checkpoints/*/manifest.json"):
        manifest.unlink()
    done = run_script_here("train.py", *args, code=2)
    assert "config.json is not a config" in done.stderr.splitlines()[-1]


def test_another_optimizer_from_the_command_line_and_from_a_file(small, tmp_path):
    args = ("--config", small, "--config.num_steps", "2")
    run_script_here("train.py", *args, "--workdir", tmp_path / "a",
        "--config.generator_optimizer=adam(1e-4)")  # fmt: skip
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["generator_optimizer"] == "adam(1e-4)"
    other = tmp_path / "other.py"
    other.write_text(SMALL.replace('"seed": 5', '"generator_optimizer": "rmsprop(1e-4)"'))
    run_script_here(
        "train.py", "--config", other, "--workdir", tmp_path / "b", "--config.num_steps=2"
    )


def test_eight_devices(small, tmp_path):
    done = run_script("train.py", "--config", small, "--workdir", tmp_path, devices=8)
    assert "on 8 cpu device(s)" in done.stderr


def test_samples_are_the_same_for_a_seed_and_in_every_format(finished, tmp_path):
    outputs = [tmp_path / name for name in ("a.npy", "b.npz", "c.png", "d.npy")]
    for output, seed in zip(outputs, (0, 0, 0, 1), strict=True):
        sample = run_script if output is outputs[0] else run_script_here
        sample("sample.py", "--workdir", finished[0], "--output", output,
               "--num_images", "9", "--seed", seed)  # fmt: skip
    images, archive = np.load(outputs[0]), np.load(outputs[1])
    assert (images.shape, images.dtype) == ((9, 8, 8, 1), np.uint8)
    np.testing.assert_array_equal(images, archive["images"])
    assert archive.files == ["images"]  # the generator is not conditional
    assert width(outputs[2]) > 400
    assert (np.load(outputs[3]) != images).any()
    run_script_here(
        "sample.py", "--workdir", finished[0], "--output", outputs[3], "--num_images", 300
    )
    np.testing.assert_allclose(np.load(outputs[3])[:9].astype(int), images, atol=1)


def test_list_names_everything_with_its_defaults():
    out = run_script_here("train.py", "--list").stdout
    for line in (
        "  digits",
        "  gaussians(modes=8, layout='ring', std=None)",
        "  dcgan(width=64, norm='none', down_to=7, conditional=False)",
        "  relativistic",
        "  optimistic_sgd(learning_rate, strength=None, first_step='optimistic')",
        "  alternating(discriminator_steps=1, reuse_fakes=False)",
        "  ema(decay=0.999, start_step=0, recalibrate_batch_norm=0)",
    ):
        assert line in [shown.partition("  [")[0] for shown in out.splitlines()]
    shown = (
        "  alternating(discriminator_steps=1, reuse_fakes=False)  [discriminator_steps in [1, 100]]"
    )
    assert shown in out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--config", "{small}"], ["--workdir are needed"]),
        (["--confg", "{small}", "--workdir", "{new}"], ["--confg"]),
        (["--config", "{small}x", "--workdir", "{new}"], ["small.pyx does not exist", "'small.py'"]),
        (["--config", "{small}", "--workdir", "{new}", "--config.num_step=3"], ["'num_steps'"]),
        (["--config", "{small}", "--workdir", "{new}", "--config.num_steps"], ["value is missing"]),
        (["--config", "{small}", "--workdir", "{new}", "--config.loss=hing"], ["'hinge'"]),
        (["--config", "{small}", "--workdir", "{new}", "--config.generator=dcgan(wdth=3)"],
         ["'wdth'", "'width'"]),
        (["--config", "{small}", "--workdir", "{new}", "--config.batch_size=many"],
         ["batch_size must be int", "'many'"]),
        (["--config", "{small}", "--workdir", "{new}", "--config.mesh=data(9)"], ["1 to 8"]),
        (["--config", "{small}", "--workdir", "{new}", "--config.dataset=gaussians"],
         ["generator = 'dcgan(4)'", "example here is 2"]),
        (["--config", "{small}", "--workdir", "{new}", "--config.dataset=noise(10)"],
         ["generator = 'dcgan(4)'", "makes square images of", "10 x 10"]),
        (["--config", "{small}", "--workdir", "{new}", "--config.dataset=npz('{unlabelled}')",
          "--config.generator=dcgan(4, conditional=True)",
          "--config.discriminator=dcgan(4, conditional=True)"],
         ["dcgan(4, conditional=True)' is conditional", "has no classes"]),
        (["--config", "{small}", "--workdir", "{new}", "--config.dataset=mnist",
          "--config.data_dir={empty}"], ["not prepared", "prepare_data.py --dataset mnist"]),
        (["--config", "{small}", "--workdir", "{small}/under"], ["cannot be written"]),
    ],
)  # fmt: skip
def test_misuse_is_one_line_exit_code_2_and_nothing_written(small, tmp_path, args, words):
    new, empty, unlabelled = (tmp_path / name for name in ("new", "empty", "x.npz"))
    empty.mkdir()
    np.savez(unlabelled, images=np.zeros([30, 8, 8], np.uint8))
    places = {"small": small, "new": new, "empty": empty, "unlabelled": unlabelled}
    args = [arg.format(**places) for arg in args]
    done = run_script_here("train.py", *args, code=2)
    last = done.stderr.strip().splitlines()[-1]
    assert "error: " in last
    for word in words:
        assert word in last
    assert not new.exists()
    assert not list(empty.iterdir())


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--workdir", "{new}"], ["there is no such folder"]),
        (["--workdir", "{run}", "--output", "x.jpg"], [".png, .npy or .npz"]),
        (["--workdir", "{run}", "--step", "7"], ["saved are 6, 12"]),
        (["--workdir", "{run}", "--num_images", "0"], ["at least 1"]),
        (["--workdir", "{run}", "--weights", "slow"], ["this run has ema, raw"]),
    ],
)
def test_sampling_misuse(finished, tmp_path, args, words):
    args = [arg.format(new=tmp_path / "new", run=finished[0]) for arg in args]
    done = run_script_here("sample.py", *args, code=2)
    for word in words:
        assert word in done.stderr.strip().splitlines()[-1]


def test_what_was_compiled_is_kept(small, tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("GAN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    run_script("train.py", "--config", small, "--workdir", tmp_path / "run")
    kept = {path.name for path in (tmp_path / "cache" / "compiled").rglob("*-cache")}
    assert any(name.startswith("jit_steps") for name in kept)
    run_script("train.py", "--config", small, "--workdir", tmp_path / "again")
    assert {path.name for path in (tmp_path / "cache" / "compiled").rglob("*-cache")} == kept
