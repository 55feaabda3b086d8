"""Readers of files that others may have made, given damaged ones: they answer, or say why not in a line.

python -m tests.test_fuzzing manifest 600       # one reader, for ten minutes
"""

import collections
import contextlib
import copy
import dataclasses
import functools
import gzip
import io
import json
import math
import pathlib
import sys
import tempfile
import time
import traceback
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from gan import config_files
from gan.checkpoints.manifest import DamageError, Manifest, _digest, verify
from gan.config import TrainConfig, from_mapping, to_json
from gan.data import DATASETS, description
from gan.data.image_decoding import Background, Target, decode, survey
from gan.data.image_files import find_pictures
from gan.data.published_files import check_idx
from gan.errors import UsageError
from gan.run_folder import check_ours, check_plain
from gan.trainers.evaluation.results import Protocol, Result, read_results
from gan.trainers.evaluation.table import format_results
from gan.trainers.experiment import Experiment, build
from gan.trainers.metric_writers import logged_lines
from gan.trainers.monitoring import Signals
from gan.trainers.resume import data_of

DEEP = json.loads("[" * 50 + "]" * 50)
VALUES = [
    None, True, -1, 0, 2**31, 2**63, 10**30, 10**400, 1e308, -0.5, math.nan, math.inf, "", "x", "\ud800",
    "\0", "x" * 999, "../../x", "/dev/zero", "~nobody/x.py", "a..b", [], {}, [[]], [0], ["\0.py"], {"": None}, DEEP,
]  # fmt: skip
WORDS = [
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\0\0\0\x80",
    b"{",
    b"[" * 5_000,
    b"\n",
    b"9" * 30,
]


