"""The commands in odd surroundings: they do their work, or say in a line what to do."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import pytest

import gan
from tests.scripts import run_script_here

CONFIG = """import os, sys
print("na\xefve \u56fe")
def get_config():
    return {
        "dataset": "digits", "generator": "mlp(16, 1)", "discriminator": "mlp(16, 1)",
        "batch_size": 8, "latent_dim": 4, "num_steps": 2, "log_every_steps": 2,
        "sample_every_steps": 2, "checkpoint_every_steps": 2, "seed": 7,
    }
"""
ODD = b"a 'b\" \xff\n\xc3\xa9".decode(errors="surrogateescape")  # no terminal shows it
NO_HOME = "import pwd\ndef nobody(uid): raise KeyError(uid)\npwd.getpwuid = nobody\n"


@pytest.fixture
def small(tmp_path):
    path = tmp_path / f"{ODD}.py"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def run(root, cwd, script, *args, shell='"$@"', drop=(), code=0, **variables):
    """Runs a script by a line of Bash; fails for another exit code, or where there is a traceback."""
    environment = {name: value for name, value in os.environ.items() if name not in drop}
    done = subprocess.run(
        ["bash", "-c", shell, "-", sys.executable, root / "scripts" / script, *args],
        cwd=cwd, env=environment | {"JAX_NUM_CPU_DEVICES": "1"} | variables, timeout=300, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def digest(done):
    (line,) = [line for line in done.stderr.splitlines() if "SHA-256" in line]
    return line.rpartition(" ")[2]


@pytest.mark.slow
def test_train_sample_and_evaluate_in_odd_surroundings(root, tmp_path, small):
    """No home, an ASCII terminal, double precision asked for, streams closed: the results are the same."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(NO_HOME)
    (tmp_path / "home").mkdir()
    plain = run(root, tmp_path, "train.py", "--config", small, "--workdir=~/plain", HOME="home")
    assert digest(plain)
    assert (tmp_path / "home" / "plain" / "config.json").exists()
    ascii_only = {
        "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii",
        "TMPDIR": str(tmp_path), "PYTHONPATH": str(tmp_path / "site"), "JAX_ENABLE_X64": "1",
    }  # fmt: skip
    homeless = ascii_only | {"drop": ("HOME", "GAN_CACHE_DIR", "XDG_CACHE_HOME")}
    workdir = "na\xefve '\"\n \u56fe"
    odd = run(root, tmp_path, "train.py", "--config", small, "--workdir", workdir, **homeless)
    assert digest(odd) == digest(plain)
    closed = '"$@" <&- >&- 2>&-'
    samples = ODD + ".png"
    run(root, tmp_path, "sample.py", "--workdir", workdir, "--output", samples, shell=closed)
    assert (tmp_path / samples).exists()
    scored = run(
        root, tmp_path, "evaluate.py", "--workdir", workdir, "--features=pixels",
        "--num_images=128", "--metrics=fid", shell="ulimit -n 64; \"$@\"", **homeless,
    )  # fmt: skip
    assert "fid" in scored.stdout


