r"""Trains a GAN, or goes on with a run that was stopped.

python scripts/train.py --config configs/digits.py --workdir runs/digits
python scripts/train.py --config configs/digits.py --workdir runs/adam \
        --config.generator_optimizer='adam(1e-4)'

Ctrl-C and SIGTERM save before they end it (exit code 130 and 143); the same command goes on.
"""

import time
from collections.abc import Sequence

BEGAN = time.monotonic()

from gan import cli
from gan.trainers.stopping import Stop


def main(argv: Sequence[str]) -> None:
    """Flags in, one call."""
    parser = cli.make_parser(__doc__)
    parser.add_argument("--config", metavar="FILE", help="a file with get_config()")
    parser.add_argument("--config.KEY", metavar="VALUE", help="changes one key of the config")
    parser.add_argument("--workdir", metavar="DIR", help="the run's folder")
    parser.add_argument(
        "--init_from",
        metavar="DIR[@STEP]",
        help="start a new run from another's newest checkpoint, or that of a step",
    )
    parser.add_argument(
        "--on_optimizer_change",
        choices=["refuse", "reset", "keep_moments"],
        default="refuse",
        help="what becomes of the state of an optimizer or dynamics that is another now",
    )
    parser.add_argument(
        "--distributed",
        nargs="?",
        const="auto",
        metavar="HOST:PORT,PROCESS/COUNT",
        help="one of several processes; alone where JAX knows the cluster",
    )
    parser.add_argument("--profile", action="store_true", help="profile some steps for TensorBoard")
    parser.add_argument(
        "--list", action="store_true", help="print all that specs can name, and end"
    )
    flags, overrides = cli.parse_with_overrides(parser, argv)
    if flags.list:
        from gan.trainers.catalog import catalog

        print(catalog())
        return
    if not flags.config or not flags.workdir:
        parser.error("--config and --workdir are needed (or --list)")

    with Stop(distributed=bool(flags.distributed)) as stop:
        from gan import config
        from gan.sharding import join_processes
        from gan.trainers.loop import train

        cli.log_to_terminal()
        if flags.distributed:
            join_processes(flags.distributed)
        train(
            config.load(flags.config, overrides),
            flags.workdir,
            profile=flags.profile,
            init_from=flags.init_from,
            on_optimizer_change=flags.on_optimizer_change,
            stop=stop,
            began=BEGAN,
        )


if __name__ == "__main__":
    cli.run(main)
