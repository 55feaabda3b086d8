import importlib
import json
import logging
import sys
import types
from concurrent import futures

import numpy as np
import pytest

from gan.cli import _TerminalFilter, log_to_terminal
from gan.trainers import metric_writers
from gan.trainers.metric_writers import JSONLinesWriter, MetricWriters, Progress, TerminalWriter


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_a_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    writer = JSONLinesWriter(path, 0)
    writer.write_scalars(1, {"a": 1.0, "c": float("inf")})
    writer.write_scalars(1, {"b": 2})
    writer.write_scalars(2, {"a": 3.0})
    writer.close()
    assert read(path) == [{"step": 1, "a": 1.0, "c": None, "b": 2.0}, {"step": 2, "a": 3.0}]


def test_resuming_drops_what_will_come_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "a": 1.0}\n{"step": 2, "a": 2.0}\n{"step": 3, "a"')
    writer = JSONLinesWriter(path, 1)
    writer.write_scalars(2, {"a": 5.0})
    writer.close()
    assert read(path) == [{"step": 1, "a": 1.0}, {"step": 2, "a": 5.0}]


def test_the_terminal_shows_messages_from_any_file_of_a_persons_own(tmp_path):
    """The package's own files, installed or not, and a user's; of libraries only warnings."""
    installed = "/venv/lib/python3.11/site-packages"

    def shown(path, level):
        record = logging.LogRecord("absl", level, path, 1, "text", (), None)
        return _TerminalFilter().filter(record)

    for path in (
        str(tmp_path / "my_parts" / "loss.py"),
        "/checkout/gan/checkpoints/checkpoints.py",
        f"{installed}/gan/trainers/evaluation/features.py",
        f"{installed}/clu/platform/local.py",
    ):
        assert shown(path, logging.INFO), path
    assert not shown(f"{installed}/clu/metric_writers/logging_writer.py", logging.INFO)
    assert shown(f"{installed}/tensorflow/x.py", logging.WARNING)
    assert not shown(f"{installed}/orbax/checkpoint/x.py", logging.WARNING)


def test_the_terminal_shows_what_a_person_watches(capsys):
    logger = logging.getLogger("absl")
    before = logger.handlers, logger.propagate
    try:
        log_to_terminal()
        TerminalWriter().write_scalars(
            100, {"loss/generator": 0.69314, "grad_norm/generator": 3.0, "images_per_second": 12345}
        )
        logger.warning("%s", "a name \x1b[2J of a stranger's\nline")
    finally:
        logger.handlers, logger.propagate = before
    line, stranger, more = capsys.readouterr().err.splitlines()
    assert line.endswith("[100] loss/generator 0.6931  images_per_second 12,345")
    assert stranger.endswith("a name \\x1b[2J of a stranger's")
    assert more == "line"


REPORTS = {  # every call of a run of 1,000,000 steps: its time, and what is reported then
    0: (100.0, None),
    10: (114.0, None),
    15: (115.0, None),  # CLU reports after more than 15 s
    20: (116.0, "1.2 steps/s, 0.0% (20/1000000), ETA: 9d6h13m"),
    500_000: (130.0, None),
    900_000: (132.0, "56248.8 steps/s, 90.0% (900000/1000000), ETA: 0m"),
    900_100: (148.0, "6.2 steps/s, 90.0% (900100/1000000), ETA: 4h26m"),
    1_000_000: (149.0, "99900.0 steps/s, 100.0% (1000000/1000000), ETA: 0m"),
}


def test_progress_is_told_at_its_times(caplog, monkeypatch):
    clock = types.SimpleNamespace()
    monkeypatch.setattr(metric_writers, "time", clock)
    progress = Progress(1_000_000)
    for step, (now, report) in REPORTS.items():
        clock.monotonic = lambda now=now: now
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="absl"):
            progress(step)
        assert caplog.messages == ([report] if report else []), step


def test_progress_is_told_as_clu_does(caplog, tensorflow):
    from clu.periodic_actions import ReportProgress

    progress = ReportProgress(num_train_steps=1_000_000, every_secs=15)
    with caplog.at_level(logging.INFO, logger="absl"):
        for step, (now, _) in REPORTS.items():
            progress(step, now)
    told = [message.removeprefix("Setting work unit notes: ") for message in caplog.messages]
    assert told == [report for _, report in REPORTS.values() if report]


@pytest.fixture
def no_clu(monkeypatch):
    """CLU cannot be imported."""
    missing = futures.Future()
    missing.set_result(None)
    monkeypatch.setattr(metric_writers, "_import_clu", lambda: missing)


def test_without_clu_and_tensorboard_the_other_places_are_written_to(
    no_clu, tmp_path, caplog, monkeypatch
):
    monkeypatch.setitem(sys.modules, "gan.event_files", None)
    writers = MetricWriters(tmp_path, 2, 0)
    with caplog.at_level(logging.INFO, logger="absl"):
        for step in (1, 2):
            writers.write_scalars(step, {"a": step})
            writers.write_images(step, {"b": np.zeros([1, 2, 2, 1], np.uint8)})
            writers.after_call(step)
    writers.close()
    left_out, first, second, progress = caplog.messages
    assert left_out.startswith("files for TensorBoard are left out: ")
    assert (first, second) == ("[1] a 1", "[2] a 2")
    assert progress.endswith(" steps/s, 100.0% (2/2), ETA: 0m")
    assert read(tmp_path / "metrics.jsonl") == [{"step": 1, "a": 1.0}, {"step": 2, "a": 2.0}]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_without_clu_a_profile_has_some_steps_or_those_until_the_end(no_clu, tmp_path, monkeypatch):
    made = []
    profiler = types.SimpleNamespace(
        start_trace=lambda folder: made.append(folder), stop_trace=lambda: made.append("end")
    )
    monkeypatch.setattr(metric_writers.jax, "profiler", profiler)
    for last, expected in ((12, [tmp_path, "end"]), (15, [tmp_path, "end", 15])):
        writers = MetricWriters(tmp_path, 20, 0, profile_step=10)
        for step in (5, 10, 12, 15):
            if step <= last:
                writers.after_call(step)
        made += [last] if "end" in made else []
        writers.close()
        assert made == expected
        made.clear()


@pytest.mark.parametrize(("missing", "warned"), [("tensorflow", False), ("wrapt", True)])
def test_only_a_missing_tensorflow_is_not_worth_a_warning(missing, warned, caplog, monkeypatch):
    def fail(name):
        raise ImportError(f"no {missing}", name=missing)

    monkeypatch.setattr(importlib, "import_module", fail)
    assert metric_writers._load_clu() is None
    assert ("CLU cannot be imported" in caplog.text) == warned
