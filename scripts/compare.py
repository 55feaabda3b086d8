r"""Trains configs with Adam, Optimistic Adam, ExtraAdam and lookahead, from several seeds each.

    python scripts/compare.py --config configs/digits.py --output runs/compare \
        --learning_rate 5e-4 --config.num_steps=4_000

Prints a table for each config, and writes the scores of all runs to OUTPUT/<config>/comparison.csv.
The same command resumes a comparison that was stopped.
"""

import pathlib
import sys
from collections.abc import Sequence

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))  # where `build/` was deleted

from gan import cli, environment
from gan.errors import UsageError
from gan.files import user_path
from gan.preemption import Stop

_MOST_SEEDS = 1_000


def main(argv: Sequence[str]) -> None:
    """Parses the flags, and compares the variants on each config."""
    parser = cli.make_parser(__doc__)
    parser.add_argument(
        "--config", required=True, nargs="+", metavar="FILE", help="files with get_config()"
    )
    parser.add_argument("--config.KEY", metavar="VALUE", help="changes one key of the config")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the runs")
    parser.add_argument(
        "--seeds", type=int, default=3, help="number of seeds, from the config's own (3)"
    )
    parser.add_argument(
        "--learning_rate", type=float, default=2e-4, help="of all optimizers (2e-4)"
    )
    parser.add_argument("--b1", type=float, default=0.5, help="of all optimizers (0.5)")
    cli.add_parts_flag(parser)
    flags, overrides = cli.parse_with_overrides(parser, argv)
    if not 1 <= flags.seeds <= _MOST_SEEDS:
        raise UsageError(f"--seeds must be from 1 to {_MOST_SEEDS}, given {flags.seeds}")

    with Stop() as stop:
        from gan import config_files
        from gan.trainers.compare import check, compare, make_variants

        cli.log_to_terminal()
        environment.check_devices()
        variants = make_variants(flags.learning_rate, flags.b1)
        paths = [pathlib.Path(path) for path in flags.config]
        configs = {path.stem: config_files.load(path, overrides, flags.parts) for path in paths}
        for cfg in configs.values():
            check(cfg, variants)
        for name, cfg in configs.items():
            output = user_path(flags.output) / name
            print(compare(cfg, variants, flags.seeds, output, stop), end="\n\n")


if __name__ == "__main__":
    cli.run(main)
