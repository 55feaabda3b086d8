r"""Trains a config with every combination of some values, from several seeds: a grid of runs.

python scripts/sweep.py --config configs/digits.py --workdir runs/sweep --seeds 4 \
        --vary generator_optimizer.learning_rate=1e-4,2e-4,5e-4
python scripts/sweep.py --config configs/digits.py --workdir runs/rates \
        --vary generator_optimizer.learning_rate,discriminator_optimizer.learning_rate=1e-4,5e-4 \
        --vary regularizers.r1.weight=0.1,1 --vary dynamics=simultaneous,alternating

Each run is in a folder of its own in WORKDIR. Prints a table of them at the end, and writes it to
WORKDIR/sweep.csv. The same command goes on where it was stopped, and so does `scripts/train.py --workdir WORKDIR`.
"""

import pathlib
import sys
from collections.abc import Sequence

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))  # where `build/` was deleted

from gan import cli, environment
from gan.errors import UsageError
from gan.preemption import Stop


def main(argv: Sequence[str]) -> None:
    """Parses the flags, and trains the grid."""
    parser = cli.make_parser(__doc__)
    parser.add_argument("--config", required=True, metavar="FILE", help="a file with get_config()")
    parser.add_argument("--config.KEY", metavar="VALUE", help="changes one key of the config")
    parser.add_argument("--workdir", required=True, metavar="DIR", help="folder of the runs")
    parser.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="KEY.ARG=V1,V2",
        help="an argument of a spec, or a whole KEY, and its values; KEY1.ARG,KEY2.ARG=... change together",
    )
    parser.add_argument(
        "--seeds", type=int, default=1, help="number of seeds, from the config's own (1)"
    )
    cli.add_parts_flag(parser)
    flags, overrides = cli.parse_with_overrides(parser, argv)
    if flags.seeds < 1:
        raise UsageError(f"--seeds must be at least 1, given {flags.seeds}")

    with Stop() as stop:
        from gan import config_files
        from gan.trainers.population import train_population
        from gan.trainers.population.vary import grid, parse_axis

        cli.log_to_terminal()
        environment.check_devices()
        config = config_files.load(flags.config, overrides, flags.parts)
        axes = [parse_axis(text) for text in flags.vary]
        population = train_population(
            config, flags.workdir, grid(config, axes, flags.seeds), stop=stop
        )
        print(population.table)
        population.check()


if __name__ == "__main__":
    cli.run(main)
