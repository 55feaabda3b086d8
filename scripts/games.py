"""Plays small games with known answers, and shows who reaches the solution.

python scripts/games.py
python scripts/games.py --game 'bilinear((1.0, 0.5))' --play 'extragradient; adam(0.01)'
"""

import pathlib
from collections.abc import Sequence

from gan import cli
from gan.errors import UsageError


def main(argv: Sequence[str]) -> None:
    """Flags in, one call a game."""
    parser = cli.make_parser(__doc__)
    parser.add_argument(
        "--game",
        action="append",
        metavar="SPEC",
        help="bilinear(...), dirac(...) or quadratic(...), any number of times; "
        "by default bilinear and dirac",
    )
    parser.add_argument(
        "--play",
        action="append",
        metavar="'DYNAMICS; OPTIMIZER'",
        help="a way to play, any number of times; by default the classic comparison",
    )
    parser.add_argument("--num_steps", type=int, default=10_000, help="how long (10000)")
    parser.add_argument("--output", default="runs/games", metavar="DIR", help="for .png and .csv")
    flags = parser.parse_args(argv)

    from gan.trainers.game_report import CLASSIC, check, report
    from gan.trainers.play import Contestant

    if flags.num_steps < 10:
        raise UsageError(f"--num_steps must be at least 10, given {flags.num_steps}")
    contestants: tuple[Contestant, ...] = CLASSIC
    if flags.play:
        parts = [text.partition(";") for text in flags.play]
        for text, (_, semicolon, _) in zip(flags.play, parts, strict=True):
            if not semicolon:
                raise UsageError(f"--play={text!r}: 'DYNAMICS; OPTIMIZER' is accepted")
        contestants = tuple(Contestant(one.strip(), other.strip()) for one, _, other in parts)
    output = pathlib.Path(flags.output)
    games = flags.game or ("bilinear", "dirac")
    check(games, contestants, output)
    for game in games:
        print(report(game, contestants, flags.num_steps, output), end="\n\n")
    print(f"pictures and points: {output}/")


if __name__ == "__main__":
    cli.run(main)
