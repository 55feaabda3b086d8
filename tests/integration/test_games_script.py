"""`scripts/games.py` as a user runs it."""

import csv
import functools
import re

import numpy as np
import pytest
from PIL import Image

from tests.scripts import run_script, run_script_here

run = functools.partial(run_script, "games.py")
run_here = functools.partial(run_script_here, "games.py")


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    output = tmp_path_factory.mktemp("games")
    return output, run("--output", output).stdout


def table(text, game):
    """Rows of one game: name -> (distance at the end, measured, theory or None)."""
    part = text[text.index(f"{game}\n") :].split("\n\n")[0]
    rows = re.findall(r"^(\S.*?)  +(\S+)  +(\d\S*)  +(\S+)$", part, re.MULTILINE)
    return {
        name: (float(end), float(rate), None if theory == "-" else float(theory))
        for name, end, rate, theory in rows
    }


@pytest.mark.parametrize("game", ["bilinear", "dirac"])
def test_measured_rates_are_the_theorys_to_three_digits(played, game):
    known = [row for row in table(played[1], game).values() if row[2] is not None]
    assert len(known) == 6
    for _, measured, theory in known:
        assert abs(measured - theory) < 5e-4


@pytest.mark.parametrize("game", ["bilinear", "dirac"])
def test_sgd_and_adam_circle_or_diverge_and_the_optimistic_ones_converge(played, game):
    rows = table(played[1], game)
    start = np.sqrt(2)
    assert rows["sgd(0.1)"][0] > start
    assert rows["adam(0.01, b1=0.0)"][0] > 0.5
    assert rows["alternating, sgd(0.1)"][0] > 0.9 * start
    assert rows["optimistic_sgd(0.1)"][0] < 1e-4
    assert rows["optimistic_adam(0.01, b1=0.0)"][0] < 1e-4


def test_pictures_and_points_are_there(played):
    output, _ = played
    for game in ("bilinear", "dirac"):
        with Image.open(output / f"{game}.png") as picture:
            assert picture.size[0] > 1_000
        with (output / f"{game}.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 8 * 10_001
        first = rows[0]
        assert (first["generator_0"], first["discriminator_0"], first["step"]) == ("1", "1", "0")
        np.testing.assert_allclose(float(first["distance"]), np.sqrt(2))


def test_any_game_and_any_way_to_play(tmp_path):
    done = run(
        "--game", "quadratic((0.1, 0.2), (1.0, 0.5))", "--num_steps", 3_000,
        "--play", "past_extragradient; sgd(0.2)", "--play", "consensus(0.5); sgd(0.1)",
        "--play", "simultaneous; rmsprop(0.01)", "--output", tmp_path,
    )  # fmt: skip
    rows = table(done.stdout, "quadratic((0.1, 0.2), (1.0, 0.5))")
    assert rows["simultaneous; rmsprop(0.01)".partition("; ")[2]][2] is None
    for name in ("past_extragradient, sgd(0.2)", "consensus(0.5), sgd(0.1)"):
        _, measured, theory = rows[name]
        assert abs(measured - theory) < 5e-4


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--game", "bilnear"], ["unknown game 'bilnear'", "'bilinear'"]),
        (["--game", "dirac(loss='hing')"], ["'hinge'"]),
        (["--game", "dirac(r1=-1.0)"], ["r1 must be at least 0"]),
        (["--play", "extragradient"], ["'DYNAMICS; OPTIMIZER' is accepted"]),
        (["--play", "lookahead(alpha=2.0); sgd(0.1)"], ["alpha must be in [0, 1], given 2.0"]),
        (["--play", "alternating(0); sgd(0.1)"], ["discriminator_steps must be in [1, 100]"]),
        (["--play", "simultaneous; optimistic_sgd(0.1, -1.0)"], ["strength must be at least 0"]),
        (["--num_steps", "1"], ["at least 10"]),
        (["--output", "{file}"], ["cannot be written"]),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(tmp_path, args, words):
    (tmp_path / "file").write_text("")
    output = ["--output", tmp_path / "new"] if "--output" not in args else []
    args = [arg.replace("{file}", str(tmp_path / "file")) for arg in args]
    done = (
        run_here(*args, *output, "--num_steps", "20", code=2)
        if "--num_steps" not in args
        else (run_here(*args, *output, code=2))
    )
    last = done.stderr.strip().splitlines()[-1]
    for word in words:
        assert word in last
    assert not (tmp_path / "new").exists()
