"""What is killed in `tests.benchmarks.kills`: commands on tiny data, and what their results are."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
STEPS = 60
_COMMON = f"""
        "generator": "mlp(8, 1)", "discriminator": "mlp(8, 1)", "batch_size": 16, "latent_dim": 4,
        "num_steps": {STEPS}, "seed": 5, "log_every_steps": 20, "sample_every_steps": 30,
        "checkpoint_every_steps": 6, "eval_every_steps": 30, "eval_num_images": 256,
"""
_POINTS = f"""def get_config():
    return {{
        "dataset": "gaussians", "generator_optimizer": "optimistic_adam(1e-3)", "dynamics": "lookahead",
        "keep_checkpoints": ("latest(3)", "best('eval/high_quality')"),{_COMMON}    }}
"""
_PICTURES = f"""def get_config():
    return {{
        "dataset": "images('pictures', resolution=16, channels=1, labels=True)", "dynamics": "simultaneous",
        "eval_features": "pixels", "keep_checkpoints": ("latest(3)", "best('eval/fid')"),{_COMMON}    }}
"""
_LEFT = re.compile(
    r".*\.tmp|\d+\.(saving|deleting_\d+)|\.decoding\..*|downloads\.unfinished\..*|\.samples\.unfinished\..*|incomplete\..*"
)
_PASSED_OVER = ("is passed over", "cannot be trusted", "is left out", "starting anew")

Result = dict[str, Any]


@dataclass(frozen=True)
class Scenario:
    """A command that is killed.

    Attributes:
      name: Its name.
      script: Its file in `scripts/`.
      args: Its command line.
      share: How often it is chosen.
      phases: By name, the words in what it prints with which each begins, in order.
      folders: The folders, below the current one, that it writes to, and that are damaged; the cache is too.
      kept: Those of them that are there at its beginning.
      result: Returns what it has made, given the current folder and what it printed; by names of files where
        one is enough to excuse that it differs.
    """

    name: str
    script: str
    args: tuple[str, ...]
    share: int
    phases: tuple[tuple[str, str], ...]
    folders: tuple[str, ...]
    kept: tuple[str, ...]
    result: Callable[[Path, str], Result]


def make_inputs(cwd: Path) -> None:
    """Writes what the commands read: configs, pictures, and published files of a dataset of TFDS."""
    cwd.mkdir(parents=True)
    (cwd / "points.py").write_text(_POINTS)
    (cwd / "pictures.py").write_text(_PICTURES)
    rng = np.random.default_rng(0)
    for number in range(240):
        place = cwd / "pictures" / f"class {number % 3}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, [20, 24, 3], np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.{('png', 'jpg')[number % 2]}")
    (cwd / "raw").mkdir()
    for name, count in (("training", 60), ("testing", 20)):
        pixels = rng.integers(0, 256, [count, 32, 32, 3], np.uint8)
        np.savez(cwd / "raw" / f"{name}-images.npz", images=pixels, labels=np.arange(count) % 10)


def leftovers(folder: Path) -> Iterator[str]:
    """Yields the paths below a folder that only a process at work should have there."""
    yield from (
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if _LEFT.fullmatch(path.name)
    )


def interrupted(folder: Path) -> str:
    """Returns what a killed process has left half-done below a folder, or nothing."""
    names = " ".join(path.rpartition("/")[2] for path in leftovers(folder))
    for pattern, phase in (
        (r"\.saving", "saving a checkpoint"), (r"\.deleting_", "deleting a checkpoint"),
        (r"\.decoding\.", "decoding"), (r"\.samples\.", "writing samples"), (r"\.tmp", "writing a file"),
        (r"incomplete\.", "preparing"), (r"downloads\.", "laying out downloads"),
    ):  # fmt: skip
        if re.search(pattern, names):
            return phase
    return ""


def passed_over(text: str) -> bool:
    """Returns whether a command said that it did not use what was damaged."""
    return any(words in text for words in _PASSED_OVER)


def digests(folder: Path, *, but: tuple[str, ...] = ()) -> dict[str, str]:
    """Returns the SHA-256 of every file below a folder, by path; of folders nothing."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else ""
        for path in sorted(folder.rglob("*"))
        if not path.relative_to(folder).as_posix().startswith(but)
    }


