"""Temporary folders: those of a killed process go, those in use stay."""

import signal
import subprocess
import sys

import pytest

from gan.scratch import remove_left, scratch_folder

HOLD = """import pathlib, sys, time
from gan.scratch import scratch_folder
with scratch_folder(pathlib.Path(sys.argv[1]), "mine."):
    print("in use", flush=True)
    time.sleep(60)
"""


def names(folder):
    return sorted(path.name.partition(".")[0] for path in folder.iterdir())


def test_what_a_killed_process_has_left_is_removed_at_the_next_start(tmp_path):
    (tmp_path / "other.x").mkdir()
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        remove_left(tmp_path, "mine.")
        assert names(tmp_path) == ["mine", "other"]  # it is in use
        process.send_signal(signal.SIGKILL)
    assert names(tmp_path) == ["mine", "other"]
    with scratch_folder(tmp_path, "mine.") as scratch:
        assert names(tmp_path) == ["mine", "other"]
        assert list(scratch.iterdir()) == []
    assert names(tmp_path) == ["other"]


def test_two_at_once_keep_one_another_s(tmp_path):
    with scratch_folder(tmp_path, "mine.") as first, scratch_folder(tmp_path, "mine.") as second:
        assert first.is_dir()
        assert second.is_dir()
    assert not list(tmp_path.iterdir())


def test_links_and_files_of_that_name_stay(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "mine.link").symlink_to(tmp_path / "target")
    (tmp_path / "mine.file").write_text("a file")
    remove_left(tmp_path, "mine.")
    assert names(tmp_path) == ["mine", "mine", "target"]


def test_a_place_that_is_not_there(tmp_path):
    remove_left(tmp_path / "nowhere", "mine.")
    with pytest.raises(OSError, match="nowhere"), scratch_folder(tmp_path / "nowhere", "mine."):
        pass
