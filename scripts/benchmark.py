r"""Measures how fast a config trains here: images per second, fraction of the peak, start-up time.

python scripts/benchmark.py --config configs/digits.py
python scripts/benchmark.py --config configs/cifar10.py --config.dataset='noise(32)' \
        --config.data_augmentation='()' --against pytorch --json cifar10.json

The sides take turns; each figure is a median, with the smallest and the largest value in brackets.
Leave the machine alone meanwhile. `noise(size, channels)` stands in for a dataset that is not there.
`--against pytorch` needs a checkout of this project and `pip install torch==2.13.0`; it knows no
conditional networks and no augmentation.
"""

import dataclasses
import importlib.util
import json
import pathlib
import sys
from collections.abc import Sequence

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))  # where `build/` was deleted

from gan import cli, environment
from gan.errors import UsageError
from gan.files import user_path

_ROOT = pathlib.Path(__file__).resolve().parents[1]


def main(argv: Sequence[str]) -> None:
    """Parses the flags, measures, and prints a table; writes all figures to a file on request."""
    parser = cli.make_parser(__doc__)
    parser.add_argument("--config", required=True, metavar="FILE", help="a file with get_config()")
    parser.add_argument("--config.KEY", metavar="VALUE", help="changes one key of the config")
    parser.add_argument("--against", choices=["pytorch"], help="compare with PyTorch")
    parser.add_argument("--rounds", type=int, default=10, help="turns of each side (10)")
    parser.add_argument("--json", metavar="FILE", help="file for all figures")
    parser.add_argument(
        "--step_only", action="store_true", help="leave out the whole loop and the start-up"
    )
    cli.add_parts_flag(parser)
    flags, overrides = cli.parse_with_overrides(parser, argv)
    if flags.rounds < 1:
        raise UsageError(f"--rounds must be at least 1, given {flags.rounds}")
    if flags.json and not user_path(flags.json).parent.is_dir():
        raise UsageError(f"--json={flags.json}: there is no such folder")
    if flags.against and importlib.util.find_spec("torch") is None:
        raise UsageError("--against pytorch needs it: pip install torch==2.13.0")

    sys.path.insert(0, str(_ROOT))  # before other packages named `tests`
    from gan import config_files
    from tests.benchmarks.benchmark import describe, measure
    from tests.benchmarks.pytorch_process import PyTorchProcess

    config = config_files.load(flags.config, overrides, flags.parts)
    cli.log_to_terminal()
    environment.check_devices()

    def start_pytorch(shape: Sequence[int]) -> PyTorchProcess:
        command = [sys.executable, "-m", "tests.benchmarks.pytorch"]
        options = {"shape": list(shape), "dtype": config.precision}
        return PyTorchProcess(command, _ROOT, dataclasses.asdict(config) | options)

    train = [sys.executable, str(_ROOT / "scripts" / "train.py"), "--config", flags.config]
    train += [f"--config.{key}={value}" for key, value in overrides.items()]
    if flags.parts:
        train += ["--parts", *flags.parts]
    result = measure(
        config,
        flags.rounds,
        start_pytorch if flags.against else None,
        None if flags.step_only else train,
        loop=not flags.step_only,
    )
    print(describe(result))
    if flags.json:
        values = dataclasses.asdict(result)
        spread = values["ratio_to_best_pytorch_spread"] = values["ratio_to_best_pytorch"]
        values["ratio_to_best_pytorch"] = spread and spread["median"]  # for other programs
        user_path(flags.json).write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    cli.run(main)
