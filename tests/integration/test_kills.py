"""A tenth of the campaign of kills: see `tests.benchmarks.kills`."""

import json
import os
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_a_hundred_kills(root, tmp_path, tensorflow):
    """Each episode ends in the undisturbed result, or in one line that says why not."""
    output = tmp_path / "kills.json"
    command = [sys.executable, "-m", "tests.benchmarks.kills", "--kills", "100", "--seed", "100"]
    done = subprocess.run(
        [*command, "--output", output, "--keep", tmp_path / "went_wrong"],
        cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(output.read_text())["counts"]
    assert sum(counts["kills"].values()) >= 100
    assert sum(counts["damage"].values()) >= 5