@pytest.mark.parametrize(
    ("shell", "variables", "words"),
    [
        ('"$@"', {"JAX_PLATFORMS": "rubbish"}, "JAX_PLATFORMS=rubbish cannot be used here"),
        ('mkdir x; cd x; rmdir ../x; "$@"', {}, "cd to another"),
        ('ulimit -v 1000000; "$@"', {}, "ulimit -v unlimited"),
        ('"$@"', {"GAN_CACHE_LIMIT": "much"}, "GAN_CACHE_LIMIT=much"),
        ('"$@" --workdir=$\'w\\xff\'', {}, "w\\udcff/checkpoints: a run's folder must have a name in UTF-8"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_said_in_a_line(root, tmp_path, small, shell, variables, words):
    args = ("--config", small, "--workdir", tmp_path / "run")
    done = run(root, tmp_path, "train.py", *args, shell=shell, code=2, **variables)
    assert words in done.stderr.splitlines()[-1]
    assert {path.name for path in tmp_path.iterdir()} == {small.name}


FULL = """work=$0 environment=$1 checkout=$2; shift 2
mount -t tmpfs tmpfs /mnt && mkdir /mnt/work /mnt/environment /mnt/checkout &&
for name in work environment checkout; do eval mount --bind "\\"\\$$name\\"" /mnt/$name || exit 9; done
mount -t tmpfs -o size=4k tmpfs /var/tmp && { yes > /var/tmp/full; true; } 2>&- &&
mount -t tmpfs -o size=64k tmpfs /tmp && for name in environment checkout; do
  eval place="\\"\\$$name\\""  # one of them may be in /tmp itself
  [ -e "$place" ] || { mkdir -p "$place" && mount --bind "/mnt/$name" "$place"; } || exit 9
done
{ yes > /tmp/full; true; } 2>&-
mount -t tmpfs -o ro tmpfs /dev/shm && cd /mnt/work && "$@"
"""
LOOK = ("prepare_data.py", "--dataset=digits", "--preview=look.png")
SAMPLE = ("sample.py", "--workdir=run", "--num_images=999", "--output=samples.npy")
SEPARATE = ("sample.py", "--workdir=run", "--output=out/x", "--separate")
TRAIN = ("train.py", "--config=small.py", "--workdir=new")
EVALUATE = (
    "evaluate.py",
    "--workdir=run",
    "--features=pixels",
    "--num_images=128",
    "--metrics=fid",
)


@pytest.fixture(scope="module")
def finished():
    """A function that puts a finished run, trained once, and its config into a folder."""
    with tempfile.TemporaryDirectory() as name:
        first = pathlib.Path(name)

        def put(folder):
            (folder / "small.py").write_text(CONFIG, encoding="utf-8")
            if not (first / "run").exists():
                gan.train(folder / "small.py", first / "run")
            shutil.copytree(first / "run", folder / "run")

        yield put


@pytest.mark.parametrize(
    "command", [LOOK, *(pytest.param(one, marks=pytest.mark.slow) for one in (SEPARATE, TRAIN, EVALUATE))]
)  # fmt: skip
def test_temporary_files_cannot_be_written(root, tmp_path, finished, command):
    """A full `/tmp`, and a `/dev/shm` that cannot be written."""
    places = map(str, (tmp_path, sys.prefix, root))
    wrap = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", FULL, *places]
    if subprocess.run([*wrap, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")
    probe = [*wrap, "sh", "-c", "echo x > /tmp/x || echo x > /dev/shm/x"]
    assert subprocess.run(probe, capture_output=True, check=False).returncode  # as it should be
    if command != LOOK:
        finished(tmp_path)
    script = [sys.executable, str(root / "scripts" / command[0]), *command[1:]]
    done = subprocess.run(
        [*wrap, *script], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (LOOK, 2),
        *(pytest.param(one, code, marks=pytest.mark.slow) for one, code in ((SAMPLE, 1), (TRAIN, 1), (EVALUATE, 0))),
    ],
)  # fmt: skip
def test_files_may_not_be_large(root, tmp_path, finished, command, code):
    """`ulimit -f`: what is written is whole or not at all, and what would be cached is not."""
    if command != LOOK:
        finished(tmp_path)
    shell, cache = 'ulimit -f 8; "$@"', str(tmp_path / "cache")
    done = run(root, tmp_path, *command, shell=shell, code=code, GAN_CACHE_DIR=cache)
    assert "File too large" in done.stderr.splitlines()[-1] if code else "fid" in done.stdout
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".png", ".npy", ".tmp")]


@pytest.mark.parametrize(
    ("line", "code"), [("sys.exit(0)", 2), ("sys.exit('no')", 2), ("raise KeyboardInterrupt", 130)]
)
def test_a_config_that_wants_to_leave(root, tmp_path, line, code):
    path = tmp_path / "leaves.py"
    path.write_text(f"import sys\n{line}\n")
    done = run(root, tmp_path, "train.py", "--config", path, "--workdir=run", code=code)
    assert len(done.stderr.splitlines()) == 1
    if code == 2:
        assert f"config file {path}, line 2: SystemExit" in done.stderr
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_printed_is_a_failure(root, tmp_path):
    full = '"$@" > /dev/full'
    done = run(root, tmp_path, "cache.py", shell=full, code=1, PYTHONUNBUFFERED="")
    assert "No space left on device" in done.stderr


def test_the_cache_is_shown_and_emptied(tmp_path, root):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x.npz").write_bytes(bytes(3_000_000))
    shown = run(root, tmp_path, "cache.py", GAN_CACHE_DIR=str(tmp_path)).stdout
    assert "real" in shown
    assert "3.0 MB" in shown
    assert (
        "real" not in run(root, tmp_path, "cache.py", "--empty", GAN_CACHE_DIR=str(tmp_path)).stdout
    )
    assert not (tmp_path / "real").exists()


def test_scripts_run_from_a_checkout_that_is_not_installed(root, tmp_path):
    """Or whose `build/`, to which an editable install leads, was deleted."""
    hide = tmp_path / "sitecustomize.py"
    hide.write_text(
        "import sys\n"
        "sys.path[:] = [path for path in sys.path if '__editable__' not in path]\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in str(f).lower()]\n"
    )
    for script in ("cache.py", "train.py"):
        done = run(root, tmp_path, script, "--help", PYTHONPATH=str(tmp_path))
        assert script in done.stdout


def test_the_home_folder_in_every_path(tmp_path, monkeypatch):
    """`~` in flags, specs and Python, of what is read and of what is written."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GAN_CACHE_DIR", "~/cache")
    config = {
        "dataset": "npz('~/fake.npz')", "generator": "mlp(8, 1)", "discriminator": "mlp(8, 1)",
        "num_steps": 1, "batch_size": 8, "sample_every_steps": 0, "mesh": "data(1)",
        "parts": ("~/mine.py",),
    }  # fmt: skip
    np.savez(tmp_path / "fake.npz", images=np.zeros([30, 8, 8], np.uint8))
    (tmp_path / "mine.py").write_text("")
    gan.train(config, "~/run")
    gan.train(config | {"num_steps": 2}, "~/other", init_from="~/run")
    gan.load("~/other").write_samples("~/fake.png", 30)
    for script, *flags in (
        ("sample.py", "--workdir=~/run", "--output=~/fake", "--separate", "--num_images=30"),
        ("evaluate.py", "--images=~/fake", "--dataset=npz('~/fake.npz')", "--features=pixels"),
        ("evaluate.py", "--images=~/fake.npz", "--dataset=images('~/fake')", "--features=pixels"),
        ("prepare_data.py", "--dataset=images('~/fake')", "--preview=~/look.png"),
        ("train.py", "--config=~/run/config.json", "--workdir=~/third", "--init_from=~/run",
         "--config.num_steps=2", "--parts=~/mine.py"),
    ):  # fmt: skip
        run_script_here(script, *flags)
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {"run", "other", "third", "fake", "fake.png", "look.png", "cache"}
    assert not os.path.exists("~")


def test_the_home_folder_of_published_files(tmp_path, monkeypatch, tensorflow):
    monkeypatch.setenv("HOME", str(tmp_path))
    refused = run_script_here("prepare_data.py", "--dataset=mnist", "--raw_dir=~/none", code=2)
    assert f"{tmp_path}/none" in refused.stderr
