r"""Compares methods on the same GAN, each at its own best learning rate, over several seeds.

    python scripts/compare.py --config configs/digits.py --output runs/compare \
        --config.num_steps=4_000
    python scripts/compare.py --config configs/digits.py --output runs/compare \
        --config.num_steps=4_000 --method "alternating adam b1=0.5" \
        --method "two to one: dynamics=alternating(2); optimizer=optimistic_adam({lr}, b1=0)"

Prints a table, and writes the scores of all runs, the protocol and a picture to OUTPUT/<config>/.
The same command resumes a comparison that was stopped. docs/dynamics.md explains the protocol.
"""

import math
import pathlib
import sys
from collections.abc import Sequence

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))  # where `build/` was deleted

from gan import cli, environment
from gan.errors import UsageError, brief
from gan.files import user_path
from gan.preemption import Stop

_MOST = 1_000  # seeds, and evaluations


def main(argv: Sequence[str]) -> None:
    """Parses the flags, and compares the methods on each config."""
    parser = cli.make_parser(__doc__)
    parser.add_argument(
        "--config", required=True, nargs="+", metavar="FILE", help="files with get_config()"
    )
    parser.add_argument("--config.KEY", metavar="VALUE", help="changes one key of the config")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the runs")
    parser.add_argument(
        "--method",
        action="append",
        metavar="'NAME: KEY=VALUE; ...'",
        help="a method, any number of times: config keys, or `optimizer` for both players', with {lr} "
        "for the learning rate; or the name of a default method; or `default`, all of these (default)",
    )
    parser.add_argument(
        "--learning_rates",
        default="2e-4,5e-4,1e-3,2e-3,4e-3",
        metavar="A,B,...",
        help="the grid from which each method has its own (2e-4,5e-4,1e-3,2e-3,4e-3)",
    )
    parser.add_argument(
        "--seeds", type=int, default=5, help="number of reported runs, from the config's seed (5)"
    )
    parser.add_argument(
        "--tuning_seeds",
        type=int,
        default=2,
        help="of other runs that choose the learning rate (2)",
    )
    parser.add_argument("--tuning_steps", type=int, help="length of those (as of the reported)")
    parser.add_argument(
        "--evaluations", type=int, default=20, help="how often a reported run is scored (20)"
    )
    parser.add_argument(
        "--match",
        choices=["steps", "gradients", "seconds"],
        default="steps",
        help="the cost at which the table reads each method (steps)",
    )
    parser.add_argument(
        "--baseline", metavar="NAME", help="compared with all (the best with plain Adam)"
    )
    parser.add_argument(
        "--report_only", action="store_true", help="no training: the report of what is trained"
    )
    cli.add_parts_flag(parser)
    flags, overrides = cli.parse_with_overrides(parser, argv)
    rates = _read_rates(flags.learning_rates)
    for name in ("seeds", "tuning_seeds", "evaluations"):
        if not 1 <= getattr(flags, name) <= _MOST:
            raise UsageError(f"--{name} must be from 1 to {_MOST}, given {getattr(flags, name)}")
    if flags.tuning_steps is not None and flags.tuning_steps < 1:
        raise UsageError(f"--tuning_steps must be at least 1, given {flags.tuning_steps}")

    with Stop() as stop:
        from gan import config_files
        from gan.trainers.comparison.comparison import Comparison
        from gan.trainers.comparison.design import Design
        from gan.trainers.comparison.methods import parse_methods

        cli.log_to_terminal()
        environment.check_devices()
        design = Design(
            parse_methods(flags.method or ["default"]), rates, flags.seeds, flags.tuning_seeds,
            flags.tuning_steps, flags.evaluations, flags.match, flags.baseline,
        )  # fmt: skip
        paths = [pathlib.Path(path) for path in flags.config]
        configs = {path.stem: config_files.load(path, overrides, flags.parts) for path in paths}
        comparisons = [
            Comparison(config, design, user_path(flags.output) / name)
            for name, config in configs.items()
        ]
        for comparison in comparisons:
            report = comparison.report() if flags.report_only else comparison.run(stop)
            print(report, end="\n\n")


def _read_rates(text: str) -> list[float]:
    """Reads the grid of learning rates, ascending."""
    try:
        rates = sorted({float(part) for part in text.split(",")})
    except ValueError:
        rates = []
    if not rates or not all(math.isfinite(rate) and rate > 0 for rate in rates):
        raise UsageError(
            f"--learning_rates: positive numbers A,B,... are accepted, given {brief(text)}"
        )
    return rates


if __name__ == "__main__":
    cli.run(main)