@st.composite
def damaged_bytes(draw, whole: bytes) -> bytes:
    """Flips, truncates, splices, repeats and overwrites parts of a file."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        to = draw(st.integers(at, min(len(content), at + 200)))
        match draw(st.integers(0, 5)):
            case 0 if at < len(content):
                content[at] ^= 1 << draw(st.integers(0, 7))
            case 1:
                del content[at:]
            case 2:
                del content[at:to]
            case 3:
                content[at:at] = content[at:to]
            case 4:
                other = draw(st.integers(0, len(content)))
                content[at:to] = content[other : other + to - at]
            case _:
                word = draw(st.sampled_from(WORDS))
                content[at : at + len(word)] = word
    return bytes(content)


@st.composite
def swapped_values(draw, whole: object) -> object:
    """Gives values of a JSON text other types, or takes them away."""
    content = {"": copy.deepcopy(whole)}
    for _ in range(draw(st.integers(1, 3))):
        node: object = content
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            key = draw(st.sampled_from(keys))
            inner = node[key]
            if not (isinstance(inner, dict | list) and inner) or draw(st.integers(0, 4)) == 0:
                break
            node = inner
        if node is not content and draw(st.integers(0, 4)) == 0:
            del node[key]
        else:
            node[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
    return content[""]


def lines(values) -> bytes:
    return "".join(json.dumps(value) + "\n" for value in values).encode()


def damaged_lines(values):
    """Damages lines of JSON, as text or as values."""
    swapped = swapped_values(values).map(
        lambda some: lines(some if isinstance(some, list) else [some])
    )
    return st.one_of(damaged_bytes(lines(values)), swapped)


def damaged_json(value):
    swapped = swapped_values(value).map(lambda some: json.dumps(some).encode())
    return st.one_of(damaged_bytes(json.dumps(value).encode()), swapped)


# What is read


CONFIG = TrainConfig(dataset="gaussians", generator="mlp(4, 1)", discriminator="mlp(4, 1)")
DATA = description.Description(
    "x", (2,), ("a", "b"), (3, 4), "0" * 64, ((0.0, 1.0), (1.0, 0.0)), 0.1, (1.0, 1.0, 7)
)
MANIFEST = json.loads(json.dumps(dataclasses.asdict(Manifest(
    7, dataclasses.asdict(CONFIG), {"eval/fid": 2.0}, True, "0" * 64, {}, {"a.py": "0" * 64}, "abc",
    dataclasses.asdict(DATA),
))))  # fmt: skip
METRICS = [
    {"step": step, "loss/discriminator": 1.0, "diversity": 0.5, "x": None} for step in (1, 2, 3, 4)
]
PROTOCOL = Protocol("pixels", "0" * 64, "none", "digits", "0" * 64, 9, 9, 9, "uint8", 0, "data")
RESULT = Result(
    {"step": 3, "weights": "raw"}, PROTOCOL, {"fid": 1.0, "kid": 2.0, "kid_std": 1.0}, ["w"]
)
RESULTS = [{"time": "", "fingerprint": ""} | dataclasses.asdict(RESULT) for _ in range(2)]
HISTORY = [{"time": "2026", "step": 0, "event": "start", "message": "m"}]
LABELS = {"labels": [["a.png", 0], ["b/b.png", 1]]}


def picture() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(file, "PNG")
    return file.getvalue()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", picture())
        archive.writestr("b/b.png", picture())
        archive.writestr("dataset.json", json.dumps(LABELS))
    return file.getvalue()


def arrays() -> bytes:
    file = io.BytesIO()
    images, names = np.zeros([3, 8, 8], np.uint8), np.array(["a", "b"])
    np.savez_compressed(file, images=images, labels=np.array([0, 1, 0]), class_names=names)
    return file.getvalue()


LABEL_FILE = b"\0\0\x08\x01\0\0\x27\x10" + bytes(10_000)


def read_manifest(folder: pathlib.Path, content: bytes) -> None:
    try:
        values = json.loads(content)
        own = {name: value for name, value in values.items() if name != "sha256"}
        content = json.dumps(own | {"sha256": _digest(own)}).encode()  # as a stranger would
    except (ValueError, AttributeError, RecursionError):
        pass
    (folder / "manifest.json").write_bytes(content)
    manifest = verify(folder)
    from_mapping(manifest.config)
    if (data := data_of(manifest)) is not None:
        dataset = data.dataset(lambda: None)
        assert len(dataset.names) == dataset.num_classes


def read_config(folder: pathlib.Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)
    check_plain(folder)
    config_files.load(config_files.of_run(folder))


def read_npz(folder: pathlib.Path, content: bytes) -> None:
    (folder / "a.npz").write_bytes(content)
    dataset = DATASETS.build(f"npz({str(folder / 'a.npz')!r})")
    assert len(dataset.names) == dataset.num_classes
    dataset.load()


def read_zip(folder: pathlib.Path, content: bytes) -> None:
    (folder / "a.zip").write_bytes(content)
    pictures = find_pictures(folder / "a.zip", labels=True)
    survey(pictures.files)
    for file in pictures.files:
        with contextlib.suppress(Exception):  # it is counted
            decode(file, Target(8, 1, 8, "crop", Background("white", (255, 255, 255))))


def read_idx(folder: pathlib.Path, content: bytes) -> None:
    for name, packed in (
        ("t10k-labels-idx1-ubyte", content),
        ("t10k-labels-idx1-ubyte.gz", content),
    ):
        (folder / name).write_bytes(packed)
        try:
            check_idx("kmnist", folder / name)
        except UsageError as error:
            assert "\n" not in str(error)


def read_labels(folder: pathlib.Path, content: bytes) -> None:
    for name in ("a.png", "b/b.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    (folder / "dataset.json").write_bytes(content)
    find_pictures(folder, labels=True)


@functools.cache
def experiment() -> Experiment:
    return build(CONFIG)


def read_metrics(folder: pathlib.Path, content: bytes) -> None:
    (folder / "metrics.jsonl").write_bytes(content)
    signals = Signals(experiment())
    for line in logged_lines(folder / "metrics.jsonl", 10**9):
        list(signals.after_log(line["step"], line))


def read_evaluations(folder: pathlib.Path, content: bytes) -> None:
    (folder / "evaluations.jsonl").write_bytes(content)
    format_results([*read_results(folder), RESULT], [RESULT]).encode()


def read_history(folder: pathlib.Path, content: bytes) -> None:
    (folder / "history.jsonl").write_bytes(content)
    check_ours(folder)


READERS = {
    "manifest": (read_manifest, damaged_json(MANIFEST)),
    "config": (read_config, damaged_json(json.loads(to_json(CONFIG)))),
    "npz": (read_npz, damaged_bytes(arrays())),
    "zip": (read_zip, damaged_bytes(zipped())),
    "idx": (read_idx, st.one_of(damaged_bytes(LABEL_FILE), damaged_bytes(gzip.compress(LABEL_FILE)))),
    "labels": (read_labels, damaged_json(LABELS)),
    "metrics": (read_metrics, damaged_lines(METRICS)),
    "evaluations": (read_evaluations, damaged_lines(RESULTS)),
    "history": (read_history, damaged_lines(HISTORY)),
}  # fmt: skip


def answers(name: str, content: bytes) -> None:
    """Has a reader read; it may refuse, in one line."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            READERS[name][0](pathlib.Path(folder), content)
        except (UsageError, DamageError) as error:
            assert len(str(error).splitlines()) == 1, str(error)
            str(error).encode(errors="backslashreplace")


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused_in_a_line(name):
    @settings(max_examples=30, deadline=5_000, suppress_health_check=list(HealthCheck))
    @given(READERS[name][1])
    def check(content):
        answers(name, content)

    experiment()  # no part of what is timed
    check()


def fuzz(name: str, seconds: float) -> None:
    """Damages the files of a reader for a time, and prints each kind of failure once."""
    end, count, slowest = time.monotonic() + seconds, 0, 0.0
    found: collections.Counter[str] = collections.Counter()

    def once(content: bytes) -> None:
        nonlocal count, slowest
        count, begin = count + 1, time.monotonic()
        try:
            answers(name, content)
        except Exception as error:  # noqa: BLE001
            place = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} {place.filename}:{place.lineno} {str(error)[:80]!r}"
            found[kind] += 1
            if found[kind] == 1:
                print(
                    kind,
                    content[:3_000],
                    *traceback.format_tb(error.__traceback__)[-3:],
                    flush=True,
                )
        slowest = max(slowest, time.monotonic() - begin)

    some = settings(
        max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    while time.monotonic() < end:
        some(given(READERS[name][1])(once))()
    print(
        f"{name}: {count:,} inputs in {seconds:.0f} s, the slowest {slowest:.2f} s; {len(found)} kinds of failure"
    )


if __name__ == "__main__":
    fuzz(sys.argv[1], float(sys.argv[2]))
