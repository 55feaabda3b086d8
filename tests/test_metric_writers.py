import json
import logging

from gan.cli import _TerminalFilter, log_to_terminal
from gan.trainers.metric_writers import JSONLinesWriter, TerminalWriter


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
    finally:
        logger.handlers, logger.propagate = before
    line = capsys.readouterr().err
    assert line.endswith("[100] loss/generator 0.6931  images_per_second 12,345\n")
