"""Simulates small games with known solutions, and shows which methods reach them.

python scripts/games.py
python scripts/games.py --game 'bilinear((1.0, 0.5))' --play 'extragradient; adam(0.01)'
"""

import pathlib
import sys
from collections.abc import Sequence

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))  # where `build/` was deleted

from gan import cli, environment
from gan.errors import UsageError
from gan.files import user_path


def main(argv: Sequence[str]) -> None:
    """Parses the flags, and reports on each game."""
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
        help="a method, any number of times; by default the classic comparison",
    )
    parser.add_argument(
        "--num_steps", type=int, default=10_000, help="steps of each method (10000)"
    )
    parser.add_argument(
        "--output",
        default="runs/games",
        metavar="DIR",
        help="folder for .png and .csv files (runs/games)",
    )
    cli.add_parts_flag(parser)
    flags = parser.parse_args(argv)

    from gan.analysis.report import CLASSIC, check, report
    from gan.analysis.trajectories import Method

    environment.check_devices()
    cli.load_parts(flags.parts)
    if flags.num_steps < 10:
        raise UsageError(f"--num_steps must be at least 10, given {flags.num_steps}")
    methods = []
    for text in flags.play or ():
        dynamics, semicolon, optimizer = text.partition(";")
        if not semicolon:
            raise UsageError(f"--play={text!r}: 'DYNAMICS; OPTIMIZER' is accepted")
        methods.append(Method(dynamics.strip(), optimizer.strip()))
    chosen = methods or CLASSIC
    output = user_path(flags.output)
    games = flags.game or ("bilinear", "dirac")
    check(games, chosen, flags.num_steps, output)
    for game in games:
        print(report(game, chosen, flags.num_steps, output), end="\n\n")
    print(f"pictures and trajectories: {output}/")


if __name__ == "__main__":
    cli.run(main)
