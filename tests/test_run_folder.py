"""A folder that is not a run's own, or that a stranger made: neither written into nor followed out of."""

import json
import os
import pathlib
import shutil
import time

import jax
import jax.numpy as jnp
import pytest

from gan.checkpoints import Checkpoints
from gan.checkpoints.manifest import _digest, file_digests
from gan.errors import RunError
from gan.run_folder import check_ours
from gan.trainers.evaluation.results import Protocol, Result, read_results
from gan.trainers.workdir import open_workdir
from tests.scripts import run_script_here

CONFIG = {
    "dataset": "gaussians", "generator": "mlp(4, 1)", "discriminator": "mlp(4, 1)", "batch_size": 8,
    "num_steps": 2, "log_every_steps": 1, "checkpoint_every_steps": 1, "sample_every_steps": 0,
    "mesh": "data(1)",
}  # fmt: skip


def files(folder: pathlib.Path) -> dict[pathlib.Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "c.py"
    path.write_text(f"def get_config():\n    return {CONFIG!r}")
    return path


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("trained") / "run"
    run_script_here("train.py", "--config", config, "--workdir", workdir)
    return workdir


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


# Folders of the user's own


@pytest.mark.parametrize(
    "content",
    [
        {"config.json": '{"theirs": 1}', "lock": "", "metrics.jsonl": "mine"},
        {"lock": "pid 3\n"},
        {"metrics.jsonl": '{"step": 1}\n'},
        {"history.jsonl": '{"visited": "x"}\n'},
        {"evaluations.jsonl": "{}"},
        {"checkpoints/1000/model.bin": "another framework's"},
        {"notes.txt": "x", "samples/a.png": "x"},
        {"config.json": "[" * 10**5},
    ],
)
def test_a_folder_that_is_no_run_is_refused_and_left_as_it_is(config, tmp_path, content):
    for name, text in content.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    before = files(tmp_path)
    done = run_script_here("train.py", "--config", config, "--workdir", tmp_path, code=2)
    assert "holds files that are not of a run" in done.stderr.splitlines()[-1]
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    "content",
    [
        {},
        {".gitkeep": "", ".hidden/x": "x", "lost+found/x": ""},
        {"lock": ""},
        {"lock": "process 12 on my-host.x, since 2026-01-01 10:00:00\n", "metrics.jsonl": ""},
        {
            "history.jsonl": '{"time": "", "step": 0, "event": "start", "message": "m"}\n',
            "notes": "",
        },
        {"checkpoints/10.saving/state/x": ""},
        {"checkpoints/10/manifest.json": "damaged"},
        {"config.json": json.dumps({"generator": "x", "discriminator": "x", "dynamics": "x"})},
    ],
)
def test_what_a_run_leaves_behind_can_be_gone_on_with(tmp_path, content):
    for name, text in content.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    with open_workdir(tmp_path):
        pass
    check_ours(tmp_path)  # our lock is there now


def test_an_empty_folder_of_checkpoints_is_a_beginning(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    check_ours(tmp_path)


# Folders of strangers: links and pipes


NAMES = ["config.json", "lock", "history.jsonl", "metrics.jsonl", "evaluations.jsonl", "checkpoints",
         "samples", "plugins", "plugins/profile", "events.out.tfevents.1.h"]  # fmt: skip


def replace(path: pathlib.Path, kind: str, elsewhere: pathlib.Path) -> None:
    """Puts a link, to what was there before or to nothing, or a pipe in the place of a file."""
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        path.rename(elsewhere)
    path.symlink_to(elsewhere) if kind == "link" else os.mkfifo(path)


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, "link") for name in NAMES), ("lock", "pipe"), ("history.jsonl", "pipe")],
)
def test_links_and_pipes_of_a_stranger_are_refused(run, config, tmp_path, name, kind):
    elsewhere = tmp_path / "elsewhere"
    replace(run / name, kind, elsewhere)
    before, begin = files(tmp_path), time.monotonic()
    for args in (
        ("train.py", "--config", config, "--workdir", run),
        ("train.py", "--config", config, "--workdir", tmp_path / "new", "--init_from", run),
        ("sample.py", "--workdir", run, "--output", tmp_path / "s.npy"),
    ):
        done = run_script_here(*args, code=2)
        assert f"{name} is {'a link' if kind == 'link' else 'no plain file'}" in done.stderr
    assert time.monotonic() - begin < 15
    assert files(tmp_path) == before


