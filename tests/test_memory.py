"""What cannot fit into memory is refused before it is allocated."""

import json
import re
import shutil
import time

import jax
import numpy as np
import pytest

import gan
from gan import memory
from gan.config import TrainConfig, from_mapping
from gan.data.description import Description
from gan.data.description import from_mapping as from_description
from gan.errors import UsageError
from gan.memory import (
    check_fits,
    check_num_images,
    device_memory,
    host_memory,
    tree_bytes,
    with_unit,
)
from gan.sharding import data_mesh
from gan.trainers.experiment import build
from gan.trainers.train_step import make_train_step
from tests.scripts import run_script, run_script_here


def test_cpu_devices_share_the_memory():
    one, eight = device_memory(data_mesh(1)), device_memory(data_mesh(8))
    assert one // 8 == eight > 10**8
    assert one == host_memory()


def test_sizes_in_words():
    assert with_unit(999) == "999 B"
    assert with_unit(25_300_000_000) == "25.3 GB"
    assert tree_bytes({"a": np.zeros([3, 4], np.float32), "b": np.zeros([], np.int8)}) == 49


def test_only_what_is_large_is_named():
    check_fits({"a": 60, "b": 40}, 100, "here")
    with pytest.raises(UsageError) as error:
        check_fits({"a": 1_000, "b": 500, "c": 1}, 100, "here")
    assert str(error.value) == (
        "a needs 1 kB; b needs 500 B; there is 100 B here: choose smaller numbers"
    )


ABSURD = {
    "latent_dim-bound": ({"latent_dim": 10**11}, r"latent_dim must be in \[1, 2147483648\)"),
    "latent_dim": ({"latent_dim": 10**9}, "latent_dim = 1000000000 needs 4.1 TB; .* there is"),
    "width": ({"generator": "resnet(width=100000)"}, "'resnet.width=100000.' with .* needs 760 GB"),
    "discriminator": ({"discriminator": "mlp(width=100000000)"}, "discriminator = .* needs .* TB"),
    "depth": ({"generator": "mlp(depth=100000)"}, r"depth must be in \[0, 256\], given 100000"),
    "blocks": ({"generator": "r3gan(blocks=1000)"}, r"blocks must be in \[1, 32\]"),
    "batch_size": ({"batch_size": 10**9}, "batch_size = 1000000000 .* needs 768 GB"),
    "num_steps": ({"num_steps": 10**15}, r"num_steps must be in \[1, 2147483648\)"),
    "num_steps-batches": (
        {"num_steps": 2**31 - 1, "dynamics": "extragradient"},
        "at most 1073741823 steps of 2 batches",
    ),
    "eval_num_images": ({"eval_num_images": 10**12}, r"eval_num_images must be in \[20, "),
    "modes": ({"dataset": "gaussians(modes=1000000000)"}, r"modes must be in \[1, 10000\]"),
    "size": ({"dataset": "noise(size=1000000)"}, "needs 6.14e.03 TB; there is"),
    "num_images": ({"dataset": "noise(num_images=2000000000)"}, "num_images = 2000000000 .* TB"),
    "resolution": ({"dataset": "images('.', resolution=1000000)"}, "resolution must be in"),
    "alternating": ({"dynamics": "alternating(1000000000)"}, r"must be in \[1, 100\]"),
    "lookahead": ({"dynamics": "lookahead(steps=1000000000000)"}, "integers must be below"),
    "nested": ({"dynamics": "lookahead(" * 10_000 + ")" * 10_000}, "110,000 characters"),
    "optimizer": (
        {"generator": "mlp(width=20000)", "generator_optimizer": "scale_by_lbfgs(100)"},
        "generator_optimizer = 'scale_by_lbfgs.100.' needs",
    ),
}


@pytest.mark.parametrize(("changes", "words"), ABSURD.values(), ids=ABSURD)
def test_absurd_sizes_are_refused_at_once(changes, words):
    begin = time.monotonic()
    with pytest.raises(UsageError, match=words) as error:
        build(from_mapping({"batch_size": 64} | changes))
    assert time.monotonic() - begin < 5
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1_000


def test_what_is_large_and_fits_is_built():
    build(
        TrainConfig(
            num_steps=2**31 - 1, log_every_steps=10**15, dynamics="lookahead(steps=2000000)"
        )
    )


def test_one_label_of_two_billion(tmp_path):
    path, labels = tmp_path / "a.npz", np.array([0, 1, 2, 2**31])
    np.savez(path, images=np.zeros([4, 8, 8], np.uint8), labels=labels)
    with pytest.raises(UsageError, match="it has 2,147,483,649 classes, 1,000,000 are accepted"):
        build(TrainConfig(dataset=f"npz({str(path)!r})"))


def test_a_saved_run_is_held_against_the_memory_of_this_machine_but_for_its_batches():
    data = Description("d", (8, 8, 1), ("a",), (10,), "0")
    assert build(TrainConfig(batch_size=10**9), data).config.batch_size == 10**9
    with pytest.raises(UsageError, match="latent_dim = 1000000000 needs"):
        build(TrainConfig(latent_dim=10**9), data)


