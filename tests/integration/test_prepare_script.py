"""`scripts/prepare_data.py` as a user runs it."""

import functools
import pathlib
import signal
import subprocess
import sys

import pytest
from PIL import Image

from tests.scripts import run_script, run_script_here

run = functools.partial(run_script, "prepare_data.py")
run_here = functools.partial(run_script_here, "prepare_data.py")

MNIST = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data" / "mnist"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            "digits",
            [
                "digits: 1,797 examples of 8 x 8 x 1",
                "from 0 to 255",
                "10 classes: 0 (178), 1 (182), ",
            ],
        ),
        ("gaussians", ["examples of 2", "float32", "8 classes: 0 ("]),
    ],
)
def test_a_look_at_the_data(tmp_path, spec, words):
    done = run_here("--dataset", spec, "--preview", tmp_path / "new" / "look.png")
    for word in words:
        assert word in done.stdout
    with Image.open(tmp_path / "new" / "look.png") as picture:
        assert min(picture.size) > 400


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--dataset", "digts"], "did you mean 'digits'"),
        (["--dataset", "digits", "--raw_dir", "x"], "digits needs no preparation"),
        (["--dataset", "digits", "--preview", "x.jpg"], "a name that ends in .png is accepted"),
        ([], "--dataset"),
    ],
)
def test_misuse(args, words):
    assert words in run_here(*args, code=2).stderr.strip().splitlines()[-1]


def test_a_folder_that_does_not_exist(tmp_path, tensorflow):
    new = tmp_path / "new"
    done = run_here("--dataset", "mnist", "--data_dir", new, "--raw_dir", new, code=2)
    assert "does not exist" in done.stderr.strip().splitlines()[-1]
    assert not new.exists()


@pytest.mark.skipif(not MNIST.is_dir(), reason=f"the MNIST files are not in {MNIST}")
def test_it_says_which_files_these_are_and_leaves_nothing_when_it_is_stopped(
    root, tmp_path, tensorflow
):
    command = [
        sys.executable, str(root / "scripts" / "prepare_data.py"), "--dataset", "mnist",
        "--data_dir", str(tmp_path / "data"), "--raw_dir", str(MNIST),
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        lines = [next(line for line in process.stderr if "ubyte.gz" in line) for _ in range(4)]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert all("published" in line for line in lines)
    assert process.returncode == 143
    assert not (tmp_path / "data").exists()
