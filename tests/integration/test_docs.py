"""The code in the docs, as it stands: parts of one's own, and everything from Python."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from gan.checkpoints import Checkpoints
from tests.scripts import ROOT, run_script


def code_blocks(page: str) -> list[tuple[str, str]]:
    """The Python blocks of a page, each with the name of the file before it, or with none."""
    text = (ROOT / "docs" / page).read_text()
    pattern = r"^(?:`(\w+\.py)`:\n\n)?```python\n(.*?)^```$"
    return re.findall(pattern, text, re.DOTALL | re.MULTILINE)


def state_of(workdir: pathlib.Path) -> str:
    with Checkpoints(workdir) as checkpoints:
        newest = checkpoints.newest()
        assert newest is not None
        assert newest.step == 200
        return newest.state


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """A folder with the files of docs/extending.md and nothing else."""
    monkeypatch.setenv("GAN_CACHE_DIR", str(tmp_path / "cache"))
    folder = tmp_path / "parts"
    folder.mkdir()
    for name, code in code_blocks("extending.md"):
        if name:
            (folder / name).write_text(code)
    return folder


def test_parts_of_ones_own_from_start_to_end(parts, tmp_path, monkeypatch):
    names = sorted(path.stem.removeprefix("my_") for path in parts.glob("*.py"))
    assert names == ["callback", "config", "dataset", "dynamics", "loss", "metric", "network"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), "--workdir", str(killed)]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    with subprocess.Popen(
        [*command, "--config", str(parts / "my_config.py"), "--config.num_steps=100_000"],
        stderr=subprocess.DEVNULL, env=environment,
    ) as process:  # fmt: skip
        while not (killed / "checkpoints" / "100").exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    for path in (killed / "checkpoints").iterdir():
        if path.name not in ("50", "100"):  # it may have come further
            path.rename(killed / path.name)

    monkeypatch.chdir(tmp_path)  # another folder than that of the parts
    resumed = run_script("train.py", "--workdir", killed, "--config.num_steps=200")
    assert "resuming" in resumed.stderr
    run_script("train.py", "--config", parts / "my_config.py", "--workdir", whole)
    assert state_of(killed) == state_of(whole)
    losses = (killed / "losses.csv").read_text()
    assert [line.split(",")[0] for line in losses.splitlines()[1:]] == [
        str(step) for step in range(20, 201, 20)
    ]

    run_script("sample.py", "--workdir", killed, "--output", "mine.png")
    assert pathlib.Path("mine.png").exists()
    scored = run_script(
        "evaluate.py", "--workdir", killed, "--features", "pixels", "--num_images", 200
    )
    assert scored.stdout.split("\n")[0].endswith("contrast")
    logged = [json.loads(line) for line in (killed / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in logged if "eval/contrast" in line] == [100, 200]
    listed = run_script("train.py", "--list", "--config", parts / "my_config.py").stdout
    for name, file in (
        ("stripes", "dataset"),
        ("logistic_margin", "loss"),
        ("tethered", "dynamics"),
    ):
        assert re.search(rf"^  {name}\(.*from {parts}/my_{file}\.py$", listed, re.MULTILINE)


def test_everything_from_python(tmp_path):
    code = "\n".join(block for _, block in code_blocks("python.md"))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300,
        check=False, env=os.environ | {"GAN_CACHE_DIR": str(tmp_path / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("200 (64, 8, 8, 1) {'fid': ")
    norms = dict(line.split() for line in lines if line.startswith(("sgd", "optimistic_sgd")))
    # |z| grows by sqrt(1 + 0.01) a step under gradient descent, from sqrt(2) in each player
    assert float(norms["sgd(0.1)"]) == pytest.approx(2**0.5 * 1.01**500, rel=0.5)
    assert float(norms["optimistic_sgd(0.1)"]) < 0.01
    assert lines[-1] == "latents must be [N, 64], given [3, 5]"

    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["python"]


@pytest.mark.parametrize("module", ["jax", "numpy", "tensorflow", "gan.trainers"])
def test_import_gan_alone_imports_nothing(module):
    check = f"import gan, sys; assert {module!r} not in sys.modules; assert set(gan.__all__) <= set(dir(gan))"
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)
