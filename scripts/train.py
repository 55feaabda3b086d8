r"""Trains a GAN, or resumes a run that was stopped.

python scripts/train.py --config configs/digits.py --workdir runs/digits
python scripts/train.py --config configs/digits.py --workdir runs/adam \
        --config.generator_optimizer='adam(1e-4)'

`--config.population=8` trains 8 seeds, each in a folder of its own (docs/populations.md).

After Ctrl-C, SIGTERM or SIGHUP it saves and ends (exit code 130, 143 or 129); the same command resumes
the run, and so does `--workdir` alone.
"""

import argparse
import pathlib
import sys
import time
from collections.abc import Sequence

START_TIME = time.monotonic()

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))  # where `build/` was deleted

from gan import cli, environment
from gan.errors import UsageError
from gan.preemption import Stop


def main(argv: Sequence[str]) -> None:
    """Parses the flags, and trains or lists what specs can name."""
    parser = cli.make_parser(__doc__)
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="a file with get_config(), or a run's config.json (that of the workdir)",
    )
    parser.add_argument("--config.KEY", metavar="VALUE", help="changes one key; see --list")
    cli.add_parts_flag(parser)
    parser.add_argument("--workdir", metavar="DIR", help="the run's folder")
    parser.add_argument(
        "--init_from",
        metavar="DIR[@STEP]",
        help="start a new run from another's newest checkpoint, or that of a step",
    )
    parser.add_argument(
        "--on_shape_mismatch",
        choices=["refuse", "reset"],
        default="refuse",
        help="with --init_from: what becomes of parameters that have other shapes",
    )
    parser.add_argument(
        "--reset_step", action="store_true", help="with --init_from: count the steps anew"
    )
    parser.add_argument(
        "--on_optimizer_change",
        choices=["refuse", "reset", "keep_moments"],
        default="refuse",
        help="what becomes of the state of an optimizer or dynamics that was changed",
    )
    parser.add_argument(
        "--distributed",
        nargs="?",
        const="auto",
        metavar="HOST:PORT,PROCESS/COUNT",
        help="this is one of several processes; without a value where JAX knows the cluster",
    )
    parser.add_argument("--profile", action="store_true", help="profile some steps for TensorBoard")
    parser.add_argument(
        "--list",
        action="store_true",
        help="print every config key and everything that specs can name, and exit",
    )
    flags, overrides = cli.parse_with_overrides(parser, argv)
    if flags.list:
        from gan import config_files
        from gan.trainers.experiment import list_keys_and_parts

        cli.load_parts(flags.parts)
        if flags.config:
            config_files.load(flags.config, overrides)
        print(list_keys_and_parts())
        return
    if not flags.workdir:
        parser.error(
            "--config and --workdir are needed; --workdir alone goes on with its run (or --list)"
        )

    with Stop(distributed=bool(flags.distributed)) as stop:
        from gan import config_files
        from gan.sharding import join_processes
        from gan.trainers.run import train

        cli.log_to_terminal()
        if flags.distributed:
            join_processes(flags.distributed)
        environment.check_devices()
        path = flags.config or config_files.of_run(flags.workdir)
        config = config_files.load(path, overrides, flags.parts)
        if config.population > 1:
            from gan.trainers.population import train_population

            _check_flags(flags, config.population)
            population = train_population(config, flags.workdir, stop=stop)
            print(population.table)
            population.check()
            return
        train(
            config,
            flags.workdir,
            profile=flags.profile,
            init_from=flags.init_from,
            on_shape_mismatch=flags.on_shape_mismatch,
            reset_step=flags.reset_step,
            on_optimizer_change=flags.on_optimizer_change,
            stop=stop,
            start_time=START_TIME,
        )


def _check_flags(flags: argparse.Namespace, population: int) -> None:
    """Raises UsageError for a flag that a population has no use for."""
    single = ("init_from", "reset_step", "distributed", "profile")
    given = [name for name in single if getattr(flags, name)]
    given += [
        n for n in ("on_shape_mismatch", "on_optimizer_change") if getattr(flags, n) != "refuse"
    ]
    if given:
        raise UsageError(f"--{given[0]} goes with a single run, and population = {population}")


if __name__ == "__main__":
    cli.run(main)
