"""A run cannot be lost: `scripts/train.py`, killed, stopped, starved and doubled."""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from gan.checkpoints import Checkpoints

STEPS = 1_200
CONFIG = f"""def get_config():
    return {{
        "dataset": "gaussians", "generator": "mlp(16, 2)", "discriminator": "mlp(16, 2)",
        "generator_optimizer": "optimistic_adam(1e-3)", "dynamics": "lookahead",
        "batch_size": 16, "latent_dim": 4, "num_steps": {STEPS}, "seed": 5,
        "log_every_steps": 50, "sample_every_steps": 0, "checkpoint_every_steps": 40,
        "eval_every_steps": 400, "keep_checkpoints": ("latest(3)", "best('eval/kl_to_uniform')"),
    }}
"""


class Training:
    """`scripts/train.py` in a process of its own."""

    def __init__(self, root, config, workdir, *args, wrap=(), **kwargs):
        command = [
            *wrap, sys.executable, str(root / "scripts" / "train.py"),
            "--config", str(config), "--workdir", str(workdir), *args,
        ]  # fmt: skip
        environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=environment, **kwargs
        )
        self.lines = []

    def wait_for(self, words):
        """Reads until a line with these words."""
        for line in self.process.stderr:
            self.lines.append(line)
            if words in line:
                return self
        raise AssertionError(f"it ended without {words!r}: {''.join(self.lines)}")

    def send(self, number, after=0.0):
        time.sleep(after)
        self.process.send_signal(number)
        return self

    def end(self, code, quiet=True):
        """The last line; fails where the process does not end soon, or with another code.

        Args:
          code: The exit code.
          quiet: Whether no traceback may be seen.
        """
        _, rest = self.process.communicate(timeout=120)
        text = self.text = "".join(self.lines) + rest
        assert self.process.returncode == code, text
        assert not quiet or "Traceback" not in text
        return text.strip().splitlines()[-1] if text.strip() else ""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "small.py"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def undisturbed(config, tmp_path_factory):
    """The folder of a run that nothing happened to."""
    root = pathlib.Path(__file__).parents[2]
    workdir = tmp_path_factory.mktemp("runs") / "undisturbed"
    Training(root, config, workdir).end(0)
    return workdir


@pytest.fixture
def start(root, config, tmp_path):
    """Starts a training in a folder of its own; what is left of it at the end is killed."""
    started = []

    def start(*args, workdir=tmp_path / "run", **kwargs):
        started.append(Training(root, config, workdir, *args, **kwargs))
        return started[-1]

    yield start
    for training in started:
        training.process.kill()
        training.process.communicate()


def newest(workdir):
    return Checkpoints(workdir).newest()


def same_end(workdir, undisturbed):
    """Whether a run ended as the undisturbed one did: its state, and what was logged."""
    end, other = newest(workdir), newest(undisturbed)
    assert end.step == STEPS
    assert end.state == other.state
    evaluated = []
    for folder in (workdir, undisturbed):
        lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        evaluated.append({line["step"]: line for line in lines if "eval/high_quality" in line})
    assert list(evaluated[0]) == list(range(400, STEPS + 1, 400))
    for step, line in evaluated[0].items():
        assert line["eval/kl_to_uniform"] == evaluated[1][step]["eval/kl_to_uniform"]


def test_killed_at_random_moments_it_ends_the_same(start, tmp_path, undisturbed):
    """Of its start, its steps and its saves; tests/integration/test_kills.py does it a hundred times."""
    rng, resumed = random.Random(0), 0
    for _ in range(3):
        checkpoint = newest(tmp_path / "run")
        training = start()
        if rng.random() < 0.2:
            training.send(signal.SIGKILL, after=rng.uniform(0, 5))
        else:
            training.wait_for("loss/generator").send(signal.SIGKILL, rng.uniform(0, 0.8))
            resumed += checkpoint is not None
        training.process.wait()
        if (saved := newest(tmp_path / "run")) and saved.step == STEPS:
            break
    start().end(0)
    same_end(tmp_path / "run", undisturbed)
    history = (tmp_path / "run" / "history.jsonl").read_text()
    assert history.count('"event": "resume"') >= resumed > 0


BOTH = [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM]


@pytest.mark.parametrize("number", BOTH)
def test_a_signal_while_it_compiles(start, tmp_path, undisturbed, number):
    training = start().wait_for("data: ").send(number)
    words = f"train.py: stopped by {number.name} before the first step; nothing is lost"
    assert training.end(128 + number) == words
    start().end(0)
    same_end(tmp_path / "run", undisturbed)


@pytest.mark.parametrize("number", BOTH)
@pytest.mark.parametrize("every", [20, 10**6], ids=["in a save", "in a step"])
def test_a_signal_while_it_trains(start, tmp_path, undisturbed, number, every):
    """With a save every 20 steps one is under way at any moment."""
    period = f"--config.checkpoint_every_steps={every}"
    training = start(period).wait_for("the first step was made").send(number, after=0.1)
    assert f"stopped by {number.name} at step" in training.end(128 + number)
    saved = newest(tmp_path / "run")
    assert 0 < saved.step < STEPS
    assert f"resuming {tmp_path / 'run'} at step {saved.step}" in "".join(
        start(period).wait_for("resuming").wait_for("is complete").lines
    )
    same_end(tmp_path / "run", undisturbed)


