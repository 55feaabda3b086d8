r"""Trains configs with Adam, Optimistic Adam, ExtraAdam and lookahead, several seeds each.

    python scripts/compare.py --config configs/digits.py --output runs/compare \
        --learning_rate 5e-4 --config.num_steps=4_000

A table for each config goes to the terminal, every run's score to OUTPUT/<config>/comparison.csv.
The same command again goes on where it was stopped.
"""

import pathlib
from collections.abc import Sequence

from gan import cli
from gan.errors import UsageError
from gan.trainers.stopping import Stop


def main(argv: Sequence[str]) -> None:
    """Flags in, one call."""
    parser = cli.make_parser(__doc__)
    parser.add_argument(
        "--config", required=True, nargs="+", metavar="FILE", help="files with get_config()"
    )
    parser.add_argument("--config.KEY", metavar="VALUE", help="changes one key of the config")
    parser.add_argument("--output", required=True, metavar="DIR", help="for the runs")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from the config's own (3)")
    parser.add_argument("--learning_rate", type=float, default=2e-4, help="of all (2e-4)")
    parser.add_argument("--b1", type=float, default=0.5, help="of all (0.5)")
    flags, overrides = cli.parse_with_overrides(parser, argv)
    if flags.seeds < 1:
        raise UsageError(f"--seeds must be at least 1, given {flags.seeds}")

    with Stop() as stop:
        from gan import config
        from gan.trainers.compare import check, compare, variants

        cli.log_to_terminal()
        ways = variants(flags.learning_rate, flags.b1)
        paths = [pathlib.Path(path) for path in flags.config]
        configs = {path.stem: config.load(path, overrides) for path in paths}
        for cfg in configs.values():
            check(cfg, ways)
        for name, cfg in configs.items():
            output = pathlib.Path(flags.output) / name
            print(compare(cfg, ways, flags.seeds, output, stop), end="\n\n")


if __name__ == "__main__":
    cli.run(main)
