import json

from gan.trainers.history import record


def test_an_event_is_a_line_that_lasts(tmp_path):
    record(tmp_path, 3, "stop", "stopped", to=1)
    record(tmp_path, 4, "resume", "resuming")
    first, second = map(json.loads, (tmp_path / "history.jsonl").read_text().splitlines())
    assert (first["step"], first["event"], first["message"], first["to"]) == (
        3,
        "stop",
        "stopped",
        1,
    )
    assert second["event"] == "resume"
    assert first["time"][:2] == "20"