@pytest.mark.parametrize("name", ["config.json.tmp", "metrics.jsonl.tmp"])
def test_links_beside_what_is_written_are_not_followed(run, config, tmp_path, name):
    (tmp_path / "precious").write_text("mine")
    (run / name).symlink_to(tmp_path / "precious")
    run_script_here("train.py", "--config", config, "--workdir", run, "--config.num_steps=3")
    assert (tmp_path / "precious").read_text() == "mine"
    assert not (run / name).exists()


# Checkpoints of strangers


def rewrite(run: pathlib.Path, change, step=2) -> None:
    """Changes the manifest of a checkpoint as a stranger can: it is valid, and lists what is there."""
    folder = run / "checkpoints" / str(step)
    content = json.loads((folder / "manifest.json").read_text())
    del content["sha256"]
    there = file_digests(folder)
    content["files"] = {name: digest for name, digest in there.items() if name != "manifest.json"}
    change(folder, content)
    (folder / "manifest.json").unlink(missing_ok=True)
    (folder / "manifest.json").write_text(json.dumps(content | {"sha256": _digest(content)}))


def names(path):
    return lambda folder, content: content["files"].update({path: "0" * 64})


def put(make):
    """Puts something where Orbax would read it, in a file of the state's."""

    def change(folder, content):
        path = folder / "state" / "_METADATA"
        path.unlink()
        make(path)

    return change


def nested(folder, content):
    content["data"] = json.loads("[" * 60 + "]" * 60)


def unlisted(folder, content):
    content["files"] = {}


TRICKS = {
    "/etc/passwd": (names("/etc/passwd"), "no path within"),
    "../../lock": (names("../../lock"), "no path within"),
    "state/../../../lock": (names("state/../../../lock"), "no path within"),
    "zero byte": (names("\0"), "no path within"),
    "long name": (names("x" * 5_000), "File name too long"),
    "a folder": (names("state"), "regular file"),
    "a pipe": (put(os.mkfifo), "no regular file"),
    "a link": (put(lambda path: path.symlink_to("/etc/passwd")), "is a link"),
    "a device": (put(lambda path: path.symlink_to("/dev/zero")), "is a link"),
    "a hole": (put(lambda path: (path.touch(), os.truncate(path, 10**12))), "are a hole"),
    "unlisted files": (unlisted, "is not in manifest.json"),
    "deep nesting": (nested, "is no manifest"),
    "a list of files": (lambda _, content: content.update(files=["a"]), "is no manifest"),
    "a huge number": (lambda _, content: content.update(step=10**400), "is no manifest"),
    "a text as step": (lambda _, content: content.update(step="2"), "is no manifest"),
    "a text as metric": (lambda _, content: content.update(metrics={"x": "y"}), "is no manifest"),
}  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS)
def test_a_checkpoint_of_a_stranger_is_passed_over(run, config, tmp_path, trick):
    change, words = TRICKS[trick]
    rewrite(run, change)
    begin = time.monotonic()
    done = run_script_here(
        "sample.py", "--workdir", run, "--num_images", 4, "--output", tmp_path / "s.npy"
    )
    assert "at step 1" in done.stdout
    assert time.monotonic() - begin < 5
    args = ("--step", 2, "--output", tmp_path / "s.npy")
    assert words in run_script_here("sample.py", "--workdir", run, *args, code=1).stderr


@pytest.mark.parametrize("kind", ["a hole", "a pipe", "a link", "a folder elsewhere"])
def test_a_manifest_that_is_no_plain_file_is_damage(run, tmp_path, kind):
    folder = run / "checkpoints" / "2"
    path = folder / "manifest.json"
    if kind == "a folder elsewhere":
        folder.rename(tmp_path / "2")
        folder.symlink_to(tmp_path / "2")
    else:
        path.rename(tmp_path / "kept.json")
        {"a hole": lambda: (path.touch(), os.truncate(path, 5 * 10**9)), "a pipe": lambda: os.mkfifo(path),
         "a link": lambda: path.symlink_to(tmp_path / "kept.json")}[kind]()  # fmt: skip
    begin = time.monotonic()
    assert Checkpoints(run).newest().step == 1
    assert time.monotonic() - begin < 5


DEVICE = jax.sharding.SingleDeviceSharding(jax.devices()[0])