def test_a_compiled_step_that_does_not_fit_is_not_called(monkeypatch):
    experiment = build(TrainConfig(generator="mlp(4, 1)", discriminator="mlp(4, 1)", batch_size=8))
    step, state = make_train_step(experiment), experiment.init_on_mesh()
    data = experiment.make_loader(experiment.load_examples()).at(0, 0).data
    step.check_fits(state, data)
    monkeypatch.setattr("gan.trainers.train_step.device_memory", lambda mesh: 1_000)
    with pytest.raises(UsageError, match=r"a step with this batch_size .* needs .* 1 kB on each"):
        step.check_fits(state, data)
    assert all(
        np.isfinite(leaf).all() for leaf in jax.tree.leaves(step(state, data, 0).state.players)
    )


TOO_WIDE = "--config.generator=resnet(width=100000, conditional=True)"


@pytest.mark.parametrize(
    ("script", "args"),
    [
        ("train.py", ["--workdir", "run"]),
        ("compare.py", ["--output", "run"]),
        ("benchmark.py", ["--step_only"]),
    ],
)
def test_the_scripts_refuse_it_and_write_nothing(script, args, tmp_path, root, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = root / "configs" / "digits.py"
    done = run_script_here(script, "--config", config, TOO_WIDE, *args, code=2)
    assert re.search(r"with latent_dim = \d+ and 10 classes needs .* TB", done.stderr)
    assert not any(tmp_path.iterdir())


def test_a_process_of_its_own_ends_in_a_line(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"latent_dim": 10**9}))
    done = run_script("train.py", "--config", path, "--workdir", tmp_path / "run", code=2)
    assert "latent_dim = 1000000000 needs 4.1 TB" in done.stderr
    assert not (tmp_path / "run").exists()


def test_the_limit_of_a_container_counts(monkeypatch):
    monkeypatch.setattr(memory.pathlib.Path, "is_file", lambda self: True)
    monkeypatch.setattr(memory.pathlib.Path, "read_text", lambda self: "12345\n")
    assert host_memory() == 12_345


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns a run of one step, with points or images."""
    folder = tmp_path_factory.mktemp("run")
    return gan.train(
        TrainConfig(
            num_steps=1, batch_size=8, generator="mlp(4, 1)", discriminator="mlp(4, 1)",
            sample_every_steps=0, mesh="data(1)",
        ),
        folder / "run",
    )  # fmt: skip


MANY = 2_000_000_000


@pytest.mark.parametrize("number", [0, -1, 10**12, 10**5_000, "64", None, 1.5], ids=type)
def test_a_number_of_samples_that_is_none(number):
    with pytest.raises(UsageError, match="num_images must be from 1 to 2147483647, given"):
        check_num_images(number, (8, 8, 1))


def test_samples_that_do_not_fit_are_refused_with_their_size(run, tmp_path):
    begin = time.monotonic()
    for ask in (
        lambda: run.sample(MANY),
        lambda: run.latents(MANY),
        lambda: run.write_samples(tmp_path / "a.npy", MANY),
    ):
        with pytest.raises(UsageError, match=r"num_images = 2000000000 needs .* [GT]B; there is"):
            ask()
    assert time.monotonic() - begin < 5
    for flags in ([], ["--classes", "3,5"], ["--separate"]):
        output = tmp_path / ("a" if "--separate" in flags else "a.npz")
        flags += ["--workdir", run.workdir, "--output", output]
        done = run_script_here("sample.py", "--num_images", MANY, *flags, code=2)
        assert "--num_images = 2000000000 needs 280 GB" in done.stderr
        assert not output.exists()


def test_a_number_of_scored_samples_that_cannot_be_counted(run):
    begin = time.monotonic()
    with pytest.raises(UsageError, match="num_images must be from 1 to 2147483647"):
        run.evaluate(num_images=10**12, features="pixels")
    assert time.monotonic() - begin < 5


def test_a_strangers_run_that_does_not_fit_is_not_loaded(run, tmp_path):
    """Whoever can write a manifest can hash it too: `build` itself has to hold."""
    shutil.copytree(run.workdir, folder := tmp_path / "run")
    path = folder / "checkpoints" / "1" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["config"]["latent_dim"] = 10**9
    with pytest.raises(
        UsageError, match=r"generator = .mlp.4, 1.. with latent_dim = 1000000000 needs"
    ):
        build(from_mapping(manifest["config"]), from_description(manifest["data"]))


def test_games_of_too_many_steps_and_comparisons_of_too_many_seeds(tmp_path, root):
    done = run_script_here("games.py", "--num_steps", 10**12, "--output", tmp_path / "a", code=2)
    assert "--num_steps=1000000000000 of bilinear needs" in done.stderr
    config = root / "configs" / "digits.py"
    done = run_script_here(
        "compare.py", "--config", config, "--output", tmp_path / "b", "--seeds", 10**9, code=2
    )
    assert "--seeds must be from 1 to 1000, given 1000000000" in done.stderr
    assert not any(tmp_path.iterdir())
