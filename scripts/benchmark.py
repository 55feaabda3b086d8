r"""Measures how fast recipes train here: images per second, fraction of the peak, start-up time.

python scripts/benchmark.py --config digits
python scripts/benchmark.py --config cifar10_dcgan --noise --against pytorch --json cifar10.json
python scripts/benchmark.py --config digits --config.precision=bfloat16 --against precision=float32
python scripts/benchmark.py --config all --noise --step_only --rounds 3 --config.batch_size=8

Recipes are those of `configs/`, by name; any other file with get_config() is one too. The sides take
turns; each figure is a median, with the smallest and the largest value in brackets. Leave the machine
alone meanwhile. `--noise` stands in for data that are not there; `--config.generator=...` and the like
make a recipe small enough for a CPU. `--against pytorch` needs a checkout of this project and `pip
install torch==2.13.0`; it has no conditional networks, and says where it has no twin of a recipe.
`--against KEY=VALUE` compares with the same config with other values; both can be given.
"""

import dataclasses
import importlib.util
import json
import pathlib
import sys
from collections.abc import Sequence

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))  # where `build/` was deleted

from gan import cli, environment
from gan.config import TrainConfig
from gan.errors import UsageError
from gan.files import user_path

_ROOT = pathlib.Path(__file__).resolve().parents[1]


def main(argv: Sequence[str]) -> None:
    """Parses the flags, measures, and prints a table; writes all figures to a file on request."""
    parser = cli.make_parser(__doc__)
    sys.path.insert(0, str(_ROOT))  # before other packages named `tests`
    from tests.benchmarks.recipes import find_recipes, noise_like, recipes

    parser.add_argument(
        "--config",
        required=True,
        nargs="+",
        metavar="RECIPE",
        help=f"all, files with get_config(), or names: {', '.join(recipes())}",
    )
    parser.add_argument("--config.KEY", metavar="VALUE", help="changes one key of the config")
    parser.add_argument(
        "--noise", action="store_true", help="random pixels of the same shape in place of the data"
    )
    parser.add_argument(
        "--against",
        nargs="+",
        default=[],
        metavar="SIDE",
        help="compare with `pytorch`, and with the config changed by KEY=VALUE, one or several",
    )
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
    against = [word for word in flags.against if word != "pytorch"]
    if wrong := [word for word in against if "=" not in word]:
        raise UsageError(f"--against {wrong[0]}: accepted are pytorch and KEY=VALUE of the config")
    changed = dict(word.split("=", 1) for word in against)
    with_pytorch = "pytorch" in flags.against
    if with_pytorch and importlib.util.find_spec("torch") is None:
        raise UsageError("--against pytorch needs it: pip install torch==2.13.0")

    from gan import config_files
    from tests.benchmarks.benchmark import describe, measure
    from tests.benchmarks.pytorch_process import PyTorchProcess

    def load(path: pathlib.Path) -> tuple[TrainConfig, TrainConfig | None, list[str]]:
        """Returns a config, the one to compare with, and the command that trains the first."""
        config, changes = config_files.load(path, overrides, flags.parts), dict(overrides)
        if flags.noise:
            changes["dataset"] = noise_like(config.dataset)
            config = dataclasses.replace(config, dataset=changes["dataset"])
        other = config_files.load(path, changes | changed, flags.parts) if changed else None
        if other == config:
            raise UsageError(f"--against {' '.join(against)} changes nothing of the config")
        command = [sys.executable, str(_ROOT / "scripts" / "train.py"), "--config", str(path)]
        command += [f"--config.{key}={value}" for key, value in changes.items()]
        return config, other, [*command, *(["--parts", *flags.parts] if flags.parts else [])]

    loaded = {name: load(path) for name, path in find_recipes(flags.config).items()}
    cli.log_to_terminal()
    environment.check_devices()
    figures = {}
    for name, (config, other, train) in loaded.items():

        def start_pytorch(shape: Sequence[int], config: TrainConfig = config) -> PyTorchProcess:
            command = [sys.executable, "-m", "tests.benchmarks.pytorch"]
            options = {"shape": list(shape)}
            return PyTorchProcess(command, _ROOT, dataclasses.asdict(config) | options)

        result = measure(
            config,
            flags.rounds,
            start_pytorch if with_pytorch else None,
            None if flags.step_only else train,
            loop=not flags.step_only,
            other=other,
        )
        print(f"{name}\n{describe(result)}" if len(loaded) > 1 else describe(result), flush=True)
        figures[name] = values = dataclasses.asdict(result)
        spread = values["ratio_to_best_pytorch_spread"] = values["ratio_to_best_pytorch"]
        values["ratio_to_best_pytorch"] = spread and spread["median"]  # for other programs
        if flags.json:
            written = figures if len(loaded) > 1 else values
            user_path(flags.json).write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    cli.run(main)