def test_a_state_of_another_size_is_refused_before_it_is_read(tmp_path, monkeypatch):
    """The shapes are those of the arrays' own files, whatever their size: a hole costs nothing."""
    import tensorstore as ts

    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(2, {"x": jnp.zeros(4)}, {}, {})
    place = tmp_path / "checkpoints" / "2" / "state"

    def replace_array(shape, chunks):
        store = {"driver": "ocdbt", "base": f"file://{place}", "path": "x/"}
        meta = {"shape": shape, "chunks": chunks, "dtype": "<f4", "compressor": None}
        spec = {
            "driver": "zarr",
            "kvstore": store,
            "metadata": meta,
            "create": True,
            "delete_existing": True,
        }
        ts.open(spec).result()
        rewrite(tmp_path, lambda *_: None)

    target = {"x": jax.ShapeDtypeStruct((4,), jnp.float32, sharding=DEVICE)}
    replace_array([10**12], [10**6])
    checkpoints = Checkpoints(tmp_path)
    monkeypatch.setattr(checkpoints._orbax, "restore", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(
        RunError, match=r"x is \(\(1000000000000,\), 'float32'\) there and \(\(4,\)"
    ):
        checkpoints.restore(checkpoints.verify(2), target)
    replace_array([4], [10**12])
    with pytest.raises(Exception, match=r"x \(4,\) is in chunks of \(1000000000000,\)"):
        checkpoints.restore(checkpoints.verify(2), target)


def test_a_link_where_a_save_would_be_is_removed_and_not_followed(run, config, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "x").write_text("mine")
    (run / "checkpoints" / "3.saving").symlink_to(tmp_path / "precious")
    run_script_here("train.py", "--config", config, "--workdir", run, "--config.num_steps=3")
    assert (tmp_path / "precious" / "x").read_text() == "mine"
    assert Checkpoints(run).newest().step == 3


# Its logs and its config


LINES = {
    "a huge number": '{"step": 1, "diversity": 1' + "0" * 400 + "}",
    "a huge step": '{"step": 1e999}',
    "a text": '{"step": 1, "diversity": "x", "loss/discriminator": []}',
    "deep": '{"step":' * 10**5,
    "a list": "[1]",
    "not UTF-8": "\udcff",
    "half a character": '{"step": 1, "x": "\\ud800"}',
}


@pytest.mark.parametrize("kind", LINES)
def test_lines_of_others_are_skipped(run, config, kind):
    for name in ("metrics.jsonl", "evaluations.jsonl", "history.jsonl"):
        with (run / name).open("ab") as file:
            file.write(LINES[kind].encode(errors="surrogateescape") + b"\n")
    run_script_here("train.py", "--config", config, "--workdir", run, "--config.num_steps=3")
    assert [
        json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()
    ] == [1, 2, 3]
    run_script_here("evaluate.py", "--workdir", run, "--num_images", 20)


@pytest.mark.parametrize("name", ["metrics.jsonl", "evaluations.jsonl", "config.json"])
def test_a_file_without_an_end_is_refused(run, name):
    (run / name).touch()
    os.truncate(run / name, 5 * 10**9)
    script = (
        ("evaluate.py", "--num_images", 20)
        if name == "evaluations.jsonl"
        else ("train.py", "--config.num_steps=3")
    )
    assert (
        "bytes, and at most"
        in run_script_here(script[0], "--workdir", run, *script[1:], code=2).stderr
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 10**5, "nested too deeply"),
        ('{"num_steps": 1' + "0" * 400 + "}", "too large a number"),
        ('{"parts": ["\\u0000.py"]}', "it has a character 0"),
        ('{"parts": ["~nobody-here/x.py"]}', "cannot be read: No such file"),
        ('{"parts": [""]}', "parts: "),
        ('{"parts": ["a..b"]}', "parts: "),
    ],
)
def test_a_config_of_others(run, text, words):
    (run / "config.json").write_text(text)
    done = run_script_here("train.py", "--workdir", run, code=2)
    assert words in done.stderr.splitlines()[-1]


def test_parts_that_are_pipes(config, tmp_path):
    os.mkfifo(tmp_path / "p.py")
    args = ("--config", config, "--workdir", tmp_path / "new", "--parts", tmp_path / "p.py")
    assert "it is not a regular file" in run_script_here("train.py", *args, code=2).stderr
    done = run_script_here(
        "train.py", "--config", tmp_path / "p.py", "--workdir", tmp_path / "new", code=2
    )
    assert "p.py" in done.stderr


def test_results_that_no_terminal_can_show_are_skipped(tmp_path):
    """Found by `test_fuzzing.py`."""
    protocol = Protocol("pixels", "", "none", "digits", "", 9, 9, 9, "uint8", 0, "data")
    for weights in ("raw", "\ud800"):
        Result({"step": 3, "weights": weights}, protocol, {"fid": 1.0}, []).write(tmp_path)
    assert [result.subject["weights"] for result in read_results(tmp_path)] == ["raw"]
