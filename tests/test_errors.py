from gan.errors import brief, nearest, printable, printable_lines


def test_nearest_prefers_swapped_letters():
    assert nearest("adma", ["adamax", "adam", "sgd"]) == "; did you mean 'adam'?"
    assert nearest("num_step", ["num_steps", "seed"]) == "; did you mean 'num_steps'?"
    assert nearest("zzz", ["adam"]) == ""


def test_a_value_in_a_message_is_short():
    assert brief("x") == "'x'"
    assert len(brief("x" * 10**6)) < 400
    assert brief(10**5_000) == "a very large int"


def test_what_no_terminal_shows_is_escaped():
    assert printable("caf\xe9 \u56fe \x1b[2J\n\udcff") == "caf\xe9 \u56fe \\x1b[2J\\n\\udcff"
    assert printable_lines("one\x07\ntwo\x9b") == "one\\x07\ntwo\\x9b"
