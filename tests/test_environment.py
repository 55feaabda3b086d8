"""Streams, encoding and the current folder; programs in other surroundings are in integration/test_anywhere.py."""

import os
import subprocess
import sys

import jax
import pytest

from gan import environment
from gan.errors import UsageError

PROGRAM = """
import os, sys
from gan import environment
environment.prepare()
print("na\\xefve", chr(0xdcff))
with open("file", "w") as file:
    print(file.fileno(), os.environ.get("JAX_ENABLE_X64"), file=file)
"""


def run(folder, shell='"$@"', **variables):
    command = ["bash", "-c", shell, "-", sys.executable, "-c", PROGRAM]
    return subprocess.run(
        command, cwd=folder, env=os.environ | variables, capture_output=True, text=True, check=True
    )


def test_no_file_gets_the_number_of_a_stream_that_is_closed(tmp_path):
    run(tmp_path, '"$@" <&- >&- 2>&-')
    assert int((tmp_path / "file").read_text().split()[0]) > 2


@pytest.mark.parametrize(
    ("variables", "shown"),
    [
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "na\xefve \\udcff\n"),
        ({"PYTHONIOENCODING": "ascii"}, "na\\xefve \\udcff\n"),
        ({"LC_ALL": "C.UTF-8"}, "na\xefve \\udcff\n"),
    ],
)
def test_every_name_can_be_printed(tmp_path, variables, shown):
    assert run(tmp_path, **variables).stdout == shown


def test_double_precision_is_left_aside(tmp_path):
    assert "float32" in run(tmp_path, JAX_ENABLE_X64="1").stderr
    assert (tmp_path / "file").read_text().endswith("None\n")


def test_double_precision_is_refused_in_python(x64):
    with pytest.raises(UsageError, match="jax_enable_x64"):
        environment.check_precision()


def test_a_folder_that_is_gone(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UsageError, match="cd to another"):
        environment.prepare()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JAX_NUM_CPU_DEVICES", "rubbish"),
        ("JAX_DEBUG_NANS", "rubbish"),
        ("JAX_DEFAULT_MATMUL_PRECISION", "rubbish"),
        ("JAX_NUM_CPU_DEVICES", "0"),
    ],
)
def test_a_variable_that_jax_cannot_read(root, tmp_path, name, value):
    command = [sys.executable, root / "scripts" / "games.py", "--output", tmp_path / "out"]
    done = subprocess.run(
        command, env=os.environ | {name: value}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"games.py: error: {name}={value}: ")


@pytest.mark.parametrize(
    "error", [AssertionError(), RuntimeError("no 'tpu' (set JAX_PLATFORMS='')")]
)
def test_devices_that_are_not_there(monkeypatch, error):
    def fail():
        raise error

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(jax, "devices", fail)
    with pytest.raises(
        UsageError, match=r"^JAX_PLATFORMS=cuda cannot be used here .*accepted: cpu"
    ):
        environment.check_devices()