def test_two_at_once_for_one_folder(start, tmp_path, undisturbed):
    both = [start(), start()]
    for one in both:
        one.process.wait(timeout=300)
    refused = [one for one in both if one.process.returncode == 2]
    assert len(refused) == 1
    last = refused[0].end(2)
    assert f"--workdir={tmp_path / 'run'} is in use by process" in last
    (other,) = (one for one in both if one not in refused)
    other.end(0)
    same_end(tmp_path / "run", undisturbed)


def disk_of(size, workdir):
    """Words before a command that give it a folder on a disk of its own, or None."""
    script = (
        f'mount -t tmpfs -o size={size} tmpfs "{workdir}" && "$@"; code=$?; '
        f'cp -r "{workdir}" "{workdir}.left"; exit $code'
    )
    wrap = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    probe = subprocess.run([*wrap, "true"], capture_output=True, check=False)
    shutil.rmtree(f"{workdir}.left", ignore_errors=True)
    return wrap if probe.returncode == 0 else None


def test_a_full_disk(start, tmp_path, undisturbed):
    """Every checkpoint is kept, until the disk is full."""
    workdir = tmp_path / "small_disk"
    workdir.mkdir()
    if (wrap := disk_of("2m", workdir)) is None:
        pytest.skip("no tmpfs can be mounted here")
    keep = ("--config.keep_checkpoints=every(20)", "--config.checkpoint_every_steps=20")
    # TensorStore may print one of its own, of an event loop that was closed on it.
    training = start(*keep, workdir=workdir, wrap=wrap)
    training.end(1, quiet=False)
    assert "No space left on device; the newest valid one is" in training.text
    left = pathlib.Path(f"{workdir}.left")
    saved = newest(left)
    assert saved.step >= 20
    assert not list((left / "checkpoints").glob("*.saving"))
    # On a larger disk the same command goes on.
    shutil.copytree(left, tmp_path / "run")
    start().end(0)
    same_end(tmp_path / "run", undisturbed)


def test_a_quota_that_a_save_exceeds(start, tmp_path, undisturbed):
    """Files may not grow beyond some bytes, of which a state needs more: no root is needed."""
    start("--config.num_steps=40").end(0)
    largest = max(path.stat().st_size for path in (tmp_path / "run" / "checkpoints").rglob("*"))

    limit = f"""import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({largest // 2}, {largest // 2}))
os.execv(sys.argv[1], sys.argv[1:])"""
    last = start(wrap=[sys.executable, "-c", limit]).end(1)
    assert "80 cannot be saved: File too large; the newest valid one is 40" in last
    start().end(0)
    same_end(tmp_path / "run", undisturbed)


def test_a_file_in_the_way_of_pictures_ends_it_with_a_line_and_the_checkpoints_stay(
    start, tmp_path
):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lock").write_text("process 1 on host, since 2026-01-01 00:00:00\n")
    (tmp_path / "run" / "samples").write_text("not a folder")
    last = start("--config.sample_every_steps=100").end(1)
    assert "failed: " in last
    assert "samples" in last
    assert newest(tmp_path / "run").step > 0


def test_a_notice_of_preemption(start, tmp_path, undisturbed, free_port):
    """JAX's own, which several processes share; here it is one."""
    one = f"--distributed=localhost:{free_port()},0/1"
    training = start(one).wait_for("the first step was made").send(signal.SIGTERM, after=0.1)
    assert "stopped by SIGTERM at step" in training.end(143)
    start().end(0)
    same_end(tmp_path / "run", undisturbed)


@pytest.mark.slow
def test_two_processes_stop_at_the_same_step_and_go_on(start, tmp_path, free_port):
    """The second is told; both save and end, and together they go on."""
    port = free_port()
    both = [start(f"--distributed=localhost:{port},{i}/2") for i in range(2)]
    for one in both:
        one.wait_for("training from step")
    both[1].send(signal.SIGTERM, after=2)
    steps = [one.end(143).partition(" at step ")[2] for one in both]
    assert steps[0] == steps[1] != ""
    saved = newest(tmp_path / "run").step
    assert steps[0].startswith(f"{saved}, ")
    more = f"--config.num_steps={saved + 20}"
    port = free_port()
    both = [start(f"--distributed=localhost:{port},{i}/2", more) for i in range(2)]
    for one in both:
        assert f"is complete: {saved + 20} of {saved + 20} steps" in one.end(0)
    start(f"--config.num_steps={saved + 40}").end(0)  # and alone


def test_a_damaged_newest_checkpoint(start, tmp_path, undisturbed):
    start("--config.num_steps=100").end(0)
    largest = max((tmp_path / "run/checkpoints/100").rglob("*"), key=lambda p: p.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 16
    largest.write_bytes(content)
    training = start().wait_for("checkpoints/100 is passed over, it cannot be trusted")
    training.wait_for("at step 80")
    training.end(0)
    same_end(tmp_path / "run", undisturbed)


def test_misuse_of_the_flags(start, tmp_path):
    assert "invalid choice: 'keep'" in start("--on_optimizer_change=keep").end(2)
    assert "HOST:PORT,PROCESS/COUNT" in start("--distributed=here").end(2)
    assert "HOST:PORT,PROCESS/COUNT" in start("--distributed=localhost:1,2/2").end(2)
    nowhere = start(f"--init_from={tmp_path / 'nowhere'}").end(2)
    assert "there is no folder" in nowhere
    assert not (tmp_path / "run").exists()