def _trained(cwd: Path, text: str) -> Result:
    """The state; what was evaluated; the pictures."""
    (state,) = re.findall("the state's SHA-256 is ([0-9a-f]{64})", text)
    evaluated: dict[int, dict[str, float]] = {}
    for values in _json_lines(cwd / "run" / "metrics.jsonl"):
        scores = {name: value for name, value in values.items() if name.startswith("eval/")}
        evaluated.setdefault(values.get("step"), {}).update(scores)
    scored = {str(step): scores for step, scores in evaluated.items() if scores}
    pictures = {f"samples/{name}": own for name, own in digests(cwd / "run" / "samples").items()}
    return {"state": state, "metrics.jsonl": scored} | pictures


def _evaluated(cwd: Path, text: str) -> Result:
    """The last scores of each step."""
    return {
        f"evaluations.jsonl {line['subject']['step']}": line["scores"]
        for line in _json_lines(cwd / "run" / "evaluations.jsonl")
        if {"subject", "protocol", "scores"} <= set(line)
        and "step" in line["subject"]
        and line["protocol"].get("num_fake") == 1_000  # training writes some of another number
    }


def _sampled(cwd: Path, text: str) -> Result:
    """The files, and the step that they are of."""
    steps = re.findall(r" samples of run at step (\d+)", text)
    return {"step": steps} | digests(cwd / "out")


def _prepared(cwd: Path, text: str) -> Result:
    """The prepared files, the decoded ones among them, and the summary.

    TFDS writes the fields of a record in another order from process to process: of its files it counts
    that they are there, and of their content what is decoded from them.
    """
    summary = text[text.find("cmaterdb/bangla: ") :]
    found = digests(cwd / "data")
    found |= {name: "there" for name in found if ".array_record-" in name}
    return {"summary": summary} | found | digests(cwd / "out")


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if isinstance(values, dict):
            yield values


_TRAINING = (
    ("reading data", "starting run"), ("compiling", "optimizers: generator"), ("training", "training from step"),
    ("complete", "is complete"),
)  # fmt: skip
_TRAIN = ("--workdir", "run", "--config")
_SAMPLE = ("--workdir", "run", "--num_images", "150", "--output")
_SAMPLING = (("sampling", ""), ("done", "150 samples of"))


def scenarios() -> list[Scenario]:
    """Returns what is killed."""
    return [
        Scenario(
            "train", "train.py", (*_TRAIN, "points.py"), 28, _TRAINING, ("run",), (), _trained
        ),
        Scenario(
            "decode and train", "train.py", (*_TRAIN, "pictures.py"), 16,
            (("decoding", "decoding 240 files"), *_TRAINING), ("run", ".pictures.decoded"), (), _trained,
        ),
        Scenario(
            "evaluate", "evaluate.py",
            ("--workdir", "run", "--steps", "all", "--features", "pixels", "--num_images", "1_000"), 14,
            (("extracting features", "extracting features"),), ("run", ".pictures.decoded"),
            ("run", ".pictures.decoded"), _evaluated,
        ),
        *(
            Scenario(
                f"sample {name}", "sample.py", (*_SAMPLE, f"out/{output}", *flags), share, _SAMPLING,
                ("run", "out"), ("run",), _sampled,
            )
            for name, output, flags, share in (
                ("png", "samples.png", (), 5), ("npz", "samples.npz", (), 5),
                ("--separate", "samples", ("--separate",), 10),
            )
        ),
        Scenario(
            "prepare", "prepare_data.py",
            ("--dataset", "cmaterdb/bangla", "--data_dir", "data", "--raw_dir", "raw", "--preview", "out/look.png"),
            22, (("preparing", "Downloading and preparing"), ("decoding", "downloaded and prepared")),
            ("data", "out"), (), _prepared,
        ),
    ]  # fmt: skip


def copy(source: Path, target: Path) -> None:
    """Copies a folder, if it is there, to where none is then but this."""
    shutil.rmtree(target, ignore_errors=True)
    if source.is_dir():
        shutil.copytree(source, target)
