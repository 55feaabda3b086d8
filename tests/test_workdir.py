import json
import multiprocessing
import os
import signal

import pytest

from gan.errors import UsageError
from gan.trainers.workdir import Workdir, open_workdir


def hold(workdir, ready):
    with open_workdir(workdir):
        ready.set()
        signal.pause()


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=hold, args=(str(tmp_path / "run"), ready))
    process.start()
    assert ready.wait(60)
    yield process
    process.kill()
    process.join()


def test_the_second_is_refused_with_who_holds_it(tmp_path, holder):
    words = f"is in use by process {holder.pid} on .*, since 20"
    with pytest.raises(UsageError, match=words), open_workdir(tmp_path / "run"):
        pass


def test_a_dead_process_does_not_keep_it(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with open_workdir(tmp_path / "run"):
        assert f"process {os.getpid()} " in (tmp_path / "run" / "lock").read_text()


def test_a_run_that_is_refused_leaves_no_folder(tmp_path):
    with pytest.raises(UsageError, match="no"), open_workdir(tmp_path / "new"):
        raise UsageError("no")
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    with pytest.raises(UsageError, match="no"), open_workdir(tmp_path / "old"):
        raise UsageError("no")
    assert (tmp_path / "old").is_dir()


def test_what_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"), open_workdir(tmp_path / "file"):
        pass


def test_an_event_is_a_line_that_lasts(tmp_path):
    workdir = Workdir(tmp_path, None)
    workdir.record(3, "stop", "stopped", to=1)
    workdir.record(4, "resume", "resuming")
    first, second = map(json.loads, (tmp_path / "history.jsonl").read_text().splitlines())
    assert (first["step"], first["event"], first["message"], first["to"]) == (
        3,
        "stop",
        "stopped",
        1,
    )
    assert second["event"] == "resume"
    assert first["time"][:2] == "20"
