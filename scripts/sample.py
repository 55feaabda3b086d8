"""Draws samples from a trained generator.

python scripts/sample.py --workdir runs/digits --num_images 64 --seed 0 --output samples.png
python scripts/sample.py --workdir runs/digits --classes 3,5 --num_images 1000 --separate --output samples
"""

import pathlib
import sys
from collections.abc import Sequence

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))  # where `build/` was deleted

from gan import cli, environment
from gan.errors import UsageError


def main(argv: Sequence[str]) -> None:
    """Parses the flags, and writes samples to a file."""
    parser = cli.make_parser(__doc__)
    parser.add_argument("--workdir", required=True, metavar="DIR", help="the run's folder")
    parser.add_argument(
        "--output",
        default="samples.png",
        help="a .png grid, an .npy or .npz with the arrays, or with --separate a folder",
    )
    parser.add_argument(
        "--separate", action="store_true", help="write one .png for each image, into a folder"
    )
    parser.add_argument(
        "--classes",
        default="data",
        help="of a conditional generator: data, its proportions; equal, as many of each; or those to "
        "draw in turn, by name or number, 3,5 (data)",
    )
    parser.add_argument("--num_images", type=int, default=64, help="number of samples (64)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the latents (0)")
    parser.add_argument("--step", type=int, help="step of the checkpoint (the newest)")
    parser.add_argument(
        "--weights",
        help="an average by its name (ema, uniform), raw, or slow after lookahead "
        "(the config's first average)",
    )
    parser.add_argument(
        "--truncation",
        type=float,
        help="of a generator with a mapping network: how far each w is from the mean of w, from 0, the "
        "same for all, to 1, as trained (1)",
    )
    cli.add_parts_flag(parser)
    flags = parser.parse_args(argv)

    from gan.memory import check_num_images
    from gan.trainers.run import load
    from gan.trainers.sampling import CLASSES, check_output

    if flags.num_images < 1:
        raise UsageError(f"--num_images must be at least 1, given {flags.num_images}")
    environment.check_devices()
    check_output(flags.output, flags.separate)
    run = load(flags.workdir, flags.step, parts=flags.parts)
    check_num_images(flags.num_images, run.experiment.dataset.shape, "--num_images")
    labels = flags.classes
    if labels not in CLASSES:
        names = labels.split(",")
        labels = [names[i % len(names)] for i in range(flags.num_images)]
    run.write_samples(
        flags.output, flags.num_images, flags.seed, labels, weights=flags.weights,
        truncation=flags.truncation, separate=flags.separate,
    )  # fmt: skip
    print(f"{flags.output}: {flags.num_images} samples of {flags.workdir} at step {run.step}")


if __name__ == "__main__":
    cli.run(main)
