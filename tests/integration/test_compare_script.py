"""`scripts/compare.py` as a user runs it."""

import csv
import os
import subprocess
import sys

CONFIG = """def get_config():
    return {"generator": "mlp(8, 1)", "discriminator": "mlp(8, 1)", "num_steps": 4,
            "log_every_steps": 4, "sample_every_steps": 0}
"""


def run(root, *args, code=0):
    done = subprocess.run(
        [sys.executable, str(root / "scripts" / "compare.py"), *map(str, args)],
        capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_a_table_over_ways_and_seeds_that_goes_on_where_it_stopped(root, tmp_path):
    (tmp_path / "c.py").write_text(CONFIG)
    args = ("--config", tmp_path / "c.py", "--output", tmp_path / "out", "--seeds", 2)
    first, again = run(root, *args), run(root, *args)
    for way in ("adam", "optimistic_adam", "extra_adam", "lookahead_adam"):
        assert f"| {way} |" in first.stdout
        assert (tmp_path / "out" / "c" / way / "seed_1" / "checkpoints" / "4").is_dir()
    assert first.stdout == again.stdout
    assert "training from step" not in again.stderr
    with (tmp_path / "out" / "c" / "comparison.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 8


def test_misuse(root, tmp_path):
    (tmp_path / "c.py").write_text(CONFIG)
    args = ("--config", tmp_path / "c.py", "--output", tmp_path / "out")
    for more, words in (
        (["--seeds", 0], "at least 1"),
        (["--config.dataset=cifar1"], "did you mean 'cifar10'"),
    ):
        assert words in run(root, *args, *more, code=2).stderr.strip().splitlines()[-1]
    assert not (tmp_path / "out").exists()
